package routing

import (
	"slices"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// seen remembers what the last route of a session had: a router tells hundreds of prefixes in a row with the same
// attributes, which then share them, as received and after policy.
type seen struct {
	raw      []bgp.PathAttributeInterface
	internal bool
	attrs    *Attributes

	rule          *Rule
	before, after *Attributes
}

// read is readAttributes; nil for a route without a next hop.
func (s *seen) read(raw []bgp.PathAttributeInterface, nlri bgp.NLRI, internal bool) *Attributes {
	_, evpn := nlri.(*bgp.EVPNNLRI)                                                  // has more of them in itself
	if !evpn && s.internal == internal && s.raw != nil && slices.Equal(s.raw, raw) { // the very same ones
		return s.attrs
	}
	attrs, ok := readAttributes(raw, internal)
	if ok && evpn {
		attrs.readNLRI(nlri)
	}
	switch {
	case !ok:
		attrs = nil
	case s.attrs != nil && s.attrs.equal(attrs): // IPv6 prefixes have an attribute each
		attrs = s.attrs
	}
	s.raw, s.internal, s.attrs = raw, internal, attrs
	return attrs
}

func (a *Attributes) equal(b *Attributes) bool {
	return a.NextHop == b.NextHop && a.PathLen == b.PathLen && a.Origin == b.Origin && a.MED == b.MED && a.HasMED == b.HasMED &&
		a.LocalPref == b.LocalPref && slices.Equal(a.Path, b.Path) && slices.Equal(a.Communities, b.Communities) && a.EVPN.equal(b.EVPN)
}

// changed is what a rule makes of attributes.
func (s *seen) changed(r *Rule, a *Attributes, asn uint32) *Attributes {
	if s.rule != r || s.before != a {
		s.rule, s.before, s.after = r, a, lowest(r.change(a, asn))
	}
	return s.after
}

// lowest gives a route that is about to go the lowest preference (RFC 8326 section 4.2).
func lowest(a *Attributes) *Attributes {
	if !a.has(GracefulShutdown) || a.LocalPref == 0 {
		return a
	}
	out := *a
	out.LocalPref = 0
	return &out
}
