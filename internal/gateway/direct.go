package gateway

import (
	"fmt"
	"net/netip"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// direct is where a peer with encryption none is, from which alone the program takes packets to the port of such peers.
func (c *compiler) direct(p *config.Peer, id uint32) netip.AddrPort {
	to, ok := p.Endpoint.AddrPort()
	if !ok {
		c.errs = append(c.errs, fmt.Errorf("peer %s: encryption is none and its endpoint %s is no address", p.Name, p.Endpoint))
	}
	c.plan.snapshot.DirectPort = c.cfg.Direct.Port
	c.plan.xdp.Direct = []uint16{c.cfg.Direct.Port}
	c.plan.xdp.DirectPeers = append(c.plan.xdp.DirectPeers, xdp.DirectPeer{ID: directID(id), Addr: to.Addr()})
	return to
}

// directID is what the program calls the peer with this id in snapshots: 0 is nobody.
func directID(id uint32) uint32 { return id + 1 }

// directStatus fills in what there is to say about a peer with encryption none.
func (g *Gateway) directStatus(p *peerView, s *sluicev1.Peer) {
	s.State, s.Endpoint = sluicev1.PeerState_PEER_STATE_UNENCRYPTED, p.cfg.Endpoint.String()
	if s.Problem == "" {
		s.Problem = p.unreachable(g.kernel.Table())
	}
	counted := g.relay.Meters()
	sent := counted[relay.MeterKey{Kind: relay.DirectPeerMeter, ID: p.id, Direction: relay.DirectionFromSite}]
	received := counted[relay.MeterKey{Kind: relay.DirectPeerMeter, ID: p.id, Direction: relay.DirectionToSite}]
	forwarded := g.forwarded().peer(p.id)
	s.TxPackets, s.TxBytes = sent.Packets+forwarded.ToPackets, sent.Bytes+forwarded.ToBytes
	s.RxPackets, s.RxBytes = received.Packets+forwarded.FromPackets, received.Bytes+forwarded.FromBytes
}

// unreachable says why a peer with encryption none cannot be sent to; empty when it can, or nobody has tried.
func (p *peerView) unreachable(neighbours *neigh.Table) string {
	to, _ := p.cfg.Endpoint.AddrPort()
	e := neighbours.Lookup(neigh.Key{Dst: to.Addr()})
	switch {
	case e == nil || e.State == neigh.Resolved:
		return ""
	case e.State == neigh.Failed:
		return fmt.Sprintf("the next hop to %s does not answer; check the link, and that it is running", to.Addr())
	case e.State == neigh.Local:
		return fmt.Sprintf("its endpoint %s is an address of this host", to.Addr())
	}
	return fmt.Sprintf("the kernel has no route to %s", to.Addr())
}
