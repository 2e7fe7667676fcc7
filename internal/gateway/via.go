package gateway

import (
	"net/netip"
	"slices"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/internal/pathmtu"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Peers that are reached through another one (peers[].paths[].via), and those that reach each other through us (peers[].relayTo).

// defaultRelayRate is what a peer may send through us where the configuration gives no rate: we chose it, so that
// nobody's traffic between others takes a gateway's uplink unasked.
const defaultRelayRate = 100_000_000

// endpointVia is the way to a peer through the tunnel of another one; its Via is nil while there is none.
func (g *Gateway) endpointVia(p *peer, via string) wireguard.Endpoint {
	between := g.peers[via]
	_, inside := commonFamily(g.cfg.WireGuard.TunnelAddresses, p.cfg.TunnelAddresses)
	if between == nil || between.wireguard == nil || !inside.IsValid() {
		return wireguard.Endpoint{}
	}
	return wireguard.Endpoint{Remote: netip.AddrPortFrom(inside, relay.ThroughPort), Via: between.wireguard}
}

// between fills in through whom a peer's messages may come, and with which others it exchanges some through us.
func (c *compiler) between(p *config.Peer, out *relay.Peer) {
	for _, name := range p.RelayTo {
		if other, ok := c.peers[name]; ok {
			out.RelayTo = append(out.RelayTo, other.id)
		}
	}
	for i := range p.Paths {
		if other, ok := c.peers[p.Paths[i].Via]; ok {
			out.Through = append(out.Through, other.id)
		}
	}
	if out.RelayLimit = relayLimit(&p.RelayLimit); out.RelayLimit.Bits == 0 && out.RelayLimit.Packets == 0 {
		out.RelayLimit.Bits = defaultRelayRate
	}
}

// pathThrough is pathTo for a way through another peer: what fits there, less what is around a message inside.
func (g *Gateway) pathThrough(status wireguard.PeerStatus, to wireguard.Endpoint) pathmtu.Path {
	at := to.Via.Endpoint()
	path := pathmtu.Path{Remote: to.Remote, Sent: status.TxPackets, Used: to.SameWay(&status.Endpoint)}
	if at.Via != nil {
		return path // there is no way through a peer that is itself behind another
	}
	under := g.pathTo(to.Via, at)
	around := packet.IPv4Len + packet.UDPLen + wireguard.Overhead
	if to.Remote.Addr().Is6() {
		around = packet.IPv6Len + packet.UDPLen + wireguard.Overhead
	}
	path.Ifindex, path.Six = under.Ifindex, under.Six
	path.Overhead, path.Max = under.Overhead+around, under.Max-around
	path.Up = under.Up && status.Session && path.Max > 0
	return path
}

// nameOf is what the configuration calls a peer; empty if it does not know it.
func (v *view) nameOf(p *wireguard.Peer) string {
	if p == nil {
		return ""
	}
	if known := v.peerByID(p.ID()); known != nil && known.wireguard == p {
		return known.cfg.Name
	}
	return ""
}

// endpointText is where a peer is sent to, for people.
func (v *view) endpointText(e wireguard.Endpoint) string {
	switch {
	case !e.Remote.IsValid():
		return ""
	case e.Via != nil:
		return e.Remote.String() + " via " + v.nameOf(e.Via)
	}
	return e.Remote.String()
}

// relaysWith are the peers that this one exchanges messages with through us; one of each two says so.
func (v *view) relaysWith(name string) (others []string) {
	for i := range v.peers {
		c := &v.peers[i].cfg
		switch {
		case c.Name == name:
			others = append(others, c.RelayTo...)
		case slices.Contains(c.RelayTo, name):
			others = append(others, c.Name)
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// relayStatus adds with whom a peer exchanges messages through us, and what these were.
func (g *Gateway) relayStatus(out *sluicev1.Peer, p *peerView) {
	with := g.view.Load().relaysWith(p.cfg.Name)
	if len(with) == 0 {
		return
	}
	counted := g.relay.Meters()
	sent := counted[relay.MeterKey{Kind: relay.RelayedMeter, ID: p.id, Direction: relay.DirectionFromSite}]
	received := counted[relay.MeterKey{Kind: relay.RelayedMeter, ID: p.id, Direction: relay.DirectionToSite}]
	out.Relayed = &sluicev1.Relayed{With: with, SentPackets: sent.Packets, SentBytes: sent.Bytes, ReceivedPackets: received.Packets, ReceivedBytes: received.Bytes}
}
