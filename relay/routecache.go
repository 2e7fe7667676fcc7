package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
)

// routeCache remembers what the VPCs' tables said about single addresses: a
// direct-mapped table in front of the longest-prefix match. It belongs to one
// worker and is emptied when the worker takes up another state, so it never
// outlives the tables that it speaks of.
type routeCache [routeCacheSlots]cachedRoute

// routeCacheSlots take 128 KiB: a part of the second-level cache that leaves
// room for the frames of a batch.
const routeCacheSlots = 4096

type cachedRoute struct {
	hi, lo uint64
	where  uint64     // vpc+1 and the IP version, so that zero is an empty slot
	route  *fib.Route // nil: there is none
}

// route looks up the address a, of 4 or 16 bytes, in a VPC's table.
func (c *routeCache) route(vpcs []vpcState, vpc int32, a []byte) *fib.Route {
	var hi, lo uint64
	where := uint64(vpc+1) << 8
	if len(a) == 4 {
		lo = uint64(binary.BigEndian.Uint32(a))
	} else {
		hi, lo, where = binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:]), where|1
	}
	e := &c[(lo^hi^where<<40)*0x9e3779b97f4a7c15>>52]
	if e.lo == lo && e.hi == hi && e.where == where {
		return e.route
	}
	addr, _ := netip.AddrFromSlice(a)
	r := vpcs[vpc].routes.Lookup(addr)
	e.hi, e.lo, e.where, e.route = hi, lo, where, r
	return r
}
