package config

import (
	"net/netip"
	"slices"
	"time"
)

// Limits of BGP's times: 16-bit seconds (RFC 4271 section 4.2), the 12 bits of a restart time (RFC 4724 section 3), and the
// 24 bits of a long-lived one (RFC 9494 section 4.1). A hold time under 3 s is against the first.
const (
	minHold      = 3 * time.Second
	maxHold      = 65535 * time.Second
	maxRestart   = 4095 * time.Second
	maxLongLived = (1<<24 - 1) * time.Second
	minBFD       = 10 * time.Millisecond
	maxBFD       = 10 * time.Second
)

// hasNeighbour says whether routes are learned behind a port.
func (c *checker) hasNeighbour(port string) bool {
	return slices.ContainsFunc(c.BGP.Neighbours, func(n BGPNeighbour) bool { return n.Port == port && !n.EVPN })
}

func (c *checker) checkBGP() {
	b := &c.BGP
	lists := c.names("bgp.prefixLists", len(b.PrefixLists), func(i int) string { return b.PrefixLists[i].Name })
	for i := range b.PrefixLists {
		for j := range b.PrefixLists[i].Prefixes {
			c.checkPrefixRange(element(element("bgp.prefixLists", i)+".prefixes", j), &b.PrefixLists[i].Prefixes[j])
		}
	}
	policies := c.names("bgp.policies", len(b.Policies), func(i int) string { return b.Policies[i].Name })
	for i := range b.Policies {
		for j := range b.Policies[i].Rules {
			c.checkBGPRule(element(element("bgp.policies", i)+".rules", j), &b.Policies[i].Rules[j], lists)
		}
	}
	c.names("bgp.neighbours", len(b.Neighbours), func(i int) string { return b.Neighbours[i].Name })
	if len(b.Neighbours) > 0 {
		c.checkSpeaker()
	}
	type place struct {
		port string
		addr netip.Prefix
	}
	places := map[place]string{}
	for i := range b.Neighbours {
		n, path := &b.Neighbours[i], element("bgp.neighbours", i)
		c.checkNeighbour(path, n, policies)
		at := n.Address.Prefix
		if first, ok := places[place{n.Port, at}]; ok && at.IsValid() {
			c.add(path, "neighbour %s has the address of %s", n.Name, c.ref(first))
		}
		places[place{n.Port, at}] = path
	}
}

// names checks the names of a list's items, and returns them.
func (c *checker) names(list string, n int, name func(int) string) []string {
	seen := map[string]string{}
	var all []string
	for i := range n {
		path := element(list, i) + ".name"
		if name(i) == "" || !c.name(path, name(i)) {
			continue
		}
		if first, ok := seen[name(i)]; ok {
			c.add(path, "%s is already %s: give this one another name", name(i), c.ref(first))
		}
		seen[name(i)] = element(list, i)
		all = append(all, name(i))
	}
	return all
}

func (c *checker) checkSpeaker() {
	if c.BGP.ASN == 0 && !c.has("bgp.asn") {
		c.add("bgp.asn", "is required: bgp.neighbours are told our AS number")
	}
	if c.BGP.RouterID.IsZero() && !c.has("bgp.routerID") {
		c.add("bgp.routerID", "is required: wireguard.tunnelAddresses has no IPv4 address to take")
	}
}

func (c *checker) checkPrefixRange(path string, r *PrefixRange) {
	p := r.Prefix
	if !p.IsValid() {
		return // reported already
	}
	if p != p.Masked() {
		c.add(path+".prefix", "%s has host bits set: write %s", p, p.Masked())
		return
	}
	for _, end := range []struct {
		key  string
		bits int
	}{{".ge", r.GE}, {".le", r.LE}} {
		if end.bits != 0 && (end.bits < p.Bits() || end.bits > p.Addr().BitLen()) {
			c.add(path+end.key, "must be %d to %d for %s, not %d", p.Bits(), p.Addr().BitLen(), p, end.bits)
		}
	}
	if r.GE > r.LE && r.LE != 0 {
		c.add(path+".le", "must not be less than ge (%d)", r.GE)
	}
}

