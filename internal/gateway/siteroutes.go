package gateway

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
)

// siteTable is what an amendment of a VPC's routes has to know of it.
type siteTable struct {
	routers    map[routing.NextHop]fib.NextHop // their deliveries
	configured *bart.Lite                      // prefixes that the configuration gives to peers
	direct     *bart.Lite                      // of these, those of peers with encryption none
	authorised *bart.Lite                      // these, and what peers may announce
	diverted   *bart.Lite                      // what the program knows of beside configured
	site       *bart.Lite                      // what the site has
	carved     *bart.Lite                      // of this, what routers have told of and the program has to know: see carve.go
	vni        uint32
}

// siteRoutes adds the prefixes of a VPC that this site's routers have told of. Each router is a delivery. hops holds
// what the configuration gives to the site, and nothing of the peers yet.
func (c *compiler) siteRoutes(vpc *config.VPC, out *relay.VPC, hops map[netip.Prefix][]fib.NextHop) {
	if len(c.cfg.BGP.Neighbours) == 0 && !c.cfg.SpeaksEVPN() {
		return
	}
	table := &siteTable{routers: make(map[routing.NextHop]fib.NextHop), configured: new(bart.Lite), direct: new(bart.Lite),
		authorised: new(bart.Lite), diverted: new(bart.Lite), site: new(bart.Lite), carved: new(bart.Lite), vni: vpc.VNI}
	if c.plan.site == nil {
		c.plan.site = make(map[string]*siteTable)
	}
	c.plan.site[vpc.Name] = table
	for _, m := range c.members[vpc.Name] {
		for _, p := range m.prefixes {
			table.configured.Insert(p)
			table.authorised.Insert(p)
			if m.direct {
				table.direct.Insert(p)
			}
		}
		for _, p := range m.allowed {
			table.authorised.Insert(p)
		}
	}
	for p := range hops {
		table.site.Insert(p)
	}
	for p, routers := range c.learned.of(vpc.Name) {
		if ofGateways(routers) || len(hops[p]) > 0 || table.configured.Get(p) {
			continue // routing refuses it, as soon as it has heard of the configuration
		}
		for _, router := range routers {
			if hop, ok := c.router(vpc.VNI, out, table.routers, router); ok {
				hops[p] = append(hops[p], hop)
			}
		}
		if len(hops[p]) > 0 {
			table.site.Insert(p)
		}
	}
}

// router returns the delivery of a router, new if need be; false if its port is not there.
func (c *compiler) router(vni uint32, out *relay.VPC, known map[routing.NextHop]fib.NextHop, router routing.NextHop) (fib.NextHop, bool) {
	if hop, ok := known[router]; ok {
		return hop, true
	}
	link := c.port(router.Port)
	if link == nil {
		return fib.NextHop{}, false
	}
	if router.MAC != [6]byte{} {
		hop, ok := c.behindVTEP(vni, out, router, link)
		if ok {
			known[router] = hop
		}
		return hop, ok
	}
	for i, a := range out.Attachments {
		if a.Kind != relay.Routed || a.Ifindex != link.Ifindex {
			continue
		}
		hop := fib.NextHop{Kind: fib.Local, ID: uint32(len(c.plan.snapshot.Deliveries))}
		c.plan.snapshot.Deliveries = append(c.plan.snapshot.Deliveries, relay.Delivery{VNI: vni, Attachment: i, Via: router.Addr})
		c.plan.deliveries = append(c.plan.deliveries, deliveryInfo{
			attachment: string(config.Routed) + " " + router.Port, vni: vni, ifindex: link.Ifindex, via: router.Addr,
		})
		known[router] = hop
		return hop, true
	}
	return fib.NextHop{}, false
}
