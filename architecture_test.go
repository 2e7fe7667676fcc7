package sluice_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// A reference in ARCHITECTURE.md looks like `relay/open.go:openBatch`: a file, and a name that the file declares.
var reference = regexp.MustCompile("`([a-z0-9_./-]+\\.(?:go|c|h|proto|service|sh)):([A-Za-z0-9_]+)`")

func TestArchitectureNamesExist(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	references := reference.FindAllStringSubmatch(string(text), -1)
	if len(references) < 20 {
		t.Fatalf("only %d references found: the text or the pattern has changed", len(references))
	}
	for _, ref := range references {
		file, name := ref[1], ref[2]
		source, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("ARCHITECTURE.md names %s: %v", file, err)
			continue
		}
		word := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)
		if !word.Match(source) {
			t.Errorf("ARCHITECTURE.md names %s in %s, which has no such word", name, file)
		}
	}
	for _, word := range []string{"TODO", "FIXME"} {
		if strings.Contains(string(text), word) {
			t.Errorf("ARCHITECTURE.md holds a %s", word)
		}
	}
}
