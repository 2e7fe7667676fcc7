package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// statePrefix begins the names of clusters' folders.
const statePrefix = "sluice-kube-"

// stateDir is a cluster's folder. Its owner holds a lock on a file in it; the
// kernel lets go of that when the process ends, however it ends.
type stateDir struct {
	path string
	lock *os.File
}

// newStateDir makes a folder, and removes those whose owners are gone.
func newStateDir() (*stateDir, error) {
	if err := Sweep(); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp("", statePrefix)
	if err != nil {
		return nil, err
	}
	// The file gets its name when it is locked: no Sweep may take this folder for a leftover.
	unnamed := filepath.Join(path, "owner.new")
	lock, err := os.OpenFile(unnamed, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = os.Rename(unnamed, filepath.Join(path, "owner"))
		}
		if err == nil {
			return &stateDir{path: path, lock: lock}, nil
		}
		err = errors.Join(err, lock.Close())
	}
	return nil, errors.Join(fmt.Errorf("own %s: %w", path, err), os.RemoveAll(path))
}

func (d *stateDir) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// Sweep removes the folders that nobody holds any more, and the cgroups of their
// nodes. One without a lock's file is just being made.
func Sweep() error {
	files, err := filepath.Glob(filepath.Join(os.TempDir(), statePrefix+"*", "owner"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue // of another user, or gone
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			dir := filepath.Dir(file)
			for _, cgroup := range cgroupDirs(filepath.Base(dir)) {
				errs = append(errs, removeTree(cgroup))
			}
			errs = append(errs, os.RemoveAll(dir))
		}
		f.Close()
	}
	return errors.Join(errs...)
}
