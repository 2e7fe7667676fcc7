package afxdp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Continued in Desc.Options: the packet goes on in the next descriptor (XDP_PKT_CONTD).
const Continued uint32 = unix.XDP_PKT_CONTD

// Socket is an AF_XDP socket: one queue of one interface. It belongs to the goroutine of its UMEM.
type Socket struct {
	umem *UMEM
	fd   int // -1: closed
	calls

	fill, completion addrRing
	rx, tx           descRing

	rxPlace, txPlace place
	rxHeld           int  // frames on the receiving side
	txHeld           int  // frames on the sending side
	fillDue          bool // the fill ring may have room for frames
	touched          byte // see Receive

	zeroCopy    bool
	multiBuffer bool
	busyPoll    bool

	kicks, wakes, again, busy, noBuffers, refused atomic.Uint64

	side     int // index in umem.sockets
	options  SocketOptions
	mappings [][]byte // the four rings, ours to unmap
}

// calls are the system calls that move packets. Tests put a kernel of their own here.
type calls struct {
	kick func(fd int) unix.Errno
	wake func(fd int) unix.Errno
}

// FD is the socket's descriptor, for the XSKMAP and for poll(2). The socket keeps it; -1 once closed.
func (s *Socket) FD() int { return s.fd }

// ZeroCopy says whether the device reads and writes the frames itself.
func (s *Socket) ZeroCopy() bool { return s.zeroCopy }

// Receive takes up to len(dst) packets. owned: their frames, by the caller from
// now on. A packet starts at Desc.Addr, with KernelHeadroom + UMEMOptions.Headroom
// bytes of room in front of it in its frame.
func (s *Socket) Receive(dst []Desc) int {
	n := s.rx.ready(uint32(len(dst)))
	if n == 0 {
		if !s.busyPoll || len(dst) == 0 {
			return 0
		}
		s.poll()
		if n = s.rx.ready(uint32(len(dst))); n == 0 {
			return 0
		}
	}
	// Every cache line of each packet is read here, in a row, so that the cache misses overlap: the packets
	// were written on another CPU. Whoever needs them next, one by one, finds them at hand, be it the caller
	// or the kernel that copies them out again (a seventh to a quarter of what sending a packet costs, by perf,
	// are these misses; of 1518 bytes, all lines instead of the first make forwarding 6 to 9 % faster).
	got, pool, touched := 0, &s.umem.pool, byte(0)
	for i := range n {
		d := s.rx.entries[(s.rx.cons+i)&s.rx.mask]
		if !pool.move(d.Addr, s.rxPlace, atCaller) {
			pool.misuse(d.Addr, s.rxPlace, atCaller)
			continue
		}
		touched ^= touch(s.umem.mem[d.Addr : d.Addr+uint64(d.Len)])
		dst[got] = d
		got++
	}
	s.touched = touched
	s.rx.cons += n
	s.rx.release()
	s.rxHeld -= got
	s.fillDue = true
	return got
}

// touch reads a byte of each cache line of b.
func touch(b []byte) (x byte) {
	for ; len(b) > cacheLine; b = b[cacheLine:] {
		x ^= b[0]
	}
	if len(b) > 0 {
		x ^= b[0] ^ b[len(b)-1] // the last one may end in one more line
	}
	return x
}

// cacheLine is that of all CPUs with AF_XDP drivers; with another, touch costs a little more or does a little less.
const cacheLine = 64

// Fill gives the kernel frames from the pool to receive into, as many as the fill ring has room for, and
// wakes the kernel if it waits for them. It returns how many.
func (s *Socket) Fill() (n int) {
	asleep := s.fill.needsWakeup()
	// When nothing was received since the ring was full, and the kernel does not wait, there is nothing to do.
	if s.fillDue || asleep {
		n = s.topUp()
	}
	if asleep && s.fill.pending() > 0 {
		s.poll()
	}
	return n
}

// fillBatch is how much room in the fill ring must be known for the kernel's index not to be looked at.
const fillBatch = 64

// topUp fills the fill ring. To the brim, also while packets wait in the RX ring: a kernel that finds few
// frames and those just now forwards a fifth less, as the two CPUs then pass the same cache lines to and fro.
func (s *Socket) topUp() (n int) {
	s.fill.room(fillBatch)
	for {
		room := s.fill.size - (s.fill.prod - s.fill.cons)
		at := s.fill.prod & s.fill.mask
		slots := s.fill.entries[at:min(at+room, s.fill.size)]
		got := s.umem.pool.take(slots, s.rxPlace, s.umem.options.Reserve)
		s.fill.prod += uint32(got)
		n += got
		if got < len(slots) || uint32(got) == room {
			s.fillDue = got < len(slots) // the pool had no more: again next time
			break
		}
	}
	if n > 0 {
		s.rxHeld += n
		s.fill.publish()
	}
	return n
}

// Send puts packets into the TX ring and returns how many were taken, fewer than
// len(src) only when the ring is full. owned: the frames of those, by the socket, until
// Reclaim. The kernel sends them at the next Kick. Descriptors that it would refuse (empty,
// or not inside one frame) are taken and their frames freed: TxRefused in Stats. With MultiBuffer, src
// holds whole packets, and whole packets are taken.
func (s *Socket) Send(src []Desc) int {
	n := s.tx.room(uint32(len(src)))
	if n == 0 {
		return 0
	}
	if s.multiBuffer {
		return s.sendChains(src, int(n))
	}
	put, pool := uint32(0), &s.umem.pool
	for _, d := range src[:n] {
		if !s.umem.holds(d) || d.Options != 0 {
			s.refuse(d)
			continue
		}
		if !pool.move(d.Addr, atCaller, s.txPlace) {
			pool.misuse(d.Addr, atCaller, s.txPlace)
			continue
		}
		s.tx.entries[(s.tx.prod+put)&s.tx.mask] = d
		put++
	}
	s.tx.prod += put
	s.tx.publish()
	s.txHeld += int(put)
	return int(n)
}

// holds says whether a packet is inside of one frame, as the kernel demands.
func (u *UMEM) holds(d Desc) bool {
	return d.Len != 0 && uint64(d.Len) <= uint64(u.frameSize)-(d.Addr&^u.frameMask)
}

// refuse frees the frame of a descriptor that the kernel would drop without ever completing it.
func (s *Socket) refuse(d Desc) {
	s.refused.Add(1)
	s.umem.Free(d.Addr)
}

// Reclaim takes the frames of packets that were sent back to the pool, and returns how many.
func (s *Socket) Reclaim() int {
	n := s.completion.ready(s.completion.size)
	if n == 0 {
		return 0
	}
	got, pool := 0, &s.umem.pool
	for i := range n {
		addr := s.completion.entries[(s.completion.cons+i)&s.completion.mask]
		if !pool.move(addr, s.txPlace, inPool) {
			pool.misuse(addr, s.txPlace, inPool)
			continue
		}
		pool.push(addr)
		got++
	}
	s.completion.cons += n
	s.completion.release()
	s.txHeld -= got
	return got
}
