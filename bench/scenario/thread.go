package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// pollers are the kernel's threads that poll links of this name.
func pollers(link string) (map[int]bool, error) {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	found := make(map[int]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		// napi/NAME-ID, as far as it fits into 15 bytes
		if strings.HasPrefix(string(text), "napi/"+link+"-") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return nil, err
			}
			found[pid] = true
		}
	}
	return found, nil
}

// thread has a link polled by threads of the kernel instead of softirqs, on the CPUs of the
// device under test, and returns the threads (Linux 5.12). Where the kernel is the contestant, its
// work is then neither on the generator's CPU nor on its bill.
func (l *Lab) thread(ctx context.Context, link *netnstest.Link) ([]int, error) {
	before, err := pollers(link.Name)
	if err != nil {
		return nil, err
	}
	// sysfs shows the namespace of who has mounted it.
	script := fmt.Sprintf("mount -t sysfs sysfs /sys && echo 0 >/sys/class/net/%[1]s/threaded && echo 1 >/sys/class/net/%[1]s/threaded", link.Name)
	if out, err := link.Host.Command(ctx, "unshare", "--mount", "sh", "-c", script).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("poll %s by a thread: %w: %s", link.Name, err, out)
	}
	after, err := pollers(link.Name)
	if err != nil {
		return nil, err
	}
	var all []int
	for pid := range after {
		if before[pid] {
			continue
		}
		var set unix.CPUSet
		for i := range l.Scenario.Workers {
			set.Set(l.Scenario.DUTCPU + i)
		}
		if err := unix.SchedSetaffinity(pid, &set); err != nil {
			return nil, fmt.Errorf("poll %s by a thread: affinity: %w", link.Name, err)
		}
		all = append(all, pid)
	}
	if len(all) == 0 {
		return nil, errors.New("poll " + link.Name + " by a thread: the kernel has made none")
	}
	return all, nil
}
