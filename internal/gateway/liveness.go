package gateway

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/internal/packet"
)

const (
	// liveEcho is the identifier of the echo requests that ask whether a peer is alive.
	liveEcho = 0x4c56
	// liveReplies wait for the prober at most: of a thousand peers, for a tenth of a second.
	liveReplies = 1024
)

// newLiveness makes what watches the peers.
func (g *Gateway) newLiveness() error {
	replies, err := g.echoReplies(liveEcho, liveReplies)
	if err != nil {
		return err
	}
	g.alive = liveness.New(liveness.Options{
		Clock: g.device.Clock, Replies: replies, ID: liveEcho, Logger: g.log, Send: g.sendProbe,
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
	for t := range g.tunnels() {
		if probe := t.peer.Probe; probe.Enabled {
			peers = append(peers, liveness.Peer{ID: t.id, Name: t.peer.Name, Key: t.wireguard, Local: t.local, Remote: t.remote,
				Interval: probe.Interval, Multiplier: probe.Multiplier})
		}
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
	l.Elsewhere = s.Notice&packet.Elsewhere != 0
	out.Liveness = l
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
