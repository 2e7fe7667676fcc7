package config

import (
	"net/netip"
	"slices"
)

// checkOptions checks what an attachment says of Geneve options, and of what
// goes with them.
func (c *checker) checkOptions(vpc int, a *Attachment, path string) {
	mizar := a.Options != "" // a word that is not known is reported already
	switch {
	case mizar && a.Type != Geneve:
		c.add(path+".options", "are Geneve's: remove them from this %s attachment", a.Type)
	case mizar && len(a.Prefixes) > 0:
		c.add(path+".prefixes", "are looked for by ARP, which Mizar's bouncers do not pass on: put them under subnets, with their bouncers or dividers")
	case mizar:
	case a.PodLabel != 0 || c.has(path+".podLabel"):
		c.add(path+".podLabel", "is for Mizar: give this attachment options: mizar")
	case a.NamespaceLabel != 0 || c.has(path+".namespaceLabel"):
		c.add(path+".namespaceLabel", "is for Mizar: give this attachment options: mizar")
	case len(a.Subnets) > 0 || c.has(path+".subnets"):
		c.add(path+".subnets", "are for Mizar: give this attachment options: mizar, or hosts in their place")
		return
	}
	for i := range a.Subnets {
		c.checkSubnet(vpc, &a.Subnets[i], element(path+".subnets", i))
	}
	for i, h := range a.Hosts {
		if mizar && h.VTEP.Is6() {
			c.add(element(path+".hosts", i)+".vtep", "%s is IPv6: Mizar's nodes speak IPv4 with each other", h.VTEP)
		}
	}
}

func (c *checker) checkSubnet(vpc int, s *Subnet, path string) {
	for i, p := range s.Prefixes {
		c.prefix(vpc, element(path+".prefixes", i), p, -1)
	}
	switch {
	case len(s.Bouncers) > 0 && len(s.Dividers) > 0:
		c.add(path+".dividers", "are for subnets whose bouncers are not known: give one of the two")
	case len(s.Bouncers)+len(s.Dividers) == 0:
		c.add(path+".bouncers", "is required, or dividers: say who delivers into the subnet")
	}
	c.checkNodes(path+".bouncers", s.Bouncers)
	c.checkNodes(path+".dividers", s.Dividers)
}

// checkNodes checks a list of Mizar's nodes.
func (c *checker) checkNodes(list string, nodes []netip.Addr) {
	for i, v := range nodes {
		path := element(list, i)
		if !c.unicast(path, v) {
			continue
		}
		if v.Is6() {
			c.add(path, "%s is IPv6: Mizar's nodes speak IPv4 with each other", v)
		} else if first := slices.Index(nodes, v); first < i {
			c.add(path, "%s is listed already, %s: remove one", v, c.ref(element(list, first)))
		}
	}
}
