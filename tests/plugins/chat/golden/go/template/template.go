// Package template renders conversations by Go's own text/template, by the rules of Ollama's API:
// what the data are, which functions there are, and how templates that know no messages are run.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"goldens/api"
)

type templateTools []templateTool

func (t templateTools) String() string { return text(t) }

type templateTool struct {
	Type     string               `json:"type"`
	Items    any                  `json:"items,omitempty"`
	Function templateToolFunction `json:"function"`
}

func (t templateTool) String() string { return text(t) }

type templateToolFunction struct {
	Name        string                         `json:"name"`
	Description string                         `json:"description"`
	Parameters  templateToolFunctionParameters `json:"parameters"`
}

func (t templateToolFunction) String() string { return text(t) }

type templateToolFunctionParameters struct {
	Type       string             `json:"type"`
	Defs       any                `json:"$defs,omitempty"`
	Items      any                `json:"items,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties templateProperties `json:"properties"`
}

func (t templateToolFunctionParameters) String() string { return text(t) }

type templateProperties map[string]api.ToolProperty

func (t templateProperties) String() string {
	if t == nil {
		return "{}"
	}
	return text(map[string]api.ToolProperty(t))
}

type templateArgs map[string]any

func (t templateArgs) String() string {
	if t == nil {
		return "{}"
	}
	return text(map[string]any(t))
}

type templateToolCall struct {
	ID       string
	Function templateToolCallFunction
}

type templateToolCallFunction struct {
	Index     int
	Name      string
	Arguments templateArgs
}

type templateMessage struct {
	Role       string
	Content    string
	Thinking   string
	Images     []api.ImageData
	ToolCalls  []templateToolCall
	ToolName   string
	ToolCallID string
}

// Message is a message as the API carries it.
type Message struct {
	Role       string             `json:"role"`
	Content    string             `json:"content"`
	Thinking   string             `json:"thinking"`
	ToolCalls  []templateToolCall `json:"tool_calls"`
	ToolName   string             `json:"tool_name"`
	ToolCallID string             `json:"tool_call_id"`
}

// Conversation is what is rendered.
type Conversation struct {
	Messages []Message     `json:"messages"`
	Tools    templateTools `json:"tools"`
	Think    any           `json:"think"`
	Suffix   string        `json:"suffix"`
}

func text(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

var now = time.Unix(1720000000, 0).UTC()

var functions = template.FuncMap{
	"json":          text,
	"currentDate":   func(...any) string { return now.Format("2006-01-02") },
	"yesterdayDate": func(...any) string { return now.AddDate(0, 0, -1).Format("2006-01-02") },
	"toTypeScriptType": func(v any) string {
		if p, ok := v.(api.ToolProperty); ok {
			return p.ToTypeScriptType()
		}
		return "any"
	},
}

// Render renders a conversation.
func Render(source string, c Conversation) (string, error) {
	t, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(source)
	if err != nil {
		return "", err
	}
	words, err := vocabulary(t)
	if err != nil {
		return "", err
	}
	if !slices.Contains(words, "messages") && !slices.Contains(words, "response") {
		field := &parse.FieldNode{NodeType: parse.NodeField, Ident: []string{"Response"}}
		command := &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{field}}
		pipe := &parse.PipeNode{NodeType: parse.NodePipe, Cmds: []*parse.CommandNode{command}}
		t.Tree.Root.Nodes = append(t.Tree.Root.Nodes, &parse.ActionNode{NodeType: parse.NodeAction, Pipe: pipe})
	}
	level, _ := c.Think.(string)
	think := level != ""
	if truth, ok := c.Think.(bool); ok && truth {
		think, level = true, "medium"
	}
	base := map[string]any{"Think": think, "ThinkLevel": level, "IsThinkSet": c.Think != nil}
	run := func(t *template.Template, to *bytes.Buffer, more map[string]any) error {
		data := map[string]any{}
		for _, from := range []map[string]any{base, more} {
			for key, value := range from {
				data[key] = value
			}
		}
		return t.Execute(to, data)
	}
	var out bytes.Buffer
	prompt := ""
	if len(c.Messages) > 0 {
		prompt = c.Messages[len(c.Messages)-1].Content
	}
	if c.Suffix != "" && prompt != "" {
		err := run(t, &out, map[string]any{"Prompt": prompt, "Suffix": c.Suffix, "Response": ""})
		return out.String(), err
	}
	systems, messages := collate(c.Messages)
	if slices.Contains(words, "messages") {
		err := run(t, &out, map[string]any{
			"System": strings.Join(systems, "\n\n"), "Messages": messages, "Tools": c.Tools, "Response": "",
		})
		return out.String(), err
	}
	turn := map[string]any{"System": "", "Prompt": "", "Response": ""}
	emit := func() error {
		err := run(t, &out, turn)
		turn = map[string]any{"System": "", "Prompt": "", "Response": ""}
		return err
	}
	for _, m := range messages {
		switch m.Role {
		case "system":
			if turn["Prompt"] != "" || turn["Response"] != "" {
				if err := emit(); err != nil {
					return "", err
				}
			}
			turn["System"] = m.Content
		case "user":
			if turn["Response"] != "" {
				if err := emit(); err != nil {
					return "", err
				}
			}
			turn["Prompt"] = m.Content
		case "assistant":
			turn["Response"] = m.Content
		}
	}
	found := false
	cut(t.Tree.Root, &found)
	err = run(t, &out, turn)
	return out.String(), err
}

func collate(given []Message) (systems []string, messages []*templateMessage) {
	for _, m := range given {
		if m.Role == "system" {
			systems = append(systems, m.Content)
		}
		if n := len(messages); n > 0 && messages[n-1].Role == m.Role && m.Role != "tool" {
			messages[n-1].Content += "\n\n" + m.Content
			continue
		}
		messages = append(messages, &templateMessage{
			Role: m.Role, Content: m.Content, Thinking: m.Thinking, ToolCalls: m.ToolCalls,
			ToolName: m.ToolName, ToolCallID: m.ToolCallID,
		})
	}
	return
}

func vocabulary(t *template.Template) (words []string, err error) {
	var visit func(n parse.Node)
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				visit(n)
			}
		}
	}
	branch := func(b *parse.BranchNode) {
		visit(b.Pipe)
		list(b.List)
		list(b.ElseList)
	}
	visit = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			list(n)
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
		case *parse.TemplateNode:
			if n.Pipe == nil {
				err = errors.New("undefined template specified")
				return
			}
			visit(n.Pipe)
		case *parse.ActionNode:
			visit(n.Pipe)
		case *parse.PipeNode:
			for _, c := range n.Cmds {
				for _, a := range c.Args {
					visit(a)
				}
			}
		case *parse.FieldNode:
			words = append(words, n.Ident...)
		case *parse.VariableNode:
			words = append(words, n.Ident...)
		}
	}
	for _, one := range t.Templates() {
		list(one.Root)
	}
	for i, word := range words {
		words[i] = strings.ToLower(word)
	}
	return
}

// cut deletes all behind the first .Response; an else of the branch around it too.
func cut(list *parse.ListNode, found *bool) {
	var kept []parse.Node
	for _, n := range list.Nodes {
		if *found {
			break
		}
		branch := func(b *parse.BranchNode) {
			cut(b.List, found)
			if b.ElseList != nil && *found {
				b.ElseList = nil
			} else if b.ElseList != nil {
				cut(b.ElseList, found)
			}
		}
		switch n := n.(type) {
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
		case *parse.ActionNode:
			cutPipe(n.Pipe, found)
		}
		kept = append(kept, n)
	}
	list.Nodes = kept
}

func cutPipe(pipe *parse.PipeNode, found *bool) {
	var commands []*parse.CommandNode
	for _, c := range pipe.Cmds {
		var args []parse.Node
		for _, a := range c.Args {
			field, ok := a.(*parse.FieldNode)
			if ok && slices.Contains(field.Ident, "Response") {
				*found = true
			} else if *found {
				continue
			}
			if inner, ok := a.(*parse.PipeNode); ok {
				cutPipe(inner, found)
			}
			args = append(args, a)
		}
		if len(args) > 0 {
			c.Args = args
			commands = append(commands, c)
		}
	}
	pipe.Cmds = commands
}
