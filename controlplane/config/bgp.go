package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// BGP is what this gateway tells the site's routers, and what it learns from them.
type BGP struct {
	// This gateway's AS number. Required when there are neighbours.
	ASN uint32 `yaml:"asn,omitempty" jsonschema:"minimum=1,maximum=4294967294,example=65001"`

	// This gateway's BGP identifier, an IPv4 address that no other router has. By
	// default the IPv4 address of `wireguard.tunnelAddresses`.
	RouterID RouterID `yaml:"routerID,omitempty" jsonschema:"example=10.255.0.1"`

	// Most next hops of one prefix that share its traffic, when routers are equally
	// good.
	MaxPaths int `yaml:"maxPaths" jsonschema:"minimum=1,maximum=64,default=8"`

	// Lists of prefixes, for policies.
	PrefixLists []PrefixList `yaml:"prefixLists,omitempty"`

	// What passes between us and neighbours.
	Policies []BGPPolicy `yaml:"policies,omitempty"`

	// The routers that we speak with.
	Neighbours []BGPNeighbour `yaml:"neighbours,omitempty"`

	// What gateways tell each other: the peers with `bgp.enabled`.
	EVPN EVPN `yaml:"evpn"`
}

// PrefixList is a set of prefixes.
type PrefixList struct {
	// Name of the list.
	Name string `yaml:"name" jsonschema:"required,example=site"`

	// What is in the list, of both families.
	Prefixes []PrefixRange `yaml:"prefixes" jsonschema:"required,minItems=1"`
}

// PrefixRange matches a prefix, or with `ge` or `le` prefixes inside it.
type PrefixRange struct {
	// The prefix.
	Prefix netip.Prefix `yaml:"prefix" jsonschema:"required,example=10.1.0.0/16"`

	// Matches what is inside the prefix and at least this long. Up to `le`, or up to
	// single addresses.
	GE int `yaml:"ge,omitempty" jsonschema:"minimum=1,maximum=128"`

	// Matches what is inside the prefix and at most this long. From `ge`, or from the
	// length of the prefix itself.
	LE int `yaml:"le,omitempty" jsonschema:"minimum=1,maximum=128"`
}

// BGPPolicy is a list of rules of which the first that matches a route decides. What
// no rule matches does not pass.
type BGPPolicy struct {
	// Name of the policy.
	Name string `yaml:"name" jsonschema:"required,example=from-site"`

	// The rules, in order.
	Rules []BGPRule `yaml:"rules" jsonschema:"required,minItems=1"`
}

// BGPRule is for the routes that satisfy all of its conditions; without one, for all.
type BGPRule struct {
	// What becomes of the route: `accept` or `refuse`.
	Action BGPAction `yaml:"action" jsonschema:"enum=accept,enum=refuse,default=accept"`

	// Condition: its prefix is in one of these lists.
	PrefixLists []string `yaml:"prefixLists,omitempty"`

	// Condition: it has all of these communities.
	Communities []Community `yaml:"communities,omitempty" jsonschema:"example=65001:100"`

	// The local preference that it gets: the highest wins; 100 without.
	LocalPref uint32 `yaml:"localPref,omitempty" jsonschema:"minimum=1,maximum=4294967295"`

	// The metric (MED) that it gets: the lowest wins among routes of one AS.
	MED uint32 `yaml:"med,omitempty" jsonschema:"minimum=1,maximum=4294967295"`

	// How many times more the AS number of who announces it is in its AS path: ours on
	// export, the neighbour's on import.
	Prepend int `yaml:"prepend,omitempty" jsonschema:"minimum=1,maximum=16"`

	// Communities that it gets.
	AddCommunities []Community `yaml:"addCommunities,omitempty"`
}

// BGPAction is what becomes of a route.
type BGPAction string

// Values of bgp.policies[].rules[].action.
const (
	Accept BGPAction = "accept"
	Refuse BGPAction = "refuse"
)

