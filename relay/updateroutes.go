package relay

import (
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/internal/fib"
)

// RouteChange is what differs in the routes of one VPC.
type RouteChange struct {
	VNI    uint32
	Routes *fib.Table // all of them, as they are now
	// Set are the routes of the table that the one before lacks, or has with
	// other next hops.
	Set []*fib.Route
}

// UpdateRoutes is Update for routes that come and go while everything else stays, as BGP makes them: it looks at what changes only, and
// not at 100,000 routes that do not. more are deliveries that come after those
// that there are. It returns the snapshot that is in force then.
func (r *Relay) UpdateRoutes(changes []RouteChange, more []Delivery) (*Snapshot, error) {
	old := r.state.Load()
	if old == nil {
		return nil, fmt.Errorf("update routes: there is no snapshot yet")
	}
	snapshot, next := *old.snapshot, *old
	snapshot.Deliveries = append(slices.Clip(snapshot.Deliveries), more...)
	snapshot.VPCs, next.vpcs, next.snapshot = slices.Clone(snapshot.VPCs), slices.Clone(old.vpcs), &snapshot
	c := &compiler{in: &snapshot, out: &next, vpcAt: make(map[uint32]int32, len(snapshot.VPCs))}
	for i := range snapshot.VPCs {
		c.vpcAt[snapshot.VPCs[i].VNI] = int32(i)
	}
	next.deliveries = slices.Clip(old.deliveries)
	for i, d := range more {
		if d.Learned {
			c.problem("delivery %d: hosts that are to be learned come with a new snapshot", len(old.deliveries)+i)
			break
		}
		c.place(len(old.deliveries)+i, d)
	}
	for i := range changes {
		c.changeRoutes(&changes[i])
	}
	if err := c.err(); err != nil {
		return nil, fmt.Errorf("update routes: %w", err)
	}
	r.state.Store(&next)
	r.Wake() // what is parked may have somewhere to go now
	return &snapshot, nil
}

func (c *compiler) changeRoutes(change *RouteChange) {
	at, ok := c.vpcAt[change.VNI]
	if !ok {
		c.problem("no vpc has vni %d", change.VNI)
		return
	}
	v, vs := &c.in.VPCs[at], &c.out.vpcs[at]
	for _, route := range change.Set {
		c.route(at, route)
	}
	v.Routes, vs.routes = change.Routes, change.Routes
	c.out.large = c.out.large || vs.routes.Len() >= largeTable
	vs.ours = c.claimsOurs(v, vs.routes)
	vs.peers = nil
	c.groups(vs, v, at)
}
