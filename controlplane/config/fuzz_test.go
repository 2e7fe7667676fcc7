package config

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse: no input makes Parse panic; a refusal is an *Error with at least one
// problem; what is accepted prints, and the print parses to the same.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		for _, path := range filesOf(f, pattern) {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "fuzz.yaml")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || c != nil {
				t.Fatalf("Parse = %v, %v", c, err)
			}
			return
		}
		printed, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(printed, "printed.yaml")
		if err != nil {
			t.Fatalf("what was printed is refused: %v\n%s", err, printed)
		}
		if diff := cmp.Diff(c, again, compareAddrs()); diff != "" {
			t.Fatalf("the print means something else (-input +printed):\n%s", diff)
		}
		if err := again.Check(); err != nil {
			t.Fatalf("a parsed configuration fails Check: %v", err)
		}
	})
}
