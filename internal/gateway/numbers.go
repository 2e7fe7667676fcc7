package gateway

import (
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
// number was.
type routeNumbers struct {
	byRoute map[routeKey]*routeNumber
	free    []uint32
	next    uint32 // 0 is nobody's
	round   uint64
	shown   map[uint32]relay.RouteCounters // bases, until they change
}

type routeKey struct {
	vni    uint32
	prefix netip.Prefix
}

type routeNumber struct {
	number uint32
	round  uint64              // the last in which the route was there
	gone   time.Time           // when it was missing first; zero: it is there
	base   relay.RouteCounters // what the number had counted when the route got it
}

func newRouteNumbers() *routeNumbers {
	return &routeNumbers{byRoute: make(map[routeKey]*routeNumber), next: 1}
}

// assign numbers the routes of a snapshot that no worker has seen yet. counted is what a number has counted so far;
// it is asked for only when a number changes hands.
func (n *routeNumbers) assign(s *relay.Snapshot, now time.Time, counted func(uint32) relay.RouteCounters) {
	n.round++
	for i := range s.VPCs {
		for r := range s.VPCs[i].Routes.All() {
			n.number(s.VPCs[i].VNI, r, counted)
		}
	}
	for key, known := range n.byRoute {
		switch {
		case known.round == n.round:
		case known.gone.IsZero():
			known.gone = now
		case now.Sub(known.gone) > numberGrace:
			n.free = append(n.free, known.number)
			delete(n.byRoute, key)
			n.shown = nil
		}
	}
}

// add numbers routes that have come since.
func (n *routeNumbers) add(vni uint32, routes []*fib.Route, counted func(uint32) relay.RouteCounters) {
	for _, r := range routes {
		n.number(vni, r, counted)
	}
}

// number gives a route its number.
func (n *routeNumbers) number(vni uint32, r *fib.Route, counted func(uint32) relay.RouteCounters) {
	key := routeKey{vni, r.Prefix}
	known := n.byRoute[key]
	if known == nil {
		number, used := n.take()
		if number == 0 {
			return // more routes than there can be counters: those that came last have none
		}
		known = &routeNumber{number: number}
		if used {
			known.base = counted(number)
			n.shown = nil
		}
		n.byRoute[key] = known
	}
	known.round, known.gone = n.round, time.Time{}
	if r.Counter != known.number { // a route that is in force already has it: workers may be reading
		r.Counter = known.number
	}
}

// take returns a number that nobody has, 0 if there is none, and whether somebody had it before.
func (n *routeNumbers) take() (number uint32, used bool) {
	if last := len(n.free) - 1; last >= 0 {
		number = n.free[last]
		n.free = n.free[:last]
		return number, true
	}
	if n.next >= relay.MaxRouteCounters {
		return 0, false
	}
	n.next++
	return n.next - 1, false
}

// bases are what to subtract from the counters in force, by number.
// Readers share the map: it never changes.
func (n *routeNumbers) bases() map[uint32]relay.RouteCounters {
	if n.shown != nil {
		return n.shown
	}
	bases := make(map[uint32]relay.RouteCounters)
	for _, known := range n.byRoute {
		if known.base != (relay.RouteCounters{}) {
			bases[known.number] = known.base
		}
	}
	n.shown = bases
	return bases
}
