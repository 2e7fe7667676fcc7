package kubetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
)

// Image is a container image with one file in it, a static binary.
type Image struct {
	// Name with a tag, as in sluice.test/pod:1.
	Name string
	// Binary is the file; in the image it is /bin/ and its Base, by default that of Binary.
	Binary string
	// Entrypoint are arguments that follow the binary; a container's own `args` come after them.
	Entrypoint []string
}

// imageConfig and imageManifest are of the archives that `docker save` writes,
// which containerd imports (Docker Image Specification v1.2).
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Entrypoint []string
		Env        []string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type imageManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeImages writes an archive of images. Images of the same binary share its
// layer.
func writeImages(file string, images []Image) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	archive := tar.NewWriter(f)
	layers := map[string]string{} // by binary: the digest
	var manifests []imageManifest
	for _, image := range images {
		digest, ok := layers[image.Binary]
		if !ok {
			layer, err := newLayer(image.Binary)
			if err != nil {
				return fmt.Errorf("image %s: %w", image.Name, err)
			}
			digest = digestOf(layer)
			layers[image.Binary] = digest
			if err := addFile(archive, digest+".tar", 0o644, layer); err != nil {
				return err
			}
		}
		var config imageConfig
		config.Architecture, config.OS = runtime.GOARCH, "linux"
		config.Config.Entrypoint = append([]string{inImage(image.Binary)}, image.Entrypoint...)
		config.Config.Env = []string{"PATH=/bin"}
		config.RootFS.Type, config.RootFS.DiffIDs = "layers", []string{"sha256:" + digest}
		text, err := json.Marshal(config)
		if err != nil {
			return err
		}
		name := digestOf(text) + ".json"
		if err := addFile(archive, name, 0o644, text); err != nil {
			return err
		}
		manifests = append(manifests, imageManifest{Config: name, RepoTags: []string{image.Name}, Layers: []string{digest + ".tar"}})
	}
	text, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	return errors.Join(addFile(archive, "manifest.json", 0o644, text), archive.Close())
}

func inImage(binary string) string { return "/bin/" + path.Base(binary) }

// newLayer is a tar of the binary, and of a folder that pods may want.
func newLayer(binary string) ([]byte, error) {
	f, err := os.Open(binary)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []tar.Header{{Name: "bin/", Mode: 0o755}, {Name: "tmp/", Mode: 0o1777}} {
		dir.Typeflag = tar.TypeDir
		if err := w.WriteHeader(&dir); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(addFile(w, inImage(binary)[1:], 0o755, content), w.Close()); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}

func addFile(w *tar.Writer, name string, mode int64, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
