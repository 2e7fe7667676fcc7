package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Policy is a list of rules of which the first that matches a route decides. A route that no rule matches is refused.
type Policy struct {
	Name  string
	Rules []Rule
}

// Rule accepts or refuses the routes that satisfy all of its conditions; one without conditions matches every route.
type Rule struct {
	// Prefixes: the route's prefix is one of these.
	Prefixes []PrefixRange
	// Communities: the route has all of these.
	Communities []Community
	Refuse      bool

	// What accepted routes get; nil and zero leave a route as it is.
	LocalPref *uint32
	MED       *uint32
	// Prepend our AS number, or on import the neighbour's, so many times more.
	Prepend        int
	AddCommunities []Community
}

// PrefixRange matches the prefixes inside Prefix whose length is Min to Max.
type PrefixRange struct {
	Prefix   netip.Prefix
	Min, Max int
}

func (r PrefixRange) matches(p netip.Prefix) bool {
	return p.Bits() >= r.Min && p.Bits() <= r.Max && p.Bits() >= r.Prefix.Bits() && r.Prefix.Contains(p.Addr())
}

// Community is a community (RFC 1997), or a large one (RFC 8092), which has three parts.
type Community struct {
	Large bool
	Parts [3]uint32 // a community that is not large has the first two, of 16 bits each
}

// GracefulShutdown (RFC 8326) says that a route is about to go.
var GracefulShutdown = Community{Parts: [3]uint32{65535, 0}}

func (c Community) String() string {
	s := fmt.Sprintf("%d:%d", c.Parts[0], c.Parts[1])
	if c.Large {
		s += ":" + strconv.FormatUint(uint64(c.Parts[2]), 10)
	}
	return s
}

// ParseCommunity reads 65001:100 or 65001:1:2.
func ParseCommunity(text string) (Community, error) {
	parts, bits := strings.Split(text, ":"), 16
	var c Community
	switch len(parts) {
	case 2:
	case 3:
		c.Large, bits = true, 32
	default:
		return c, errors.New("must be two numbers such as 65001:100, or three of a large community, 65001:1:2")
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return Community{}, fmt.Errorf("has part %q: must be a number of %d bits", p, bits)
		}
		c.Parts[i] = uint32(n)
	}
	return c, nil
}

// matches returns whether the rule's conditions hold for a route.
func (r *Rule) matches(p netip.Prefix, a *Attributes) bool {
	if len(r.Prefixes) > 0 && !slices.ContainsFunc(r.Prefixes, func(m PrefixRange) bool { return m.matches(p) }) {
		return false
	}
	for _, c := range r.Communities {
		if !slices.Contains(a.Communities, c) {
			return false
		}
	}
	return true
}

// apply returns the attributes that a route has after the policy, nil if it is refused, and why. It changes nothing
// that a points to.
func (p *Policy) apply(prefix netip.Prefix, a *Attributes, asn uint32) (*Attributes, Verdict) {
	r, v := p.decide(prefix, a)
	if r == nil {
		return nil, v
	}
	return r.change(a, asn), v
}

// decide returns the rule that accepts a route, nil if it is refused, and why.
func (p *Policy) decide(prefix netip.Prefix, a *Attributes) (*Rule, Verdict) {
	if p == nil {
		return nil, Verdict{Reason: NoPolicy}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		switch {
		case !r.matches(prefix, a):
		case r.Refuse:
			return nil, Verdict{Reason: RuleRefuses, Whose: p.Name, Rule: i + 1}
		default:
			return r, Verdict{Reason: RuleAccepts, Whose: p.Name, Rule: i + 1}
		}
	}
	return nil, Verdict{Reason: NoRule, Whose: p.Name}
}

func (r *Rule) change(a *Attributes, asn uint32) *Attributes {
	if r.LocalPref == nil && r.MED == nil && r.Prepend == 0 && len(r.AddCommunities) == 0 {
		return a
	}
	out := *a
	if r.LocalPref != nil {
		out.LocalPref = *r.LocalPref
	}
	if r.MED != nil {
		out.MED, out.HasMED = *r.MED, true
	}
	if r.Prepend > 0 {
		out.Path = slices.Concat(slices.Repeat([]uint32{asn}, r.Prepend), a.Path)
		out.PathLen = a.PathLen + r.Prepend
	}
	for _, c := range r.AddCommunities {
		if !slices.Contains(out.Communities, c) {
			out.Communities = append(slices.Clip(out.Communities), c)
		}
	}
	return &out
}
