package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Two gateways that cannot reach each other, both behind NATs say, may have a third
// one between that both reach (wireguard.Endpoint.Via). Their WireGuard messages to each other,
// handshakes too, are then packets inside their tunnels with the third: UDP
// between tunnel addresses. What they say to each other stays sealed with
// their own session; the one in the middle has no key to it, and passes on nothing
// else (passon.go).
//
// At the ends, a message that goes through another peer comes to wrap in place of
// a port, and is sealed a second time for that peer, behind the batch. One that comes is
// recognised by its source, which is not that of the peer whose tunnel it comes out of
// (enclosed), and is opened a second time behind the batch. Never a third time: a
// way through a peer that is itself reached through a peer is none.
//
// None of this is on the way of other packets: a peer between is asked for where an adjacency is
// not simply ready, where a message is to be cut (frame.cut is set of one that goes through a
// peer, too), and where a source inside a tunnel is not its owner's.

const (
	// ThroughPort is the UDP port of messages inside the tunnels of a peer between.
	ThroughPort = 51820
	// cutPort is the source port of those that are longer than the path between the two ends
	// takes, because no host has to make its packets shorter (inPieces): the peer between cuts
	// the message around them. All others it sends whole, so that their ends find out what fits.
	cutPort = ThroughPort + 1
)

// doubled is what a worker has in hand of messages inside messages.
type doubled struct {
	out     []wrapping
	sealing []wireguard.Packet
	in      []enclosure
	opening []wireguard.Packet
	inside  bool // in is being opened
}

func newDoubled() doubled {
	return doubled{out: make([]wrapping, 0, batchSize), sealing: make([]wireguard.Packet, 0, batchSize),
		in: make([]enclosure, 0, batchSize), opening: make([]wireguard.Packet, 0, batchSize)}
}

// buildThrough makes a the way to an address inside the tunnel of another peer. It is made anew for each batch: that peer may move.
func (w *worker) buildThrough(a *adjacency, e *wireguard.Endpoint) {
	id, dst := e.Via.ID(), e.Remote.Addr()
	a.state, a.generation, a.entry = noEndpoint, 0, nil
	src := w.state.tunnel4
	if dst.Is6() {
		src = w.state.tunnel6
	}
	if int(id) >= len(w.state.peers) || w.state.peers[id].wireguard != e.Via || e.Via.Place().Via != nil || !src.IsValid() {
		return
	}
	under := w.peerAdjacency(id)
	a.key, a.entry = under.key, under.entry
	if a.state = under.state; a.state != ready {
		return
	}
	a.state, a.slot = through, int32(id)
	a.headers = template{}
	a.headers.tunnel(src, dst, ThroughPort, e.Remote.Port()) // without UDP checksum, as compiler.tunnel has it
	a.limit = under.limit - wireguard.Overhead - a.headers.overhead()
}

// goesThrough says whether a packet whose way is not simply ready goes through another peer; otherwise it has met its end, or waits.
func (w *worker) goesThrough(f *frame, a *adjacency) bool {
	if a.state == through {
		f.cut = true // out of the straight way in outer
		return true
	}
	w.notReady(f, a)
	return false
}

// queueOf is the queue that leads to an adjacency.
func (w *worker) queueOf(a *adjacency) *queue {
	if a.state == through {
		a = &w.peers[a.slot].adjacency
	}
	return &w.queues[a.slot]
}

// wrapping is a message, behind its headers inside the tunnel, that is to be sealed for the peer it goes through.
type wrapping struct {
	f       *frame
	between uint32
	headers int
	verdict Verdict
	tos     uint8
	to      wireguard.Endpoint // of the engine's
}

// wrap collects a message with its headers for the tunnel of the peer between.
func (w *worker) wrap(f *frame, adj *adjacency, v Verdict) {
	b := f.data()
	if f.origin < fromEngine && len(b) > adj.inner+wireguard.Overhead+adj.headers.overhead() {
		adj.headers.sourcePort(b, cutPort)
	}
	w.doubled.out = append(w.doubled.out, wrapping{f: f, between: uint32(adj.slot), headers: adj.headers.len, verdict: v, tos: f.ip.TOS})
}

// sealThrough seals and sends what wrap has collected.
func (w *worker) sealThrough() {
	d := &w.doubled
	d.sealing = d.sealing[:0]
	for i := range d.out {
		m := &d.out[i]
		adj, f := w.peerAdjacency(m.between), m.f
		switch {
		case adj.state != ready: // it was a moment ago
			w.drop(f, notReadyVerdicts[adj.state])
		case f.off < wireguard.HeaderSize || cap(f.chunk)-f.end < wireguard.MaxPadding+16:
			w.drop(f, NoRoom)
		default:
			// No padding: that of the message inside already hides what is to be hidden.
			d.sealing = append(d.sealing, wireguard.Packet{Buf: f.chunk[f.off-wireguard.HeaderSize : f.end],
				Peer: w.state.peers[m.between].wireguard, MaxLen: f.end - f.off})
			d.out[len(d.sealing)-1] = *m
		}
	}
	d.out = d.out[:len(d.sealing)]
	if w.trace == nil {
		w.batch.Seal(d.sealing, w.now)
	} else {
		w.traceSealThrough()
	}
	w.sendingToPeer = true
	for i := range d.out {
		w.sealedThrough(&d.out[i], &d.sealing[i])
	}
	w.sendingToPeer = false
	clear(d.sealing)
	d.out = d.out[:0]
}

