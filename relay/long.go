package relay

import (
	"slices"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/packet"
)

// Packets that are longer than a frame (jumbo frames) arrive in several
// descriptors, and leave in several. In between they lie in one piece in a buffer
// of the worker's own, so that no stage has to know: two copies are what the
// cipher costs for a hundred bytes.

const (
	// longSize takes the longest packet that fits 17 fragments of a page's data
	// with room for headers in front, and any MTU that Ethernet hardware has (9216 at most).
	longSize = 16 << 10
	// MaxMTU of a port: the longest IP packet that fits into a long buffer with everything around it.
	MaxMTU = longSize - longRoom - packet.EthernetLen - 2*vlanTag - maxSealing
	// longRoom in front is what packets in frames have: XDP_PACKET_HEADROOM.
	longRoom = afxdp.KernelHeadroom
	// longCount is what may be under way or parked at a time: a batch, and as many
	// that wait for a neighbour. 2 MiB for each worker that has a port with jumbo frames,
	// or was sent such a packet in fragments (arrival.go).
	longCount = 2 * batchSize
)

// longBuffers are a worker's, the free ones last in first out.
type longBuffers struct {
	all  []byte // nil: no port needs any
	free []int32
}

// provide makes the buffers when a port's packets may be longer than a frame.
func (l *longBuffers) provide(ports []portState, frameSize int) {
	const around = longRoom + packet.EthernetLen + 2*vlanTag + maxSealing
	if slices.ContainsFunc(ports, func(p portState) bool { return p.mtu+around > frameSize }) {
		l.make()
	}
}

// make makes the buffers, if that has not been done.
func (l *longBuffers) make() {
	if l.all != nil {
		return
	}
	l.all, l.free = make([]byte, longCount*longSize), make([]int32, 0, longCount)
	for i := range int32(longCount) {
		l.free = append(l.free, i)
	}
}

// take returns a buffer's number, or -1.
func (l *longBuffers) take() int32 {
	if len(l.free) == 0 {
		return -1
	}
	i := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	return i
}

// abandon gives up a packet whose other descriptors will not come.
func (l *longBuffers) abandon(j *joining) {
	if j.active && j.buffer >= 0 {
		l.free = append(l.free, j.buffer)
	}
	j.active = false
}

func (l *longBuffers) buffer(i int32) []byte {
	return l.all[int(i)*longSize : (int(i)+1)*longSize : (int(i)+1)*longSize]
}

// joining is a packet of which not all descriptors have come.
type joining struct {
	active bool
	buffer int32 // -1: there was none, or it was too small: the packet is lost
	length int
}

// join adds one more descriptor to the packet that the queue is receiving and
// frees its frame. True: the packet is whole, and in f or dropped.
func (w *worker) join(q *queue, f *frame, d afxdp.Desc, slot int) (whole, alive bool) {
	j := &q.joining
	if !j.active {
		*j = joining{active: true, buffer: w.longs.take()}
	}
	if j.buffer >= 0 {
		to := w.longs.buffer(j.buffer)[longRoom:]
		if len(to)-j.length-maxSealing < int(d.Len) {
			w.longs.abandon(j)
			j.active, j.buffer = true, -1
		} else {
			base := w.umem.FrameBase(d.Addr)
			from := w.umem.Frame(d.Addr)[d.Addr-base:]
			j.length += copy(to[j.length:], from[:d.Len])
		}
	}
	w.umem.Free(d.Addr)
	if d.Options&descContinued != 0 {
		return false, false
	}
	j.active = false
	if j.buffer < 0 {
		w.count(MultiBuffer)
		return true, false
	}
	f.reset(w.longs.buffer(j.buffer), 0, longRoom, j.length, slot)
	f.long = j.buffer + 1
	return true, true
}

// vlanTag is the length of an 802.1Q tag.
const vlanTag = 4

// maxSealing is what sealing adds behind a packet: padding and tag.
const maxSealing = 32

// sendLong is send for a packet in a long buffer: it is cut into frames.
func (w *worker) sendLong(f *frame, slot int32, v Verdict) {
	q, b := &w.queues[slot], f.data()
	size := w.umem.FrameSize()
	pieces := (len(b) + size - 1) / size
	if q.txLen+pieces > batchSize {
		w.flushQueue(q)
	}
	var frames [longSize / 2048]uint64
	if got := w.umem.Alloc(frames[:pieces]); got < pieces {
		for _, base := range frames[:got] {
			w.umem.Free(base)
		}
		w.drop(f, TxFull)
		return
	}
	for i, base := range frames[:pieces] {
		n := copy(w.umem.Frame(base), b)
		b = b[n:]
		d := afxdp.Desc{Addr: base, Len: uint32(n)}
		verdict := v
		if i < pieces-1 {
			d.Options, verdict = descContinued, pending // counted with the last one
		}
		q.tx[q.txLen], q.verdicts[q.txLen] = d, verdict
		if w.state.shaped {
			q.ranks[q.txLen] = classOut(f)
		}
		q.txLen++
	}
	w.free(f)
}

// free gives a packet's memory back.
func (w *worker) free(f *frame) {
	if f.long > 0 {
		w.longs.free = append(w.longs.free, f.long-1)
		f.long = 0
		return
	}
	w.umem.Free(f.base)
}
