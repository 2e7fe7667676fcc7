package wireguard

import (
	"encoding/binary"

	"golang.zx2c4.com/wireguard/device"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// Seal turns packets into transport messages to their Peer. now is Clock.
// Where to send them, Peer.Endpoint says.
//
// Stages: group by peer; per group, lock the session and reserve nonces; per
// packet, header and padding; the cipher, once; per group, count and unlock.
func (b *Batch) Seal(pkts []Packet, now int64) {
	for len(pkts) > BatchSize {
		b.seal(pkts[:BatchSize], now)
		pkts = pkts[BatchSize:]
	}
	b.seal(pkts, now)
}

func (b *Batch) seal(pkts []Packet, now int64) {
	groups := b.groupByPeer(pkts)
	if len(groups) > 1 {
		b.touch(groups)
	}
	for i := range groups {
		groups[i].openForSending(now)
	}
	n := 0
	for i := range pkts {
		p := &pkts[i]
		of := b.of[i]
		if of == none {
			continue
		}
		g := &b.groups[of&(BatchSize-1)]
		if g.session == nil {
			p.Result = g.result
			continue
		}
		size := len(p.Buf) - HeaderSize
		end := HeaderSize + paddedSize(size, p.MaxLen)
		msg := p.Buf[:end+aead.Overhead]
		clear(msg[HeaderSize+size : end])
		binary.LittleEndian.PutUint32(msg, device.MessageTransportType)
		binary.LittleEndian.PutUint32(msg[4:], g.index)
		binary.LittleEndian.PutUint64(msg[8:], g.nonce)
		op := &b.ops[n&(BatchSize-1)]
		op.Key = &g.session.send
		op.Nonce = g.nonce
		op.Data = msg[HeaderSize:end]
		n++
		g.nonce++
		g.bytes += len(msg)
		p.Buf = msg
		p.Result = OK
	}
	if n > 0 {
		b.dev.cipher.Seal(b.ops[:n])
	}
	for i := range groups {
		groups[i].closeForSending(now)
	}
}

// groupOfPeer returns which of n groups is the peer's; n: none, it has the slot from now on.
func (b *Batch) groupOfPeer(p *Peer, n int) int {
	slot, known := b.slot(p.ID())
	if known {
		if b.groups[slot.of&(BatchSize-1)].peer == p {
			return int(slot.of)
		}
		for of := range n {
			if b.groups[of].peer == p {
				return of
			}
		}
	}
	*slot = groupSlot{b.round, uint8(n)}
	return n
}

// touch reads what openForSending is about to need, of one peer after the other: the cache misses
// of many peers overlap then. The locked instructions of openForSending would end that.
func (b *Batch) touch(groups []group) {
	sum := uint64(0)
	for i := range groups {
		p := groups[i].peer
		sum += uint64(p.timers.last.Load()) + p.tx.bytes.Load()
		if s := p.current.Load(); s != nil {
			sum += s.nonce.Load()
		}
	}
	b.touched = sum
}

// groupByPeer fills b.groups and b.of, and gives their result to packets that
// cannot be sealed at all.
func (b *Batch) groupByPeer(pkts []Packet) []group {
	n := 0
	b.round++
	for i := range pkts {
		p := &pkts[i]
		b.of[i] = none
		size := len(p.Buf) - HeaderSize
		if p.Peer == nil {
			p.Result = NoPeer
			continue
		}
		if size < 0 || cap(p.Buf) < HeaderSize+paddedSize(size, p.MaxLen)+aead.Overhead {
			p.Result = NoRoom
			continue
		}
		// Most often a packet has the peer of the one before it.
		of := n - 1
		if of < 0 || b.groups[of].peer != p.Peer {
			if of = b.groupOfPeer(p.Peer, n); of == n {
				n++
				b.groups[of] = group{peer: p.Peer}
			}
		}
		g := &b.groups[of]
		g.packets++
		if size > 0 {
			g.data = true
		}
		b.of[i] = uint8(of)
	}
	return b.groups[:n]
}

// paddedSize rounds up to 16 but not over limit (whitepaper, section 5.4.6; the
// limit is there for packets that just fit the path).
func paddedSize(size, limit int) int {
	padded := (size + paddingMultiple - 1) &^ (paddingMultiple - 1)
	if limit > 0 && padded > limit {
		return max(size, limit)
	}
	return padded
}

// openForSending locks the peer's session and reserves the group's nonces.
func (g *group) openForSending(now int64) {
	p := g.peer
	if p.removed.Load() {
		g.result = NoPeer
		return
	}
	s := p.current.Load()
	if s == nil {
		g.result = NoSession
		p.ask()
		return
	}
	s.mu.RLock()
	first, ok := uint64(0), s.live && now-s.created < rejectAfterTime
	if ok {
		first, ok = s.reserve(uint64(g.packets))
	}
	if !ok {
		s.mu.RUnlock()
		g.result = NoSession
		p.ask()
		return
	}
	g.session = s
	g.index = s.remoteIndex
	g.nonce = first
}

// closeForSending notes what was sent and unlocks the session.
func (g *group) closeForSending(now int64) {
	s := g.session
	if s == nil {
		return
	}
	old := s.initiator && now-s.created >= rekeyAfterTime
	s.mu.RUnlock()
	p := g.peer
	p.tx.add(g.packets, g.bytes)
	p.timers.sent(now, g.data)
	if old || g.nonce > rekeyAfterMessages {
		p.ask()
	}
}
