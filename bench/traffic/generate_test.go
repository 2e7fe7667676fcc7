package traffic

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed objects and bindings are what the sources give, byte for byte, in a checkout somewhere else. Not every
// machine that runs the tests has the compiler; the one that checks in does.
func TestTheCommittedObjectsAreThoseOfTheSources(t *testing.T) {
	for _, tool := range []string{"go", "clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (internal/testenv/setup.sh generate installs it)", tool)
		}
	}
	root := t.TempDir()
	for name, from := range map[string]string{"go.mod": "../..", "go.sum": "../..", "bench/traffic/generate.go": ".", "xdp/bpf/kernel.h": "../../xdp/bpf"} {
		copyFile(t, filepath.Join(from, filepath.Base(name)), filepath.Join(root, name))
	}
	sources, err := filepath.Glob("bpf/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		copyFile(t, name, filepath.Join(root, "bench/traffic", name))
	}

	generate := exec.Command("go", "generate", "./bench/traffic")
	generate.Dir = root
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, program := range []string{"generator", "replay", "sink"} {
		for _, name := range []string{program + "_bpfel.o", program + "_bpfel.go"} {
			want, err := os.ReadFile(filepath.Join(root, "bench/traffic", name))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the sources give: run make generate (%v)", name, err)
			}
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
