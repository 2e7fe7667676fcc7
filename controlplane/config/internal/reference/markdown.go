package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// section is an object of the file: all keys below one path.
type section struct {
	path   string
	object *jsonschema.Schema
}

func markdown(root *jsonschema.Schema, example []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from controlplane/config by go generate. Change the doc comments there. -->

# The configuration file

One YAML file, usually /etc/sluice/sluice.yaml. ` + "`sluice check FILE`" + ` validates it and reports every
problem at once; with ` + "`--print`" + ` it shows the file with all defaults. An unknown key is an error.
Durations are written as 25s or 1m30s. Anchors, aliases and tags of YAML are not supported.

The same as a JSON schema, for editors: [config.schema.json](config.schema.json).

## Example

` + "```yaml\n")
	b.Write(example)
	b.WriteString("```\n")
	for queue := []section{{"", root}}; len(queue) > 0; {
		s := queue[0]
		below := writeSection(&b, root, s)
		queue = append(below, queue[1:]...)
	}
	return b.Bytes()
}

// writeSection writes the table of an object's keys, and returns the objects
// below it.
func writeSection(b *bytes.Buffer, root *jsonschema.Schema, s section) []section {
	title := "Top level"
	if s.path != "" {
		title = "`" + s.path + "`"
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| key | value | default | |\n|---|---|---|---|\n", title, s.object.Description)
	var below []section
	for p := s.object.Properties.Oldest(); p != nil; p = p.Next() {
		value := p.Value
		path := strings.TrimPrefix(s.path+"."+p.Key, ".")
		if o := resolve(root, value); o.Type == "object" {
			below = append(below, section{path, o})
		} else if value.Items != nil {
			if o := resolve(root, value.Items); o.Type == "object" {
				below = append(below, section{path + "[]", o})
			}
		}
		fallback := ""
		switch {
		case slices.Contains(s.object.Required, p.Key):
			fallback = "required"
		case value.Default != nil:
			fallback = fmt.Sprintf("`%v`", value.Default)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", p.Key, valueText(root, value), fallback, strings.ReplaceAll(value.Description, "|", `\|`))
	}
	return below
}

func resolve(root, s *jsonschema.Schema) *jsonschema.Schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Definitions[name]
	}
	return s
}

// valueText says what the values of a key are.
func valueText(root, s *jsonschema.Schema) string {
	switch o := resolve(root, s); {
	case o.Type == "object":
		return "keys"
	case o.Type == "array":
		if items := valueText(root, o.Items); items != "keys" {
			return "list, " + items
		}
		return "list"
	case o.Enum != nil:
		words := make([]string, len(o.Enum))
		for i, w := range o.Enum {
			words[i] = fmt.Sprintf("`%v`", w)
		}
		return strings.Join(words, ", ")
	case o.Type == "boolean":
		return "`true`, `false`"
	case o.Type == "integer" && o.Minimum != "" && o.Maximum != "":
		return fmt.Sprintf("%s to %s", o.Minimum, o.Maximum)
	case len(o.Examples) > 0:
		return fmt.Sprintf("like `%v`", o.Examples[0])
	default:
		return "string"
	}
}