func (w *worker) sealedThrough(m *wrapping, p *wireguard.Packet) {
	f := m.f
	switch {
	case p.Result == wireguard.NoSession && f.origin == fromEngine:
		f.off += m.headers // a datagram of the engine again, which waits for the session with the peer between
		f.cut = false
		w.parkFor(f, parkKey{peer: p.Peer}, m.to)
		return
	case p.Result != wireguard.OK:
		w.drop(f, sealVerdicts[p.Result])
		return
	}
	adj := &w.peers[m.between].adjacency
	f.cut = f.origin != fromProbe && f.end-f.off > adj.inner
	f.off -= wireguard.HeaderSize
	f.end = f.off + len(p.Buf)
	w.outer(f, adj, m.tos, m.verdict)
}

// enclosure is a message that came out of the tunnel of another peer than its sender.
type enclosure struct {
	f    *frame
	from wireguard.Endpoint
	peer uint32 // that it should be from
}

// enclosed takes a packet whose source is not the peer's that sent it: a message of another peer that
// came through it. False: it is none.
func (w *worker) enclosed(f *frame, src netip.Addr) bool {
	id, ok := w.state.relayed.enclosed[tunnelSource{f.peer, src}]
	if !ok || w.doubled.inside || !w.state.tunnel.hasDst(f.ip.Version, f.data()) || len(w.doubled.in) == cap(w.doubled.in) {
		return false
	}
	message, _, ok := throughMessage(f.data(), &f.ip)
	if !ok {
		return false
	}
	from := wireguard.Endpoint{Remote: netip.AddrPortFrom(src, ThroughPort), Local: f.ip.Dst(f.data()), Via: w.state.peers[f.peer].wireguard}
	f.tos, f.vpc = f.ip.TOS, -1
	f.off += f.ip.HeaderLen + packet.UDPLen
	f.end = f.off + len(message)
	switch {
	case message[0] == 4:
		w.doubled.in = append(w.doubled.in, enclosure{f, from, id})
	case !w.mayShakeHands(message):
		w.drop(f, HandshakeRate)
	case !w.device.Receive(message, from):
		w.drop(f, HandshakeBusy)
	default:
		w.drop(f, Handshake)
	}
	return true
}

// throughMessage finds the WireGuard message that the inner packet b is, which is parsed as ip: all of it, in plain
// UDP on the ports for that. cut: the message around it may be sent in pieces.
func throughMessage(b []byte, ip *packet.IP) (message []byte, cut, ok bool) {
	header := packet.IPv4Len
	if ip.Version == 6 {
		header = packet.IPv6Len
	}
	if ip.Proto != packet.ProtoUDP || ip.Fragment || ip.HeaderLen != header {
		return nil, false, false
	}
	udp, bad := packet.ParseUDP(b[header:ip.Len])
	if bad != packet.Fine || udp.Dst != ThroughPort || udp.Src != ThroughPort && udp.Src != cutPort || header+udp.Len != ip.Len {
		return nil, false, false
	}
	message = b[header+packet.UDPLen : ip.Len]
	if len(message) < 4 || message[1]|message[2]|message[3] != 0 {
		return nil, false, false
	}
	switch kind := message[0]; kind {
	case 1, 2, 3:
		ok = len(message) == handshakeLen[kind]
	case 4:
		ok = len(message) >= wireguard.Overhead
	}
	return message, udp.Src == cutPort, ok
}

// openEnclosed opens what enclosed has collected.
func (w *worker) openEnclosed() {
	d := &w.doubled
	d.inside = true
	d.opening = d.opening[:0]
	for i := range d.in {
		d.opening = append(d.opening, wireguard.Packet{Buf: d.in[i].f.data()})
	}
	w.batch.Open(d.opening, w.now)
	for i := range d.in {
		m, p := &d.in[i], &d.opening[i]
		if p.Result == wireguard.OK && p.Peer.ID() != m.peer {
			w.drop(m.f, TunnelMismatch)
			continue
		}
		w.opened(m.f, p)
	}
	clear(d.opening)
	d.in, d.inside = d.in[:0], false
}

// enclosedFrom is where an enclosed message came from.
func (w *worker) enclosedFrom(f *frame) (from wireguard.Endpoint, ok bool) {
	for i := range w.doubled.in {
		if w.doubled.in[i].f == f {
			return w.doubled.in[i].from, true
		}
	}
	return from, false
}
