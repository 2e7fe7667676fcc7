package tun

import (
	"sync/atomic"

	"github.com/sluicegw/sluice/afxdp"
)

// Queue is one worker's side of the port: a relay.Queue. Only that worker calls
// its methods.
type Queue struct {
	umem *afxdp.UMEM
	in   *ring // from the kernel; nil: another queue has them
	out  *ring // to the kernel
	lost atomic.Uint64
}

// Receive copies what the kernel has sent into frames. What finds no frame waits.
func (q *Queue) Receive(dst []afxdp.Desc) int {
	if q.in == nil || q.in.used() == 0 {
		return 0
	}
	n := 0
	for ; n < min(len(dst), q.in.used()); n++ {
		var frame [1]uint64
		if q.umem.Alloc(frame[:]) == 0 {
			break
		}
		slot := at(&q.in.head, n)
		data := q.in.slots[slot][:q.in.sizes[slot]]
		copy(q.umem.Frame(frame[0])[afxdp.KernelHeadroom:], data)
		dst[n] = afxdp.Desc{Addr: frame[0] + afxdp.KernelHeadroom, Len: uint32(len(data))}
	}
	if n > 0 {
		q.in.took(n)
		q.in.wake()
	}
	return n
}

// Fill has nothing to do: a frame is taken when there is a packet for it.
func (q *Queue) Fill() int { return 0 }

// Send copies packets into the ring towards the kernel. One that came in several
// descriptors is put together; one that is too long for a slot is lost.
func (q *Queue) Send(src []afxdp.Desc) int {
	sent := 0
	for sent < len(src) && q.out.free() > 0 {
		slot := at(&q.out.tail, 0)
		to, length, end := q.out.slots[slot][writeRoom:], 0, sent
		for more := true; more && end < len(src); end++ {
			d := src[end]
			off := d.Addr - q.umem.FrameBase(d.Addr)
			copy(to[min(length, len(to)):], q.umem.Frame(d.Addr)[off:off+uint64(d.Len)])
			length += int(d.Len)
			more = d.Options&afxdp.Continued != 0
		}
		if length > len(to) {
			q.lost.Add(1)
		} else {
			q.out.sizes[slot] = length
			q.out.put(1)
		}
		for _, d := range src[sent:end] {
			q.umem.Free(d.Addr)
		}
		sent = end
	}
	return sent
}

// Kick wakes the goroutine that writes to the device.
func (q *Queue) Kick() error {
	q.out.wake()
	return nil
}

// Reclaim has nothing to do: what was sent was copied, and its frame is free.
func (q *Queue) Reclaim() int { return 0 }

// FD is none: Options.Notify wakes the worker.
func (q *Queue) FD() int { return -1 }

// Close has nothing to give back: no frame is here between two calls.
func (q *Queue) Close() error { return nil }
