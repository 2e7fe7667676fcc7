package pair

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Host is what a side says of itself. It names no machine.
type Host struct {
	Program string `json:"program"` // version
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
	CPUs    int    `json:"cpus"`
}

func thisHost(program string) Host {
	h := Host{Program: program, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return h
}

// printable keeps another host's words harmless.
func (h Host) printable() Host {
	h.Program, h.Kernel, h.Arch = printable(h.Program), printable(h.Kernel), printable(h.Arch)
	return h
}
