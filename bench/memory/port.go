package memory

import (
	"sync"
	"sync/atomic"

	"github.com/sluicegw/sluice/afxdp"
)

// port is a relay.Queue whose packets come from a feed and end in a tally. A frame is
// written when a packet is received, as the NIC does, and is done with at once
// when it is sent. Only mail is shared.
type port struct {
	umem  *afxdp.UMEM
	slice *slice
	// takes and counts say whether this port is where packets come in or go out.
	takes, counts bool
	offset        int               // of what the tally sees in a sent frame
	count         func([]byte) bool // tells whether it is to be counted; nil: always

	kicks     atomic.Uint64
	fill      []uint64
	completed []uint64

	posted atomic.Int32
	mu     sync.Mutex
	mail   [][]byte
}

// fillSize is how many frames wait for packets: more than a batch.
const fillSize = 128

func newPort(umem *afxdp.UMEM, s *slice) *port {
	return &port{umem: umem, slice: s, fill: make([]uint64, 0, fillSize), completed: make([]uint64, 0, umem.Frames())}
}

// post puts a packet in front of the feed; any goroutine may call it.
func (p *port) post(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mail = append(p.mail, b)
	p.posted.Add(1)
}

// Receive implements relay.Queue.
func (p *port) Receive(dst []afxdp.Desc) (n int) {
	if p.posted.Load() != 0 {
		p.mu.Lock()
		for n < len(dst) && len(p.mail) > 0 && p.put(&dst[n], p.mail[0]) {
			p.mail = p.mail[1:]
			p.posted.Add(-1)
			n++
		}
		p.mu.Unlock()
	}
	f := p.slice.in.Load()
	if !p.takes || f == nil {
		return n
	}
	for n < len(dst) && f.next < f.want && p.put(&dst[n], f.packets.at(f.next)) {
		f.next += f.step
		n++
	}
	return n
}

// put copies a packet into a frame; false: there is none.
func (p *port) put(d *afxdp.Desc, b []byte) bool {
	if len(p.fill) == 0 {
		return false
	}
	base := p.fill[len(p.fill)-1]
	p.fill = p.fill[:len(p.fill)-1]
	copy(p.umem.Frame(base)[afxdp.KernelHeadroom:], b)
	*d = afxdp.Desc{Addr: base + afxdp.KernelHeadroom, Len: uint32(len(b))}
	return true
}

// Fill implements relay.Queue.
func (p *port) Fill() int {
	have := len(p.fill)
	n := p.umem.Alloc(p.fill[have:fillSize])
	p.fill = p.fill[:have+n]
	return n
}

// Send implements relay.Queue.
func (p *port) Send(src []afxdp.Desc) int {
	t := p.slice.out.Load()
	for _, d := range src {
		base := p.umem.FrameBase(d.Addr)
		b := p.umem.Frame(base)[d.Addr-base:][:d.Len][p.offset:]
		if (p.count == nil || p.count(b)) && p.counts && t != nil {
			t.add(b)
		}
		p.completed = append(p.completed, base)
	}
	return len(src)
}

// Kick implements relay.Queue. On a socket it would be a system call.
func (p *port) Kick() error {
	p.kicks.Add(1)
	return nil
}

// Reclaim implements relay.Queue.
func (p *port) Reclaim() int {
	n := len(p.completed)
	for _, base := range p.completed {
		p.umem.Free(base)
	}
	p.completed = p.completed[:0]
	return n
}

// FD implements relay.Queue: there is nothing to wait on.
func (p *port) FD() int { return -1 }

// Close implements relay.Queue.
func (p *port) Close() error {
	p.Reclaim()
	for _, base := range p.fill {
		p.umem.Free(base)
	}
	p.fill = p.fill[:0]
	return nil
}
