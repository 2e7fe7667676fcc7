package routing

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

var (
	leaf1, leaf2, leaf3 = netip.MustParseAddr("192.168.1.11"), netip.MustParseAddr("192.168.1.12"), netip.MustParseAddr("192.168.1.13")
	gatewayMAC          = [6]byte{2, 0x51, 0xce, 0, 0, 100}
)

// fabricRoute is a route as a leaf tells it; zero is one of VNI 100 that may be told.
type fabricRoute struct {
	prefix   string // of a host: its address
	host     string // MAC address; empty: a prefix, or a VTEP
	vtep     bool
	hop      netip.Addr
	vni      uint32
	routed   uint32 // of a host: the VNI of its router
	target   uint32
	router   string // MAC address
	sequence uint32
	sticky   bool
	tunnel   bgp.TunnelType
	via      string // gateway address
	rd       uint16
}

func (f fabricRoute) path(t *testing.T, withdrawn bool) *apiutil.Path {
	t.Helper()
	p := netip.MustParsePrefix(f.prefix)
	rd := bgp.GetRouteDistinguisher([]byte{0, 1, 10, 0, 0, 1, byte(f.rd >> 8), byte(f.rd)})
	esi := bgp.EthernetSegmentIdentifier{Type: bgp.ESI_ARBITRARY, Value: make([]byte, 9)}
	if f.vni == 0 {
		f.vni = 100
	}
	if f.target == 0 {
		f.target = f.vni
	}
	if f.tunnel == 0 {
		f.tunnel = bgp.TUNNEL_TYPE_VXLAN
	}
	var nlri *bgp.EVPNNLRI
	var err error
	switch {
	case f.host != "":
		labels := []uint32{f.vni}
		if f.routed != 0 {
			labels = append(labels, f.routed)
		}
		nlri, err = bgp.NewEVPNMacIPAdvertisementRoute(rd, esi, 0, f.host, p.Addr(), labels)
	case f.vtep:
		nlri, err = bgp.NewEVPNMulticastEthernetTagRoute(rd, 0, p.Addr())
	default:
		via := netip.IPv4Unspecified()
		if f.via != "" {
			via = netip.MustParseAddr(f.via)
		}
		nlri, err = bgp.NewEVPNIPPrefixRoute(rd, esi, 0, uint8(p.Bits()), p.Addr(), via, f.vni)
	}
	if err != nil {
		t.Fatal(err)
	}
	hop := f.hop
	if !hop.IsValid() {
		hop = leaf1
	}
	reach, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_EVPN, []bgp.PathNLRI{{NLRI: nlri}}, hop)
	if err != nil {
		t.Fatal(err)
	}
	communities := []bgp.ExtendedCommunityInterface{bgp.NewEncapExtended(f.tunnel),
		bgp.NewTwoOctetAsSpecificExtended(bgp.EC_SUBTYPE_ROUTE_TARGET, 65101, f.target, true)}
	if f.router != "" {
		communities = append(communities, bgp.NewRoutersMacExtended(f.router))
	}
	if f.sequence != 0 || f.sticky {
		communities = append(communities, bgp.NewMacMobilityExtended(f.sequence, f.sticky))
	}
	return &apiutil.Path{Family: bgp.RF_EVPN, Nlri: nlri, Withdrawal: withdrawn, PeerAddress: leaf1, PeerASN: 65101, PeerID: leaf1,
		Attrs: []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), reach, bgp.NewPathAttributeExtendedCommunities(communities)}}
}

// newFabric is a speaker whose neighbour tells what the test says, in VPC red, of VNI 100, and blue, of VNI 1000.
func newFabric(t *testing.T) (*Router, *speaker) {
	t.Helper()
	r := New(Options{})
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	r.setVPCs(&Config{MaxPaths: 8, VPCs: []VPC{{Name: "blue"}, {Name: "red", Static: prefixes("10.1.0.0/16", "10.1.0.66/32"), Reserved: []Reserved{
		{Prefix: netip.MustParsePrefix("10.1.0.1/32"), Whose: "gateway address 10.1.0.1 of the VPC"},
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Whose: "prefix 10.0.0.0/8 of peer bergen-1", Peer: true},
		{Prefix: netip.MustParsePrefix("10.1.9.0/24"), Whose: "prefix 10.1.9.0/24 of peer bergen-1", Peer: true},
	}}}})
	port := Port{Name: "site0", Addresses: []netip.Addr{netip.MustParseAddr("192.168.1.1")}, Fabric: []FabricVPC{
		{VPC: "blue", VNI: 1000, Tunnel: VXLAN, Hosts: prefixes("10.3.0.0/16"), Allowed: prefixes("10.3.0.0/16"), MAC: gatewayMAC},
		{VPC: "red", VNI: 100, Tunnel: VXLAN, Hosts: prefixes("10.1.0.0/16", "fd10:1::/64"), Allowed: prefixes("10.1.0.0/16", "10.7.0.0/16"), MAC: gatewayMAC,
			VTEPs: prefixes("192.168.1.11/32", "192.168.1.12/32"), Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1")}},
	}}
	s := &speaker{router: r, asn: 65001, port: port, fabric: indexFabric(port.Fabric), rib: r.rib(""), sessions: make(map[netip.Addr]*session),
		neighbours: map[string]*Neighbour{"leaf-1": {Name: "leaf-1", Address: leaf1, ASN: 65101}}}
	r.speakers["site0"] = s
	return r, s
}

