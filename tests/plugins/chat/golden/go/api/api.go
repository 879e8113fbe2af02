// Package api holds what a request has: named so since templates see names of types.
package api

import "encoding/json"

// ImageData is a picture.
type ImageData []byte

// PropertyType is one type of JSON Schema, or several.
type PropertyType []string

func (t PropertyType) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

func (t *PropertyType) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = PropertyType{one}
		return nil
	}
	var several []string
	err := json.Unmarshal(data, &several)
	*t = several
	return err
}

func (t PropertyType) String() string {
	if len(t) == 0 {
		return ""
	}
	if len(t) == 1 {
		return t[0]
	}
	text := "["
	for i, one := range t {
		if i > 0 {
			text += " "
		}
		text += one
	}
	return text + "]"
}

// ToolProperty is one parameter of a tool.
type ToolProperty struct {
	AnyOf       []ToolProperty          `json:"anyOf,omitempty"`
	Type        PropertyType            `json:"type,omitempty"`
	Items       any                     `json:"items,omitempty"`
	Description string                  `json:"description,omitempty"`
	Enum        []any                   `json:"enum,omitempty"`
	Properties  map[string]ToolProperty `json:"properties,omitempty"`
	Required    []string                `json:"required,omitempty"`
}

// ToTypeScriptType names the property's type in TypeScript.
func (p ToolProperty) ToTypeScriptType() string {
	text := ""
	for i, other := range p.AnyOf {
		if i > 0 {
			text += " | "
		}
		text += other.ToTypeScriptType()
	}
	if text != "" {
		return text
	}
	for i, one := range p.Type {
		if i > 0 {
			text += " | "
		}
		text += typeScript(one, p.Items)
	}
	if text == "" {
		return "any"
	}
	return text
}

func typeScript(one string, items any) string {
	switch one {
	case "string", "number", "boolean", "null":
		return one
	case "integer":
		return "number"
	case "object":
		return "Record<string, any>"
	case "array":
		if inner, ok := items.(map[string]any); ok {
			if name, ok := inner["type"].(string); ok {
				return typeScript(name, nil) + "[]"
			}
		}
		return "any[]"
	}
	return "any"
}
