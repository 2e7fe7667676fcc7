package gateway

import (
	"fmt"
	"net/netip"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// use says how good a peer is as the next hop of a prefix that others have as well.
type use uint8

const (
	useful    use = iota
	elsewhere     // it asks us to send through another: the last resort
	dead          // it answers no probes any more, or has handed the VPC over: never
	fenced        // another gateway of its site is active: never, and nothing is taken from it either
)

func (u use) String() string {
	return [...]string{"next hop", "last resort", "none; what it still sends is taken", "none: another gateway of its site is active, or none is"}[u]
}

// remoteRoutes adds the peers' prefixes to hops, with the best of those that have each as next hops. Those that are worse
// may still be the source of what comes from it (relay.VPC.Spare): they learn, and notice, at another time than we do. Not so
// a gateway that another of its site has taken a VPC over from: it may not know.
func (c *compiler) remoteRoutes(vpc *config.VPC, out *relay.VPC, hops map[netip.Prefix][]fib.NextHop) {
	remote := make(map[netip.Prefix][]member)
	for _, m := range c.members[vpc.Name] {
		for _, p := range m.prefixes {
			if remote[p] == nil && len(hops[p]) == 0 {
				// The program diverts also what is for dead ones: it must not leave in the clear.
				c.plan.xdp.Remote = append(c.plan.xdp.Remote, xdp.Prefix{VNI: vpc.VNI, Prefix: p})
			}
			remote[p] = append(remote[p], m)
		}
	}
	c.gatewayRoutes(vpc, remote)
	var spare []fib.Route
	for p, members := range remote {
		best := fenced
		for _, m := range members {
			best = min(best, m.use)
		}
		if best >= dead {
			continue
		}
		var left []fib.NextHop
		for _, m := range members {
			hop := fib.NextHop{Kind: fib.Remote, ID: m.id}
			switch {
			case m.use == best:
				hops[p] = append(hops[p], hop)
			case m.use != fenced:
				left = append(left, hop)
			}
		}
		if left != nil {
			spare = append(spare, fib.Route{Prefix: p, NextHops: left})
		}
	}
	if spare == nil {
		return
	}
	table, err := fib.New(spare)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("vpc %s: %w", vpc.Name, err))
		return
	}
	out.Spare = table
}

// useOf says how good a peer is now.
func (g *Gateway) useOf(p *peer) use {
	switch {
	case g.alive.Dead(p.id):
		return dead
	case g.alive.Elsewhere(p.id):
		return elsewhere
	}
	return useful
}

// withheld are the peers, by name, whose prefixes the site's routers are not told of unless another peer has them, too:
// nothing can be sent to those peers, and another gateway of the site may have more luck. They are the ones that answer
// no probes any more, and those that never have and that there is no session with; a peer with a session that answers
// no probes does not know them.
func (g *Gateway) withheld() map[string]bool {
	out := make(map[string]bool)
	for name, p := range g.peers {
		switch g.alive.Status(p.id).State {
		case liveness.Down:
			out[name] = true
		case liveness.Unknown:
			if !p.wireguard.Status().Session {
				out[name] = true
			}
		}
	}
	return out
}
