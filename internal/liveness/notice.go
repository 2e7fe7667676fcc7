package liveness

import (
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
)

// notice is what a peer last said of itself in its answers.
type notice struct {
	said packet.Notice
	seq  uint16 // of the answer that said so
}

// hear takes in what an answer says; last is the probe that was sent last. An answer that comes late says nothing: what a
// later one has said holds.
func (n *notice) hear(last uint16, r relay.EchoReply) (changed bool) {
	if age := last - r.Seq; age >= window || last-n.seq <= age {
		return false
	}
	changed = n.said != r.Notice
	n.said, n.seq = r.Notice, r.Seq
	return changed
}

// Elsewhere says whether a peer asks us to send through another gateway, as long as there is one.
func (p *Prober) Elsewhere(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[id]; g != nil {
		return g.said&packet.Elsewhere != 0
	}
	t := p.targets[id]
	return t != nil && t.said&packet.Elsewhere != 0
}
