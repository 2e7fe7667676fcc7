package config

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds what a parser has to chew. 100,000 hosts fit.
const maxSize = 16 << 20

// Parse reads a configuration file, applies the defaults and checks everything
// that can be checked without the machine. name is how problems call the file.
//
// An error is always an *Error, with every problem; the Config is then nil.
func Parse(data []byte, name string) (*Config, error) {
	var d decoder
	c := d.parse(data)
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return nil, &Error{Name: name, Problems: d.problems}
	}
	return c, nil
}

// Check applies the defaults to a configuration that was built in Go, and
// reports what is wrong with it. The error is an *Error without line numbers.
func (c *Config) Check() error {
	var r report
	c.check(&r)
	if len(r.problems) > 0 {
		sortProblems(r.problems)
		return &Error{Problems: r.problems}
	}
	return nil
}

func (c *Config) check(r *report) {
	v := reflect.ValueOf(c).Elem()
	checkRules(r, v, "")
	applyDefaults(r, v, "")
	c.deriveDefaults(r)
	newChecker(c, r).run()
}

func (d *decoder) parse(data []byte) *Config {
	c := new(Config)
	root := d.document(data)
	if root == nil {
		return c
	}
	d.value(root, reflect.ValueOf(c).Elem(), "", nil)
	c.check(&d.report)
	return c
}

// document returns the root node of the only document; nil after a problem.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > maxSize {
		d.addAt(position{}, "", "is larger than %d MiB", maxSize>>20)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.addAt(position{}, "", "is empty: at least site, gateway, ports and wireguard are required")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	var next yaml.Node
	switch err := dec.Decode(&next); {
	case err == nil:
		d.addAt(position{next.Line, next.Column}, "", "a second YAML document starts here: put everything in one")
		return nil
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return nil
	}
	root := doc.Content[0]
	if isNull(root) {
		d.addAt(position{}, "", "is empty: at least site, gateway, ports and wireguard are required")
		return nil
	}
	return root
}

// syntax notes an error of the YAML parser, whose text begins with the line.
func (d *decoder) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	pos := position{}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		pos.line, _ = strconv.Atoi(m[1]) // digits only; out of range is not a line of 16 MiB
		pos.column, text = 1, text[len(m[0]):]
	}
	d.addAt(pos, "", "is not YAML: %s", text)
}
