package gateway

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
)

// routeCounters are what routes have counted, as of one moment.
type routeCounters struct {
	totals []relay.RouteCounters
	bases  map[uint32]relay.RouteCounters
}

func (v *view) routeCounters(r *relay.Relay) routeCounters {
	return routeCounters{totals: r.RouteCounters(), bases: v.bases}
}

// of returns the counters of a route that is in force.
func (c routeCounters) of(r *fib.Route) relay.RouteCounters {
	if r.Counter == 0 || int(r.Counter) >= len(c.totals) {
		return relay.RouteCounters{}
	}
	return c.totals[r.Counter].Sub(c.bases[r.Counter])
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
