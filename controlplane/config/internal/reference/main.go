// Command reference writes the JSON schema and the reference of the configuration
// file, both from the structs of package config and their doc comments.
package main

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
)

//go:generate go run . -out ../../../../docs

func main() {
	out := flag.String("out", "", "directory to write config.schema.json and config.md to")
	flag.Parse()
	if err := write(*out); err != nil {
		slog.Error("write configuration reference", "error", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	files, err := generate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the files by name. It reads the sources of package config
// relative to this directory, where both go generate and the test run it.
func generate() (map[string][]byte, error) {
	s, err := schema()
	if err != nil {
		return nil, err
	}
	text, err := schemaJSON(s)
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile("../../testdata/good/example.yaml")
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"config.schema.json": text, "config.md": markdown(s, example)}, nil
}
