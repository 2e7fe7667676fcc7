package routing

import (
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/gaissmai/bart"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// A site's VXLAN or Geneve fabric tells its hosts and prefixes as EVPN routes, too (RFC 8365, 9135, 9136), but there a next
// hop is a VTEP: packets go into the overlay, to the MAC address that the route names. Type 2 is a host, type 5 a prefix
// behind a router (both are paths in the table of the VPC), and type 3 is a VTEP that has the VPC (in a table of its own).
// Who sends a route does not matter, it may be a route reflector. What counts is which VPC its marks name, whether its
// next hop may be a VTEP there, and whether the VPC's attachment may have the host or prefix.

// RouteKind tells routes apart that have the same prefix.
type RouteKind uint8

// The kinds of route.
const (
	PrefixRoute RouteKind = iota // EVPN's type 5, and what is not EVPN
	HostRoute                    // type 2 with an IP address
	VTEPRoute                    // type 3
)

// Tunnel is an encapsulation, as EVPN numbers them (RFC 8365 section 11, RFC 8926 section 8.2).
type Tunnel uint16

// The encapsulations of overlays.
const (
	VXLAN  = Tunnel(bgp.TUNNEL_TYPE_VXLAN)
	Geneve = Tunnel(bgp.TUNNEL_TYPE_GENEVE)
)

// FabricVPC is a VPC with an overlay behind a port.
type FabricVPC struct {
	VPC    string
	VNI    uint32
	Tunnel Tunnel
	// Targets are the marks of routes of this VPC: any of them. Without, it is whatever ends in VNI.
	Targets []VPNID
	// Hosts are the prefixes that hosts may be announced in, Allowed those that prefixes may be.
	Hosts, Allowed []netip.Prefix
	// VTEPs are those that a next hop may be; none: any address but ours.
	VTEPs []netip.Prefix
	// VTEP and MAC are where the fabric sends what is for other sites, and Gateways the addresses of ours in the VPC that
	// go with them. Without VTEP nothing is announced.
	VTEP     netip.Addr
	MAC      [6]byte
	Gateways []netip.Addr
}

// FabricAttributes are those of EVPN routes that a fabric needs beside.
type FabricAttributes struct {
	Kind RouteKind
	// MAC is where packets go behind the VTEP: the host's as it comes, after policy that of its router if that is what the
	// route is for.
	MAC, RouterMAC [6]byte
	// RoutedVNI is the second VNI of a host, in which it is behind its router (RFC 9135 section 5).
	RoutedVNI uint32
	// Sequence counts the moves of a host, Sticky says that it does not move (RFC 7432 section 15).
	Sequence uint32
	Sticky   bool
	// Tunnel is the encapsulation that the route asks for, 0: none in particular.
	Tunnel Tunnel
}

// fabricVPC is a FabricVPC to look things up in.
type fabricVPC struct {
	*FabricVPC
	hosts, allowed, vteps *bart.Lite
}

func indexFabric(config []FabricVPC) []fabricVPC {
	lite := func(prefixes []netip.Prefix) *bart.Lite {
		out := new(bart.Lite)
		for _, p := range prefixes {
			out.Insert(p.Masked())
		}
		return out
	}
	var out []fabricVPC
	for i := range config {
		v := &config[i]
		out = append(out, fabricVPC{v, lite(v.Hosts), lite(v.Allowed), lite(v.VTEPs)})
	}
	return out
}

// fabricVPC returns what the fabric behind the speaker's port may do in a VPC, nil if it has none of it.
func (s *speaker) fabricVPC(name string) *fabricVPC {
	for i := range s.fabric {
		if s.fabric[i].VPC == name {
			return &s.fabric[i]
		}
	}
	return nil
}

// setFabric takes another one into force, with the sessions as they are. Under Router.mu.
func (s *speaker) setFabric(config []FabricVPC) {
	if reflect.DeepEqual(s.port.Fabric, config) {
		return
	}
	s.port.Fabric, s.fabric = config, indexFabric(config)
	for _, peer := range s.sessions {
		peer.placeAll()
	}
	s.router.judge(func(p *path) bool { return p.session.speaker == s })
}

// tables are those of routes and those of VTEPs.
func (r *Router) tables() iter.Seq[*rib] {
	return func(yield func(*rib) bool) {
		for _, tables := range []map[string]*rib{r.ribs, r.vteps} {
			for table := range maps.Values(tables) {
				if !yield(table) {
					return
				}
			}
		}
	}
}

// fabricTable returns the table that a route of the fabric belongs to.
func (s *speaker) fabricTable(key pathKey, a *Attributes) *rib {
	vpc := ""
	if a != nil {
		vpc = s.vpcOf(a.EVPN)
	}
	if key.id.kind != VTEPRoute {
		return s.router.rib(vpc)
	}
	table := s.router.vteps[vpc]
	if table == nil {
		table = newRIB(vpc)
		s.router.vteps[vpc] = table
	}
	return table
}

// vpcOf finds the VPC that a route's marks name, empty without. Of several it is the one whose VNI the route has: a host
// is marked for the VNI that it is in, and for that of its router.
func (s *speaker) vpcOf(a *EVPNAttributes) string {
	found, rank := "", 0
	for i := range s.fabric {
		v := &s.fabric[i]
		if !a.marks(v.FabricVPC) {
			continue
		}
		now := 1
		switch v.VNI {
		case a.VNI:
			now = 3
		case a.RoutedVNI:
			now = 2
		}
		if now > rank {
			found, rank = v.VPC, now
		}
	}
	return found
}

// vxlanTarget is in the number of route targets that are derived as RFC 8365 section 5.1.2.1 says.
const vxlanTarget = 1 << 28

// marks says whether a route is marked as one of a VPC.
func (a *EVPNAttributes) marks(v *FabricVPC) bool {
	return a != nil && slices.ContainsFunc(a.Targets, func(t VPNID) bool {
		if len(v.Targets) > 0 {
			return slices.Contains(v.Targets, t)
		}
		n, ok := t.number()
		return ok && n&^vxlanTarget == v.VNI
	})
}

// readFabric takes what a fabric's routes have from their communities.
func (a *EVPNAttributes) readFabric(communities []bgp.ExtendedCommunityInterface) {
	for _, c := range communities {
		switch c := c.(type) {
		case *bgp.RouterMacExtended:
			if len(c.Mac) == 6 {
				a.RouterMAC = [6]byte(c.Mac)
			}
		case *bgp.MacMobilityExtended:
			a.Sequence, a.Sticky = c.Sequence, c.IsSticky
		case *bgp.EncapExtended:
			a.Tunnel = Tunnel(c.TunnelType)
		}
	}
}

// readRoute takes what is in the route itself.
func (a *EVPNAttributes) readRoute(n *bgp.EVPNNLRI) {
	switch r := n.RouteTypeData.(type) {
	case *bgp.EVPNMacIPAdvertisementRoute:
		a.Kind = HostRoute
		if len(r.MacAddress) == 6 {
			a.MAC = [6]byte(r.MacAddress)
		}
		if len(r.Labels) > 0 {
			a.VNI = r.Labels[0]
		}
		if len(r.Labels) > 1 {
			a.RoutedVNI = r.Labels[1]
		}
	case *bgp.EVPNMulticastEthernetTagRoute:
		a.Kind = VTEPRoute
	}
}

// fabricVerdict is verdict for a route from the fabric.
func (r *rib) fabricVerdict(prefix netip.Prefix, p *path) (*Attributes, Verdict) {
	s, a := p.session.speaker, p.received
	refused := func(why Reason) (*Attributes, Verdict) { return nil, Verdict{Reason: why} }
	if a == nil || a.EVPN == nil || noRouter(a.NextHop) || slices.Contains(s.port.Addresses, a.NextHop) {
		return refused(BadNextHop)
	}
	v := s.fabricVPC(r.vpc)
	if v == nil || !a.EVPN.marks(v.FabricVPC) {
		return refused(NoVPC)
	}
	if len(v.VTEPs) > 0 && !v.vteps.Lookup(a.NextHop) {
		return refused(NotVTEP)
	}
	if a.EVPN.Tunnel != 0 && a.EVPN.Tunnel != v.Tunnel {
		return refused(OtherTunnel)
	}
	to, within := a.EVPN.RouterMAC, v.allowed
	switch p.id.kind {
	case VTEPRoute: // its VNI is that of the marks
		return a, Verdict{Reason: Allowed}
	case HostRoute:
		within = v.hosts
		if a.EVPN.VNI == v.VNI {
			to = a.EVPN.MAC
		} else if a.EVPN.RoutedVNI != v.VNI {
			return refused(WrongVNI)
		}
		if to == v.MAC && slices.Contains(v.Gateways, prefix.Addr()) {
			return refused(Ours)
		}
	default:
		if a.EVPN.VNI != v.VNI {
			return refused(WrongVNI)
		}
		if a.EVPN.Recursive {
			return refused(Recursive)
		}
	}
	if to == [6]byte{} || to[0]&1 != 0 || to == v.MAC {
		return refused(BadMAC)
	}
	around, ok := within.LookupPrefixLPM(prefix)
	if !ok {
		return refused(NotAllowed)
	}
	// What is more precise decides whose the addresses are, as with routes.
	if theirs, whose, ok := r.reserved.LookupPrefixLPM(prefix); ok && theirs.Bits() >= around.Bits() {
		return nil, Verdict{Reason: Overlaps, Whose: whose}
	}
	if _, ok := r.static[prefix]; ok {
		return nil, Verdict{Reason: Configured}
	}
	out, evpn := *a, *a.EVPN
	evpn.MAC, out.EVPN = to, &evpn
	return lowest(&out), Verdict{Reason: Allowed}
}

// setPlace adds to the VTEP where packets go behind it.
func (h *NextHop) setPlace(a *EVPNAttributes) {
	if a != nil && a.Kind != VTEPRoute {
		h.MAC, h.Host = a.MAC, a.Kind == HostRoute
	}
}

// mobility says how new the place of a host is.
func (p *path) mobility() int64 {
	switch {
	case p.id.kind != HostRoute || p.received == nil || p.received.EVPN == nil:
		return 0
	case p.received.EVPN.Sticky:
		return 1 << 32 // more than any sequence number
	}
	return int64(p.received.EVPN.Sequence)
}

// vtep is the VTEP of a host: of two equally good ones the lower holds it (RFC 7432 section 15.1).
func (p *path) vtep() netip.Addr {
	if p.id.kind != HostRoute || p.attrs == nil {
		return netip.Addr{}
	}
	return p.attrs.NextHop
}

// VTEPs returns, by VPC, the VTEPs that fabrics have in it: each with its port, and no MAC address.
func (r *Router) VTEPs() map[string][]NextHop {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string][]NextHop)
	for vpc, table := range r.vteps {
		table.take()
		clear(table.passed) // nobody is told
		for _, d := range table.destinations {
			out[vpc] = append(out[vpc], d.hops...)
		}
		slices.SortFunc(out[vpc], compareHops)
		out[vpc] = slices.Compact(out[vpc])
		if len(out[vpc]) == 0 {
			delete(out, vpc)
		}
		if len(table.destinations) == 0 {
			delete(r.vteps, vpc)
		}
	}
	return out
}
