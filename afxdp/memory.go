package afxdp

import (
	"sync/atomic"
	"unsafe"
)

// This file and syscall.go are the only ones that use unsafe. Invariants here:
//
//   - Alignment: a view starts at a multiple of its element's size. The kernel's
//     offsets and page-aligned mappings guarantee it, heap rings are made by
//     newAlignedBytes; both are checked once, when the view is made.
//   - Bounds: a view lies wholly inside the []byte it is made from. Checked too.
//   - Lifetime: a view of Go memory keeps that memory alive. A view of a mapping does not: the
//     mapping is unmapped by Socket.Close, which replaces every view first.
//   - Writers: the producer index has one writer, the consumer index another; an
//     entry is written by the producer before it publishes the index and read by the
//     consumer after it has loaded it. The flags word is written by the kernel only.

// Desc is one received or sent packet: struct xdp_desc of linux/if_xdp.h.
type Desc struct {
	Addr    uint64 // where the packet starts, as an offset into the UMEM
	Len     uint32
	Options uint32 // Continued, or 0
}

// viewUint32 is the shared index at offset off of mem.
func viewUint32(mem []byte, off uint64) *atomic.Uint32 {
	checkView(mem, off, 1, unsafe.Sizeof(atomic.Uint32{}))
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off]))
}

// viewAddrs are the n entries of a fill or completion ring.
func viewAddrs(mem []byte, off uint64, n uint32) []uint64 {
	checkView(mem, off, n, unsafe.Sizeof(uint64(0)))
	return unsafe.Slice((*uint64)(unsafe.Pointer(&mem[off])), n)
}

// viewDescs are the n entries of an RX or TX ring.
func viewDescs(mem []byte, off uint64, n uint32) []Desc {
	checkView(mem, off, n, unsafe.Sizeof(Desc{}))
	return unsafe.Slice((*Desc)(unsafe.Pointer(&mem[off])), n)
}

// checkView panics when n elements of a size do not fit at off or are not
// aligned there (Desc holds a uint64, so 8 is the largest alignment needed).
func checkView(mem []byte, off uint64, n uint32, size uintptr) {
	if length := uint64(len(mem)); n == 0 || off >= length || uint64(n)*uint64(size) > length-off {
		panic("afxdp: ring view outside of its memory")
	}
	if uintptr(unsafe.Pointer(&mem[off]))%min(size, 8) != 0 {
		panic("afxdp: ring view is not aligned")
	}
}

// newAlignedBytes is zeroed Go memory that starts at a multiple of 8.
func newAlignedBytes(n int) []byte {
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8)[:n:n]
}

// address is where mem is, as XDP_UMEM_REG wants it. mem is mapped, never Go memory: nothing moves it.
func address(mem []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
}