// BGPNeighbour is a router behind a port with a `routed` attachment; its routes are
// those of that attachment's VPC. Or it is one of an overlay's fabric (`evpn`).
type BGPNeighbour struct {
	// Name of the neighbour, for people.
	Name string `yaml:"name" jsonschema:"required,example=tor-1"`

	// The port that the router is behind. The session runs over the interface's own
	// address.
	Port string `yaml:"port" jsonschema:"required,example=site0"`

	// Address of the router, on the link of the port. A prefix lets any router of these
	// addresses call; none of them is called.
	Address RouterAddress `yaml:"address" jsonschema:"required,example=192.0.2.1"`

	// The router's AS number; ours for iBGP.
	ASN uint32 `yaml:"asn,omitempty" jsonschema:"minimum=1,maximum=4294967294,example=65101"`

	// In place of `asn`, when `address` is a prefix: AS numbers that the routers may have, as numbers or ranges.
	ASNs []ASNRange `yaml:"asns,omitempty" jsonschema:"example=65100-65199"`

	// The neighbour is a leaf, spine or route reflector of the VXLAN or Geneve fabric
	// behind the port and speaks EVPN: it tells where hosts are (type 2), which VTEPs
	// there are (type 3) and which prefixes are behind which (type 5), in all VPCs that
	// have an overlay attachment on the port. What it may tell is bounded by the
	// attachment: its `prefixes` for hosts, `allowedPrefixes` too for prefixes, and
	// `vteps`, `hosts` and `trustedVTEPs` for next hops. It is told of us as a VTEP, of
	// `gatewayAddresses`, and of the prefixes that peers have.
	EVPN bool `yaml:"evpn,omitempty"`

	// The policy for what the router announces. Without one nothing passes.
	Import string `yaml:"import,omitempty"`

	// The policy for what we announce: the prefixes that peers have in the VPC. Without
	// one nothing passes.
	Export string `yaml:"export,omitempty"`

	// File with the password of TCP MD5 (RFC 2385): its first line. Absolute path; only
	// its owner may read it (mode 0600).
	PasswordFile string `yaml:"passwordFile,omitempty"`

	// Take only packets that crossed no router on their way (TTL 255, RFC 5082). The
	// router must be set so too.
	TTLSecurity bool `yaml:"ttlSecurity,omitempty"`

	// Wait for the router to call.
	Passive bool `yaml:"passive,omitempty"`

	// How long a silent router is believed to live, in whole seconds. The shorter of
	// both sides holds; `bfd` is for less.
	HoldTime time.Duration `yaml:"holdTime" jsonschema:"default=90s"`

	// How long after a failed call the next one follows, in whole seconds.
	ConnectRetry time.Duration `yaml:"connectRetry" jsonschema:"default=10s"`

	// Most prefixes of each family that the router may announce; with more the session
	// ends and stays down. 0 sets no limit.
	MaxPrefixes uint32 `yaml:"maxPrefixes" jsonschema:"minimum=0,maximum=10000000,default=100000"`

	// How long the routes of a router that restarts are kept (graceful restart, RFC
	// 4724), in whole seconds. 0s does without.
	RestartTime time.Duration `yaml:"restartTime" jsonschema:"default=120s"`

	// How long after `restartTime` they are kept on as a last resort (long-lived
	// graceful restart, RFC 9494), in whole seconds. 0s does without.
	LongLivedTime time.Duration `yaml:"longLivedTime" jsonschema:"default=0s,example=1h"`

	// Watches the router by BFD (RFC 5880); a dead one is noticed after `interval` times
	// `multiplier`.
	BFD BFD `yaml:"bfd"`
}

// BFD is how a router's life is watched.
type BFD struct {
	// How far apart packets are, in both directions: 10ms to 10s. The router must have
	// the same, or both use the longer one. 0s switches BFD off.
	Interval time.Duration `yaml:"interval" jsonschema:"default=0s,example=300ms"`

	// After so many intervals without a packet the router is dead.
	Multiplier int `yaml:"multiplier" jsonschema:"minimum=2,maximum=50,default=3"`
}

// RouterID is a BGP identifier; the zero value means none.
type RouterID struct{ netip.Addr }

// IsZero reports whether there is none.
func (r RouterID) IsZero() bool { return !r.IsValid() }

// UnmarshalText reads an IPv4 address.
func (r *RouterID) UnmarshalText(text []byte) error {
	a, err := netip.ParseAddr(string(text))
	if err != nil || !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("%q is not an IPv4 address that a router can have", text)
	}
	r.Addr = a
	return nil
}

// RouterAddress is where a router is: one address, or a prefix of addresses.
type RouterAddress struct{ netip.Prefix }

// One returns the only address; false: it is a prefix of several.
func (r RouterAddress) One() (netip.Addr, bool) { return r.Addr(), r.IsSingleIP() }

// IsZero reports whether there is none.
func (r RouterAddress) IsZero() bool { return !r.IsValid() }

// String returns 192.0.2.1 or 192.0.2.0/24.
func (r RouterAddress) String() string {
	if a, ok := r.One(); ok {
		return a.String()
	}
	return r.Prefix.String()
}

// MarshalText is String for encoders.
func (r RouterAddress) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what String returns.
func (r *RouterAddress) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil && a.Zone() == "" {
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is not an address such as 192.0.2.1, or a prefix such as 192.0.2.0/24", text)
	}
	r.Prefix = p
	return nil
}

// Community is a community (65001:100), or a large one (65001:1:2).
type Community struct {
	Large bool
	Parts [3]uint32
}

// String returns the numbers with colons between.
func (c Community) String() string {
	s := fmt.Sprintf("%d:%d", c.Parts[0], c.Parts[1])
	if c.Large {
		s += fmt.Sprintf(":%d", c.Parts[2])
	}
	return s
}

// MarshalText is String for encoders.
func (c Community) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what String returns.
func (c *Community) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return fmt.Errorf("%q is not a community such as 65001:100, or a large one such as 65001:1:2", text)
	}
	read := Community{Large: len(parts) == 3}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return fmt.Errorf("%q: %q is not a number of %d bits", text, part, bits)
		}
		read.Parts[i] = uint32(n)
	}
	*c = read
	return nil
}

// ASNRange is one AS number or several in a row.
type ASNRange struct{ First, Last uint32 }

// String returns 65100 or 65100-65199.
func (r ASNRange) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText is String for encoders.
func (r ASNRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what String returns.
func (r *ASNRange) UnmarshalText(text []byte) error {
	first, last, several := strings.Cut(string(text), "-")
	if !several {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 32)
	b, err2 := strconv.ParseUint(last, 10, 32)
	if err != nil || err2 != nil || a == 0 {
		return errors.New("must be an AS number such as 65101 or a range such as 65100-65199")
	}
	if a > b {
		return fmt.Errorf("%s ends before it begins: write %d-%d", text, b, a)
	}
	r.First, r.Last = uint32(a), uint32(b)
	return nil
}
