package traffic

import (
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// within calls f on a thread in the host's namespace; without a host, in the caller's.
func within(h *netnstest.Host, f func() error) error {
	if h != nil {
		return h.Do(f)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

func findLink(h *netnstest.Host, name string) (l *net.Interface, err error) {
	err = within(h, func() (err error) {
		if l, err = net.InterfaceByName(name); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		return nil
	})
	return l, err
}

// onCPU calls f with this thread, which must be locked, on a CPU.
func onCPU(cpu int, f func() error) error {
	if cpu < 0 {
		return f()
	}
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read cpu affinity: %w", err)
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("run on cpu %d: %w", cpu, err)
	}
	err := f()
	if back := unix.SchedSetaffinity(0, &before); err == nil && back != nil {
		err = fmt.Errorf("leave cpu %d: %w", cpu, back)
	}
	return err
}
