package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is a key of the file: a struct field with what its tags say.
type field struct {
	key      string
	index    int
	required bool
	ranged   bool // min and max hold
	min, max int64
	enum     []string
	minItems int
	maxItems int // 0: no limit
	def      string
}

// fieldsOf reads the tags of a struct: yaml for the key, jsonschema for the
// rules. The same tags make the schema, so the two cannot differ.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := field{index: i}
		f.key, _, _ = strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		for rule := range strings.SplitSeq(t.Field(i).Tag.Get("jsonschema"), ",") {
			name, value, _ := strings.Cut(rule, "=")
			switch name {
			case "required":
				f.required = true
			case "minimum":
				f.ranged, f.min = true, mustInt(value)
			case "maximum":
				f.max = mustInt(value)
			case "enum":
				f.enum = append(f.enum, value)
			case "minItems":
				f.minItems = int(mustInt(value))
			case "maxItems":
				f.maxItems = int(mustInt(value))
			case "default":
				f.def = value
			}
		}
		fields = append(fields, f)
	}
	return fields
}

// mustInt reads a number of a tag of ours; a test parses every tag.
func mustInt(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("jsonschema tag: " + err.Error())
	}
	return n
}

// rangeText says which numbers are allowed.
func (f *field) rangeText() string { return fmt.Sprintf("must be %d to %d", f.min, f.max) }

// enumText says which words are allowed.
func enumText(words []string) string {
	if len(words) == 1 {
		return "must be " + words[0]
	}
	return "must be " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// checkRules applies the tags' rules to a struct and everything in it. A zero
// value that the file does not give is unset: only "required" looks at it.
func checkRules(r *report, v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		fv, p := v.Field(f.index), child(path, f.key)
		if fv.IsZero() && !r.has(p) {
			if f.required {
				r.add(p, "is required")
			}
			continue
		}
		f.check(r, fv, p)
	}
}

func (f *field) check(r *report, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if f.required && v.Len() == 0 {
			r.add(path, "must not be empty")
		} else if f.enum != nil && !slices.Contains(f.enum, v.String()) {
			r.add(path, "%s, not %q", enumText(f.enum), v.String())
		}
	case reflect.Int, reflect.Int64:
		if f.ranged && (v.Int() < f.min || v.Int() > f.max) {
			r.add(path, "%s, not %d", f.rangeText(), v.Int())
		}
	case reflect.Uint16, reflect.Uint32:
		if f.ranged && (v.Uint() < uint64(f.min) || v.Uint() > uint64(f.max)) {
			r.add(path, "%s, not %d", f.rangeText(), v.Uint())
		}
	case reflect.Slice:
		if v.Len() < f.minItems {
			r.add(path, "must not be an empty list")
		} else if f.maxItems > 0 && v.Len() > f.maxItems {
			r.add(path, "must have at most %d items, not %d", f.maxItems, v.Len())
		}
		if v.Type().Elem().Kind() == reflect.Struct && !isText(v.Type().Elem()) {
			for i := range v.Len() {
				checkRules(r, v.Index(i), element(path, i))
			}
		}
	case reflect.Struct:
		if !isText(v.Type()) {
			checkRules(r, v, path)
		}
	}
}

// applyDefaults sets what the file does not give to the default of its tag.
func applyDefaults(r *report, v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		fv, p := v.Field(f.index), child(path, f.key)
		switch {
		case fv.Kind() == reflect.Struct && !isText(fv.Type()):
			applyDefaults(r, fv, p)
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.Struct && !isText(fv.Type().Elem()):
			for i := range fv.Len() {
				applyDefaults(r, fv.Index(i), element(p, i))
			}
		case f.def != "" && fv.IsZero() && !r.has(p):
			f.setDefault(fv)
		}
	}
}

func (f *field) setDefault(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.def)
	case reflect.Bool:
		v.SetBool(f.def == "true")
	case reflect.Int:
		v.SetInt(mustInt(f.def))
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(mustInt(f.def)))
	case reflect.Int64: // time.Duration
		d, err := time.ParseDuration(f.def)
		if err != nil {
			panic("jsonschema tag: " + err.Error())
		}
		v.SetInt(int64(d))
	}
}
