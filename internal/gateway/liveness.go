package gateway

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/relay"
)

const (
	// liveEcho is the identifier of the echo requests that ask whether a peer is alive.
	liveEcho = 0x4c56
	// liveReplies wait for the prober at most: of a thousand peers, for a tenth of a second.
	liveReplies = 1024
)

// newLiveness makes what watches the peers.
func (g *Gateway) newLiveness() error {
	replies := make(chan relay.EchoReply, liveReplies)
	if _, err := g.relay.ListenEcho(liveEcho, replies); err != nil {
		return err
	}
	g.alive = liveness.New(liveness.Options{
		Clock: g.device.Clock, Replies: replies, ID: liveEcho, Logger: g.log,
		Send: func(peer uint32, b []byte) bool {
			return g.relay.SendToPeer(relay.PeerPacket{Peer: peer, Packet: b, Probe: true})
		},
		OnChange: func() {
			select {
			case g.lives <- struct{}{}:
			default: // it will look anyway
			}
		},
	})
	return nil
}

// watchPeers says which peers are to be watched.
func (g *Gateway) watchPeers() {
	peers := make([]liveness.Peer, 0, len(g.cfg.Peers))
	for i := range g.cfg.Peers {
		c := &g.cfg.Peers[i]
		p := g.peers[c.Name]
		if p == nil || p.wireguard == nil || !c.Probe.Enabled { // a direct peer has no tunnel
			continue
		}
		local, remote := commonFamily(g.cfg.WireGuard.TunnelAddresses, c.TunnelAddresses)
		peers = append(peers, liveness.Peer{ID: p.id, Name: c.Name, Key: p.wireguard, Local: local, Remote: remote,
			Interval: c.Probe.Interval, Multiplier: c.Probe.Multiplier})
	}
	g.alive.SetPeers(peers)
}

// livenessStatus adds what the probes of a peer have found.
func (g *Gateway) livenessStatus(out *sluicev1.Peer, id uint32) {
	s := g.alive.Status(id)
	l := &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_OFF, Rtt: durationpb.New(s.RTT), MinRtt: durationpb.New(s.Least),
		Jitter: durationpb.New(s.Jitter), Lost: uint32(s.Lost), Probes: uint32(s.Probes)}
	switch s.State {
	case liveness.Unknown:
		l.State = sluicev1.LiveState_LIVE_STATE_UNKNOWN
	case liveness.Up:
		l.State = sluicev1.LiveState_LIVE_STATE_UP
	case liveness.Down:
		l.State = sluicev1.LiveState_LIVE_STATE_DOWN
		if out.Problem == "" {
			out.Problem = "it answers no probes any more, and nothing is sent to it; check that it runs and the path to it"
		}
	}
	out.Liveness = l
}

// applyLiveness takes the routes of peers that have died out of the forwarding state, and puts those back that live.
func (g *Gateway) applyLiveness() {
	start := time.Now()
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
		return
	}
	g.log.Debug("routes follow the peers' liveness", "took", time.Since(start))
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
