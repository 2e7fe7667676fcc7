package standalone

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Names in the folder: PLURAL/NAME.yaml, PLURAL/NAMESPACE_NAME.yaml. An underscore is
// in no name.
const (
	fileSuffix    = ".yaml"
	refusedSuffix = ".refused" // a damaged file that was set aside
	newSuffix     = ".new"     // a file that was being written when the process died
	lockName      = "lock"
	probeName     = "probe"
	longestName   = 180 // of an object, so that the file system takes its file's name
)

// heading begins a file; the sum, in hex, is that of all bytes after its line. What
// follows is JSON, which is YAML too.
const heading = "# sluice object, sha256 "

// disk is the folder. Its methods are called by one goroutine at a time.
type disk struct {
	dir  string
	lock *os.File
}

func openDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: another agent uses the folder: %w", lock.Name(), err), lock.Close())
	}
	return &disk{dir: dir, lock: lock}, nil
}

func (d *disk) close() error { return d.lock.Close() } // which unlocks

func fileName(k *kind, key types.NamespacedName) string {
	name := key.Name
	if k.namespaced {
		name = key.Namespace + "_" + key.Name
	}
	return filepath.Join(k.plural, name+fileSuffix)
}

// encode makes the content of a file.
func encode(u *unstructured.Unstructured) ([]byte, error) {
	text, err := json.MarshalIndent(u.Object, "", " ")
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	return append([]byte(heading+hex.EncodeToString(sum[:])+"\n"), text...), nil
}

// decode reads the content of a file, and says what is wrong with it.
func decode(content []byte) (*unstructured.Unstructured, error) {
	first, text, found := bytes.Cut(content, []byte{'\n'})
	wanted, ok := strings.CutPrefix(string(first), heading)
	if !found || !ok {
		return nil, errors.New("it does not begin as our files do")
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != wanted {
		return nil, errors.New("its checksum is not that of its content: it is damaged, or was edited")
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return u, nil
}

// stored is an object of a file.
type stored struct {
	kind   *kind
	object *unstructured.Unstructured
}

// read returns all objects. Damaged files are set aside, and refused has their names
// with the reason; what a killed process left half-written is removed.
func (d *disk) read(all catalogue) (files []stored, refused map[string]string, err error) {
	refused = map[string]string{}
	for _, k := range all {
		entries, err := os.ReadDir(filepath.Join(d.dir, k.plural))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, entry := range entries {
			name := filepath.Join(k.plural, entry.Name())
			switch {
			case strings.HasSuffix(name, newSuffix):
				if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
					return nil, nil, err
				}
				continue
			case !strings.HasSuffix(name, fileSuffix):
				continue
			}
			content, err := os.ReadFile(filepath.Join(d.dir, name))
			if err != nil {
				return nil, nil, err
			}
			u, err := decode(content)
			if err == nil && (u.GroupVersionKind() != k.GroupVersionKind || fileName(k, keyOf(u)) != name) {
				err = fmt.Errorf("it has %s %s, which belongs into another file", u.GetKind(), u.GetName())
			}
			if err != nil {
				refused[name] = err.Error()
				if err := os.Rename(filepath.Join(d.dir, name), filepath.Join(d.dir, name+refusedSuffix)); err != nil {
					return nil, nil, err
				}
				continue
			}
			files = append(files, stored{k, u})
		}
	}
	return files, refused, nil
}

// write replaces a file: whoever looks, also after a crash, sees the old one or the
// new one.
func (d *disk) write(name string, u *unstructured.Unstructured) error {
	content, err := encode(u)
	if err != nil {
		return err
	}
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := writeSynced(path+newSuffix, content); err != nil {
		return errors.Join(err, removeIfThere(path+newSuffix))
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func (d *disk) remove(name string) error {
	path := filepath.Join(d.dir, name)
	if err := removeIfThere(path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// try says whether the folder can be written again.
func (d *disk) try() error {
	path := filepath.Join(d.dir, probeName)
	err := writeSynced(path, make([]byte, 4096))
	return errors.Join(err, removeIfThere(path))
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
