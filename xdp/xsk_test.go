package xdp

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSocket is the least AF_XDP socket that receives: one UMEM, a fill ring that is filled once, an RX ring. It is apart
// from package afxdp, which this package may not know.
type rawSocket struct {
	fd       int
	umem, rx []byte
	offsets  unix.XDPMmapOffsets
	taken    uint32
}

const (
	rawFrames    = 64
	rawFrameSize = 2048
)

func newRawSocket(t *testing.T, ifindex, queue int) *rawSocket {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &rawSocket{fd: fd}
	t.Cleanup(func() { _ = unix.Close(fd) })
	s.umem = s.mmap(t, -1, 0, rawFrames*rawFrameSize, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.umem[0]))), Len: uint64(len(s.umem)), Size: rawFrameSize}
	s.option(t, unix.SYS_SETSOCKOPT, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
	size := uint32(rawFrames)
	for _, ring := range []uintptr{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING} {
		s.option(t, unix.SYS_SETSOCKOPT, ring, unsafe.Pointer(&size), unsafe.Sizeof(size))
	}
	length := uint32(unsafe.Sizeof(s.offsets))
	s.option(t, unix.SYS_GETSOCKOPT, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&s.offsets), uintptr(unsafe.Pointer(&length)))

	fill := s.mmap(t, fd, unix.XDP_UMEM_PGOFF_FILL_RING, int(s.offsets.Fr.Desc)+rawFrames*8, unix.MAP_SHARED|unix.MAP_POPULATE)
	for i := range rawFrames {
		binary.NativeEndian.PutUint64(fill[int(s.offsets.Fr.Desc)+i*8:], uint64(i*rawFrameSize))
	}
	index(fill, s.offsets.Fr.Producer).Store(rawFrames)
	s.rx = s.mmap(t, fd, unix.XDP_PGOFF_RX_RING, int(s.offsets.Rx.Desc)+rawFrames*16, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err := unix.Bind(fd, &unix.SockaddrXDP{Ifindex: uint32(ifindex), QueueID: uint32(queue)}); err != nil {
		t.Fatalf("bind af_xdp socket: %v", err)
	}
	return s
}

func (s *rawSocket) mmap(t *testing.T, fd int, offset int64, size, flags int) []byte {
	t.Helper()
	b, err := unix.Mmap(fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func (s *rawSocket) option(t *testing.T, call, name uintptr, value unsafe.Pointer, length uintptr) {
	t.Helper()
	if _, _, errno := unix.Syscall6(call, uintptr(s.fd), unix.SOL_XDP, name, uintptr(value), length, 0); errno != 0 {
		t.Fatalf("af_xdp socket option %d: %v", name, errno)
	}
}

func index(ring []byte, offset uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&ring[offset]))
}

// receive waits for the next packet, not longer than some seconds.
func (s *rawSocket) receive(t *testing.T) []byte {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); index(s.rx, s.offsets.Rx.Producer).Load() == s.taken; {
		if time.Now().After(deadline) {
			t.Fatal("no packet at the af_xdp socket")
		}
		time.Sleep(time.Millisecond)
	}
	at := int(s.offsets.Rx.Desc) + int(s.taken)*16
	s.taken++
	addr, length := binary.NativeEndian.Uint64(s.rx[at:]), binary.NativeEndian.Uint32(s.rx[at+8:])
	return s.umem[addr : addr+uint64(length)]
}

// sender sends whole frames from an interface.
type sender struct{ fd int }

func newSender(t *testing.T, ifindex int) *sender {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: receives nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		t.Fatal(err)
	}
	return &sender{fd}
}

func (s *sender) send(t *testing.T, packet []byte) {
	t.Helper()
	if _, err := unix.Write(s.fd, packet); err != nil {
		t.Fatal(err)
	}
}
