package gateway

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
)

// routeCounters are what routes have counted, as of one moment.
type routeCounters struct {
	total func(uint32) relay.RouteCounters // by fib.Route.Counter
	bases map[uint32]relay.RouteCounters
	// What the XDP program has forwarded by itself comes on top.
	forwarded forwardedCounts
}

func (v *view) routeCounters(g *Gateway) routeCounters {
	return routeCounters{total: g.relay.RouteCounter, bases: v.bases, forwarded: g.forwarded()}
}

// of returns the counters of a route of a VPC that is in force.
func (c routeCounters) of(vni uint32, r *fib.Route) relay.RouteCounters {
	n := c.forwarded.route(vni, r.Prefix)
	if r.Counter == 0 {
		return n
	}
	w := c.total(r.Counter).Sub(c.bases[r.Counter])
	return relay.RouteCounters{ToPackets: n.ToPackets + w.ToPackets, ToBytes: n.ToBytes + w.ToBytes, FromPackets: n.FromPackets + w.FromPackets, FromBytes: n.FromBytes + w.FromBytes}
}

// vpcCounters are those of a VPC, zero if it has counted nothing yet.
func vpcCounters(all []relay.VPCCounters, vni uint32) relay.VPCCounters {
	for _, c := range all {
		if c.VNI == vni {
			return c
		}
	}
	return relay.VPCCounters{VNI: vni}
}
