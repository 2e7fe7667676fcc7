package gateway

import (
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/internal/packet"
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
	replies, err := g.echoReplies(liveReplies, liveEcho, relay.StandbyEcho)
	if err != nil {
		return err
	}
	g.alive = liveness.New(liveness.Options{
		Clock: g.device.Clock, Replies: replies, ID: liveEcho, Standby: relay.StandbyEcho, Logger: g.log, Send: g.sendProbe,
		OnSwitch: g.switched,
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
	peers, cut := make([]liveness.Peer, 0, len(g.cfg.Peers)), newCuts(g.kernel.Links())
	for t := range g.tunnels() {
		if probe := t.peer.Probe; probe.Enabled {
			peers = append(peers, liveness.Peer{ID: t.id, Name: t.peer.Name, Key: t.wireguard, Local: t.local, Remote: t.remote,
				Interval: probe.Interval, Multiplier: probe.Multiplier, Way: t.wireguard, Paths: g.peers[t.peer.Name].paths, Hold: t.peer.PathHold,
				Cut: cut.off(t.wireguard)})
		}
	}
	g.alive.SetPeers(peers)
}

// livenessStatus adds what the probes of a peer have found.
func (g *Gateway) livenessStatus(out *sluicev1.Peer, id uint32) {
	out.Liveness = livenessMessage(g.alive.Status(id))
	if out.Liveness.State == sluicev1.LiveState_LIVE_STATE_DOWN && out.Problem == "" {
		out.Problem = "it answers no probes any more, and nothing is sent to it; check that it runs and the path to it"
	}
	out.Liveness.Elsewhere = g.alive.Status(id).Notice&packet.Elsewhere != 0
}

// applyLiveness takes the routes of peers that have died out of the forwarding state and from the site's routers, puts
// those back that live, and sends elsewhere where a peer asks for it.
func (g *Gateway) applyLiveness() {
	start := time.Now()
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
		return
	}
	g.followExports()
	g.log.Debug("routes follow the peers' liveness", "took", time.Since(start))
}
