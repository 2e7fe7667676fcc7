package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// inner is where both directions meet: f is an inner IP packet of a VPC. It is
// collected for routeAll.
func (w *worker) inner(f *frame) {
	if f.vpc < 0 { // no default VPC here
		w.drop(f, UnknownVNI)
		return
	}
	if len(w.taps) > 0 {
		w.tapInner(f)
	}
	if w.trace != nil {
		w.trace.inner(f)
	}
	if t := w.state.vpcs[f.vpc].translate; t != nil && !w.translateIn(f, t) {
		return
	}
	w.routing = append(w.routing, f)
}

// found is what the VPC's table says about a packet: its routes to the destination, and
// back to the source where that is asked; nil: none.
type found struct{ to, back *fib.Route }

// routeAll looks up everything that was collected, and then takes it on packet
// by packet. It does not matter that some lookups are for packets that end before
// they need them; it matters that nothing else is between them: in a large table a
// lookup is a chain of cache misses, and the processor works on the chains of
// several packets at once only if they are close together.
func (w *worker) routeAll() {
	for i, f := range w.routing {
		w.lookUp(f, &w.found[i])
	}
	if w.state.large {
		w.touchRoutes()
	}
	for i, f := range w.routing {
		w.check(f, &w.found[i])
	}
	w.routing = w.routing[:0]
}

// largeTable is from how many routes on those of a batch's packets are not in the
// first-level caches.
const largeTable = 1024

// touchRoutes reads what check is about to need: the last miss of each chain, and
// here only a few instructions are between those of all packets.
func (w *worker) touchRoutes() {
	sum := w.touched
	for i := range w.routing {
		if r := w.found[i].to; r != nil {
			sum += r.Counter + r.NextHops[0].ID
		}
	}
	w.touched = sum
}

// lookUp finds the routes of a packet's addresses.
func (w *worker) lookUp(f *frame, r *found) {
	b := f.data()
	f.flow = packet.FlowHash(b, &f.ip)
	r.to = w.routes.route(w.state.vpcs, f.vpc, f.ip.DstBytes(b))
	r.back = nil
	if f.origin == fromPeer || w.state.vpcs[f.vpc].sources != SourceOff {
		r.back = w.routes.route(w.state.vpcs, f.vpc, f.ip.SrcBytes(b))
	}
}

// check ends a packet that must not travel, and forwards any other.
func (w *worker) check(f *frame, r *found) {
	hop := w.nextHop(f, r.to)
	b := f.data()
	switch {
	case f.origin == fromPeer && !w.admit(f, r.back):
		w.drop(f, SourceNotAllowed)
		return
	case martian(f.ip.Version, b):
		w.drop(f, Martian)
		return
	case f.origin != fromPeer && !w.ofSite(f, r.back):
		w.drop(f, SpoofedSource)
		return
	case unroutable(f.ip.Version, b) && !w.carries(f):
		w.drop(f, Multicast)
		return
	case !f.ip.Plain() && !w.options(f):
		return
	}
	vpc := &w.state.vpcs[f.vpc]
	switch {
	case vpc.policy != nil && !w.police(f, vpc.policy):
		return
	case vpc.gateways.hasDst(f.ip.Version, b):
		w.gateway(f)
		return
	}
	if f.origin == fromSite && w.state.ports[w.queues[f.slot].port].virtual {
		packet.Finish(b, &f.ip)
	}
	if f.ip.TTL <= 1 {
		w.timeExceeded(f)
		return
	}
	packet.DecrementTTL(b)
	f.ip.TTL--
	w.forward(f, hop, r.to != nil)
}

// route looks one packet up and forwards it: a parked one, or one of our own.
func (w *worker) route(f *frame) {
	b := f.data()
	f.flow = packet.FlowHash(b, &f.ip)
	to := w.routes.route(w.state.vpcs, f.vpc, f.ip.DstBytes(b))
	w.forward(f, w.nextHop(f, to), to != nil)
}

// nextHop is the flow's next hop of the route r to its destination; nil: there is none.
func (w *worker) nextHop(f *frame, r *fib.Route) (hop fib.NextHop) {
	if r != nil {
		f.route, hop = r.Counter, r.NextHops[0]
		if len(r.NextHops) > 1 {
			hop = pick(r.NextHops, f.flow)
		}
	}
	if w.trace != nil {
		w.trace.found(f, r, hop)
	}
	return hop
}

// forward hands a packet to its next hop.
func (w *worker) forward(f *frame, hop fib.NextHop, routed bool) {
	switch {
	case !routed && unroutable(f.ip.Version, f.data()):
		w.flood(f) // of all multicast only what is carried comes here
	case !routed:
		w.unrouted(f)
	case hop.Kind == fib.Local:
		w.deliver(f, hop.ID)
	case f.origin == fromPeer:
		w.transit(f)
	default:
		w.encap(f, hop.ID)
	}
}

// pick chooses by rendezvous hashing: a flow keeps its next hop for as long as
// that is one of the route's.
func pick(hops []fib.NextHop, flow uint32) fib.NextHop {
	best, weight := hops[0], uint32(0)
	for _, h := range hops {
		if x := packet.Rendezvous(flow, h.ID<<1|uint32(h.Kind&1)); x > weight {
			best, weight = h, x
		}
	}
	return best
}

// remote says whether a route leads to another site.
func remote(r *fib.Route) bool { return r.NextHops[0].Kind == fib.Remote }

// leadsTo says whether a route has the peer among its next hops.
func leadsTo(r *fib.Route, peer uint32) bool {
	for _, h := range r.NextHops {
		if h.Kind == fib.Remote && h.ID == peer {
			return true
		}
	}
	return false
}
