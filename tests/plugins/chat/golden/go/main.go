// Makes the golden files of Go templates: reads cases as JSON, writes what Go makes of them.
//
//	go run . <cases.json >results.json
package main

import (
	"encoding/json"
	"os"

	"goldens/template"
)

type request struct {
	Sources       []string                `json:"sources"`
	Conversations []template.Conversation `json:"conversations"`
	Cases         [][2]int                `json:"cases"`
}

type result struct {
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

func main() {
	var given request
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	results := []result{}
	for _, one := range given.Cases {
		text, err := template.Render(given.Sources[one[0]], given.Conversations[one[1]])
		if err != nil {
			results = append(results, result{Error: err.Error()})
		} else {
			results = append(results, result{Text: text})
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	encoder.Encode(results)
}
