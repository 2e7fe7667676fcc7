package afxdp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The four rings of a socket have one producer and one consumer each:
//
//	fill        we produce free frames        the kernel consumes
//	rx          the kernel produces packets   we consume
//	tx          we produce packets            the kernel consumes
//	completion  the kernel produces frames    we consume
//
// The indexes run through all of uint32 and wrap; an entry's slot is index&mask.
// The distance producer-consumer is the number of entries, right also across the
// wrap. Each side keeps a copy of both indexes and touches the shared ones, which
// bounce between two CPUs' caches, once per batch: the other side's when the
// copy does not promise enough, its own to publish.
//
// Ring code sees plain memory. The socket gives it mappings, tests give it Go
// memory, so that the race detector can watch.

// ring is what the four have in common.
type ring struct {
	producer *atomic.Uint32 // shared
	consumer *atomic.Uint32 // shared
	flags    *atomic.Uint32 // shared, written by the kernel
	prod     uint32         // ours when producing, else the last one seen
	cons     uint32         // ours when consuming, else the last one seen
	mask     uint32
	size     uint32
}

type addrRing struct {
	ring
	entries []uint64
}

type descRing struct {
	ring
	entries []Desc
}

func newRing(mem []byte, at unix.XDPRingOffset, size uint32) ring {
	r := ring{
		producer: viewUint32(mem, at.Producer),
		consumer: viewUint32(mem, at.Consumer),
		flags:    viewUint32(mem, at.Flags),
		mask:     size - 1,
		size:     size,
	}
	r.prod, r.cons = r.producer.Load(), r.consumer.Load()
	return r
}

func newAddrRing(mem []byte, at unix.XDPRingOffset, size uint32) addrRing {
	return addrRing{newRing(mem, at, size), viewAddrs(mem, at.Desc, size)}
}

func newDescRing(mem []byte, at unix.XDPRingOffset, size uint32) descRing {
	return descRing{newRing(mem, at, size), viewDescs(mem, at.Desc, size)}
}

// room is, for the producer, how many of want entries there is place for.
func (r *ring) room(want uint32) uint32 {
	free := r.size - (r.prod - r.cons)
	if free < want {
		r.cons = r.consumer.Load()
		free = r.size - (r.prod - r.cons)
	}
	return min(free, want)
}

// publish shows the consumer all that was written below r.prod.
func (r *ring) publish() { r.producer.Store(r.prod) }

// ready is, for the consumer, how many of want entries there are.
func (r *ring) ready(want uint32) uint32 {
	n := r.prod - r.cons
	if n < want {
		r.prod = r.producer.Load()
		n = r.prod - r.cons
	}
	return min(n, want)
}

// release gives the producer the slots of all entries below r.cons.
func (r *ring) release() { r.consumer.Store(r.cons) }

// pending is, for the producer, how many entries the consumer has not taken yet.
func (r *ring) pending() uint32 {
	r.cons = r.consumer.Load()
	return r.prod - r.cons
}

// needsWakeup says whether the kernel waits for a system call to go on with this ring.
func (r *ring) needsWakeup() bool { return r.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0 }
