package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

// Not every datagram for our WireGuard port reaches a receive ring: fragments go to
// the kernel, which puts them together, and so does what comes through a queue
// that has no socket, or with an IPv6 extension header. A socket on the port takes
// them from the kernel, and here they enter the pipeline: with headers in front that
// say what the socket was told, as if the port had just received them whole. It
// is the slow way, two copies and a lock, for what is rare.

// What we chose.
const (
	// maxArrivals bounds what waits for a worker. With MaxArrival of each it is 4 MiB.
	maxArrivals = 256
	// MaxArrival is the longest datagram that Arrive takes: what fits a long buffer.
	MaxArrival = longSize - longRoom - maxSealing - arrivalHeaders
	// arrivalHandshakes is how many handshake messages per second a worker takes this way. The
	// XDP program has not limited these, and each costs the engine curve arithmetic.
	arrivalHandshakes = 100
)

// arrivalHeaders is what goes in front of a datagram at most.
const arrivalHeaders = packet.EthernetLen + packet.IPv6Len + packet.UDPLen

// Arrival is a datagram that a socket on the WireGuard port has received.
type Arrival struct {
	Data    []byte         // borrowed: until Arrive returns
	From    netip.AddrPort // who sent it
	To      netip.Addr     // the address of ours that it was sent to
	Ifindex uint32         // that it came in through
	TOS     uint8          // or traffic class
}

// Arrive hands a datagram over to a worker; those of one sender stay in order. It
// never blocks; false: it is too long, or its worker has too many waiting, and it is
// lost, as any datagram may be.
func (r *Relay) Arrive(a Arrival) bool {
	if len(a.Data) > MaxArrival || !a.To.IsValid() || a.To.Unmap().Is4() != a.From.Addr().Unmap().Is4() {
		return false
	}
	source := a.From.Addr().As16()
	mixed := binary.BigEndian.Uint64(source[:8]) ^ binary.BigEndian.Uint64(source[8:])<<16 ^ uint64(a.From.Port())
	w := r.workers[mixed*0x9e3779b97f4a7c15>>32%uint64(len(r.workers))]
	if !w.mailbox.postArrival(a) {
		return false
	}
	w.waker.wake()
	return true
}

// postArrival copies a datagram into memory of the mailbox, which is used again and again.
func (m *mailbox) postArrival(a Arrival) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.arrivals)
	if n == maxArrivals {
		return false
	}
	if n == cap(m.arrivals) {
		m.arrivals = append(m.arrivals, Arrival{})
	}
	m.arrivals = m.arrivals[:n+1]
	slot := &m.arrivals[n]
	a.Data = append(slot.Data[:0], a.Data...)
	*slot = a
	m.count.Add(1)
	return true
}

// takeArrivals empties that part of the mailbox and leaves the memory of others in it.
func (m *mailbox) takeArrivals(spare []Arrival) []Arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.arrivals
	m.arrivals = spare[:0]
	return got
}

// arrivals takes what was posted through the pipeline, a batch at a time.
func (w *worker) arrivals() {
	all := w.mailbox.takeArrivals(w.spareArrivals)
	for start := 0; start < len(all); start += batchSize {
		w.batchNumber++
		for i := range all[start:min(start+batchSize, len(all))] {
			f := &w.frames[i]
			if !w.arrive(f, &all[start+i]) {
				continue
			}
			if len(w.taps) > 0 {
				w.tapReceived(f)
			}
			w.classify(f)
		}
		w.openAll()
		w.routeAll()
		w.sealAll()
		w.flush()
	}
	w.spareArrivals = all
}

// arrive makes f the packet that the datagram was. False: it has met its end.
func (w *worker) arrive(f *frame, a *Arrival) bool {
	w.arrived++
	*f = frame{slot: -1, vpc: -1}
	if longRoom+arrivalHeaders+len(a.Data)+maxSealing > w.umem.FrameSize() {
		w.longs.make()
		f.long = 1 // which one, alloc says
	}
	if !w.alloc(f) {
		v := TxFull
		if f.long > 0 {
			v = MultiBuffer
		}
		w.count(v)
		return false
	}
	f.slot = int32(w.slotOf(a.Ifindex))
	w.arrivedFrom(f, a)
	switch {
	case f.slot < 0 || f.slot == w.kernel:
		w.drop(f, NotServed) // the interface is no port, or is one no more
	case !w.mayShakeHands(a.Data):
		w.drop(f, HandshakeRate)
	default:
		return true
	}
	return false
}

// arrivedFrom writes the datagram into f's memory, behind headers from its sender.
func (w *worker) arrivedFrom(f *frame, a *Arrival) {
	src, dst := a.From.Addr().Unmap().WithZone(""), a.To.Unmap().WithZone("")
	var t template
	packet.PutEthernet(t.add(packet.EthernetLen), w.portMAC(f.slot), [6]byte{}, etherTypeFor(dst))
	t.tunnel(src, dst, a.From.Port(), w.state.wireguard)
	long := f.long
	f.reset(f.chunk, f.base, longRoom, t.len+len(a.Data), int(f.slot))
	f.long = long
	b := f.data()
	copy(b[t.len:], a.Data)
	t.put(b, a.TOS, 0, 0, nil)
}

// portMAC is the address of the port of a queue; zero if there is none.
func (w *worker) portMAC(slot int32) [6]byte {
	if slot < 0 || w.queues[slot].port < 0 {
		return [6]byte{}
	}
	return w.state.ports[w.queues[slot].port].mac
}

// mayShakeHands says whether a message may go on: any but one handshake message too many.
func (w *worker) mayShakeHands(message []byte) bool {
	const interval, burst = 1e9 / arrivalHandshakes, 1e9
	if len(message) == 0 || message[0] == 4 {
		return true
	}
	next := max(w.nextHandshake, w.now-burst)
	if next > w.now {
		return false
	}
	w.nextHandshake = next + interval
	return true
}
