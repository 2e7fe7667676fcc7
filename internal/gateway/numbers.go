package gateway

import (
	"maps"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
)

// numberGrace is how long a route that is gone keeps its counter: one that flaps goes on counting where it was, and no
// packet that a worker still holds is counted for somebody else (they are held for seconds at most).
const numberGrace = 10 * time.Minute

// routeNumbers gives routes their counters (fib.Route.Counter): small numbers that a route, by its VPC and prefix, keeps
// over every reload. A number whose route has been gone for long goes to another, which then counts from where the
// number was. What is in force has its numbers in itself, so only those of routes that are gone are remembered.
type routeNumbers struct {
	snapshot *relay.Snapshot // in force; nil: none yet
	gone     map[routeKey]goneNumber
	free     []uint32
	next     uint32                         // 0 is nobody's
	base     map[uint32]relay.RouteCounters // what a number had counted when its route got it, if that was something
	shown    map[uint32]relay.RouteCounters // a copy for readers, until it changes
}

type routeKey struct {
	vni    uint32
	prefix netip.Prefix
}

type goneNumber struct {
	number uint32
	since  time.Time
}

func newRouteNumbers() *routeNumbers {
	return &routeNumbers{gone: make(map[routeKey]goneNumber), base: make(map[uint32]relay.RouteCounters), next: 1}
}

// assign numbers the routes of a snapshot that no worker has seen yet and that takes the place of the one in force.
// counted is what a number has counted so far; it is asked for only when a number changes hands. If then the snapshot
// cannot be put into force, assigning the one before takes that back.
func (n *routeNumbers) assign(s *relay.Snapshot, now time.Time, counted func(uint32) relay.RouteCounters) {
	old, next := tablesOf(n.snapshot), tablesOf(s)
	n.snapshot = s
	for vni, table := range next {
		for r := range table.All() {
			number := uint32(0)
			if was := old.of(vni).Exact(r.Prefix); was != nil {
				number = was.Counter
			}
			if number == 0 {
				number = n.number(routeKey{vni, r.Prefix}, counted)
			}
			if r.Counter != number { // a route that is in force already has it: workers may be reading
				r.Counter = number
			}
		}
	}
	for vni, table := range old {
		for r := range table.All() {
			if next.of(vni).Exact(r.Prefix) == nil {
				n.lost(vni, r, now)
			}
		}
	}
	for key, g := range n.gone {
		if now.Sub(g.since) > numberGrace {
			n.free = append(n.free, g.number)
			delete(n.gone, key)
		}
	}
}

// routeTables are the routes of a snapshot by VNI.
type routeTables map[uint32]*fib.Table

func tablesOf(s *relay.Snapshot) routeTables {
	if s == nil {
		return nil
	}
	tables := make(routeTables, len(s.VPCs))
	for i := range s.VPCs {
		tables[s.VPCs[i].VNI] = s.VPCs[i].Routes
	}
	return tables
}

func (t routeTables) of(vni uint32) *fib.Table {
	if table := t[vni]; table != nil {
		return table
	}
	return new(fib.Table)
}

// add numbers routes that have come since, as far as they have none from the one in whose place they are.
func (n *routeNumbers) add(vni uint32, routes []*fib.Route, counted func(uint32) relay.RouteCounters) {
	for _, r := range routes {
		if r.Counter == 0 {
			r.Counter = n.number(routeKey{vni, r.Prefix}, counted)
		}
	}
}

// lost keeps the number of a route that is gone.
func (n *routeNumbers) lost(vni uint32, r *fib.Route, now time.Time) {
	if r.Counter != 0 {
		n.gone[routeKey{vni, r.Prefix}] = goneNumber{r.Counter, now}
	}
}

// number is that of a new route; 0 if there are more routes than there can be counters: those that came last have none.
func (n *routeNumbers) number(key routeKey, counted func(uint32) relay.RouteCounters) uint32 {
	if g, ok := n.gone[key]; ok {
		delete(n.gone, key)
		return g.number
	}
	if last := len(n.free) - 1; last >= 0 {
		number := n.free[last]
		n.free = n.free[:last]
		n.base[number], n.shown = counted(number), nil
		return number
	}
	if n.next >= relay.MaxRouteCounters {
		return 0
	}
	n.next++
	return n.next - 1
}

// bases are what to subtract from the counters in force, by number.
// Readers share the map: it never changes.
func (n *routeNumbers) bases() map[uint32]relay.RouteCounters {
	if n.shown == nil {
		n.shown = maps.Clone(n.base)
	}
	return n.shown
}
