package kubetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupMount is where every system has them: one hierarchy (version 2), or a
// folder for each controller's (version 1).
const cgroupMount = "/sys/fs/cgroup"

// cgroupPatience is for processes that have been killed, and are not gone.
const cgroupPatience = 5 * time.Second

// hierarchies are the folders with a cgroup tree in them: of each controller, or
// the one for all.
func hierarchies() []string {
	dirs, _ := filepath.Glob(filepath.Join(cgroupMount, "*", "cgroup.procs")) // fails for a bad pattern only
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		dirs = []string{filepath.Join(cgroupMount, "cgroup.procs")}
	}
	for i, file := range dirs {
		dirs[i] = filepath.Dir(file)
	}
	return dirs
}

// makeCgroups makes a cgroup in every hierarchy: kubelets want theirs to be there.
func makeCgroups(cgroup string) error {
	for _, root := range hierarchies() {
		if err := os.MkdirAll(filepath.Join(root, cgroup), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes a cgroup, which has a parent, and all below it in every
// hierarchy, and the parent if nothing else is in there. Nothing may run in them
// any more.
func removeCgroups(cgroup string) error {
	var errs []error
	for _, root := range cgroupDirs(cgroup) {
		errs = append(errs, removeTree(root))
		unix.Rmdir(filepath.Dir(root)) // fails while another node is in it
	}
	return errors.Join(errs...)
}

// cgroupDirs are a cgroup's folders; some may not exist.
func cgroupDirs(cgroup string) []string {
	dirs := hierarchies()
	for i, root := range dirs {
		dirs[i] = filepath.Join(root, cgroup)
	}
	return dirs
}

func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cgroups: %w", err)
	}
	slices.Reverse(dirs) // the innermost first
	deadline := time.Now().Add(cgroupPatience)
	for _, dir := range dirs {
		for {
			err := unix.Rmdir(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
			time.Sleep(pollEvery)
		}
	}
	return nil
}
