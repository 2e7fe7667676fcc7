package afxdp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
)

// memlockVariable in the environment makes the test binary openWithLimit: interface, soft and hard limit in KiB.
const memlockVariable = "AFXDP_TEST_MEMLOCK"

// TestMemoryThatCannotBeLockedIsExplained opens a socket in a process that has neither privilege nor a high limit.
func TestMemoryThatCannotBeLockedIsExplained(t *testing.T) {
	b := newBench(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		limit string
		texts []string // of the error; none: it works
	}{
		{"a soft limit that may be raised", "64 8192", nil},
		{"a hard limit that is too low", "64 1024", []string{"register umem of 2 MiB", "cannot lock memory",
			"raise RLIMIT_MEMLOCK above 2 MiB", "LimitMEMLOCK", "CAP_IPC_LOCK"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := b.gateway.Command(context.Background(), self)
			cmd.Env = append(os.Environ(), memlockVariable+"="+strconv.Itoa(b.leftPort.Index)+" "+c.limit)
			out, err := cmd.CombinedOutput()
			if (err == nil) != (len(c.texts) == 0) {
				t.Errorf("the process: %v, %s", err, out)
			}
			for _, text := range c.texts {
				if !strings.Contains(string(out), text) {
					t.Errorf("%q does not say %q", out, text)
				}
			}
		})
	}
}

// openWithLimit opens a socket with 2 MiB of memory.
func openWithLimit(arguments string) error {
	runtime.LockOSThread() // capabilities belong to a thread
	o := smallRings()
	var soft, hard uint64
	if _, err := fmt.Sscan(arguments, &o.Ifindex, &soft, &hard); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: soft << 10, Max: hard << 10}); err != nil {
		return fmt.Errorf("lower the limit: %w", err)
	}
	if err := dropCapabilities(unix.CAP_IPC_LOCK, unix.CAP_SYS_RESOURCE); err != nil {
		return err
	}
	u, err := afxdp.NewUMEM(afxdp.UMEMOptions{Frames: 1024})
	if err != nil {
		return err
	}
	s, err := afxdp.Open(u, o)
	if err != nil {
		return err
	}
	return errors.Join(s.Close(), u.Close())
}

// dropCapabilities takes capabilities from the calling thread.
func dropCapabilities(capabilities ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for _, c := range capabilities {
		for _, set := range []*uint32{&data[c/32].Effective, &data[c/32].Permitted, &data[c/32].Inheritable} {
			*set &^= 1 << (c % 32)
		}
	}
	return unix.Capset(&header, &data[0])
}
