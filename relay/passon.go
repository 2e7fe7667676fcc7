package relay

import (
	"net/netip"
	"slices"
)

// Between two gateways that cannot reach each other (through.go) a third one passes their messages
// on: out of the tunnel of the one, into that of the other, as they are. It does so
// for whom the snapshot says, as much as it says, and takes nothing but whole WireGuard messages from the
// sender's own tunnel address to the receiver's.
//
// No message goes round: one that came through a peer between goes to nobody else, and it
// leaves by no such way. None makes more of itself: each goes out once, as long as it was,
// and what is refused is not answered.

// relayed is who may be reached through whom.
type relayed struct {
	// passages are what we pass on, by the peer that sends it and the tunnel address of the one it is for.
	passages map[tunnelSource]passage
	// enclosed are the peers whose messages come through another, by that one and their own tunnel address.
	enclosed map[tunnelSource]uint32
}

// tunnelSource is a tunnel, by its peer, and an address inside it that is not the peer's.
type tunnelSource struct {
	peer uint32
	addr netip.Addr
}

// passage is the way from one peer to another.
type passage struct {
	to    uint32
	limit int32 // number of the sender's limiter, 0: none
	// Indexes of the meters of what the sender has sent through us, and the receiver got.
	sent, received int32
}

// relayed takes in who may be reached through whom.
func (c *compiler) relayed() {
	s := c.out
	s.inward = s.tunnel
	r := &s.relayed
	limits, sent, received := map[uint32]int32{}, map[uint32]int32{}, map[uint32]int32{}
	once := func(numbers map[uint32]int32, id uint32, make func() int32) int32 {
		n, known := numbers[id]
		if !known {
			n = make()
			numbers[id] = n
		}
		return n
	}
	inward := slices.Clone(c.in.Tunnel)
	pass := func(from, to uint32) {
		p := passage{to: to,
			limit: once(limits, from, func() int32 {
				return c.limiter(MeterKey{Kind: RelayLimitMeter, ID: from, Direction: DirectionFromSite}, c.in.Peers[from].RelayLimit)
			}),
			sent:     once(sent, from, func() int32 { return c.meter(MeterKey{Kind: RelayedMeter, ID: from, Direction: DirectionFromSite}) }),
			received: once(received, to, func() int32 { return c.meter(MeterKey{Kind: RelayedMeter, ID: to, Direction: DirectionToSite}) }),
		}
		for _, a := range s.peers[to].tunnelAddresses() {
			if r.passages == nil {
				r.passages = make(map[tunnelSource]passage)
			}
			r.passages[tunnelSource{from, a}] = p
			inward = append(inward, a)
		}
	}
	known := func(i int, others []uint32, what string, take func(uint32)) {
		for _, id := range others {
			if int(id) >= len(s.peers) || s.peers[id].wireguard == nil || int(id) == i {
				c.problem("peer %s: %s peer %d, which there is not", c.in.Peers[i].Name, what, id)
				continue
			}
			take(id)
		}
	}
	for i := range s.peers {
		if s.peers[i].wireguard == nil {
			continue
		}
		known(i, c.in.Peers[i].RelayTo, "exchanges messages with", func(id uint32) {
			pass(uint32(i), id) // one of the two says it for both
			pass(id, uint32(i))
		})
		known(i, c.in.Peers[i].Through, "is reached through", func(id uint32) {
			for _, a := range s.peers[i].tunnelAddresses() {
				if r.enclosed == nil {
					r.enclosed = make(map[tunnelSource]uint32)
				}
				r.enclosed[tunnelSource{id, a}] = uint32(i)
			}
		})
	}
	if r.passages != nil {
		s.passes, s.inward = true, newAddrSet(inward)
	}
}

// tunnelAddresses are the peer's own.
func (p *peerState) tunnelAddresses() (out []netip.Addr) {
	for _, a := range []netip.Addr{p.tunnel4, p.tunnel6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// passOn takes a packet from a peer, and from its tunnel address, to the tunnel address of another one that somebody may
// send to through us.
func (w *worker) passOn(f *frame) {
	b, from := f.data(), f.peer
	f.vpc = -1
	p, ok := w.state.relayed.passages[tunnelSource{from, f.ip.Dst(b)}]
	if w.trace != nil {
		w.trace.passage(from, f.ip.Dst(b), p, ok)
	}
	if !ok || w.doubled.inside {
		w.drop(f, RelayRefused)
		return
	}
	_, cut, ok := throughMessage(b, &f.ip)
	switch {
	case !ok:
		w.drop(f, RelayNoMessage)
		return
	case p.limit != 0 && !w.within(p.limit, f.ip.TOS, f.ip.Len):
		w.drop(f, RelayLimited)
		return
	}
	if len(w.taps) > 0 {
		w.tapInner(f)
	}
	w.meters.add(p.sent, f.ip.Len)
	w.meters.add(p.received, f.ip.Len)
	f.origin, f.cut, f.optsLen, f.critical, f.deadline = fromTransit, cut, 0, false, 0
	w.toPeer(f, p.to)
}

// unrouted ends a packet that the VPC has no route for, with word to its source unless it is a message for another peer, which
// nobody may send through us.
func (w *worker) unrouted(f *frame) {
	if w.wantsPassing(f) {
		w.drop(f, RelayRefused)
		return
	}
	w.unreachable(f, NoRoute)
}

// transit ends a packet that came from a peer and would go to a peer.
func (w *worker) transit(f *frame) {
	if w.wantsPassing(f) {
		w.drop(f, RelayRefused)
		return
	}
	w.drop(f, NotForTransit)
}

// wantsPassing says whether a packet of the default VPC that has no way on is a message of a peer for another one.
func (w *worker) wantsPassing(f *frame) bool {
	b := f.data()
	if f.origin != fromPeer || !w.ownTunnel(f, f.ip.Src(b)) {
		return false
	}
	_, _, message := throughMessage(b, &f.ip)
	return message
}
