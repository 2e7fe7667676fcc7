package contestants

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/bench/method"
)

// program is a Go program that a contestant needs.
type program struct {
	name    string // of the file in bench/out
	pkg     string // what to build
	module  string // folder of the module that pins it, from the root of the repository
	version string // module whose version is its own; empty: this repository
}

// build builds the program, which costs little when nothing changed, and returns its
// path and version.
func (p program) build(ctx context.Context) (path, version string, err error) {
	root, err := repository(ctx)
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(root, p.module)
	path = filepath.Join(root, "bench", "out", p.name)
	if _, err := run(ctx, dir, "go", "build", "-trimpath", "-o", path, p.pkg); err != nil {
		return "", "", fmt.Errorf("%w: build: %w", method.ErrUnavailable, err)
	}
	if p.version == "" {
		if version, err = run(ctx, root, "git", "describe", "--always", "--dirty"); err != nil {
			version = "unversioned" // a source archive has no history
		}
		return path, p.name + " " + version, nil
	}
	version, err = run(ctx, dir, "go", "list", "-m", "-f", "{{.Version}}", p.version)
	return path, p.name + " " + version, err
}

// repository is the root of the main module: benchmarks run inside of it.
func repository(ctx context.Context) (string, error) {
	dir, err := run(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", mainModule)
	if err != nil {
		return "", fmt.Errorf("%w: run it inside of the repository: %w", method.ErrUnavailable, err)
	}
	return dir, nil
}

const mainModule = "github.com/sluicegw/sluice"

func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	var problems bytes.Buffer
	c.Stderr = &problems
	// Benchmarks are run by commands that may themselves run under go(1) with flags for this process only.
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(problems.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
