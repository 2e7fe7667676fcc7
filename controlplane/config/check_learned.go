package config

import (
	"net/netip"
	"time"
)

// checkLearned checks what an overlay attachment says of hosts that are found out.
func (c *checker) checkLearned(vpc int, a *Attachment, path string) {
	if len(a.Prefixes) == 0 {
		switch {
		case len(a.AllowedPrefixes) > 0: // by EVPN
		case len(a.VTEPs) > 0:
			c.add(path+".vteps", "tells where to look for hosts: give this attachment the prefixes that they are in")
		case a.Learn != "":
			c.add(path+".learn", "tells how hosts are found: give this attachment the prefixes that they are in")
		case len(a.Hosts)+len(a.Subnets) == 0:
			c.add(path+".prefixes", "is required: list the local prefixes, or under hosts who is behind which vtep")
		}
		return
	}
	missing := map[string]bool{}
	for i, p := range a.Prefixes {
		at := element(path+".prefixes", i)
		c.prefix(vpc, at, p, -1)
		if f := family(p.Addr()); p.IsValid() && !missing[f] && !c.gatewayOf(vpc, p.Addr()) {
			missing[f] = true
			c.add(at, "needs an %s address in the VPC's gatewayAddresses, from which hosts are asked for", f)
		}
	}
	seen := map[netip.Addr]int{}
	for i, v := range a.VTEPs {
		at := element(path+".vteps", i)
		if !c.unicast(at, v) {
			continue
		}
		if first, ok := seen[v]; ok {
			c.add(at, "%s is listed already, %s: remove one", v, c.ref(element(path+".vteps", first)))
		} else {
			seen[v] = i
		}
	}
}

// gatewayOf says whether the VPC has a gateway address of the same family as a.
func (c *checker) gatewayOf(vpc int, a netip.Addr) bool {
	for _, g := range c.VPCs[vpc].GatewayAddresses {
		if g.Is4() == a.Is4() {
			return true
		}
	}
	return false
}

// Bounds of hostTimeout, which are our choice: below, the questions are a load;
// above, nobody believes what is so old.
const (
	minHostTimeout = time.Second
	maxHostTimeout = 24 * time.Hour
)

func (c *checker) checkHostTimeout(path string, d time.Duration) {
	if d < minHostTimeout || d > maxHostTimeout {
		c.add(path, "must be %s to %s, not %s", minHostTimeout, maxHostTimeout, d)
	}
}
