package wireguard

import (
	"encoding/binary"

	"golang.zx2c4.com/wireguard/device"
)

// Open turns transport messages into packets. now is Clock.
//
// Stages: per message, header, session and group; the cipher, once; per group,
// the replay window and then what an authentic message means: it confirms a new
// session, tells where the peer is, and moves the timers.
//
// Several workers may open messages of one session at once: its replay window
// has a lock, which is taken once per group. Nothing that did not authenticate
// reaches the window or the peer.
func (b *Batch) Open(pkts []Packet, now int64) {
	first := 0
	for ; len(pkts)-first > BatchSize; first += BatchSize {
		b.open(pkts[first:first+BatchSize], first, now)
	}
	b.open(pkts[first:], first, now)
}

// open takes a part of what Open was given, from the packet with number first on.
func (b *Batch) open(pkts []Packet, first int, now int64) {
	groups, n := b.groupBySession(pkts, now)
	if n > 0 {
		b.dev.cipher.Open(b.ops[:n])
	}
	for i := range groups {
		if g := &groups[i]; g.session != nil {
			b.closeForReceiving(g, pkts, first, now)
		}
	}
}

// groupBySession reads the headers and fills b.groups and b.ops[:n]. Messages
// without a usable session get their result here.
func (b *Batch) groupBySession(pkts []Packet, now int64) (groups []group, n int) {
	count := 0
	b.round++
	for i := range pkts {
		p := &pkts[i]
		p.Peer = nil
		msg := p.Buf
		if len(msg) < Overhead || binary.LittleEndian.Uint32(msg) != device.MessageTransportType {
			p.Result = Malformed
			continue
		}
		index := binary.LittleEndian.Uint32(msg[4:])
		of := count - 1
		if of < 0 || b.groups[of].index != index {
			if of = b.groupOfIndex(index, count); of == count {
				count++
				b.groups[of] = group{index: index, first: none}
				b.groups[of].openForReceiving(b.dev, now)
			}
		}
		g := &b.groups[of]
		if g.session == nil {
			p.Result = g.result
			continue
		}
		op := &b.ops[n&(BatchSize-1)]
		op.Key = &g.session.receive
		op.Nonce = binary.LittleEndian.Uint64(msg[8:])
		op.Data = msg[HeaderSize:]
		b.packet[n&(BatchSize-1)] = uint8(i)
		b.next[n&(BatchSize-1)] = none
		if g.first == none {
			g.first = uint8(n)
		} else {
			b.next[g.last&(BatchSize-1)] = uint8(n)
		}
		g.last = uint8(n)
		n++
	}
	return b.groups[:count], n
}

// groupOfIndex returns which of n groups has the receiver index; n: none, it has the slot from now on.
func (b *Batch) groupOfIndex(index uint32, n int) int {
	slot, known := b.slot(index)
	if known {
		if b.groups[slot.of&(BatchSize-1)].index == index {
			return int(slot.of)
		}
		for of := range n {
			if b.groups[of].index == index {
				return of
			}
		}
	}
	*slot = groupSlot{b.round, uint8(n)}
	return n
}

// openForReceiving finds and locks the session of g.index.
func (g *group) openForReceiving(d *Device, now int64) {
	g.result = BadIndex
	s := d.index.lookup(g.index)
	if s == nil {
		return
	}
	s.mu.RLock()
	switch {
	case !s.live:
		s.mu.RUnlock()
	case now-s.created >= rejectAfterTime:
		s.mu.RUnlock()
		g.result = Expired
	default:
		g.session = s
		g.peer = s.peer
	}
}

// closeForReceiving gives the group's messages their result, notes what they
// mean, and unlocks the session.
func (b *Batch) closeForReceiving(g *group, pkts []Packet, first int, now int64) {
	s, p := g.session, g.peer
	tail := -1 // the last valid message
	s.replayMu.Lock()
	for i := g.first; i != none; i = b.next[i&(BatchSize-1)] {
		op := &b.ops[i&(BatchSize-1)]
		at := b.packet[i&(BatchSize-1)]
		pkt := &pkts[at]
		if !op.OK {
			pkt.Result = BadAuth
			continue
		}
		pkt.Peer = p
		switch {
		case op.Nonce >= rejectAfterMessages:
			pkt.Result = Expired
			pkt.Peer = nil
			continue
		case !s.replay.accept(op.Nonce):
			pkt.Result = Replay
			continue
		case len(op.Data) == 0:
			pkt.Result = Keepalive
		default:
			pkt.Result = OK
			g.data = true
		}
		g.bytes += len(pkt.Buf)
		pkt.Buf = op.Data
		g.packets++
		tail = int(at)
	}
	s.replayMu.Unlock()
	if tail >= 0 {
		if s.unconfirmed.Load() {
			p.confirm(s, now)
		}
		if b.Locate != nil {
			b.Locate(first+tail, &b.from)
			p.moveTo(&b.from)
		}
		p.rx.add(g.packets, g.bytes)
		p.timers.received(now, g.data)
		if s.initiator && now-s.created >= rekeyOnReceive && s == p.current.Load() && s.renewed.CompareAndSwap(false, true) {
			p.ask()
		}
	}
	s.mu.RUnlock()
}
