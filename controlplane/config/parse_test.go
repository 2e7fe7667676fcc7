package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files match %s: %v", pattern, err)
	}
	return paths
}

func TestGoodFilesParseAndPrintWithTheirDefaults(t *testing.T) {
	for _, path := range files(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(data, filepath.Base(path))
			if err != nil {
				t.Fatal(err)
			}
			printed, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", string(printed))
			again, err := Parse(printed, "printed")
			if err != nil {
				t.Fatalf("parse what was printed: %v", err)
			}
			if diff := cmp.Diff(c, again, compareAddrs()); diff != "" {
				t.Errorf("the printed form means something else (-file +printed):\n%s", diff)
			}
		})
	}
}

func TestBadFilesReportEveryProblemInOrder(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(data, filepath.Base(path))
			var e *Error
			if !errors.As(err, &e) || c != nil {
				t.Fatalf("Parse = %v, %v; want no config and an *Error", c, err)
			}
			last := 0
			for _, p := range e.Problems {
				if p.Line < last {
					t.Errorf("%s: comes after line %d", p.Text(""), last)
				}
				last = p.Line
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", err.Error()+"\n")
		})
	}
}
