package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Sluice builds the program, static as it is shipped, into dir, and returns its path.
func Sluice(t TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-o", path, "github.com/sluicegw/sluice/cmd/sluice")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}
