// Package manifests holds what has to be in a cluster before Sluice can work
// there: the definitions of its kinds, and the permissions of its agent and of the
// children below. They are generated (`make generate`) from the comments of
// k8s/api/v1alpha1 and k8s/agent, and embedded, so that the program brings what
// fits it.
package manifests

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

//go:embed crd/*.yaml rbac/*.yaml
var files embed.FS

// YAML returns all manifests as one text, to be piped to kubectl.
func YAML() ([]byte, error) {
	var all bytes.Buffer
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(text, []byte("---\n")) {
			all.WriteString("---\n")
		}
		all.Write(text)
		return nil
	})
	return all.Bytes(), err
}

// Objects returns all manifests, definitions of kinds first.
func Objects() ([]*unstructured.Unstructured, error) {
	text, err := YAML()
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var u unstructured.Unstructured
		if err := yaml.Unmarshal(document, &u.Object); err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		objects = append(objects, &u)
	}
}
