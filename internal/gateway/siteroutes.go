package gateway

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// siteTable is what an amendment of a VPC's routes has to know of it.
type siteTable struct {
	routers map[routing.NextHop]fib.NextHop // their deliveries
	remote  *bart.Lite                      // prefixes of the peers
}

// siteRoutes adds the prefixes of a VPC that this site's routers have told of. Each router is a delivery. hops holds
// what the configuration gives to the site, and nothing of the peers yet.
func (c *compiler) siteRoutes(vpc *config.VPC, out *relay.VPC, hops map[netip.Prefix][]fib.NextHop) {
	if len(c.cfg.BGP.Neighbours) == 0 {
		return
	}
	table := &siteTable{routers: make(map[routing.NextHop]fib.NextHop), remote: new(bart.Lite)}
	if c.plan.site == nil {
		c.plan.site = make(map[string]*siteTable)
	}
	c.plan.site[vpc.Name] = table
	for _, m := range c.members[vpc.Name] {
		for _, p := range m.prefixes {
			table.remote.Insert(p)
		}
	}
	learned, site := c.learned[vpc.Name], new(bart.Lite)
	for p := range hops {
		site.Insert(p)
	}
	for p, routers := range learned {
		if len(hops[p]) > 0 || table.remote.Get(p) {
			continue // routing refuses it, as soon as it has heard of the configuration
		}
		for _, router := range routers {
			if hop, ok := c.router(vpc.VNI, out, table.routers, router); ok {
				hops[p] = append(hops[p], hop)
			}
		}
		if len(hops[p]) > 0 {
			site.Insert(p)
		}
	}
	for p := range learned {
		if site.Get(p) && carves(p, table.remote, site) {
			c.plan.xdp.Site = append(c.plan.xdp.Site, xdp.Prefix{VNI: vpc.VNI, Prefix: p})
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

// carves says whether the program must know a prefix of the site: it lies inside a remote prefix, of which it is the
// exception, and no shorter prefix of the site in there has made the exception already. So a site with 100,000 prefixes
// costs the program nothing but where peers have a default route, and then what is not inside one another.
func carves(p netip.Prefix, remote, site *bart.Lite) bool {
	around, ok := remote.LookupPrefixLPM(p)
	if !ok {
		return false
	}
	if p.Bits() == 0 {
		return true
	}
	parent := netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
	shorter, ok := site.LookupPrefixLPM(parent)
	return !ok || shorter.Bits() < around.Bits()
}
