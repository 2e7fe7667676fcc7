package testenv

import (
	"fmt"
	"runtime"
	"testing"
)

// recorder stands in for a test and notes how it was ended.
type recorder struct {
	ended string
}

func (r *recorder) Helper() {}
func (r *recorder) Skip(args ...any) {
	r.ended = "skip"
	runtime.Goexit()
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "fail"
	runtime.Goexit()
}
func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func run(f func(TB)) string {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.ended
}

func TestMissingTool(t *testing.T) {
	tests := []struct{ name, ci, require, want string }{
		{"is a skip on a machine without promises", "", "", "skip"},
		{"is a failure on CI", "true", "", "fail"},
		{"is a failure where root is required", "", "1", "fail"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CI", tt.ci)
			t.Setenv("SLUICE_REQUIRE_ROOT", tt.require)
			got := run(func(t TB) { RequireTool(t, "no-such-program-of-sluice") })
			if got != tt.want {
				t.Errorf("the test ended with %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPresentToolLetsTheTestGoOn(t *testing.T) {
	if got := run(func(t TB) { RequireTool(t, "sh") }); got != "" {
		t.Errorf("the test ended with %q", got)
	}
}

func TestCapabilityBits(t *testing.T) {
	c := capabilities(1<<12 | 1<<39)
	for n, want := range map[int]bool{12: true, 39: true, 21: false, 0: false} {
		if c.has(n) != want {
			t.Errorf("capability %d: %v, want %v", n, c.has(n), want)
		}
	}
}