func (c *checker) checkBGPRule(path string, r *BGPRule, lists []string) {
	for i, name := range r.PrefixLists {
		c.known(element(path+".prefixLists", i), "a prefix list", "bgp.prefixLists", name, lists, len(c.BGP.PrefixLists))
	}
	if r.Action == Refuse && (r.LocalPref != 0 || r.MED != 0 || r.Prepend != 0 || len(r.AddCommunities) > 0) {
		c.add(path, "a refused route gets nothing: remove localPref, med, prepend and addCommunities, or accept it")
	}
}

// known checks that a name is one of a list's.
func (c *checker) known(path, what, list, name string, names []string, n int) {
	if slices.Contains(names, name) || c.namesBad(list, n) {
		return
	}
	if s, ok := nearest(name, names); ok {
		c.add(path, "%q is not %s: did you mean %q?", name, what, s)
	} else {
		c.add(path, "%q is not %s: add it to %s", name, what, list)
	}
}

// checkNeighbour checks one neighbour; messages name it.
func (c *checker) checkNeighbour(path string, n *BGPNeighbour, policies []string) {
	c.checkPortName(path+".port", n.Port)
	if n.EVPN {
		c.checkFabricNeighbour(path, n)
	} else if _, ok := c.ports[n.Port]; ok && !c.isRouted(n.Port) {
		c.add(path+".port", "neighbour %s: no VPC has a routed attachment on port %s: its routes belong to that VPC", n.Name, n.Port)
	}
	c.checkNeighbourAddress(path, n)
	for _, policy := range []struct{ key, name string }{{".import", n.Import}, {".export", n.Export}} {
		if policy.name != "" {
			c.known(path+policy.key, "a policy", "bgp.policies", policy.name, policies, len(c.BGP.Policies))
		}
	}
	if n.PasswordFile != "" || c.has(path+".passwordFile") {
		c.absolutePath(path+".passwordFile", n.PasswordFile)
	}
	for _, d := range []struct {
		key         string
		value       time.Duration
		least, most time.Duration
		off         bool
	}{
		{".holdTime", n.HoldTime, minHold, maxHold, false},
		{".connectRetry", n.ConnectRetry, time.Second, maxHold, false},
		{".restartTime", n.RestartTime, time.Second, maxRestart, true},
		{".longLivedTime", n.LongLivedTime, time.Second, maxLongLived, true},
	} {
		if (d.value != 0 || !d.off) && (d.value < d.least || d.value > d.most || d.value%time.Second != 0) {
			c.add(path+d.key, "neighbour %s: must be %s to %s in whole seconds, not %s", n.Name, d.least, d.most, d.value)
		}
	}
	if n.LongLivedTime != 0 && n.RestartTime == 0 {
		c.add(path+".longLivedTime", "neighbour %s: needs restartTime, which it follows", n.Name)
	}
	if i := n.BFD.Interval; i != 0 && (i < minBFD || i > maxBFD || i%time.Millisecond != 0) {
		c.add(path+".bfd.interval", "neighbour %s: must be 0s, or %s to %s in whole milliseconds, not %s", n.Name, minBFD, maxBFD, i)
	}
}

func (c *checker) checkNeighbourAddress(path string, n *BGPNeighbour) {
	one, single := n.Address.One()
	switch {
	case !n.Address.IsValid(): // reported as required
	case single:
		c.unicast(path+".address", one)
	default:
		c.unicastPrefix(path+".address", n.Address.Prefix)
	}
	switch {
	case n.ASN != 0 && len(n.ASNs) > 0:
		c.add(path+".asns", "neighbour %s has an asn already: remove one of the two", n.Name)
	case len(n.ASNs) > 0 && single:
		c.add(path+".asns", "neighbour %s: the router at %s has one asn: give that, or a prefix of addresses", n.Name, one)
	case n.ASN == 0 && len(n.ASNs) == 0 && !c.has(path+".asn") && !c.has(path+".asns"):
		c.add(path+".asn", "neighbour %s: is required", n.Name)
	}
}

// isRouted says whether a port has a routed attachment.
func (c *checker) isRouted(port string) bool {
	for i := range c.VPCs {
		for j := range c.VPCs[i].Attachments {
			if a := &c.VPCs[i].Attachments[j]; a.Port == port && a.Type == Routed {
				return true
			}
		}
	}
	return false
}
