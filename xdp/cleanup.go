package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RemovePins detaches what a gateway that is gone has left in its PinPath, and removes the pins, the directory and the file
// system that was mounted for it. Traffic between direct peers ends with that. A directory that is not there, or holds
// no pins, is no error; what is not the program's stays, and the directory with it.
//
// It does not know whether the gateway still runs. If so, that detaches it, too.
func RemovePins(dir string) error {
	on, err := onBPFFS(dir)
	if err != nil {
		return fmt.Errorf("remove pins in %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !on {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove pins in %s: %w", dir, err)
	}
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read xdp object: %w", err)
	}
	// The links first: a program that is still attached must not lose its maps' names while somebody may look at them.
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), linkPrefix) {
			errs = append(errs, removePinned(filepath.Join(dir, e.Name())))
		}
	}
	for _, e := range entries {
		if _, ours := spec.Maps[e.Name()]; ours {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	mounted, err := isMountPoint(dir)
	if err != nil {
		return fmt.Errorf("remove pins in %s: %w", dir, err)
	}
	p := &pins{dir: dir, created: dir != defaultBPFFS, mounted: mounted && dir != defaultBPFFS}
	return p.removeDir()
}

// isMountPoint says whether a file system begins at dir.
func isMountPoint(dir string) (bool, error) {
	device := func(path string) (uint64, error) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, fmt.Errorf("stat %s: %w", path, unix.ENOTSUP)
		}
		return stat.Dev, nil
	}
	own, err := device(dir)
	if err != nil {
		return false, err
	}
	above, err := device(filepath.Join(dir, ".."))
	return own != above, err
}
