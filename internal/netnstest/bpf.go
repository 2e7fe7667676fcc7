package netnstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bpfFolder is where in its folder a host has its BPF file system.
const bpfFolder = "bpf"

// MountBPF gives a host a BPF file system of its own and returns where it is. It goes with the scope, and with it what
// was pinned there.
func (h *Host) MountBPF() string {
	h.helper()
	dir := filepath.Join(h.Dir(), bpfFolder)
	h.scope.try(func() error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mount a BPF file system on %s: %w", dir, err)
		}
		return nil
	})
	return dir
}

// unmountBPF unmounts the BPF file systems of a scope's hosts, of which a killed process leaves what it had.
func unmountBPF(scope string) error {
	dirs, err := filepath.Glob(filepath.Join(scope, "*", bpfFolder))
	errs := []error{err}
	for _, dir := range dirs {
		// EINVAL: nothing is mounted there (umount(2)).
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
