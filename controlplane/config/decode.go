package config

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills a Config from YAML nodes. It goes on after a problem, so that
// one reading finds them all.
type decoder struct {
	report
}

// isText says whether values of the type are one scalar, though the type is a
// struct or an array: netip.Addr, netip.Prefix, MAC, PublicKey, Endpoint.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// value decodes a node. f is the key that the node, or the list it is in,
// belongs to.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, f *field) {
	pos := position{n.Line, n.Column}
	if d.at == nil {
		d.at = map[string]position{}
	}
	d.at[path] = pos
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.addAt(pos, path, "anchors and aliases are not supported: write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		d.addAt(pos, path, "tags are not supported: remove %q", n.Tag)
	case isText(v.Type()) || v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		if n.Kind != yaml.ScalarNode {
			d.addAt(pos, path, "must be %s, not %s", describe(v.Type()), kindText(n))
			return
		}
		d.scalar(n, v, path, f)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path, f)
	default:
		d.mapping(n, v, path)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, f *field) {
	if n.Kind != yaml.SequenceNode {
		hint := "start each item with a dash"
		if n.Kind == yaml.ScalarNode && isText(v.Type().Elem()) {
			hint = "write [" + n.Value + "]"
		}
		d.addAt(position{n.Line, n.Column}, path, "must be a list, not %s: %s", kindText(n), hint)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		p := element(path, i)
		if isNull(item) {
			d.addAt(position{item.Line, item.Column}, p, "is empty: give a value or remove the item")
			continue
		}
		d.value(item, v.Index(i), p, f)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.addAt(position{n.Line, n.Column}, path, "must be keys with values, not %s", kindText(n))
		return
	}
	fields := fieldsOf(v.Type())
	first := map[string]*yaml.Node{}
	var unknown []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		pos := position{key.Line, key.Column}
		p := child(path, pathKey(key.Value))
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
			d.addAt(pos, child(path, "?"), "a key must be a plain word")
			continue
		}
		if key.Tag == "!!merge" {
			d.addAt(pos, p, "merge keys are not supported: write the values out")
			continue
		}
		if f, ok := first[key.Value]; ok {
			d.addAt(pos, p, "is given twice, first in line %d: remove one", f.Line)
			continue
		}
		first[key.Value] = key
		known := false
		for j := range fields {
			if fields[j].key != key.Value {
				continue
			}
			known = true
			if !isNull(value) { // "peers:" with nothing below is as good as no key
				d.value(value, v.Field(fields[j].index), p, &fields[j])
			}
		}
		if !known {
			unknown = append(unknown, key)
		}
	}
	for _, key := range unknown {
		d.unknownKey(key, fields, first, path)
	}
}

// unknownKey suggests the nearest key that is not given yet. The suggested key
// is then not reported as missing.
func (d *decoder) unknownKey(key *yaml.Node, fields []field, given map[string]*yaml.Node, path string) {
	pos, p := position{key.Line, key.Column}, child(path, pathKey(key.Value))
	var free, all []string
	for _, f := range fields {
		all = append(all, f.key)
		if given[f.key] == nil {
			free = append(free, f.key)
		}
	}
	if s, ok := nearest(key.Value, free); ok {
		d.addAt(pos, p, "unknown key: did you mean %q?", s)
		d.markBad(child(path, s))
		return
	}
	d.addAt(pos, p, "unknown key: known here are %s", strings.Join(all, ", "))
}

// pathKey returns a key as it is shown in a path: quoted when it is strange.
func pathKey(key string) string {
	if len(key) > 40 {
		key = key[:40] + "..."
	}
	if quoted := strconv.Quote(key); key == "" || quoted != `"`+key+`"` || strings.ContainsAny(key, ".[] :") {
		return quoted
	}
	return key
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
}

// kindText names what a node is, without its value: that may be a secret that
// was put in the wrong place.
func kindText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!str":
		return "a string"
	case "!!int":
		return "a number"
	case "!!float":
		return "a number with a fraction"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	}
	return "a value"
}
