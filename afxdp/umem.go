package afxdp

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// Limits and sizes of the kernel (linux/if_xdp.h, net/xdp/xdp_umem.c).
const (
	// KernelHeadroom is the room that the kernel itself leaves in front of a
	// received packet, before UMEMOptions.Headroom (XDP_PACKET_HEADROOM).
	KernelHeadroom = unix.XDP_PACKET_HEADROOM
	minFrameSize   = 2048
	hugePage       = 2 << 20
)

// What we chose.
const (
	// defaultFrames serves two sockets with rings of 2048: enough to fill both
	// and to have as many underway. 8 MiB with frames of 2048 bytes.
	defaultFrames    = 8192
	defaultFrameSize = 2048 // 1792 bytes for the packet after KernelHeadroom: a full Ethernet frame and its tunnel headers
)

// UMEMOptions say how much memory there is and how it is cut.
type UMEMOptions struct {
	// Frames is the number of frames. Default 8192. Each socket holds up to FillSize + RxSize for
	// receiving, and up to TxSize + CompletionSize while sending. With fewer than all that, sockets
	// under load may leave none for others: see Reserve.
	Frames int
	// FrameSize is 2048 or 4096 (a power of two up to the page size). Default
	// 2048. A packet longer than FrameSize - KernelHeadroom - Headroom is not received,
	// unless the socket has SocketOptions.MultiBuffer.
	FrameSize int
	// Headroom is room in front of received packets, in addition to the
	// kernel's own 256 bytes. Default 0.
	Headroom int
	// HugePages asks for 2 MiB pages (MAP_HUGETLB, which must have been reserved:
	// vm.nr_hugepages). Without them ordinary pages are used, and UMEM.HugePages says so.
	HugePages bool
	// Reserve is how many frames Socket.Fill leaves in the pool, so that Alloc finds
	// some also when every socket wants more. Default 0.
	Reserve int
	// Strict panics when a frame is given away that the caller does not have,
	// where otherwise this is only counted (UMEM.Misuses). For tests.
	Strict bool
}

func (o UMEMOptions) withDefaults() UMEMOptions {
	if o.Frames == 0 {
		o.Frames = defaultFrames
	}
	if o.FrameSize == 0 {
		o.FrameSize = defaultFrameSize
	}
	return o
}

// Validate reports everything that is wrong with the options.
func (o UMEMOptions) Validate() error {
	o = o.withDefaults()
	var problems []error
	if o.Frames < 1 || o.Frames > 1<<26 {
		problems = append(problems, fmt.Errorf("umem: frames %d: not in 1 to %d", o.Frames, 1<<26))
	}
	if page := unix.Getpagesize(); o.FrameSize < minFrameSize || o.FrameSize > page || bits.OnesCount(uint(o.FrameSize)) != 1 {
		problems = append(problems, fmt.Errorf("umem: frame size %d: not a power of two from %d to the page size %d", o.FrameSize, minFrameSize, page))
	}
	if o.Headroom < 0 || o.Headroom >= o.FrameSize-KernelHeadroom {
		problems = append(problems, fmt.Errorf("umem: headroom %d: not in 0 to %d", o.Headroom, o.FrameSize-KernelHeadroom-1))
	}
	if o.Reserve < 0 || o.Reserve > o.Frames {
		problems = append(problems, fmt.Errorf("umem: reserve %d: not in 0 to %d frames", o.Reserve, o.Frames))
	}
	return errors.Join(problems...)
}

// UMEM is memory cut into frames, the pool of the free ones, and the sockets
// that share it. It belongs to one goroutine.
type UMEM struct {
	pool      pool
	mem       []byte
	frameSize int
	frameMask uint64 // address of a frame = address & frameMask
	options   UMEMOptions
	mapped    bool
	huge      bool
	closed    bool
	sockets   []*Socket // by side, nil where one was closed
}

// NewUMEM maps the memory. Nothing is registered with the kernel before the first Open.
func NewUMEM(o UMEMOptions) (*UMEM, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	size := o.Frames * o.FrameSize
	mem, huge, err := mapMemory(size, o.HugePages)
	if err != nil {
		return nil, fmt.Errorf("map umem of %d KiB: %w", size>>10, err)
	}
	u := newUMEM(o, mem)
	u.mapped, u.huge = true, huge
	return u, nil
}

// NewHeapUMEM takes Go memory instead, which the race detector can see. It
// cannot have sockets: it is for tests and for ports in memory.
func NewHeapUMEM(o UMEMOptions) (*UMEM, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return newUMEM(o, newAlignedBytes(o.Frames*o.FrameSize)), nil
}

func newUMEM(o UMEMOptions, mem []byte) *UMEM {
	return &UMEM{
		pool:      newPool(o.Frames, o.FrameSize, o.Strict),
		mem:       mem,
		frameSize: o.FrameSize,
		frameMask: ^uint64(o.FrameSize - 1),
		options:   o,
	}
}

// mapMemory maps size bytes, on huge pages when asked and possible. Pages are
// touched now (MAP_POPULATE): a page fault has no place in a worker.
func mapMemory(size int, huge bool) (mem []byte, onHuge bool, err error) {
	const prot = unix.PROT_READ | unix.PROT_WRITE
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	if huge {
		rounded := (size + hugePage - 1) &^ (hugePage - 1)
		mem, err = unix.Mmap(-1, 0, rounded, prot, flags|unix.MAP_HUGETLB)
		if err == nil {
			return mem, true, nil
		}
	}
	mem, err = unix.Mmap(-1, 0, size, prot, flags)
	return mem, false, err
}

// Frame is the whole frame that holds addr. borrowed: while the caller has the frame.
func (u *UMEM) Frame(addr uint64) []byte {
	base := addr & u.frameMask
	return u.mem[base : base+uint64(u.frameSize) : base+uint64(u.frameSize)]
}

// FrameBase is the address of the frame that holds addr.
func (u *UMEM) FrameBase(addr uint64) uint64 { return addr & u.frameMask }

// FrameSize is the size of every frame.
func (u *UMEM) FrameSize() int { return u.frameSize }

// Frames is the number of frames.
func (u *UMEM) Frames() int { return len(u.pool.place) }

// HugePages says whether the memory is on huge pages.
func (u *UMEM) HugePages() bool { return u.huge }

// Close unmaps the memory. It refuses while a socket lives, as the kernel and
// the caller may still hold frames.
func (u *UMEM) Close() error {
	if u.closed {
		return nil
	}
	if n := u.liveSockets(); n > 0 {
		return fmt.Errorf("close umem: %d sockets are still open", n)
	}
	u.closed = true
	mem := u.mem
	u.mem, u.pool = nil, pool{}
	if !u.mapped {
		return nil
	}
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap umem: %w", err)
	}
	return nil
}

func (u *UMEM) liveSockets() (n int) {
	for _, s := range u.sockets {
		if s != nil {
			n++
		}
	}
	return n
}
