package gateway

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/xdp"
)

var (
	wanMAC, siteMAC, hostMAC = [6]byte{2, 0, 0, 0, 0, 2}, [6]byte{2, 0, 0, 0, 0, 3}, [6]byte{2, 0, 0, 0, 0, 4}
	peerMAC, nodeMAC         = [6]byte{2, 7, 0, 0, 0, 3}, [6]byte{2, 7, 0, 0, 0, 11}
	routedMAC                = [6]byte{2, 7, 0, 0, 0, 9}
)

func resolved(dst string, ifindex, egress uint32, src string, srcMAC, dstMAC [6]byte, mtu int) *neigh.Entry {
	a := netip.MustParseAddr(dst)
	return &neigh.Entry{Key: neigh.Key{Dst: a, Ifindex: ifindex}, State: neigh.Resolved, Egress: egress, Src: netip.MustParseAddr(src),
		SrcMAC: srcMAC, DstMAC: dstMAC, NextHop: a, MTU: mtu}
}

// neighbours are those of withDirect's gateway: the direct peer, a node, a routed host.
func neighbours() *neigh.StaticSource {
	return neigh.Static(
		resolved("198.51.100.3", 0, 2, "198.51.100.1", wanMAC, peerMAC, 1500),
		resolved("192.168.1.11", 3, 3, "192.168.1.1", siteMAC, nodeMAC, 1550),
		resolved("172.16.1.9", 4, 4, "172.16.1.1", hostMAC, routedMAC, 1500),
	)
}

// counting gives keys the numbers 1, 2, 3, ...
func counting() func(hopKey) uint32 {
	return newForwarding().number
}

func hopsOf(t *testing.T, cfg *config.Config, source *neigh.StaticSource) *hopPlan {
	t.Helper()
	p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), refs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := len(p.xdp.Site) + len(p.xdp.Remote)
	h := planHops(p, cfg, source.Table(), counting())
	if err := h.state.Validate(); err != nil {
		t.Errorf("the program refuses: %v", err)
	}
	if len(p.xdp.Site)+len(p.xdp.Remote) != before || len(p.xdp.Hops) != 0 {
		t.Error("the plan was changed")
	}
	return h
}

// to is the hop that a prefix leads to; nil: none.
func (h *hopPlan) to(list []xdp.Prefix, vni uint32, prefix string) *xdp.Hop {
	for _, p := range list {
		if p.VNI != vni || p.Prefix != netip.MustParsePrefix(prefix) {
			continue
		}
		for i := range h.state.Hops {
			if h.state.Hops[i].ID == p.Hop {
				return &h.state.Hops[i]
			}
		}
	}
	return nil
}

