package traffic

import (
	"errors"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// testRun is the part of union bpf_attr (linux/bpf.h) that BPF_PROG_TEST_RUN reads.
type testRun struct {
	program     uint32
	retval      uint32
	dataSizeIn  uint32
	dataSizeOut uint32
	dataIn      uint64
	dataOut     uint64
	repeat      uint32
	duration    uint32
	ctxSizeIn   uint32
	ctxSizeOut  uint32
	ctxIn       uint64
	ctxOut      uint64
	flags       uint32
	cpu         uint32
	batchSize   uint32
	_           uint32
}

// runLive runs a program on packets of its own until it has made repeat runs or a signal comes: then it returns
// EINTR, after which ebpf's Program.Run would only begin again, so this does the call itself.
func runLive(p *ebpf.Program, size int, repeat uint32, batch int) error {
	data := make([]byte, size)
	attr := testRun{
		program:    uint32(p.FD()),
		dataSizeIn: uint32(size),
		dataIn:     uint64(uintptr(unsafe.Pointer(&data[0]))),
		repeat:     repeat,
		flags:      unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		batchSize:  uint32(batch),
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(data)
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	return nil
}

// interrupt makes a thread's system call return. Go takes SIGURG for one of its own and does nothing else.
func interrupt(thread int) error {
	err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
	if errors.Is(err, unix.ESRCH) { // ended
		return nil
	}
	return err
}
