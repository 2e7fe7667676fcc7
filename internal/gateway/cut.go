package gateway

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// cuts finds the peers that nothing can be sent to because a port of ours is down: nobody has to wait for probes to fail.
type cuts struct {
	links *neigh.Links
	down  map[netip.Addr]bool // addresses of links that are
}

func newCuts(links *neigh.Links) *cuts {
	c := &cuts{links: links, down: make(map[netip.Addr]bool)}
	for link := range links.All() {
		for _, a := range link.Addrs {
			if !link.Up {
				c.down[a.Addr()] = true
			}
		}
	}
	return c
}

// off says whether a peer is cut off: the port that it was heard through last is down, and the kernel knows no other way.
func (c *cuts) off(p *wireguard.Peer) bool {
	place := p.Place()
	if place.Via != nil || !place.Remote.IsValid() || !c.down[place.Local] {
		return false
	}
	routes, err := netlink.RouteGet(place.Remote.Addr().AsSlice())
	return err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool {
		link := c.links.LinkByIndex(uint32(r.LinkIndex))
		return link != nil && link.Up
	})
}
