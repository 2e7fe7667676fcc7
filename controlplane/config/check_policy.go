package config

import (
	"net/netip"
	"slices"
)

// maxACLEntries is what the relay takes for one VPC.
const maxACLEntries = 1 << 16

// checkACL checks the access list of a VPC.
func (c *checker) checkACL(v *VPC, path string) {
	list := path + ".acl.rules"
	seen, total := map[string]string{}, 0
	for i := range v.ACL.Rules {
		r, p := &v.ACL.Rules[i], element(list, i)
		c.checkRule(r, p)
		text := r.Name + " " + string(r.Action) + " " + r.Match()
		if first, ok := seen[text]; ok && !c.anyBad(p) {
			c.add(p, "is the same rule as %s: remove one", c.ref(first))
		}
		seen[text] = p
		n := 1
		for _, alternatives := range []int{len(r.Source), len(r.Destination), len(r.SourcePorts), len(r.DestinationPorts), len(r.ICMPTypes)} {
			n = min(n*max(alternatives, 1), maxACLEntries+1)
		}
		if total += n; total > maxACLEntries {
			c.add(p, "makes more than %d combinations of prefixes and ranges with the rules before it: use fewer, or shorter prefixes", maxACLEntries)
			return
		}
	}
}

func (c *checker) checkRule(r *ACLRule, path string) {
	if r.Name != "" {
		c.name(path+".name", r.Name)
	}
	ports := r.Protocol == TCP || r.Protocol == UDP
	needs := func(key, what string, given, ok bool) {
		if given && !ok {
			c.add(path+"."+key, "needs the protocol %s", what)
		}
	}
	needs("sourcePorts", "tcp or udp", len(r.SourcePorts) > 0, ports)
	needs("destinationPorts", "tcp or udp", len(r.DestinationPorts) > 0, ports)
	needs("icmpTypes", "icmp or icmpv6", len(r.ICMPTypes) > 0, r.Protocol == ICMP || r.Protocol == ICMPv6)
	needs("established", "tcp", r.Established, r.Protocol == TCP)
	good := c.rulePrefixes(path+".source", r.Source)
	good = c.rulePrefixes(path+".destination", r.Destination) && good
	if !good {
		return
	}
	four := families(r.Source, true) && families(r.Destination, true)
	six := families(r.Source, false) && families(r.Destination, false)
	switch {
	case !four && !six:
		c.add(path+".destination", "has no prefix of a family that source has one of: the rule matches nothing")
	case r.Protocol == ICMP && !four:
		c.add(path+".protocol", "icmp is IPv4's: use icmpv6 with IPv6 prefixes")
	case r.Protocol == ICMPv6 && !six:
		c.add(path+".protocol", "icmpv6 is IPv6's: use icmp with IPv4 prefixes")
	}
}

// families says whether a list of prefixes can hold an address of a family.
func families(prefixes []netip.Prefix, four bool) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == four })
}

// rulePrefixes checks prefixes that nobody claims.
func (c *checker) rulePrefixes(path string, prefixes []netip.Prefix) bool {
	good := true
	for i, p := range prefixes {
		at := element(path, i)
		switch {
		case !p.IsValid():
			c.add(at, "is not a prefix") // from Go; a file's is reported already
		case p.Addr().Is4In6():
			c.add(at, "%s is written as IPv6: write it as an IPv4 prefix", p)
		case p != p.Masked():
			c.add(at, "%s has host bits set: write %s, or %s for this one address", p, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		default:
			continue
		}
		good = false
	}
	return good
}
