package routing

import (
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Attributes are what a route comes with, as far as we choose by it or show it. They never change once made.
type Attributes struct {
	NextHop     netip.Addr
	Path        []uint32 // AS numbers, the neighbour's first; those of sets too
	PathLen     int      // as the choice of the best counts it: a set is one (RFC 4271 section 9.1.2.2)
	Origin      uint8    // 0 IGP, 1 EGP, 2 incomplete
	MED         uint32
	HasMED      bool
	LocalPref   uint32
	Communities []Community
	EVPN        *EVPNAttributes // of an EVPN route
}

// defaultLocalPref of routes that come without one, as everywhere.
const defaultLocalPref = 100

// firstAS is the neighbouring AS whose MEDs can be compared; 0 for a route of our own AS.
func (a *Attributes) firstAS() uint32 {
	if len(a.Path) == 0 {
		return 0
	}
	return a.Path[0]
}

func (a *Attributes) has(c Community) bool {
	for _, have := range a.Communities {
		if have == c {
			return true
		}
	}
	return false
}

// readAttributes takes from GoBGP what we need. It says false for a route without a next hop, which is none.
func readAttributes(attrs []bgp.PathAttributeInterface, internal bool) (*Attributes, bool) {
	a := &Attributes{LocalPref: defaultLocalPref}
	for _, attr := range attrs {
		switch v := attr.(type) {
		case *bgp.PathAttributeNextHop:
			a.NextHop = v.Value
		case *bgp.PathAttributeMpReachNLRI:
			a.NextHop = v.Nexthop
			if v.LinkLocalNexthop.IsValid() && !a.NextHop.IsValid() || a.NextHop.IsUnspecified() && v.LinkLocalNexthop.IsValid() {
				a.NextHop = v.LinkLocalNexthop
			}
		case *bgp.PathAttributeAsPath:
			for _, segment := range v.Value {
				a.Path = append(a.Path, segment.GetAS()...)
				a.PathLen += segment.ASLen()
			}
		case *bgp.PathAttributeOrigin:
			a.Origin = v.Value
		case *bgp.PathAttributeMultiExitDisc:
			a.MED, a.HasMED = v.Value, true
		case *bgp.PathAttributeLocalPref:
			if internal { // from another AS it means nothing (RFC 4271 section 5.1.5)
				a.LocalPref = v.Value
			}
		case *bgp.PathAttributeCommunities:
			for _, c := range v.Value {
				a.Communities = append(a.Communities, Community{Parts: [3]uint32{c >> 16, c & 0xffff}})
			}
		case *bgp.PathAttributeExtendedCommunities:
			a.EVPN = readTargets(v.Value)
			a.EVPN.readFabric(v.Value)
		case *bgp.PathAttributeLargeCommunities:
			for _, c := range v.Values {
				a.Communities = append(a.Communities, Community{Large: true, Parts: [3]uint32{c.ASN, c.LocalData1, c.LocalData2}})
			}
		}
	}
	a.NextHop = a.NextHop.Unmap().WithZone("")
	return a, a.NextHop.IsValid() && !a.NextHop.IsUnspecified()
}

// family is an address family that sessions carry, and how its routes are read.
type family struct {
	id bgp.Family
	v6 bool
}

// families of sessions with site routers.
var families = []family{{bgp.RF_IPv4_UC, false}, {bgp.RF_IPv6_UC, true}}

// families of the port's sessions.
func (p *Port) families() []bgp.Family {
	if p.EVPN || len(p.Fabric) > 0 {
		return []bgp.Family{bgp.RF_EVPN}
	}
	return []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC}
}

// keyOf tells a route from all others of its session; false for what is no route to a prefix.
func keyOf(nlri bgp.NLRI, id uint32) (pathKey, bool) {
	switch n := nlri.(type) {
	case *bgp.IPAddrPrefix:
		return pathKey{n.Prefix.Masked(), pathID{add: id}}, n.Prefix.IsValid()
	case *bgp.EVPNNLRI:
		return evpnKey(n, id)
	}
	return pathKey{}, false
}
