package routing

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/gaissmai/bart"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Gateways tell each other the prefixes of their sites as EVPN routes of type 5 (RFC 9136), each with the VNI that the
// one who announces it uses for the VPC, and with its tunnel address as the next hop. Packets travel as IP in Geneve,
// without Ethernet, so routes have neither a router's MAC address nor a gateway address to resolve. A gateway that
// gets one asks, in this order: whom does the next hop name, which VPC of that gateway's does the mark (the route
// target) name, is it the VNI that we know, and may that gateway announce the prefix there?

// Gateway is a peer that EVPN routes may lead to.
type Gateway struct {
	// Name is also that of the neighbour, if there is a session with it.
	Name string
	// Addresses inside the tunnels. A next hop is any of them; the first is NextHop.Addr.
	Addresses []netip.Addr
	// Dead: nothing can be sent to it now.
	Dead bool
	VPCs []GatewayVPC
}

// GatewayVPC is a VPC as a gateway has it.
type GatewayVPC struct {
	VPC string // our name
	VNI uint32 // the gateway's number
	// Targets are the marks of routes of this VPC: any of them. Without, it is whatever ends in VNI.
	Targets []VPNID
	// Allowed is what the gateway may announce: these prefixes and what is inside them.
	Allowed []netip.Prefix
}

// VPCEVPN is how gateways are told of a VPC.
type VPCEVPN struct {
	VNI           uint32 // ours
	Distinguisher VPNID
	Targets       []VPNID
	// Announce are prefixes that the site has whatever its routers say; with them goes what the routers announce, but
	// for what is inside Hidden: gateways know it by other addresses, which are in Announce.
	Announce []netip.Prefix
	Hidden   []netip.Prefix
}

// VPNID is a route distinguisher or route target as it is on the wire, without the subtype of the latter: an
// administrator (Kind 0: AS number of 16 bits, 1: IPv4 address, 2: AS number of 32 bits) and its number.
type VPNID struct {
	Kind  uint8
	Value [6]byte
}

// distinguisher is the form of RFC 4364 section 4.2, target that of RFC 4360 section 4.
func (v VPNID) distinguisher() []byte { return append([]byte{0, v.Kind}, v.Value[:]...) }
func (v VPNID) target() []byte        { return append([]byte{v.Kind, routeTargetType}, v.Value[:]...) }

// number of a 16-bit AS, where VNIs are derived from; false for other kinds.
func (v VPNID) number() (uint32, bool) {
	return binary.BigEndian.Uint32(v.Value[2:]), v.Kind == 0
}

// EVPNAttributes are what an EVPN route has beside the others.
type EVPNAttributes struct {
	VNI     uint32
	Targets []VPNID
	// Recursive: it leads to an Ethernet segment or a gateway address, for others to resolve (RFC 9136 section 3.2).
	Recursive bool
	FabricAttributes
}

func (a *EVPNAttributes) equal(b *EVPNAttributes) bool {
	return a == b || a != nil && b != nil && a.VNI == b.VNI && a.Recursive == b.Recursive && a.FabricAttributes == b.FabricAttributes && slices.Equal(a.Targets, b.Targets)
}

// routeTargetType is the subtype of a route target (RFC 4360 section 4).
const routeTargetType = 0x02

// readTargets returns the marks of a route.
func readTargets(communities []bgp.ExtendedCommunityInterface) *EVPNAttributes {
	out := new(EVPNAttributes)
	for _, c := range communities {
		if b, err := c.Serialize(); err == nil && len(b) == 8 && b[0] <= 2 && b[1] == routeTargetType {
			out.Targets = append(out.Targets, VPNID{b[0], [6]byte(b[2:])})
		}
	}
	return out
}

// readNLRI adds what is in an EVPN route itself.
func (a *Attributes) readNLRI(nlri bgp.NLRI) {
	n, ok := nlri.(*bgp.EVPNNLRI)
	if !ok {
		return
	}
	if a.EVPN == nil {
		a.EVPN = new(EVPNAttributes)
	}
	a.EVPN.readRoute(n)
	if r, ok := n.RouteTypeData.(*bgp.EVPNIPPrefixRoute); ok {
		a.EVPN.VNI = r.Label
		a.EVPN.Recursive = r.GWIPAddress.IsValid() && !r.GWIPAddress.IsUnspecified() || slices.ContainsFunc(r.ESI.Value, func(b byte) bool { return b != 0 })
	}
}

