package kubetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used so far.
type Usage struct {
	CPU    time.Duration // all its threads, user and system
	Memory int64         // resident, in bytes, now
}

// Usage of each part of the cluster, by its name: etcd, kube-apiserver.
func (c *Cluster) Usage() (map[string]Usage, error) {
	all := map[string]Usage{}
	for _, p := range c.parts {
		u, err := UsageOf(p.Process.Pid)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all[p.name] = u
	}
	return all, nil
}

// ticks of /proc/PID/stat in a second: USER_HZ, which is the same on all that Go runs on.
const ticks = 100

// UsageOf reads what a process has used.
func UsageOf(pid int) (Usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The name, in brackets, may have blanks. After it come the fields from the third on (proc_pid_stat(5)).
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 22 {
		return Usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	var u Usage
	for _, i := range []int{14, 15} { // utime, stime
		n, err := strconv.ParseInt(fields[i-3], 10, 64)
		if err != nil {
			return Usage{}, err
		}
		u.CPU += time.Duration(n) * time.Second / ticks
	}
	pages, err := strconv.ParseInt(fields[24-3], 10, 64) // rss
	u.Memory = pages * int64(os.Getpagesize())
	return u, err
}