func TestWhatGoesToADirectPeerAndComesFromItIsForwardedByTheProgram(t *testing.T) {
	cfg := withDirect(t, func(c *config.Config) {
		c.Peers[1].MaxMSS = 1300
		c.VPCs[1].MaxMSS = 1350
	})
	h := hopsOf(t, cfg, neighbours())
	wan := netip.MustParseAddr("198.51.100.3")
	for _, c := range []struct {
		name string
		got  *xdp.Hop
		want *xdp.Hop
	}{
		{"to the peer, default VPC", h.to(h.state.Remote, 0, "172.16.3.0/24"),
			&xdp.Hop{Kind: xdp.ToPeer, Peer: 2, Ifindex: 2, SrcMAC: wanMAC, DstMAC: peerMAC, MTU: 1464, MaxMSS: 1300, Src: netip.MustParseAddr("198.51.100.1"), Dst: wan, UDPPort: 4000}},
		{"to the peer, IPv6 in a VPC", h.to(h.state.Remote, 100, "fd10:3::/64"),
			&xdp.Hop{Kind: xdp.ToPeer, VNI: 100, Peer: 2, Ifindex: 2, SrcMAC: wanMAC, DstMAC: peerMAC, MTU: 1464, MaxMSS: 1300, Src: netip.MustParseAddr("198.51.100.1"), Dst: wan, UDPPort: 4000, RemoteVNI: 500}},
		{"to a host behind a VTEP", h.to(h.state.Site, 100, "10.1.1.11/32"),
			&xdp.Hop{Kind: xdp.ToVXLAN, VNI: 100, Ifindex: 3, SrcMAC: siteMAC, DstMAC: nodeMAC, MTU: 1500, MaxMSS: 1350, Src: netip.MustParseAddr("192.168.1.1"),
				Dst: netip.MustParseAddr("192.168.1.11"), UDPPort: 4789, RemoteVNI: 100, InnerSrc: [6]byte{2, 0x51, 0xce, 0, 0, 100}, InnerDst: [6]byte{2, 0, 0, 0, 1, 0x11}}},
		{"to one behind a VTEP that nobody has resolved", h.to(h.state.Site, 100, "fd10:1::12/128"),
			&xdp.Hop{Kind: xdp.ToVXLAN, VNI: 100, MaxMSS: 1350, Dst: netip.MustParseAddr("192.168.1.12"), UDPPort: 4789, RemoteVNI: 100,
				InnerSrc: [6]byte{2, 0x51, 0xce, 0, 0, 100}, InnerDst: [6]byte{2, 0, 0, 0, 1, 0x12}}},
		{"to a routed neighbour", h.to(h.state.Site, 0, "172.16.1.9/32"), &xdp.Hop{Kind: xdp.ToRouted, Ifindex: 4, SrcMAC: hostMAC, DstMAC: routedMAC, MTU: 1500}},
		{"to a routed network", h.to(h.state.Site, 0, "172.16.1.0/24"), nil},
		{"to the peer with a key", h.to(h.state.Remote, 100, "10.2.0.0/16"), nil},
	} {
		if diff := cmp.Diff(c.want, c.got, compared, cmpopts.IgnoreFields(xdp.Hop{}, "ID")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWhatTakesMoreThanOtherHeadersStaysTheRelays(t *testing.T) {
	red := func(h *hopPlan) bool { return h.to(h.state.Remote, 100, "10.3.0.0/16") != nil }
	none := func(h *hopPlan) bool { return len(h.state.Hops) > 0 }
	limit := config.Limits{FromSite: config.Limit{Rate: 1e6}}
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		taken  func(*hopPlan) bool // by the program
		want   bool
	}{
		{"nothing special", func(c *config.Config) {}, red, true},
		{"multicast groups", func(c *config.Config) {
			c.VPCs[1].MulticastGroups = []netip.Prefix{netip.MustParsePrefix("239.1.0.0/16")}
		}, red, true},
		{"the source check off", func(c *config.Config) { c.VPCs[1].SourceCheck = config.SourceOff }, red, true},
		{"the strict source check", func(c *config.Config) { c.VPCs[1].SourceCheck = config.SourceStrict }, red, false},
		{"an access list", func(c *config.Config) { c.VPCs[1].ACL.Rules = []config.ACLRule{{Action: config.Deny}} }, red, false},
		{"an access list that denies all", func(c *config.Config) { c.VPCs[1].ACL.Default = config.Deny }, red, false},
		{"a limit of the VPC", func(c *config.Config) { c.VPCs[1].Limits = limit }, red, false},
		{"a limit of another VPC", func(c *config.Config) { c.VPCs[0].Limits = limit }, red, true},
		{"a limit of the peer", func(c *config.Config) { c.Peers[1].Limits = limit }, none, false},
		{"trusted VTEPs", func(c *config.Config) {
			c.VPCs[1].Attachments[0].TrustedVTEPs = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
		}, red, false},
		{"hosts that are found out", func(c *config.Config) {
			c.VPCs[1].Attachments[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
		}, red, false},
		{"translation", func(c *config.Config) {
			c.VPCs[1].Translate = []config.Translation{{Prefix: netip.MustParsePrefix("10.1.1.0/24"), As: netip.MustParsePrefix("10.101.1.0/24")}}
		}, red, false},
		{"several next hops", func(c *config.Config) {
			c.Peers = append(c.Peers, config.Peer{Name: "lab-2", Encryption: config.EncryptionNone, Endpoint: config.Endpoint{Host: "198.51.100.4", Port: 4000},
				VPCs: []config.PeerVPC{{Name: "red", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}}}})
		}, red, false},
		{"a tunnel address of ours in its prefix", func(c *config.Config) {
			c.Peers[1].VPCs[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/24")}
		}, func(h *hopPlan) bool { return h.to(h.state.Remote, 0, "100.64.0.0/24") != nil }, false},
	} {
		cfg := withDirect(t, c.change)
		p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{"bergen-1": refs()["bergen-1"], "lab-1": {id: 1}, "lab-2": {id: 2}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := planHops(p, cfg, neighbours().Table(), counting())
		if err := h.state.Validate(); err != nil {
			t.Errorf("%s: the program refuses: %v", c.name, err)
		}
		if got := c.taken(h); got != c.want {
			t.Errorf("%s: forwarded by the program: %v", c.name, got)
		}
	}
}

// The port's limit holds for what leaves through it to peers. The hop is there, so that the source check of what comes
// from the peer knows it, but packets to it go to the relay.
func TestAPortWithALimitSendsThroughTheRelay(t *testing.T) {
	cfg := withDirect(t, func(c *config.Config) { c.Ports[2].ToPeers = config.Limit{Rate: 1e6} })
	h := hopsOf(t, cfg, neighbours())
	if hop := h.to(h.state.Remote, 100, "10.3.0.0/16"); hop == nil || hop.Resolved() {
		t.Errorf("%+v", hop)
	}
	if hop := h.to(h.state.Site, 100, "10.1.1.11/32"); hop == nil || !hop.Resolved() {
		t.Errorf("%+v", hop)
	}
}

func TestANeighbourThatCannotBeSentToMakesNoHop(t *testing.T) {
	key := neigh.Key{Dst: netip.MustParseAddr("198.51.100.3")}
	for name, e := range map[string]*neigh.Entry{
		"failed":              {Key: key, State: neigh.Failed},
		"behind no port":      resolved("198.51.100.3", 0, 9, "198.51.100.1", wanMAC, peerMAC, 1500),
		"without a MAC":       resolved("198.51.100.3", 0, 2, "198.51.100.1", wanMAC, [6]byte{}, 1500),
		"of another family":   resolved("198.51.100.3", 0, 2, "fd00::1", wanMAC, peerMAC, 1500),
		"with an MTU of 70":   resolved("198.51.100.3", 0, 2, "198.51.100.1", wanMAC, peerMAC, 70),
		"without an Ethernet": {Key: key, State: neigh.Resolved, Egress: 2, Src: netip.MustParseAddr("198.51.100.1"), NoLink: true, MTU: 1500},
	} {
		source := neighbours()
		source.Set(e)
		h := hopsOf(t, withDirect(t, func(*config.Config) {}), source)
		if hop := h.to(h.state.Remote, 100, "10.3.0.0/16"); hop == nil || hop.Resolved() {
			t.Errorf("%s: %+v", name, hop)
		}
	}
}

func TestAHopKeepsItsNumberForAsLongAsItIsTheSamePlace(t *testing.T) {
	cfg, source, number := withDirect(t, func(*config.Config) {}), neighbours(), counting()
	plan := func() *hopPlan {
		p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), refs(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return planHops(p, cfg, source.Table(), number)
	}
	ids := func(h *hopPlan) (peer, host uint32) {
		return h.to(h.state.Remote, 100, "10.3.0.0/16").ID, h.to(h.state.Site, 0, "172.16.1.9/32").ID
	}
	peer, host := ids(plan())
	source.Set(resolved("198.51.100.3", 0, 2, "198.51.100.1", wanMAC, [6]byte{2, 7, 7, 7, 7, 7}, 1400), resolved("172.16.1.9", 4, 4, "172.16.1.1", hostMAC, [6]byte{2, 8, 8, 8, 8, 8}, 1500))
	samePeer, otherHost := ids(plan())
	if samePeer != peer {
		t.Error("the peer's next hop has changed, the peer has not, but its number has")
	}
	if otherHost == host {
		t.Error("another machine has the address, and the number of the first one")
	}
	cfg.Peers[1].VPCs[1].VNI = 501
	if other, _ := ids(plan()); other == peer {
		t.Error("the VNI over there has changed, the number has not")
	}
}

func TestForwardedPacketsCountForVPCRouteAndPeer(t *testing.T) {
	remote, local := routeKey{100, netip.MustParsePrefix("10.3.0.0/16")}, routeKey{100, netip.MustParsePrefix("10.1.1.11/32")}
	c := forwardedCounts{
		{remote, 2}:                       {ToPackets: 5, ToBytes: 500, FromPackets: 7, FromBytes: 700},
		{routeKey{0, remote.prefix}, 2}:   {ToPackets: 1, ToBytes: 10, FromPackets: 2, FromBytes: 20},
		{local, 0}:                        {ToPackets: 7, ToBytes: 700, FromPackets: 5, FromBytes: 500},
		{routeKey{100, local.prefix}, 9}:  {},
		{routeKey{200, remote.prefix}, 3}: {ToPackets: 100},
		{routeKey{vni: 100, prefix: netip.MustParsePrefix("10.3.0.0/24")}, 3}: {ToPackets: 1000},
	}
	var vpc = vpcCounters(nil, 100)
	c.addTo(&vpc)
	if vpc.ToPeers != 1005 || vpc.ToPeersBytes != 500 || vpc.ToSite != 7 || vpc.ToSiteBytes != 700 {
		t.Errorf("VPC: %+v", vpc)
	}
	if got := c.route(100, remote.prefix); got.ToPackets != 5 || got.ToBytes != 500 || got.FromPackets != 7 || got.FromBytes != 700 {
		t.Errorf("remote route: %+v", got)
	}
	if got := c.route(100, local.prefix); got.ToPackets != 7 || got.FromPackets != 0 {
		t.Errorf("local route: %+v", got)
	}
	if got := c.peer(1); got != (xdp.HopCount{ToPackets: 6, ToBytes: 510, FromPackets: 9, FromBytes: 720}) {
		t.Errorf("peer: %+v", got)
	}
}
