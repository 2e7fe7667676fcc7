package afxdp

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// simKernel plays the kernel of one socket on the same ring memory. It is written the slow way, with no cached
// index: each step loads what it needs and stores what it has done.
type simKernel struct {
	mem              []byte // the UMEM's
	frameSize        uint64
	headroom         uint64
	fill, completion simRing
	rx, tx           simRing
	unused           []uint64 // taken from the fill ring, not received into: the RX ring was full
	flying           []Desc   // taken from the TX ring, not completed
	sent             func(Desc)
	budget           int
}

type simRing struct {
	producer, consumer, flags *atomic.Uint32
	addrs                     []uint64
	descs                     []Desc
	size                      uint32
}

func (r simRing) entries() uint32 { return r.producer.Load() - r.consumer.Load() }
func (r simRing) full() bool      { return r.entries() == r.size }

// newSimSocket is a socket over Go memory whose ring indexes begin at start, and its kernel.
func newSimSocket(tb testing.TB, u *UMEM, o SocketOptions, start uint32) (*Socket, *simKernel) {
	tb.Helper()
	o.Ifindex = 1
	if err := o.Validate(); err != nil {
		tb.Fatal(err)
	}
	o = o.withDefaults()
	at := offsetsInMemory()
	memory := func(size int) []byte {
		mem := newAlignedBytes(bytesInMemory(uint32(size)))
		viewUint32(mem, at.Producer).Store(start)
		viewUint32(mem, at.Consumer).Store(start)
		return mem
	}
	fill, completion, rx, tx := memory(o.FillSize), memory(o.CompletionSize), memory(o.RxSize), memory(o.TxSize)
	sim := func(mem []byte, size int, descs bool) simRing {
		r := simRing{viewUint32(mem, at.Producer), viewUint32(mem, at.Consumer), viewUint32(mem, at.Flags), nil, nil, uint32(size)}
		if descs {
			r.descs = viewDescs(mem, at.Desc, r.size)
		} else {
			r.addrs = viewAddrs(mem, at.Desc, r.size)
		}
		return r
	}
	k := &simKernel{
		mem: u.mem, frameSize: uint64(u.frameSize), headroom: KernelHeadroom + uint64(u.options.Headroom),
		fill: sim(fill, o.FillSize, false), completion: sim(completion, o.CompletionSize, false),
		rx: sim(rx, o.RxSize, true), tx: sim(tx, o.TxSize, true),
		sent: func(Desc) {}, budget: o.TxBudget,
	}
	k.tx.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	side := len(u.sockets)
	for i, s := range u.sockets {
		if s == nil {
			side = i
		}
	}
	if side == len(u.sockets) {
		u.sockets = append(u.sockets, nil)
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // something for Close to close
	if err != nil {
		tb.Fatal(err)
	}
	s := &Socket{
		umem: u, fd: fd, options: o, side: side,
		rxPlace: rxSide(side), txPlace: txSide(side), fillDue: true,
		multiBuffer: o.MultiBuffer, busyPoll: o.BusyPoll > 0,
		fill:       newAddrRing(fill, at, uint32(o.FillSize)),
		completion: newAddrRing(completion, at, uint32(o.CompletionSize)),
		rx:         newDescRing(rx, at, uint32(o.RxSize)),
		tx:         newDescRing(tx, at, uint32(o.TxSize)),
	}
	s.calls = calls{
		kick: func(int) unix.Errno { return k.transmit(k.budget) },
		wake: func(int) unix.Errno { k.fill.flags.Store(0); return 0 },
	}
	u.sockets[side] = s
	return s, k
}

// receive puts a packet into a frame; false: it is dropped.
func (k *simKernel) receive(payload []byte) bool {
	if len(k.unused) == 0 {
		if k.fill.entries() == 0 {
			return false
		}
		cons := k.fill.consumer.Load()
		k.unused = append(k.unused, k.fill.addrs[cons%k.fill.size])
		k.fill.consumer.Store(cons + 1)
	}
	if k.rx.full() {
		return false
	}
	addr := k.unused[len(k.unused)-1] + k.headroom
	k.unused = k.unused[:len(k.unused)-1]
	copy(k.mem[addr:addr/k.frameSize*k.frameSize+k.frameSize], payload)
	prod := k.rx.producer.Load()
	k.rx.descs[prod%k.rx.size] = Desc{Addr: addr, Len: uint32(len(payload))}
	k.rx.producer.Store(prod + 1)
	return true
}

// transmit is sendto in copy mode: it takes up to limit packets, as long as there
// is room to complete them.
func (k *simKernel) transmit(limit int) unix.Errno {
	for k.tx.entries() > 0 {
		if limit == 0 || uint32(len(k.flying))+k.completion.entries() >= k.completion.size {
			return unix.EAGAIN
		}
		limit--
		k.takeOne()
	}
	return 0
}

func (k *simKernel) takeOne() {
	cons := k.tx.consumer.Load()
	d := k.tx.descs[cons%k.tx.size]
	k.sent(d)
	k.flying = append(k.flying, d)
	k.tx.consumer.Store(cons + 1)
}

// complete gives up to n frames back.
func (k *simKernel) complete(n int) (done int) {
	for ; done < n && len(k.flying) > 0 && !k.completion.full(); done++ {
		prod := k.completion.producer.Load()
		k.completion.addrs[prod%k.completion.size] = k.flying[0].Addr
		k.completion.producer.Store(prod + 1)
		k.flying = k.flying[1:]
	}
	return done
}

// everywhere lists the frames that this socket and its kernel hold.
func (k *simKernel) everywhere() (addrs []uint64) {
	for i := range k.fill.entries() {
		addrs = append(addrs, k.fill.addrs[(k.fill.consumer.Load()+i)%k.fill.size])
	}
	for i := range k.completion.entries() {
		addrs = append(addrs, k.completion.addrs[(k.completion.consumer.Load()+i)%k.completion.size])
	}
	for _, r := range []simRing{k.rx, k.tx} {
		for i := range r.entries() {
			addrs = append(addrs, r.descs[(r.consumer.Load()+i)%r.size].Addr)
		}
	}
	for _, d := range k.flying {
		addrs = append(addrs, d.Addr)
	}
	return append(addrs, k.unused...)
}

// heapUMEM is a strict UMEM in Go memory.
func heapUMEM(tb testing.TB, frames int) *UMEM {
	tb.Helper()
	u, err := NewHeapUMEM(UMEMOptions{Frames: frames, Strict: true})
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// wantCensus compares what the UMEM believes with what is wanted.
func wantCensus(tb testing.TB, u *UMEM, want Census) {
	tb.Helper()
	if got := u.Census(); got != want {
		tb.Errorf("frames are at %+v, want %+v", got, want)
	}
	if got := u.FreeCount(); got != want.Pool {
		tb.Errorf("there are %d free frames, want %d", got, want.Pool)
	}
}

// offsetsInMemory is the layout of a simulated ring: indexes on cache
// lines of their own, as the kernel has them, then the entries.
func offsetsInMemory() unix.XDPRingOffset {
	return unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
}

// bytesInMemory is how much memory that layout takes for a number of entries of at most 16 bytes.
func bytesInMemory(size uint32) int { return 192 + 16*int(size) }
