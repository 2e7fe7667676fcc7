package gateway

import (
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
)

// A gateway that has just started knows nothing yet of what its site's routers will tell it: a packet that a peer sends
// it for the site would be lost, and one from the site has no source that it knows. So it begins as one that is drained:
// until the routers have told everything, it asks peers to send through another gateway, as long as they have one, and
// announces nothing.

const (
	// joinLimit is how long it waits for routers at most. Chosen: longer than a router takes to call again, shorter than
	// a person who has forgotten one takes to find out.
	joinLimit = 10 * time.Second
	joinTick  = 50 * time.Millisecond
)

// joining is a gateway that has just started. Owned by the assembly.
type joining struct {
	on    bool
	began time.Time
	tick  *time.Ticker
}

func (j *joining) ticks() <-chan time.Time {
	if j.tick == nil {
		return nil
	}
	return j.tick.C
}

// expectsRouters says whether there are routers that are always there, unlike those of a range.
func expectsRouters(b *config.BGP) bool {
	for i := range b.Neighbours {
		if _, ok := b.Neighbours[i].Address.One(); ok {
			return true
		}
	}
	return false
}

// beginJoin begins to wait for the routers; before Run.
func (g *Gateway) beginJoin() {
	g.joining = joining{on: expectsRouters(&g.cfg.BGP), began: time.Now()}
	if g.joining.on {
		g.joining.tick = time.NewTicker(joinTick)
	}
}

// keepJoining looks whether the routers have told everything.
func (g *Gateway) keepJoining() {
	waited := time.Since(g.joining.began)
	heard := g.bgp.router.Heard(time.Now())
	if !heard && waited < joinLimit {
		return
	}
	g.takeRoutes() // what they have told is in force before peers may send for it
	g.joining.tick.Stop()
	g.joining = joining{}
	if heard {
		g.log.Info("the site's routers have told everything: peers may send here", "after", waited)
	} else {
		g.log.Warn("not all of the site's routers have told everything: peers may send here all the same", "after", waited)
	}
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
	}
	g.speak(g.kernel.Links())
}
