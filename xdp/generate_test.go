package xdp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed object and bindings are what the sources give, byte for byte, in a checkout somewhere else. Not every
// machine that runs the tests has the compiler; the one that checks in does.
func TestTheCommittedObjectIsThatOfTheSources(t *testing.T) {
	for _, tool := range []string{"go", "clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (internal/testenv/setup.sh generate installs it)", tool)
		}
	}
	root := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		copyFile(t, filepath.Join("..", name), filepath.Join(root, name))
	}
	copyFile(t, "generate.go", filepath.Join(root, "xdp", "generate.go"))
	sources, err := filepath.Glob("bpf/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		copyFile(t, name, filepath.Join(root, "xdp", name))
	}

	generate := exec.Command("go", "generate", "./xdp")
	generate.Dir = root
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"bpf_bpfel.o", "bpf_bpfel.go"} {
		want, err := os.ReadFile(filepath.Join(root, "xdp", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the sources give: run make generate (%v)", name, err)
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
