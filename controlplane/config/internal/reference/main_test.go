package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheCommittedReferenceIsCurrent(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/%s differs from the structs (go generate ./controlplane/config/... writes it):\n%s", name, diff)
		}
	}
}

func TestEveryKeyHasADescription(t *testing.T) {
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	text, err := schemaJSON(s)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	keys := 0
	walk := func(path string, node map[string]any) {
		if object, _ := node["properties"].(map[string]any); object != nil {
			if node["description"] == nil {
				t.Errorf("%s: the struct has no doc comment", path)
			}
			if node["additionalProperties"] != false {
				t.Errorf("%s: unknown keys are not refused", path)
			}
			for key, value := range object {
				keys++
				property := value.(map[string]any)
				d, _ := property["description"].(string)
				if !strings.HasSuffix(d, ".") {
					t.Errorf("%s.%s: description %q is not a sentence", path, key, d)
				}
			}
		}
	}
	walk("config", root)
	for name, def := range root["$defs"].(map[string]any) {
		walk(name, def.(map[string]any))
	}
	if keys < 40 {
		t.Errorf("only %d keys seen: the walk is broken", keys)
	}
}
