package config

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// EVPN is how gateways tell each other their prefixes, inside the tunnels.
type EVPN struct {
	// The AS number of the gateways among themselves: the same at all of them, as
	// route reflectors need it. By default `bgp.asn`.
	ASN uint32 `yaml:"asn,omitempty" jsonschema:"minimum=1,maximum=4294967294,example=65000"`

	// How long a gateway whose session is silent is believed to have its prefixes, in
	// whole seconds. One that answers no probes (`peers[].probe`) is left long before.
	HoldTime time.Duration `yaml:"holdTime" jsonschema:"default=30s"`

	// Most prefixes that one gateway may announce; with more the session ends and
	// stays down. 0 sets no limit.
	MaxPrefixes uint32 `yaml:"maxPrefixes" jsonschema:"minimum=0,maximum=10000000,default=100000"`
}

// PeerBGP is the BGP session with a peer.
type PeerBGP struct {
	// Whether this gateway and the peer tell each other their prefixes (BGP with EVPN
	// routes of type 5, between their tunnel addresses). Needs `wireguard.tun`, and
	// tunnel addresses. What the peer may announce is `vpcs[].allowedPrefixes`.
	Enabled bool `yaml:"enabled" jsonschema:"default=false"`

	// The peer's AS number. By default ours, `bgp.evpn.asn`.
	ASN uint32 `yaml:"asn,omitempty" jsonschema:"minimum=1,maximum=4294967294"`

	// In a mesh with route reflectors (RFC 4456), where not every gateway has a session
	// with every other: `client` if we tell this peer what the others announce,
	// `reflector` if it tells us. Next hops stay those of who announced it, and so does
	// what may be announced: `allowedPrefixes` of that peer. All have one AS number.
	Role BGPRole `yaml:"role,omitempty" jsonschema:"enum=client,enum=reflector"`
}

// BGPRole says which part a peer has in route reflection.
type BGPRole string

// Values of peers[].bgp.role.
const (
	RoleClient    BGPRole = "client"
	RoleReflector BGPRole = "reflector"
)

// VPCEVPN names a VPC in EVPN routes.
type VPCEVPN struct {
	// Makes the prefixes of this VPC at this gateway distinct from all others. By
	// default the router id followed by the lower 16 bits of the VNI.
	RouteDistinguisher VPNID `yaml:"routeDistinguisher,omitempty" jsonschema:"example=10.255.0.1:100"`

	// What our routes of this VPC are marked with. By default the AS number of the
	// gateways (its lower 16 bits) followed by our VNI.
	ExportTargets []VPNID `yaml:"exportTargets,omitempty" jsonschema:"maxItems=16,example=65000:100"`

	// Marks of peers' routes that belong to this VPC: any of them. By default whatever
	// ends in the VNI that the peer uses for the VPC (`peers[].vpcs[].vni`).
	ImportTargets []VPNID `yaml:"importTargets,omitempty" jsonschema:"maxItems=16,example=65000:100"`
}

// VPNID is a route distinguisher (RFC 4364 section 4.2) or route target (RFC 4360
// section 4): an administrator, which is an AS number or an IPv4 address, and a
// number of its choice. The zero value means none.
type VPNID struct {
	// Kind of the administrator: 0 an AS number of 16 bits, 1 an IPv4 address, 2 an AS
	// number of 32 bits.
	Kind  uint8
	Value [6]byte // administrator and number as they are on the wire
}

// IsZero reports whether there is none.
func (v VPNID) IsZero() bool { return v == VPNID{} }

// String returns 65000:100, 4200000000:100 or 10.255.0.1:100.
func (v VPNID) String() string {
	b := v.Value[:]
	switch v.Kind {
	case 0:
		return fmt.Sprintf("%d:%d", binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:]))
	case 1:
		return fmt.Sprintf("%s:%d", netip.AddrFrom4([4]byte(b[:4])), binary.BigEndian.Uint16(b[4:]))
	}
	return fmt.Sprintf("%d:%d", binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:]))
}

// MarshalText is String for encoders.
func (v VPNID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

var errVPNID = errors.New("must be an AS number or IPv4 address and a number, such as 65000:100 or 10.255.0.1:100; after an AS number above 65535, or an address, at most 65535")

// UnmarshalText reads what String returns.
func (v *VPNID) UnmarshalText(text []byte) error {
	admin, number, ok := strings.Cut(string(text), ":")
	if !ok {
		return errVPNID
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return errVPNID
	}
	var read VPNID
	a, err := netip.ParseAddr(admin)
	asn, notASN := strconv.ParseUint(admin, 10, 32)
	switch {
	case err == nil && a.Is4():
		read.Kind = 1
		copy(read.Value[:], a.AsSlice())
	case notASN != nil:
		return errVPNID
	case asn <= 65535:
		binary.BigEndian.PutUint16(read.Value[:], uint16(asn))
		binary.BigEndian.PutUint32(read.Value[2:], uint32(n))
		if read.IsZero() {
			return errors.New("0:0 is no number that anybody may use")
		}
		*v = read
		return nil
	default:
		read.Kind = 2
		binary.BigEndian.PutUint32(read.Value[:], uint32(asn))
	}
	if n > 65535 {
		return errVPNID
	}
	binary.BigEndian.PutUint16(read.Value[4:], uint16(n))
	*v = read
	return nil
}

// SpeaksEVPN says whether some peer has a BGP session with us.
func (c *Config) SpeaksEVPN() bool {
	for i := range c.Peers {
		if c.Peers[i].BGP.Enabled {
			return true
		}
	}
	return false
}

// TunnelPair returns our and a peer's tunnel address, IPv4 if both have one;
// false when they have no family in common.
func (c *Config) TunnelPair(p *Peer) (ours, theirs netip.Addr, ok bool) {
	for _, four := range []bool{true, false} {
		for _, a := range c.WireGuard.TunnelAddresses {
			for _, b := range p.TunnelAddresses {
				if a.Is4() == four && b.Is4() == four {
					return a, b, true
				}
			}
		}
	}
	return netip.Addr{}, netip.Addr{}, false
}

// Distinguisher is the VPC's own, or the derived one.
func (v *VPC) Distinguisher(routerID RouterID) VPNID {
	if !v.EVPN.RouteDistinguisher.IsZero() || !routerID.Is4() {
		return v.EVPN.RouteDistinguisher
	}
	id := VPNID{Kind: 1}
	copy(id.Value[:], routerID.AsSlice())
	binary.BigEndian.PutUint16(id.Value[4:], uint16(v.VNI))
	return id
}

// Targets are what our routes of the VPC are marked with: its own, or the derived one (RFC 8365 section 5.1.2.1 has more
// in the number than the VNI; what routers derive has not).
func (v *VPC) Targets(asn uint32) []VPNID {
	if len(v.EVPN.ExportTargets) > 0 {
		return v.EVPN.ExportTargets
	}
	var id VPNID
	binary.BigEndian.PutUint16(id.Value[:], uint16(asn))
	binary.BigEndian.PutUint32(id.Value[2:], v.VNI)
	return []VPNID{id}
}
