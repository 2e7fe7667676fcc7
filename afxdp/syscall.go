package afxdp

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file and memory.go are the only ones that use unsafe. Invariants here:
//
//   - A pointer given to the kernel is to a local value that outlives the call
//     (the conversion to uintptr stands in the call's own argument list).
//   - The structures are x/sys/unix's own, so their layout is the kernel's; Desc,
//     the only layout of ours, is compared with unix.XDPDesc in a test.
//   - Raw system calls (which the Go scheduler does not learn of) are used only
//     with MSG_DONTWAIT and without pointers: they never wait for anything but the
//     work of one batch.

// kick asks the kernel to send what is in the TX ring. RawSyscall instead of
// Syscall: a call lasts about a microsecond per packet, and after 20 µs in a
// Syscall the scheduler may take the thread's P away, which costs more than the call.
func kick(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// wake asks the kernel to look at the fill ring, and with busy polling to poll the device.
func wake(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// registerUMEM is setsockopt(XDP_UMEM_REG).
func registerUMEM(fd int, reg *unix.XDPUmemReg) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(reg)), unsafe.Sizeof(*reg), 0)
	return errnoError(errno)
}

// ringOffsets is getsockopt(XDP_MMAP_OFFSETS): where the indexes and the entries are in each mapping.
func ringOffsets(fd int) (unix.XDPMmapOffsets, error) {
	var offsets unix.XDPMmapOffsets
	err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&offsets), uint32(unsafe.Sizeof(offsets)))
	return offsets, err
}

// statistics is getsockopt(XDP_STATISTICS).
func statistics(fd int) (unix.XDPStatistics, error) {
	var stats unix.XDPStatistics
	err := getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(&stats), uint32(unsafe.Sizeof(stats)))
	return stats, err
}

// optionFlags is getsockopt(XDP_OPTIONS).
func optionFlags(fd int) (uint32, error) {
	var flags uint32
	err := getsockopt(fd, unix.XDP_OPTIONS, unsafe.Pointer(&flags), uint32(unsafe.Sizeof(flags)))
	return flags, err
}

// getsockopt reads an option of exactly size bytes. A kernel that knows only a
// shorter, older form of the structure is older than the ones we support.
func getsockopt(fd, option int, value unsafe.Pointer, size uint32) error {
	got := size
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(value), uintptr(unsafe.Pointer(&got)), 0)
	if errno == 0 && got != size {
		return ErrNotSupported
	}
	return errnoError(errno)
}

// errnoError is nil for 0: a syscall.Errno in an error is never nil.
func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