func TestWhatAFabricTellsIsBoundedByTheAttachment(t *testing.T) {
	const mac, router = "02:00:00:00:00:05", "02:00:00:00:00:aa"
	for name, c := range map[string]struct {
		route fabricRoute
		vpc   string
		want  Reason
		to    string // MAC address
	}{
		"a host":                                    {fabricRoute{prefix: "10.1.0.5/32", host: mac}, "red", Allowed, mac},
		"an IPv6 host":                              {fabricRoute{prefix: "fd10:1::5/128", host: mac}, "red", Allowed, mac},
		"a host behind its router":                  {fabricRoute{prefix: "10.3.0.5/32", host: mac, vni: 300, routed: 1000, target: 1000, router: router}, "blue", Allowed, router},
		"a host of a bridge that we have":           {fabricRoute{prefix: "10.1.0.5/32", host: mac, routed: 1000, router: router}, "red", Allowed, mac},
		"a derived target as of RFC 8365":           {fabricRoute{prefix: "10.1.0.5/32", host: mac, target: 1<<28 | 100}, "red", Allowed, mac},
		"a VTEP":                                    {fabricRoute{prefix: "192.168.1.11/32", vtep: true}, "red", Allowed, "00:00:00:00:00:00"},
		"a prefix":                                  {fabricRoute{prefix: "10.7.1.0/24", router: router}, "red", Allowed, router},
		"a host that is no host's":                  {fabricRoute{prefix: "fe80::5/128", host: mac}, "red", NotUnicast, ""},
		"a host outside":                            {fabricRoute{prefix: "10.7.0.5/32", host: mac}, "red", NotAllowed, ""},
		"a prefix outside":                          {fabricRoute{prefix: "10.8.0.0/24", router: router}, "red", NotAllowed, ""},
		"everything":                                {fabricRoute{prefix: "0.0.0.0/0", router: router}, "red", NotAllowed, ""},
		"another VNI with our mark":                 {fabricRoute{prefix: "10.1.0.5/32", host: mac, vni: 101, target: 100}, "red", WrongVNI, ""},
		"a prefix of another VNI with our mark":     {fabricRoute{prefix: "10.7.1.0/24", router: router, vni: 101, target: 100}, "red", WrongVNI, ""},
		"a VNI that is no VPC":                      {fabricRoute{prefix: "10.1.0.5/32", host: mac, vni: 101}, "", NoVPC, ""},
		"a VTEP of a VNI that is no VPC":            {fabricRoute{prefix: "192.168.1.11/32", vtep: true, vni: 101}, "", NoVPC, ""},
		"a next hop that is no VTEP":                {fabricRoute{prefix: "10.1.0.5/32", host: mac, hop: leaf3}, "red", NotVTEP, ""},
		"a VTEP that may be none":                   {fabricRoute{prefix: "192.168.1.13/32", vtep: true, hop: leaf3}, "red", NotVTEP, ""},
		"a next hop that is us":                     {fabricRoute{prefix: "10.1.0.5/32", host: mac, hop: netip.MustParseAddr("192.168.1.1")}, "red", BadNextHop, ""},
		"another encapsulation":                     {fabricRoute{prefix: "10.1.0.5/32", host: mac, tunnel: bgp.TUNNEL_TYPE_MPLS}, "red", OtherTunnel, ""},
		"a prefix without its router":               {fabricRoute{prefix: "10.7.1.0/24"}, "red", BadMAC, ""},
		"a host with a MAC address of many":         {fabricRoute{prefix: "10.1.0.5/32", host: "01:00:00:00:00:05"}, "red", BadMAC, ""},
		"a host with our MAC address":               {fabricRoute{prefix: "10.1.0.5/32", host: net.HardwareAddr(gatewayMAC[:]).String()}, "red", BadMAC, ""},
		"a prefix to be resolved":                   {fabricRoute{prefix: "10.7.1.0/24", router: router, via: "10.7.0.1"}, "red", Recursive, ""},
		"our gateway address from another gateway":  {fabricRoute{prefix: "10.1.0.1/32", host: net.HardwareAddr(gatewayMAC[:]).String()}, "red", Ours, ""},
		"our gateway address at a host":             {fabricRoute{prefix: "10.1.0.1/32", host: mac}, "red", Overlaps, ""},
		"a host inside a prefix of a peer":          {fabricRoute{prefix: "10.1.9.5/32", host: mac}, "red", Overlaps, ""},
		"a host that the configuration places":      {fabricRoute{prefix: "10.1.0.66/32", host: mac}, "red", Configured, ""},
		"the prefix that the configuration has too": {fabricRoute{prefix: "10.1.0.0/16", router: router}, "red", Configured, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newFabric(t)
			s.pathsChanged([]*apiutil.Path{c.route.path(t, false)})
			all := r.Routes()
			if len(all) != 1 || all[0].Verdict.Reason != c.want || all[0].VPC != c.vpc {
				t.Fatalf("routes: %+v", all)
			}
			if c.want == Allowed {
				if mac := net.HardwareAddr(all[0].Attributes.EVPN.MAC[:]).String(); mac != c.to {
					t.Errorf("it leads to %s, want %s", mac, c.to)
				}
			}
			taken := len(r.Take()) + len(r.VTEPs())
			if want := int(truth(c.want == Allowed)); taken != want {
				t.Errorf("%d routes are in force, want %d", taken, want)
			}
			s.pathsChanged([]*apiutil.Path{c.route.path(t, true)})
			if all, vteps := r.Routes(), r.VTEPs(); len(all) != 0 || len(vteps) != 0 {
				t.Errorf("after the withdrawal: %v, %v", all, vteps)
			}
		})
	}
}

