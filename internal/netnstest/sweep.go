package netnstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// prefix begins the name of every scope, and so of every namespace.
	prefix = "sl"
	// stateDir has one folder per scope. A scope's owner holds the lock of its
	// file `owner`; the kernel lets go of it when the process ends, however it
	// ends, so there are no stale process ids to be mistaken about.
	stateDir = "/run/sluice-netns"
	// netnsDir is where `ip netns` looks.
	netnsDir = "/run/netns"
)

// Owner is what a scope's owner notes about itself.
type Owner struct {
	ID    string `json:"-"`
	PID   int    `json:"pid"`
	Label string `json:"label"`
}

// lockState serialises the making and the sweeping of scopes, so that nobody
// takes a scope that is just being made for a leftover.
func lockState() (unlock func() error, err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make test network: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make test network: %w", err)
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// own takes the lock of a new scope and notes who has it.
func own(dir, label string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "owner"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("own test network: %w", err)
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = json.NewEncoder(f).Encode(Owner{PID: os.Getpid(), Label: label})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("own test network %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// Sweep removes the scopes whose owner is gone.
func Sweep() error {
	unlock, err := lockState()
	if err != nil {
		return err
	}
	defer unlock()
	return sweep()
}

func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(stateDir, prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		alive, err := owned(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if alive {
			continue
		}
		names, err := filepath.Glob(filepath.Join(netnsDir, filepath.Base(dir)+"-*"))
		errs = append(errs, err)
		for _, path := range names {
			errs = append(errs, removeNamespace(path))
		}
		errs = append(errs, unmountBPF(dir), os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// owned reports whether some process holds the lock of a scope.
func owned(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, "owner"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = flock(f, unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// removeNamespace ends what still runs in a namespace, and takes away its name.
func removeNamespace(path string) error {
	if err := killInside(path); err != nil {
		return err
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace: %w", err)
	}
	return nil
}

// killInside ends the processes whose network namespace is the one at path.
func killInside(path string) error {
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("look at namespace %s: %w", path, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var have unix.Stat_t
		// A process that has just ended, or is a kernel thread, has no namespace.
		if unix.Stat("/proc/"+entry.Name()+"/ns/net", &have) != nil {
			continue
		}
		if have.Dev == want.Dev && have.Ino == want.Ino {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d in %s: %w", pid, path, err)
			}
		}
	}
	return nil
}

// Find lists the living scopes with a label, of any process.
func Find(label string) ([]Owner, error) {
	dirs, err := filepath.Glob(filepath.Join(stateDir, prefix+"*"))
	if err != nil {
		return nil, err
	}
	var found []Owner
	for _, dir := range dirs {
		alive, err := owned(dir)
		if err != nil {
			return nil, err
		}
		if !alive {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "owner"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		owner := Owner{ID: filepath.Base(dir)}
		if err := json.Unmarshal(data, &owner); err != nil {
			return nil, fmt.Errorf("read owner of %s: %w", dir, err)
		}
		if owner.Label == label && holds(owner) {
			found = append(found, owner)
		}
	}
	return found, nil
}

// holds checks that the noted process is the one that has the scope's file open:
// the number may be of another PID namespace.
func holds(o Owner) bool {
	path := filepath.Join(stateDir, o.ID, "owner")
	fds, err := filepath.Glob("/proc/" + strconv.Itoa(o.PID) + "/fd/*")
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.TrimSuffix(target, " (deleted)") == path {
			return true
		}
	}
	return false
}

// EndOwners asks the owners of the living scopes with a label to end, waits until they
// have, and sweeps what they may have left. It returns how many there were.
func EndOwners(label string, wait time.Duration) (int, error) {
	owners, err := Find(label)
	if err != nil {
		return 0, err
	}
	for _, o := range owners {
		if err := unix.Kill(o.PID, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("end process %d of %s: %w", o.PID, o.ID, err)
		}
	}
	deadline := time.Now().Add(wait)
	for _, o := range owners {
		for {
			alive, err := owned(filepath.Join(stateDir, o.ID))
			if err != nil {
				return len(owners), err
			}
			if !alive {
				break
			}
			if time.Now().After(deadline) {
				return len(owners), fmt.Errorf("end %s: process %d still runs after %v", o.ID, o.PID, wait)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return len(owners), Sweep()
}
