package method

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrBusy says that the machine has other things to do, so that no figure would mean anything.
var ErrBusy = errors.New("the machine is busy")

// maxOthers is how much of one CPU other processes may use, maxIdleSteal how much the
// hypervisor may take of it, before we refuse to measure.
const (
	maxOthers    = 0.3
	maxIdleSteal = 0.03
)

// Quiet watches the machine for a time in which nothing of ours runs, and returns an error that wraps
// ErrBusy and names the busiest process if others use it. It looks at CPU time, not
// at the load average, which remembers for a minute what we did ourselves.
func Quiet(ctx context.Context, d time.Duration) error {
	before, err := processes()
	if err != nil {
		return fmt.Errorf("is the machine quiet: %w", err)
	}
	_, stolen, err := machineTime()
	if err != nil {
		return fmt.Errorf("is the machine quiet: %w", err)
	}
	begin := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
	}
	after, err := processes()
	if err != nil {
		return fmt.Errorf("is the machine quiet: %w", err)
	}
	_, stolenNow, err := machineTime()
	if err != nil {
		return fmt.Errorf("is the machine quiet: %w", err)
	}
	wall := time.Since(begin)
	if share := float64(stolenNow-stolen) / float64(wall); share > maxIdleSteal {
		return fmt.Errorf("%w: the hypervisor takes %.0f %% of a CPU", ErrBusy, 100*share)
	}
	return judge(before, after, wall, os.Getpid())
}

// process is one process's name and CPU time.
type process struct {
	name string
	time time.Duration
}

func judge(before, after map[int]process, wall time.Duration, self int) error {
	var sum, most time.Duration
	name := ""
	for pid, p := range after {
		if pid == self {
			continue
		}
		used := p.time - before[pid].time // a new one: all of its time
		sum += used
		if used > most {
			name, most = p.name, used
		}
	}
	if share := float64(sum) / float64(wall); share > maxOthers {
		return fmt.Errorf("%w: other processes use %.0f %% of a CPU, most of all %s", ErrBusy, 100*share, name)
	}
	return nil
}

// processes are all there are.
func processes() (map[int]process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, p, err := parseProcess(string(text))
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", file, err)
		}
		all[pid] = p
	}
	return all, nil
}

// parseProcess reads /proc/PID/stat: fields 1 pid, 2 (name), 14 utime, 15 stime (proc(5)).
// The name may hold anything, blanks and brackets too.
func parseProcess(text string) (pid int, p process, err error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return 0, p, fmt.Errorf("%q has no name", text)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return 0, p, err
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 13 {
		return 0, p, fmt.Errorf("%q is too short", text)
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, p, err
		}
		p.time += time.Duration(n) * tick
	}
	p.name = text[open+1 : end]
	return pid, p, nil
}