// evpnKey is keyOf for EVPN: of its routes those to prefixes matter, hosts and VTEPs.
func evpnKey(n *bgp.EVPNNLRI, id uint32) (pathKey, bool) {
	key := pathKey{id: pathID{add: id}}
	switch r := n.RouteTypeData.(type) {
	case *bgp.EVPNIPPrefixRoute:
		key.prefix, key.id.tag = netip.PrefixFrom(r.IPPrefix, int(r.IPPrefixLength)).Masked(), r.ETag
	case *bgp.EVPNMacIPAdvertisementRoute:
		if r.MacAddressLength != 48 || len(r.MacAddress) != 6 || !r.IPAddress.IsValid() {
			return pathKey{}, false // a MAC address alone is of no use to who sends to IP addresses
		}
		key.prefix, key.id.tag = netip.PrefixFrom(r.IPAddress, r.IPAddress.BitLen()), r.ETag
		key.id.kind, key.id.mac = HostRoute, [6]byte(r.MacAddress)
	case *bgp.EVPNMulticastEthernetTagRoute:
		key.prefix, key.id.tag, key.id.kind = netip.PrefixFrom(r.IPAddress, r.IPAddress.BitLen()), r.ETag, VTEPRoute
	}
	if !key.prefix.IsValid() || n.RD() == nil {
		return pathKey{}, false
	}
	b, err := n.RD().Serialize()
	if err != nil || len(b) != 8 {
		return pathKey{}, false
	}
	key.id.rd = [8]byte(b)
	return key, true
}

// gateways are all of them, by what routes name.
type gateways struct {
	config []Gateway
	byAddr map[netip.Addr]*gateway
}

type gateway struct {
	*Gateway
	allowed []*bart.Lite // of each of its VPCs
}

func indexGateways(config []Gateway) *gateways {
	out := &gateways{config: config, byAddr: make(map[netip.Addr]*gateway, len(config))}
	for i := range config {
		g := &gateway{Gateway: &config[i]}
		for j := range g.VPCs {
			allowed := new(bart.Lite)
			for _, p := range g.VPCs[j].Allowed {
				allowed.Insert(p)
			}
			g.allowed = append(g.allowed, allowed)
		}
		for _, a := range g.Addresses {
			out.byAddr[a] = g
		}
	}
	return out
}

// of returns whom a next hop names, or nil.
func (g *gateways) of(hop netip.Addr) *gateway {
	if g == nil {
		return nil
	}
	return g.byAddr[hop]
}

// vpc finds the VPC that a route's marks name, -1 without.
func (g *gateway) vpc(a *EVPNAttributes) int {
	return slices.IndexFunc(g.VPCs, func(v GatewayVPC) bool {
		return slices.ContainsFunc(a.Targets, func(t VPNID) bool {
			if len(v.Targets) > 0 {
				return slices.Contains(v.Targets, t)
			}
			n, ok := t.number()
			return ok && n == v.VNI
		})
	})
}

// setGateways takes a new list of them into force. Under mu.
func (r *Router) setGateways(config []Gateway) {
	if r.gateways != nil && reflect.DeepEqual(r.gateways.config, config) {
		return
	}
	var dead map[string]bool
	if r.gateways != nil {
		dead = deadOf(r.gateways.config)
	}
	r.gateways = indexGateways(config)
	for _, table := range r.ribs {
		table.gateways = r.gateways
	}
	for _, s := range r.speakers {
		if !s.port.EVPN {
			continue
		}
		dies := deadOf(config)
		for _, peer := range s.sessions {
			peer.placeAll()
			if name := peer.neighbour.Name; dies[name] && !dead[name] && peer.state == Established {
				// When it is back it knows nothing of this session, which would be in the way of a new one.
				s.refuse(peer.address, "no answer to probes")
			}
		}
		r.judge(func(p *path) bool { return p.session.speaker == s })
	}
}

// deadOf are the names of those that are dead.
func deadOf(config []Gateway) map[string]bool {
	dead := make(map[string]bool)
	for i := range config {
		if config[i].Dead {
			dead[config[i].Name] = true
		}
	}
	return dead
}

