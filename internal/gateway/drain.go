package gateway

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/routing"
)

// A gateway that is to go is drained: it goes on forwarding whatever reaches it, and sees to it that nothing does any more.
// Peers are told in the answers to their liveness probes, and send through another gateway of this site from then on. The
// site's routers are told by GRACEFUL_SHUTDOWN; after a while, for those that do not heed it, everything is withdrawn.
// Then it waits until nothing flows. Where there is no other gateway traffic goes on until withdrawal, and peers go
// on sending: it is never silent then, and says so.

// drainTick is how often a drain looks at the time and the counters. Chosen: a tenth of the shortest silence.
const drainTick = 100 * time.Millisecond

// drain is how far the gateway is on its way out. Owned by the assembly.
type drain struct {
	phase sluicev1.DrainPhase
	since time.Time // of the phase
	tick  *time.Ticker

	flowed uint64    // packets forwarded so far
	flows  time.Time // when that was another figure last
	rate   float64   // packets per second, over the last second or so
	rated  uint64    // flowed, when rate was found out
	at     time.Time
}

// ticks is when there is something to do; nil: never.
func (d *drain) ticks() <-chan time.Time {
	if d.tick == nil {
		return nil
	}
	return d.tick.C
}

func (d *drain) on() bool { return d.phase != 0 }

// leaving is what routers are told.
func (g *Gateway) leaving() routing.Leaving {
	if g.joining.on {
		return routing.Withdrawn
	}
	switch g.drain.phase {
	case sluicev1.DrainPhase_DRAIN_PHASE_ASKING:
		return routing.Lowered
	case sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN, sluicev1.DrainPhase_DRAIN_PHASE_SILENT:
		return routing.Withdrawn
	}
	return routing.Staying
}

// notice is what peers are told.
func (g *Gateway) notice() packet.Notice {
	if g.drain.on() || g.joining.on {
		return packet.Elsewhere
	}
	return 0
}

// startDrain begins it, unless it has begun.
func (g *Gateway) startDrain() error {
	if g.drain.on() {
		return nil
	}
	now := time.Now()
	g.drain = drain{tick: time.NewTicker(drainTick), flowed: g.flowed(), flows: now, at: now}
	g.drain.rated = g.drain.flowed
	g.log.Info("drain: peers and routers are asked to send elsewhere", "withdraw_after", g.cfg.Drain.WithdrawAfter)
	g.enterPhase(sluicev1.DrainPhase_DRAIN_PHASE_ASKING, now)
	return g.update()
}

// endDrain takes traffic again.
func (g *Gateway) endDrain() error {
	if !g.drain.on() {
		return nil
	}
	g.drain.tick.Stop()
	g.drain = drain{}
	g.log.Info("drain ends: peers and routers may send here again")
	g.enterPhase(0, time.Now())
	return g.update()
}

func (g *Gateway) enterPhase(phase sluicev1.DrainPhase, now time.Time) {
	g.drain.phase, g.drain.since = phase, now
	g.speak(g.kernel.Links())
	g.showDrain(now)
}

// keepDrain goes on with it.
func (g *Gateway) keepDrain() {
	now, flowed := time.Now(), g.flowed()
	d := &g.drain
	if flowed != d.flowed {
		d.flowed, d.flows = flowed, now
	}
	if passed := now.Sub(d.at); passed >= time.Second {
		d.rate, d.rated, d.at = float64(flowed-d.rated)/passed.Seconds(), flowed, now
	}
	quiet := now.Sub(d.flows) >= g.cfg.Drain.Silence
	switch {
	case d.phase == sluicev1.DrainPhase_DRAIN_PHASE_ASKING && now.Sub(d.since) >= g.cfg.Drain.WithdrawAfter:
		g.log.Info("drain: prefixes are withdrawn from the routers")
		g.enterPhase(sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN, now)
	case d.phase == sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN && quiet && now.Sub(d.since) >= g.cfg.Drain.Silence:
		g.log.Info("drain: nothing flows any more")
		g.enterPhase(sluicev1.DrainPhase_DRAIN_PHASE_SILENT, now)
		if g.silent != nil {
			g.silent()
		}
	case d.phase == sluicev1.DrainPhase_DRAIN_PHASE_SILENT && !quiet:
		g.log.Warn("drain: traffic flows again")
		g.enterPhase(sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN, now)
	default:
		g.showDrain(now)
	}
}

// flowed is how many packets of VPCs have been forwarded, in both directions, by workers and by the XDP program.
func (g *Gateway) flowed() (sum uint64) {
	counted, forwarded := g.relay.Counters().VPCs, g.forwarded()
	for i := range g.cfg.VPCs {
		c := vpcCounters(counted, g.cfg.VPCs[i].VNI)
		forwarded.addTo(&c)
		sum += c.ToPeers + c.ToSite
	}
	return sum
}

// showDrain publishes how far it is; nothing when there is no drain.
func (g *Gateway) showDrain(now time.Time) {
	d := &g.drain
	if !d.on() {
		g.drained.Store(nil)
		return
	}
	g.drained.Store(&sluicev1.Drain{
		Phase: d.phase, Since: durationpb.New(now.Sub(d.since)), Quiet: durationpb.New(now.Sub(d.flows)), PacketsPerSecond: d.rate,
	})
}

// drainToStop drains the gateway before it stops, if that is configured, until nothing flows any more or it takes too long.
func (g *Gateway) drainToStop(running context.Context) {
	if !g.cfg.Drain.OnStop || running.Err() != nil {
		return
	}
	if err := g.startDrain(); err != nil {
		g.log.Error("drain", "error", err)
		return
	}
	if g.drain.phase == sluicev1.DrainPhase_DRAIN_PHASE_SILENT {
		return
	}
	limit, cancel := context.WithTimeout(running, g.cfg.Drain.Timeout)
	defer cancel()
	g.silent = cancel
	g.loop(limit, running)
	if g.drain.phase != sluicev1.DrainPhase_DRAIN_PHASE_SILENT {
		g.log.Warn("drain: it is not silent, and stops all the same", "timeout", g.cfg.Drain.Timeout, "packets_per_second", g.drain.rate)
	}
}

// Drain implements api.Backend.
func (g *Gateway) Drain(ctx context.Context, _ *sluicev1.DrainRequest) (*sluicev1.DrainResponse, error) {
	return &sluicev1.DrainResponse{}, g.doDrain(ctx, g.startDrain)
}

// Undrain implements api.Backend.
func (g *Gateway) Undrain(ctx context.Context, _ *sluicev1.UndrainRequest) (*sluicev1.UndrainResponse, error) {
	return &sluicev1.UndrainResponse{}, g.doDrain(ctx, func() error {
		if g.silent != nil {
			return errors.New("the gateway is stopping")
		}
		return g.endDrain()
	})
}

func (g *Gateway) doDrain(ctx context.Context, work func() error) error {
	var failed error
	if err := g.do(ctx, func() { failed = work() }); err != nil {
		return err
	}
	return failed
}
