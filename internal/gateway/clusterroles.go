package gateway

import (
	"context"
	"time"

	"github.com/sluicegw/sluice/controlplane/cluster"
	"github.com/sluicegw/sluice/routing"
)

// What follows from who is active.

// applyRoles puts new roles into force: addresses that move with the active gateway, what the site's routers are told, and
// routes and admission of peers. The site turns to us by the first two, and whatever comes is forwarded already.
func (g *Gateway) applyRoles() {
	now, before := g.ha.roles.Load(), g.ha.applied
	g.ha.applied = now
	if before != nil && before.forwardsAs(now) {
		g.speak(g.kernel.Links())
		return
	}
	g.holdAddresses()
	g.speak(g.kernel.Links())
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
	}
}

// carries says whether this gateway is the one that a VPC's traffic of this site goes to; so are all, where the VPC is
// not handed over.
func (g *Gateway) carries(vpc string) bool {
	carried, single := g.ha.roles.Load().carried[vpc]
	return carried || !single
}

// withhold takes out of what routers are told the VPCs that another gateway is active for. Those that we may have to take over
// in a moment are told as the last resort: the router knows the way by then.
func (g *Gateway) withhold(c *routing.Config) {
	spare := g.ha.roles.Load().spare
	for i := range c.VPCs {
		if v := &c.VPCs[i]; !g.carries(v.Name) {
			v.Silent, v.Spare = !spare[v.Name], spare[v.Name]
		}
	}
}

// resign hands over what this gateway is active for, before it stops, and waits until others have it, or nobody wants it.
func (g *Gateway) resign() {
	h := &g.ha
	h.mu.Lock()
	active := false // and somebody can take over
	if h.machine != nil {
		now := bootTime()
		for _, s := range h.machine.Status(now) {
			active = active || s.Active && s.Heir || s.Shared && len(h.listeners) > 0
		}
		g.tellAll(h.machine.Resign(now), now)
	}
	h.mu.Unlock()
	if !active {
		return
	}
	for deadline := time.Now().Add(cluster.Grace + time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		h.mu.Lock()
		now, left := bootTime(), false
		for _, s := range h.machine.Status(now) {
			left = left || s.Role == cluster.Left
		}
		h.mu.Unlock()
		if !left {
			break
		}
	}
	g.applyRoles()
	// The routers are told by a goroutine of its own; then what is on its way passes.
	time.Sleep(drainTime)
}

// drainTime is how long a gateway goes on forwarding once the routers have been told. Chosen: longer than a packet is on
// its way, or a router takes to turn away.
const drainTime = 200 * time.Millisecond

// moveVPC hands a VPC over to another gateway of the site.
func (g *Gateway) moveVPC(_ context.Context, vpc string) error {
	h := &g.ha
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, name := range h.vpcs {
		if name == vpc && h.machine != nil {
			defer h.wake()
			return h.machine.Move(h.config.VPCs[i].VNI, bootTime())
		}
	}
	return cluster.ErrNotActive
}
