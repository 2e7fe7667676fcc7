// Package relaytest has ports in memory, so that a relay can be run, watched
// and tormented without a kernel: packets are injected as bytes on one side and
// collected as bytes on the other, and between two queues a Wire carries them, or
// loses and reorders them.
//
// It is not a mock: the relay that runs over it is the real one, with a real
// UMEM in heap memory, and every frame is somewhere. The relay calls the methods
// of relay.Queue on its worker; a test calls the others from any goroutine.
//
//	umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: 1024})
//	q := relaytest.NewQueue(umem, relaytest.Options{Notify: r.Wake})
//	err = r.SetQueues(0, []relay.PortQueue{{Ifindex: 2, Queue: q}})
//	q.Inject(packet)
//	sent := q.Collect()
package relaytest

import (
	"sync"

	"github.com/sluicegw/sluice/afxdp"
)

// Options of a Queue.
type Options struct {
	// FillSize is how many frames wait for packets; 0 means 128.
	FillSize int
	// TxSize is how many sent packets the queue holds until somebody collects
	// them; more are refused, as a full ring does. 0 means 1024.
	TxSize int
	// Headroom in front of received packets; 0 means 256, as the kernel leaves.
	Headroom int
	// Notify is called after each injection; nil: the relay finds out by itself.
	Notify func()
}

// Queue is a relay.Queue in memory.
type Queue struct {
	umem *afxdp.UMEM
	o    Options

	mu        sync.Mutex
	fill      []uint64
	received  []afxdp.Desc
	sent      []afxdp.Desc
	completed []uint64
	full      bool
	missed    int
	kickError error
	kicks     int
}

// NewQueue makes a queue whose frames come from umem's pool and go back there.
func NewQueue(umem *afxdp.UMEM, o Options) *Queue {
	if o.FillSize == 0 {
		o.FillSize = 128
	}
	if o.TxSize == 0 {
		o.TxSize = 1024
	}
	if o.Headroom == 0 {
		o.Headroom = afxdp.KernelHeadroom
	}
	return &Queue{umem: umem, o: o}
}

// Inject puts a packet into the receive ring. False: there was no frame for
// it, or it does not fit into one; a NIC would have dropped it.
func (q *Queue) Inject(b []byte) bool { return q.InjectDesc(b, 0) }

// InjectLong is Inject for a packet that may need several frames.
func (q *Queue) InjectLong(b []byte) bool {
	first := q.umem.FrameSize() - q.o.Headroom
	for len(b) > first {
		if !q.InjectDesc(b[:first], afxdp.Continued) {
			return false
		}
		b = b[first:]
	}
	return q.InjectDesc(b, 0)
}

// InjectDesc is Inject with a descriptor's options (XDP_PKT_CONTD).
func (q *Queue) InjectDesc(b []byte, options uint32) bool {
	q.mu.Lock()
	if len(q.fill) == 0 || q.o.Headroom+len(b) > q.umem.FrameSize() {
		q.missed++
		q.mu.Unlock()
		return false
	}
	base := q.fill[len(q.fill)-1]
	q.fill = q.fill[:len(q.fill)-1]
	copy(q.umem.Frame(base)[q.o.Headroom:], b)
	q.received = append(q.received, afxdp.Desc{Addr: base + uint64(q.o.Headroom), Len: uint32(len(b)), Options: options})
	q.mu.Unlock()
	if q.o.Notify != nil {
		q.o.Notify()
	}
	return true
}

// Collect returns copies of what was sent since the last time, in order, and
// completes it.
func (q *Queue) Collect() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var packets [][]byte
	var packet []byte
	for _, d := range q.sent {
		base := q.umem.FrameBase(d.Addr)
		off := d.Addr - base
		packet = append(packet, q.umem.Frame(base)[off:off+uint64(d.Len)]...)
		q.completed = append(q.completed, base)
		if d.Options&afxdp.Continued == 0 {
			packets, packet = append(packets, packet), nil
		}
	}
	q.sent = q.sent[:0]
	return packets
}

// Discard completes what was sent without looking at it and returns how much
// it was. It does not allocate.
func (q *Queue) Discard() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.sent)
	for _, d := range q.sent {
		q.completed = append(q.completed, d.Addr)
	}
	q.sent = q.sent[:0]
	return n
}

// SetFull makes the transmit ring refuse everything, or not.
func (q *Queue) SetFull(full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.full = full
}

// SetKickError makes Kick return err.
func (q *Queue) SetKickError(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kickError = err
}

// Missed is how many injections found no frame.
func (q *Queue) Missed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.missed
}

// Kicks is how often the relay has kicked.
func (q *Queue) Kicks() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.kicks
}

// Receive implements relay.Queue.
func (q *Queue) Receive(dst []afxdp.Desc) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := copy(dst, q.received)
	q.received = q.received[:copy(q.received, q.received[n:])]
	return n
}

// Fill implements relay.Queue.
func (q *Queue) Fill() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	have := len(q.fill)
	if cap(q.fill) < q.o.FillSize {
		q.fill = append(make([]uint64, 0, q.o.FillSize), q.fill...)
	}
	n := q.umem.Alloc(q.fill[have:q.o.FillSize])
	q.fill = q.fill[:have+n]
	return n
}

// Send implements relay.Queue.
func (q *Queue) Send(src []afxdp.Desc) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full {
		return 0
	}
	n := min(len(src), q.o.TxSize-len(q.sent))
	for n > 0 && src[n-1].Options&afxdp.Continued != 0 { // whole packets only
		n--
	}
	q.sent = append(q.sent, src[:n]...)
	return n
}

// Kick implements relay.Queue.
func (q *Queue) Kick() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kicks++
	return q.kickError
}

// Reclaim implements relay.Queue.
func (q *Queue) Reclaim() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.completed)
	for _, addr := range q.completed {
		q.umem.Free(addr)
	}
	q.completed = q.completed[:0]
	return n
}

// FD implements relay.Queue: there is nothing to wait on, see Options.Notify.
func (q *Queue) FD() int { return -1 }

// Close implements relay.Queue: all frames go back to the pool.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, addr := range append(q.fill, q.completed...) {
		q.umem.Free(addr)
	}
	for _, d := range append(q.received, q.sent...) {
		q.umem.Free(d.Addr)
	}
	q.fill, q.completed, q.received, q.sent = nil, nil, nil, nil
	return nil
}

// Held is how many frames are at the queue, in whichever ring.
func (q *Queue) Held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.fill) + len(q.received) + len(q.sent) + len(q.completed)
}
