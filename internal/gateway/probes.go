package gateway

import (
	"iter"
	"net/netip"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// What those who probe peers inside their tunnels share: liveness.go and pathmtu.go.

// echoReplies are the answers to our echo requests with these identifiers. As many as there is room for wait for their reader.
func (g *Gateway) echoReplies(room int, ids ...uint16) (<-chan relay.EchoReply, error) {
	replies := make(chan relay.EchoReply, room)
	for _, id := range ids {
		if _, err := g.relay.ListenEcho(id, replies); err != nil {
			return nil, err
		}
	}
	return replies, nil
}

// sendProbe sends a packet inside a peer's tunnel, over one of its paths or, without one, over that in use.
// owned: the relay's. False: it is lost.
func (g *Gateway) sendProbe(peer uint32, b []byte, over wireguard.Endpoint) bool {
	return g.relay.SendToPeer(relay.PeerPacket{Peer: peer, Packet: b, Probe: true, Over: over})
}

// tunnel is a peer that has one; a direct peer has none.
type tunnel struct {
	peer          *config.Peer
	id            uint32
	wireguard     *wireguard.Peer
	local, remote netip.Addr // addresses of its ends, of one family; invalid: there are none
}

func (g *Gateway) tunnels() iter.Seq[tunnel] {
	return func(yield func(tunnel) bool) {
		for i := range g.cfg.Peers {
			c := &g.cfg.Peers[i]
			p := g.peers[c.Name]
			if p == nil || p.wireguard == nil {
				continue
			}
			t := tunnel{peer: c, id: p.id, wireguard: p.wireguard}
			t.local, t.remote = commonFamily(g.cfg.WireGuard.TunnelAddresses, c.TunnelAddresses)
			if !yield(t) {
				return
			}
		}
	}
}

// commonFamily picks an address of each list, both IPv4 if there are any, or both IPv6; invalid when they have no family in common.
func commonFamily(ours, theirs []netip.Addr) (local, remote netip.Addr) {
	for _, four := range []bool{true, false} {
		for _, a := range ours {
			for _, b := range theirs {
				if a.Is4() == four && b.Is4() == four {
					return a, b
				}
			}
		}
	}
	return netip.Addr{}, netip.Addr{}
}