func TestOfTwoPlacesOfAHostTheNewerHoldsIt(t *testing.T) {
	const mac = "02:00:00:00:00:05"
	host := func(hop netip.Addr, sequence uint32, sticky bool) fabricRoute {
		return fabricRoute{prefix: "10.1.0.5/32", host: mac, hop: hop, sequence: sequence, sticky: sticky, rd: uint16(hop.As4()[3])}
	}
	for name, c := range map[string]struct {
		routes []fabricRoute
		want   netip.Addr
	}{
		"with the higher sequence number":          {[]fabricRoute{host(leaf1, 1, false), host(leaf2, 2, false)}, leaf2},
		"with a sequence number":                   {[]fabricRoute{host(leaf2, 1, false), host(leaf1, 0, false)}, leaf2},
		"with the lower address, if they are even": {[]fabricRoute{host(leaf2, 1, false), host(leaf1, 1, false)}, leaf1},
		"unless it does not move":                  {[]fabricRoute{host(leaf1, 0, true), host(leaf2, 1<<32-1, false)}, leaf1},
		"and a prefix of one address does not": {[]fabricRoute{host(leaf2, 0, false),
			{prefix: "10.1.0.5/32", router: "02:00:00:00:00:aa", hop: leaf1, rd: 9}}, leaf2},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newFabric(t)
			for _, route := range c.routes {
				s.pathsChanged([]*apiutil.Path{route.path(t, false)})
			}
			want := []NextHop{{Port: "site0", Addr: c.want, MAC: [6]byte{2, 0, 0, 0, 0, 5}, Host: true}}
			changes := r.Take()["red"]
			if len(changes) != 1 || !slices.Equal(changes[0].NextHops, want) {
				t.Errorf("got %v, want %v", changes, want)
			}
			best := 0
			for _, route := range r.Routes() {
				best += int(truth(route.Best))
			}
			if best != 1 {
				t.Errorf("%d of them are in use", best)
			}
		})
	}
}

func TestAFabricsRoutesAreJudgedAgainWhenTheAttachmentChanges(t *testing.T) {
	r, s := newFabric(t)
	host := fabricRoute{prefix: "10.1.0.5/32", host: "02:00:00:00:00:05"}
	s.pathsChanged([]*apiutil.Path{host.path(t, false), fabricRoute{prefix: "192.168.1.11/32", vtep: true}.path(t, false)})
	if len(r.Take()["red"]) != 1 || len(r.VTEPs()["red"]) != 1 {
		t.Fatalf("routes: %v", r.Routes())
	}
	without := slices.Clone(s.port.Fabric)[:1]
	r.mu.Lock()
	s.setFabric(without)
	r.mu.Unlock()
	if changes := r.Take()["red"]; len(changes) != 1 || len(changes[0].NextHops) != 0 || len(r.VTEPs()) != 0 {
		t.Errorf("without the attachment: %v", r.Routes())
	}
	for _, route := range r.Routes() {
		if route.Verdict.Reason != NoVPC {
			t.Errorf("without the attachment: %+v", route)
		}
	}
}