// placeAll moves every EVPN route of a session to the table of the VPC that it belongs to now.
func (peer *session) placeAll() {
	for key, table := range peer.paths {
		p := table.destinations[key.prefix].of(peer, key.id)
		if now := peer.speaker.tableOf(key, p.received); now != table {
			stale := p.stale
			table.drop(peer, key.prefix, key.id)
			now.put(peer, key.prefix, key.id, p.received)
			now.destinations[key.prefix].of(peer, key.id).setStale(stale)
		}
	}
}

// tableOf returns the table of the VPC that an EVPN route belongs to; that of no VPC for one that names none.
func (r *Router) tableOf(a *Attributes) *rib {
	if a != nil {
		if g := r.gateways.of(a.NextHop); g != nil {
			if i := g.vpc(a.EVPN); i >= 0 {
				return r.rib(g.VPCs[i].VPC)
			}
		}
	}
	return r.rib("")
}

// gatewayVerdict is verdict for a route that a gateway has announced.
func (r *rib) gatewayVerdict(prefix netip.Prefix, p *path) (*Attributes, Verdict) {
	a := p.received
	if a == nil {
		return nil, Verdict{Reason: BadNextHop}
	}
	g := r.gateways.of(a.NextHop)
	if g == nil {
		return nil, Verdict{Reason: BadNextHop}
	}
	refused := func(why Reason) (*Attributes, Verdict) { return nil, Verdict{Reason: why, Whose: g.Name} }
	if n := p.session.neighbour; g.Name != n.Name && !n.Reflector {
		return refused(NotItsOwn)
	}
	i := g.vpc(a.EVPN)
	if i < 0 {
		return refused(NoVPC)
	}
	if a.EVPN.VNI != g.VPCs[i].VNI {
		return refused(WrongVNI)
	}
	if a.EVPN.Recursive {
		return refused(Recursive)
	}
	if whose, inside := r.own.LookupPrefix(prefix); inside {
		return nil, Verdict{Reason: Overlaps, Whose: whose}
	}
	if _, ok := r.static[prefix]; ok {
		return nil, Verdict{Reason: Configured}
	}
	if _, ok := g.allowed[i].LookupPrefixLPM(prefix); !ok {
		return refused(NotAllowed)
	}
	if g.Dead {
		return refused(GatewayDead)
	}
	if a.NextHop != g.Addresses[0] { // its other address is the same gateway
		same := *a
		same.NextHop = g.Addresses[0]
		a = &same
	}
	return lowest(a), Verdict{Reason: Allowed, Whose: g.Name}
}

// evpnAnnouncement tells gateways of a prefix. The next hop is unspecified, for which each session puts its own address.
func evpnAnnouncement(p netip.Prefix, v *VPCEVPN) (*apiutil.Path, error) {
	unspecified := netip.IPv6Unspecified()
	if p.Addr().Is4() {
		unspecified = netip.IPv4Unspecified()
	}
	esi := bgp.EthernetSegmentIdentifier{Type: bgp.ESI_ARBITRARY, Value: make([]byte, 9)}
	nlri, err := bgp.NewEVPNIPPrefixRoute(bgp.GetRouteDistinguisher(v.Distinguisher.distinguisher()), esi, 0, uint8(p.Bits()), p.Addr(), unspecified, v.VNI)
	if err != nil {
		return nil, fmt.Errorf("evpn route %s: %w", p, err)
	}
	reach, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_EVPN, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv4Unspecified())
	if err != nil {
		return nil, fmt.Errorf("evpn route %s: %w", p, err)
	}
	communities := []bgp.ExtendedCommunityInterface{bgp.NewEncapExtended(bgp.TUNNEL_TYPE_GENEVE)}
	for _, t := range v.Targets {
		c, err := bgp.ParseExtended(t.target())
		if err != nil {
			return nil, fmt.Errorf("evpn route %s: route target: %w", p, err)
		}
		communities = append(communities, c)
	}
	return &apiutil.Path{Family: bgp.RF_EVPN, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP), reach, bgp.NewPathAttributeExtendedCommunities(communities),
	}}, nil
}
