package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what a figure was measured on. It names no host.
type Machine struct {
	CPU      string `json:"cpu"`
	CPUs     int    `json:"cpus"`
	Family   string `json:"family"` // family/model/stepping
	Flags    string `json:"flags"`
	MemoryMB int    `json:"memoryMB"`
	Kernel   string `json:"kernel"`
	Virtual  bool   `json:"virtual"`
	Go       string `json:"go"`
	GOAMD64  string `json:"goamd64,omitempty"`
	Commit   string `json:"commit"`
	// NICs that packets crossed, by driver and speed; none: veth pairs.
	NICs []string `json:"nics,omitempty"`
}

// ThisMachine describes the machine; commit is that of the tree under test.
func ThisMachine(commit string) (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Commit: commit}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("describe machine: %w", err)
	}
	m.cpu(text)
	if text, err = os.ReadFile("/proc/meminfo"); err != nil {
		return m, fmt.Errorf("describe machine: %w", err)
	}
	if fields := strings.Fields(string(text)); len(fields) > 1 {
		kb, err := strconv.Atoi(fields[1]) // MemTotal is the first line
		if err != nil {
			return m, fmt.Errorf("describe machine: memory: %w", err)
		}
		m.MemoryMB = kb / 1024
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("describe machine: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "GOAMD64" {
				m.GOAMD64 = s.Value
			}
		}
	}
	return m, nil
}

// cpu reads the first processor of /proc/cpuinfo.
func (m *Machine) cpu(text []byte) {
	first, _, _ := bytes.Cut(text, []byte("\n\n"))
	var family, model, stepping string
	for line := range strings.Lines(string(first)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name":
			m.CPU = value
		case "cpu family":
			family = value
		case "model":
			model = value
		case "stepping":
			stepping = value
		case "flags":
			m.Flags = value
		}
	}
	m.Family = family + "/" + model + "/" + stepping
	m.Virtual = strings.Contains(" "+m.Flags+" ", " hypervisor ")
}

// Slug is short and fit for a file name: what kind of machine, not which one.
func (m Machine) Slug() string {
	words := strings.FieldsFunc(strings.ToLower(m.CPU), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	var keep []string
	for _, w := range words {
		switch w {
		case "r", "tm", "cpu", "processor", "with", "core":
			continue
		}
		keep = append(keep, w)
	}
	if m.Virtual {
		keep = append(keep, "vm")
	}
	return strings.Join(append(keep, fmt.Sprint(m.CPUs)), "-")
}
