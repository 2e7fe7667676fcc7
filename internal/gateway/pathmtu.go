package gateway

import (
	"fmt"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/internal/pathmtu"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

const (
	// pathEcho is the identifier of the path MTU prober's echo requests. Any number will do: answers are told apart
	// by the tunnel that they come from, and other users of echo requests inside tunnels have numbers of their own.
	pathEcho = 0x4d54
	// pathReplies wait for the prober at most: a round of probes for all searches that may run at once.
	pathReplies = 1024
)

// newProber makes the path MTU prober.
func (g *Gateway) newProber() error {
	replies, err := g.echoReplies(pathReplies, pathEcho, relay.StandbyEcho+1)
	if err != nil {
		return err
	}
	g.prober = pathmtu.New(pathmtu.Options{
		Clock: g.device.Clock, Replies: replies, ID: pathEcho, Standby: relay.StandbyEcho + 1, Publish: g.relay.SetPeerMTUs, Logger: g.log, Send: g.sendProbe,
	})
	return nil
}

// probePeers tells the prober which peers there are.
func (g *Gateway) probePeers() {
	peers := make([]pathmtu.Peer, 0, len(g.cfg.Peers))
	for t := range g.tunnels() {
		peer := pathmtu.Peer{ID: t.id, Name: t.peer.Name, Key: t.wireguard, Local: t.local, Remote: t.remote, MTU: t.peer.MTU}
		peer.Look = func() pathmtu.Path { return g.pathTo(t.wireguard, t.wireguard.Endpoint()) }
		paths := g.peers[t.peer.Name].paths
		if len(paths) == 0 {
			peers = append(peers, peer)
		}
		for i, way := range paths {
			peer.Path, peer.Over = i, way.Endpoint
			peer.Name = t.peer.Name + " over " + way.Name
			peer.Look = func() pathmtu.Path { return g.pathTo(t.wireguard, way.Endpoint) }
			peers = append(peers, peer)
		}
	}
	g.prober.SetPeers(peers)
}

// pathTo says what is known of a way to a peer. Any goroutine may call it.
func (g *Gateway) pathTo(w *wireguard.Peer, to wireguard.Endpoint) pathmtu.Path {
	status := w.Status()
	if to.Via != nil {
		return g.pathThrough(status, to)
	}
	path := pathmtu.Path{Remote: to.Remote, Sent: status.TxPackets}
	path.Used = to.SameWay(&status.Endpoint)
	if !path.Remote.IsValid() {
		return path
	}
	dst := path.Remote.Addr().Unmap()
	entry := g.kernel.Table().Lookup(neigh.Key{Dst: dst.WithZone(""), Ifindex: to.Ifindex})
	if entry == nil || entry.State != neigh.Resolved {
		return path
	}
	path.Up, path.Ifindex, path.Six = status.Session, entry.Egress, dst.Is6()
	path.Overhead = packet.IPv4Len + packet.UDPLen + wireguard.Overhead
	if path.Six {
		path.Overhead = packet.IPv6Len + packet.UDPLen + wireguard.Overhead
	}
	mtu := entry.MTU
	if link := g.kernel.Links().LinkByIndex(entry.Egress); link != nil && (mtu == 0 || link.MTU < mtu) {
		mtu = link.MTU
	}
	path.Max = mtu - path.Overhead
	path.Up = path.Up && path.Max > 0
	return path
}

// pathStatus adds what is known of the path to a peer.
func (g *Gateway) pathStatus(out *sluicev1.Peer, id uint32) {
	s := g.prober.Status(id)
	out.Mtu, out.MtuLimit = uint32(max(s.MTU, 0)), uint32(max(s.Max, 0))
	switch s.State {
	case pathmtu.NoAddress:
		out.MtuState = sluicev1.MTUState_MTU_STATE_NO_TUNNEL_ADDRESS
	case pathmtu.Configured:
		out.MtuState = sluicev1.MTUState_MTU_STATE_CONFIGURED
	case pathmtu.Base, pathmtu.Searching:
		out.MtuState = sluicev1.MTUState_MTU_STATE_PROBING
	case pathmtu.Complete:
		out.MtuState = sluicev1.MTUState_MTU_STATE_CONFIRMED
	case pathmtu.Unanswered:
		out.MtuState = sluicev1.MTUState_MTU_STATE_NOT_ANSWERED
	case pathmtu.Failed:
		out.MtuState = sluicev1.MTUState_MTU_STATE_TOO_SMALL
		if out.Problem == "" {
			out.Problem = fmt.Sprintf("its path carries no inner packets of %d bytes; raise the MTU between the gateways", s.MTU)
		}
	default:
		out.MtuState = sluicev1.MTUState_MTU_STATE_IDLE
	}
}
