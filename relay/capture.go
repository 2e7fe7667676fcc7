package relay

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
)

// Limits of captures.
const (
	// MaxCaptures at a time: each costs the workers a copy.
	MaxCaptures = 4
	// MaxSnapLen is longer than any packet (long.go).
	MaxSnapLen = longSize
	// DefaultSnapLen takes packets whole where there are no jumbo frames.
	DefaultSnapLen = 2048
	// captureMemory is what one capture may take of each worker's memory.
	captureMemory = 8 << 20
)

// noVNI marks packets whose VPC is not known.
const noVNI = 1 << 31

// CaptureOptions say what to capture.
type CaptureOptions struct {
	// Stages to capture at; at least one.
	Stages []Stage
	// VPC, by VNI, whose packets alone are wanted; nil: of any. What is not known
	// to belong to a VPC (StageSiteIn, StageWANIn, dropped before that is known)
	// is then left out.
	VPC *uint32
	// SnapLen is how much of a packet is kept. 0 means DefaultSnapLen.
	SnapLen int
	// Ethernet and Raw are the filter, classic BPF for frames (DLT_EN10MB) and for
	// bare IP packets (DLT_RAW). Empty: everything.
	Ethernet, Raw []bpf.RawInstruction
}

// CapturedPacket is one packet of a capture.
type CapturedPacket struct {
	Time    time.Time // of the worker's batch: packets of a batch have the same
	Stage   Stage
	Raw     bool // IP without Ethernet
	Inbound bool // received, or from a peer
	Ifindex uint32
	VNI     uint32 // valid if HasVPC
	HasVPC  bool
	Verdict Verdict // with StageDropped
	Length  int     // of the whole packet
	Data    []byte  // borrowed: until Read's function returns
}

// Capture is a running capture: a tap with a ring in every worker. Read and Close
// are for one goroutine.
type Capture struct {
	relay *Relay
	taps  []*tap
	base  time.Time // when the workers' clock was zero
}

// Capture starts one. The workers do not notice a reader that is slow: what finds
// the ring full is counted (Lost).
func (r *Relay) Capture(o CaptureOptions) (*Capture, error) {
	if o.SnapLen == 0 {
		o.SnapLen = DefaultSnapLen
	}
	if o.SnapLen < 1 || o.SnapLen > MaxSnapLen {
		return nil, fmt.Errorf("capture: snap length %d is not in 1..%d", o.SnapLen, MaxSnapLen)
	}
	if len(o.Stages) == 0 {
		return nil, errors.New("capture: no stage")
	}
	device := r.workers[0].device
	c := &Capture{relay: r, base: time.Now().Add(-time.Duration(device.Clock()))}
	for range r.workers {
		t, err := newTap(o)
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		c.taps = append(c.taps, t)
	}
	r.captures.Lock()
	defer r.captures.Unlock()
	if r.captureCount == MaxCaptures {
		return nil, fmt.Errorf("capture: %d are running already", MaxCaptures)
	}
	r.captureCount++
	for i, w := range r.workers {
		r.Do(i, func() { w.taps = append(w.taps, c.taps[i]) })
	}
	return c, nil
}

// Close takes the taps away. What is in the rings can still be read.
func (c *Capture) Close() {
	c.relay.captures.Lock()
	defer c.relay.captures.Unlock()
	for i, w := range c.relay.workers {
		c.relay.Do(i, func() {
			var left []*tap // a new slice, nil without taps
			for _, t := range w.taps {
				if t != c.taps[i] {
					left = append(left, t)
				}
			}
			w.taps = left
		})
	}
	c.relay.captureCount--
}

// Read calls f for every packet that is there now, worker by worker, and returns
// how many there were. It does not wait. False from f ends it.
func (c *Capture) Read(f func(CapturedPacket) bool) (n int) {
	for _, t := range c.taps {
		for tail, head := t.tail.Load(), t.head.Load(); tail != head; tail++ {
			m := &t.metas[tail&t.mask]
			data := t.slots[int(tail&t.mask)*t.snapLen:][:m.kept]
			goOn := f(CapturedPacket{
				Time: c.base.Add(time.Duration(m.at)), Stage: m.stage, Raw: m.raw, Inbound: m.inbound,
				Ifindex: m.ifindex, VNI: m.vni, HasVPC: m.vni != noVNI, Verdict: m.verdict, Length: int(m.length), Data: data,
			})
			t.tail.Store(tail + 1)
			n++
			if !goOn {
				return n
			}
		}
	}
	return n
}

// Lost is how many packets found the ring full.
func (c *Capture) Lost() (n uint64) {
	for _, t := range c.taps {
		n += t.lost.Load()
	}
	return n
}

// tapMeta is what is known of a captured packet beside its bytes.
type tapMeta struct {
	at           int64
	length, kept int32
	ifindex, vni uint32
	stage        Stage
	verdict      Verdict
	raw, inbound bool
}

// tap is a capture's end in one worker: what it wants, and a ring of which the
// worker is the only writer and the capture the only reader. The ring's memory is
// taken before the worker knows of it.
type tap struct {
	stages  uint32 // bit by Stage
	vni     uint32
	anyVPC  bool
	snapLen int
	filters [2]*bpf.VM // Ethernet, raw; nil: everything

	mask  uint64
	metas []tapMeta
	slots []byte

	_    [64]byte
	head atomic.Uint64 // written by the worker
	lost atomic.Uint64
	_    [64]byte
	tail atomic.Uint64 // written by the reader
}

func newTap(o CaptureOptions) (*tap, error) {
	size := 256
	for size*2*o.SnapLen <= captureMemory && size < 8192 {
		size *= 2
	}
	t := &tap{anyVPC: o.VPC == nil, snapLen: o.SnapLen, mask: uint64(size - 1), metas: make([]tapMeta, size), slots: make([]byte, size*o.SnapLen)}
	if o.VPC != nil {
		t.vni = *o.VPC
	}
	for _, s := range o.Stages {
		if s >= NumStages {
			return nil, fmt.Errorf("no stage has number %d", s)
		}
		t.stages |= 1 << s
	}
	for i, program := range [][]bpf.RawInstruction{o.Ethernet, o.Raw} {
		if len(program) == 0 {
			continue
		}
		instructions, known := bpf.Disassemble(program)
		if !known {
			return nil, errors.New("the filter has an instruction that is not classic BPF")
		}
		var err error
		if t.filters[i], err = bpf.NewVM(instructions); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
	}
	return t, nil
}

// record copies a packet into the ring, on the worker's goroutine.
func (t *tap) record(m tapMeta, b []byte) {
	if t.stages&(1<<m.stage) == 0 || !t.anyVPC && m.vni != t.vni {
		return
	}
	filter := t.filters[0]
	if m.raw {
		filter = t.filters[1]
	}
	if filter != nil {
		if n, err := filter.Run(b); err != nil || n == 0 {
			return
		}
	}
	head := t.head.Load()
	if head-t.tail.Load() > t.mask {
		t.lost.Add(1)
		return
	}
	at := head & t.mask
	m.length = int32(len(b))
	m.kept = int32(copy(t.slots[int(at)*t.snapLen:][:t.snapLen], b))
	t.metas[at] = m
	t.head.Store(head + 1)
}
