package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// inner is where both directions meet: f is an inner IP packet of a known VPC.
// port is where it came in, nil from a tunnel.
func (w *worker) inner(f *frame, port *portState) {
	b := f.data()
	switch {
	case martian(f.ip.Version, b):
		w.drop(f, Martian)
		return
	case unroutable(f.ip.Version, b):
		w.drop(f, Multicast)
		return
	case w.state.vpcs[f.vpc].gateways.hasDst(f.ip.Version, b):
		w.gateway(f)
		return
	}
	if port != nil && port.virtual {
		packet.Finish(b, &f.ip)
	}
	if f.ip.TTL <= 1 {
		w.timeExceeded(f)
		return
	}
	packet.DecrementTTL(b)
	f.ip.TTL--
	w.route(f)
}

// route looks the destination up in the VPC's table and hands the packet to
// one of the route's next hops. Parked packets come back to here.
func (w *worker) route(f *frame) {
	r := w.state.vpcs[f.vpc].routes.Lookup(f.ip.Dst(f.data()))
	if r == nil {
		w.unreachable(f, NoRoute)
		return
	}
	f.flow = packet.FlowHash(f.data(), &f.ip)
	hop := r.NextHops[0]
	if len(r.NextHops) > 1 {
		hop = pick(r.NextHops, f.flow)
	}
	if hop.Kind == fib.Local {
		w.deliver(f, hop.ID)
		return
	}
	if f.origin == fromPeer {
		w.drop(f, NotForTransit)
		return
	}
	w.encap(f, hop.ID)
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

// leadsTo says whether a route has the peer among its next hops.
func leadsTo(r *fib.Route, peer uint32) bool {
	for _, h := range r.NextHops {
		if h.Kind == fib.Remote && h.ID == peer {
			return true
		}
	}
	return false
}
