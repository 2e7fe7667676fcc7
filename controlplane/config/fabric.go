package config

import (
	"net/netip"
	"slices"
)

// InFabric says whether an attachment is an overlay whose hosts and prefixes a
// neighbour tells us by EVPN.
func (c *Config) InFabric(a *Attachment) bool {
	return a.Type != Routed && slices.ContainsFunc(c.BGP.Neighbours, func(n BGPNeighbour) bool { return n.EVPN && n.Port == a.Port })
}

// checkFabricNeighbour checks a neighbour with evpn.
func (c *checker) checkFabricNeighbour(path string, n *BGPNeighbour) {
	overlay := slices.ContainsFunc(c.VPCs, func(v VPC) bool {
		return slices.ContainsFunc(v.Attachments, func(a Attachment) bool { return a.Port == n.Port && a.Type != Routed })
	})
	if _, ok := c.ports[n.Port]; ok && !overlay {
		c.add(path+".port", "neighbour %s: no VPC has an overlay attachment on port %s, and that is what it tells of", n.Name, n.Port)
	}
	for _, policy := range []struct{ key, name string }{{".import", n.Import}, {".export", n.Export}} {
		if policy.name != "" {
			c.add(path+policy.key, "neighbour %s: policies are not for evpn: what it may tell is bounded by the attachments' prefixes and allowedPrefixes, and it is told what peers have", n.Name)
		}
	}
	for i := range c.BGP.Neighbours {
		if other := &c.BGP.Neighbours[i]; other.Port == n.Port && !other.EVPN {
			c.add(path+".evpn", "neighbour %s on port %s is without evpn: all neighbours of a port are routers, or all speak EVPN", other.Name, n.Port)
			return
		}
	}
}

// checkFabric checks what an attachment allows a fabric, and that the fabric's routes have but one place to lead to.
func (c *checker) checkFabric(vpc, j int, path string) {
	a := &c.VPCs[vpc].Attachments[j]
	seen := map[netip.Prefix]bool{}
	for i, p := range a.AllowedPrefixes {
		at := element(path+".allowedPrefixes", i)
		if c.unicastPrefix(at, p) && seen[p] {
			c.add(at, "%s is listed already", p)
		}
		seen[p] = true
	}
	if len(a.AllowedPrefixes) > 0 && !c.InFabric(a) {
		c.add(path+".allowedPrefixes", "nobody can announce these: there is no neighbour with evpn on port %s that this overlay is on", a.Port)
	}
	if !c.InFabric(a) {
		return
	}
	if a.Options != "" {
		c.add(path+".options", "Mizar's nodes speak no EVPN: remove it, or the neighbours with evpn on port %s", a.Port)
	}
	for i := range j {
		if other := &c.VPCs[vpc].Attachments[i]; other.Port == a.Port && other.Type != Routed {
			c.add(path, "port %s has an overlay of this VPC already, %s: with evpn on that port it can have one", a.Port, c.ref(element(element("vpcs", vpc)+".attachments", i)))
			return
		}
	}
}
