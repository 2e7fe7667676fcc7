package method

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the machine did in a window.
type Usage struct {
	Wall time.Duration `json:"wallNs"`
	// DUT is the CPU time of the threads under test, with the softirqs that ran in
	// their system calls.
	DUT time.Duration `json:"dutNs"`
	// Self is the CPU time of this process, where the generator runs.
	Self time.Duration `json:"selfNs"`
	// Busy is the whole machine's CPU time, interrupts included.
	Busy time.Duration `json:"busyNs"`
	// Steal is what the hypervisor took.
	Steal time.Duration `json:"stealNs"`
	// Preempted counts how often threads under test lost their CPU against their will.
	Preempted uint64 `json:"preempted"`
}

// Meter reads CPU time at the start and at the end of a window.
type Meter struct {
	pids  []int
	begin reading
}

// reading is what the kernel says at one time.
type reading struct {
	at        time.Time
	dut, self time.Duration
	busy      time.Duration
	steal     time.Duration
	preempted uint64
}

// StartMeter begins a window; pids are the processes under test.
func StartMeter(pids []int) (*Meter, error) {
	m := &Meter{pids: pids}
	var err error
	m.begin, err = m.read()
	return m, err
}

// Stop ends the window. A thread that ended within it takes its time with it.
func (m *Meter) Stop() (Usage, error) {
	end, err := m.read()
	if err != nil {
		return Usage{}, err
	}
	return Usage{
		Wall: end.at.Sub(m.begin.at), DUT: end.dut - m.begin.dut, Self: end.self - m.begin.self,
		Busy: end.busy - m.begin.busy, Steal: end.steal - m.begin.steal, Preempted: end.preempted - m.begin.preempted,
	}, nil
}

func (m *Meter) read() (r reading, err error) {
	for _, pid := range m.pids {
		t, n, err := processTime(pid)
		if err != nil {
			return r, err
		}
		r.dut += t
		r.preempted += n
	}
	if r.self, _, err = processTime(os.Getpid()); err != nil {
		return r, err
	}
	r.busy, r.steal, err = machineTime()
	r.at = time.Now()
	return r, err
}

// processTime is how long the threads of a process have run and how often they
// were preempted. schedstat counts nanoseconds; utime and stime count ticks.
func processTime(pid int) (sum time.Duration, preempted uint64, err error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("cpu time of process %d: %w", pid, err)
	}
	for _, task := range tasks {
		dir := fmt.Sprintf("/proc/%d/task/%s", pid, task.Name())
		text, err := os.ReadFile(filepath.Join(dir, "schedstat"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, 0, fmt.Errorf("cpu time of process %d: %w", pid, err)
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("cpu time of process %d: schedstat: %w", pid, err)
		}
		sum += time.Duration(ns)
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // as above, a moment later
		}
		n, err := statusField(status, "nonvoluntary_ctxt_switches")
		if err != nil {
			return 0, 0, fmt.Errorf("process %d: %w", pid, err)
		}
		preempted += n
	}
	return sum, preempted, nil
}

// statusField is a number in a /proc/.../status file.
func statusField(status []byte, name string) (uint64, error) {
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		if key == name {
			return strconv.ParseUint(strings.Fields(value)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("status: no field %s", name)
}

// tick is USER_HZ, the unit of /proc/stat, 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// machineTime is how long all CPUs were busy, and how much was stolen.
func machineTime() (busy, steal time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(text)
}

// parseStat reads the first line of /proc/stat: user nice system idle iowait irq softirq steal.
func parseStat(text []byte) (busy, steal time.Duration, err error) {
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("parse /proc/stat: %q is no line of all CPUs", line)
	}
	var ticks [8]time.Duration
	for i := range ticks {
		n, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("parse /proc/stat: %w", err)
		}
		ticks[i] = time.Duration(n) * tick
	}
	return ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6], ticks[7], nil
}

// RSS is the memory that processes hold, in bytes, and the most that they ever held.
func RSS(pids []int) (now, peak uint64, err error) {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		a, errA := statusField(status, "VmRSS")
		b, errB := statusField(status, "VmHWM")
		if err := errors.Join(errA, errB); err != nil {
			return 0, 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		now, peak = now+a*1024, peak+b*1024
	}
	return now, peak, nil
}
