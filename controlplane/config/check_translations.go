package config

import (
	"maps"
	"net/netip"
	"slices"
)

// sided is one side of a translation.
type sided struct {
	netip.Prefix
	path string
}

// checkTranslations comes after the peers: what a site is known by must be
// nobody else's.
func (c *checker) checkTranslations() {
	for i := range c.VPCs {
		var seen []sided
		for j, t := range c.VPCs[i].Translate {
			path := element(element("vpcs", i)+".translate", j)
			prefix := c.translated(sided{t.Prefix, path + ".prefix"}, &seen)
			as := c.translated(sided{t.As, path + ".as"}, &seen)
			if prefix && as {
				c.checkTranslation(i, path, t)
			}
		}
	}
}

// translated checks one side of a translation, and that it overlaps none of
// those that the VPC has already.
func (c *checker) translated(s sided, seen *[]sided) bool {
	if !s.IsValid() && !c.has(s.path) || !c.unicastPrefix(s.path, s.Prefix) {
		return false // if it is missing, that is reported as required
	}
	for _, other := range *seen {
		if s.Overlaps(other.Prefix) {
			c.add(s.path, "%s overlaps %s, %s: translations must not", s.Prefix, other.Prefix, c.ref(other.path))
			return false
		}
	}
	*seen = append(*seen, s)
	return true
}

func (c *checker) checkTranslation(vpc int, path string, t Translation) {
	switch {
	case t.Prefix.Addr().Is4() != t.As.Addr().Is4():
		c.add(path+".as", "%s is %s and %s is %s: a translation stays in one family", t.As, family(t.As.Addr()), t.Prefix, family(t.Prefix.Addr()))
		return
	case t.Prefix.Bits() != t.As.Bits():
		c.add(path+".as", "%s and %s differ in length: the host part of an address stays as it is", t.As, t.Prefix)
		return
	}
	claims := c.claims[vpc]
	if u, ok := claims[t.Prefix]; ok && u.peer >= 0 {
		c.add(u.path, "%s is this site's, %s: list what the peer's site is known by", t.Prefix, c.ref(path+".prefix"))
	}
	// Somebody else's shorter prefix around it is no conflict: the longest wins.
	inside := func(p netip.Prefix) bool { return p.Bits() >= t.As.Bits() && t.As.Contains(p.Addr()) }
	for _, p := range slices.SortedFunc(maps.Keys(claims), netip.Prefix.Compare) {
		switch u := claims[p]; {
		case !inside(p):
		case u.peer < 0:
			c.add(path+".as", "%s at this site lies in it, %s: choose a prefix that nobody has", p, c.ref(u.path))
		default:
			c.add(u.path, "%s is what the other sites know this one by, %s: it cannot be behind a peer", p, c.ref(path+".as"))
		}
	}
}
