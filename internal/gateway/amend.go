package gateway

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
)

// maxAmended is how many deliveries may have been added since everything was compiled: those of routers that are gone
// stay until then.
const maxAmended = 1024

// amendment is what changes in a plan when routes come and go.
type amendment struct {
	plan    plan // all but its snapshot
	changes []relay.RouteChange
	before  []*fib.Table       // of each of changes, the routes in whose place its own are
	lists   [][]routing.Change // and what was asked
	more    []relay.Delivery
	carving carving
}

// amend brings changes of BGP's routes into force without a look at all the others. It says false, and does nothing, when
// more than routes is concerned, and everything must be compiled.
func (g *Gateway) amend(changes map[string][]routing.Change) (bool, error) {
	if g.links != g.kernel.Links() || g.programBehind {
		return false, nil
	}
	a := amended(g.plan, &compiler{cfg: g.cfg, links: g.links}, changes)
	if a == nil {
		return false, nil
	}
	for i := range a.changes {
		g.numbers.add(a.changes[i].VNI, a.changes[i].Set, g.relay.RouteCounter)
	}
	snapshot, err := g.relay.UpdateRoutes(a.changes, a.more)
	a.keepNumbers(g.numbers, time.Now(), err == nil)
	if err != nil {
		return false, err
	}
	a.plan.snapshot, g.numbers.snapshot = snapshot, snapshot
	g.plan = &a.plan
	if err := g.program.AmendSite(a.carving.add, a.carving.del); err != nil {
		g.programBehind = true
		return false, err
	}
	g.publish()
	return true, nil
}

// amended is a pure function; nil means that everything must be compiled. That is so where the learner of hosts has to know of the routes, too, or the
// XDP program more than what is carved out of the peers' prefixes (carve.go).
func amended(p *plan, c *compiler, changes map[string][]routing.Change) *amendment {
	a := &amendment{plan: *p}
	snapshot := *p.snapshot
	snapshot.Deliveries, a.plan.deliveries = slices.Clip(snapshot.Deliveries), slices.Clip(p.deliveries)
	a.plan.snapshot, c.plan, a.plan.site = &snapshot, &a.plan, maps.Clone(p.site)
	for name, list := range changes {
		at := slices.IndexFunc(snapshot.VPCs, func(v relay.VPC) bool { return v.Name == name })
		if at < 0 || p.site[name] == nil {
			return nil
		}
		site := *p.site[name]
		site.routers = maps.Clone(site.routers)
		a.plan.site[name] = &site
		change := c.amendVPC(a, &snapshot.VPCs[at], &site, list)
		if change == nil {
			return nil
		}
		a.changes, a.before, a.lists = append(a.changes, *change), append(a.before, p.snapshot.VPCs[at].Routes), append(a.lists, list)
	}
	a.more = snapshot.Deliveries[len(p.snapshot.Deliveries):]
	if a.plan.amended += len(a.more); a.plan.amended > maxAmended {
		return nil
	}
	return a
}

func (c *compiler) amendVPC(a *amendment, v *relay.VPC, site *siteTable, list []routing.Change) *relay.RouteChange {
	var add []fib.Route
	var del []netip.Prefix
	learns := slices.ContainsFunc(c.plan.learned, func(l hosts.Attachment) bool { return l.VPC == v.Name })
	for _, change := range list {
		have := v.Routes.Exact(change.Prefix)
		route := fib.Route{Prefix: change.Prefix}
		counter := uint32(0)
		if have != nil {
			counter = have.Counter
		}
		_, inside := site.authorised.LookupPrefixLPM(change.Prefix)
		carved := inside && c.ofSite(change, have)
		if inside && !carved {
			var ok bool
			if route, ok = c.amendRemote(v.Name, site, change, have); !ok {
				return nil
			}
		} else if learns || ofGateways(change.NextHops) || carved && !c.carvesAlone(v, site, change.Prefix, have) {
			return nil
		} else if have != nil && !c.plan.byBGP(have) {
			continue // the configuration's
		} else {
			for _, router := range change.NextHops {
				if hop, ok := c.router(v.VNI, v, site.routers, router); ok {
					route.NextHops = append(route.NextHops, hop)
				}
			}
		}
		if carved {
			a.carve(site, change.Prefix, len(route.NextHops) > 0, len(list))
		}
		if route.Counter = counter; len(route.NextHops) > 0 {
			add = append(add, route)
		} else if have != nil {
			del = append(del, change.Prefix)
		}
	}
	table, err := v.Routes.With(add, del)
	if err != nil {
		return nil // compiling says what is wrong
	}
	out := &relay.RouteChange{VNI: v.VNI, Routes: table}
	for i := range add {
		out.Set = append(out.Set, table.Exact(add[i].Prefix))
	}
	return out
}

// keepNumbers remembers the numbers of routes that are gone; or of those that have not come, where the amendment is not in force.
func (a *amendment) keepNumbers(n *routeNumbers, now time.Time, done bool) {
	for i := range a.changes {
		from, to := a.before[i], a.changes[i].Routes
		if !done {
			from, to = to, from
		}
		for _, c := range a.lists[i] {
			if r := from.Exact(c.Prefix); r != nil && to.Exact(c.Prefix) == nil {
				n.lost(a.changes[i].VNI, r, now)
			}
		}
	}
}

// byBGP says whether a route is one that BGP has told of.
func (p *plan) byBGP(r *fib.Route) bool {
	hop := r.NextHops[0]
	return hop.Kind == fib.Local && (p.deliveries[hop.ID].via.IsValid() || p.deliveries[hop.ID].fabric)
}
