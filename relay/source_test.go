package relay

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func TestASourceFromTheSiteMustLieInTheSite(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, version := range []int{4, 6} {
		dst := red.host(2, atRouted, version)
		elsewhere := map[int]netip.Addr{4: addr("192.0.2.1"), 6: addr("2001:db8::1")}[version]
		for _, c := range []struct {
			name  string
			check SourceCheck
			src   netip.Addr
			want  Verdict
		}{
			{"its own address, loose", SourceLoose, red.host(1, atRouted, version), ToPeer},
			{"an address of another attachment, loose", SourceLoose, red.host(1, atVXLAN4, version), ToPeer},
			{"an address of the other site, loose", SourceLoose, red.host(2, atRouted, version), SpoofedSource},
			{"an address of another VPC, loose", SourceLoose, defaultVPC.host(1, atRouted, version), SpoofedSource},
			{"an address of nobody, loose", SourceLoose, elsewhere, SpoofedSource},
			{"its own address, strict", SourceStrict, red.host(1, atRouted, version), ToPeer},
			{"an address of another attachment, strict", SourceStrict, red.host(1, atVXLAN4, version), SpoofedSource},
			{"an address of the other site, strict", SourceStrict, red.host(2, atRouted, version), SpoofedSource},
			{"an address of the other site, off", SourceOff, red.host(2, atRouted, version), ToPeer},
			{"an address of nobody, off", SourceOff, elsewhere, ToPeer},
		} {
			p.a.withVPC(red, func(v *VPC) { v.Sources = c.check })
			_, frame := fromHost(red, 1, atRouted, udpPacket(c.src, dst, 64, 0, 1, 2, nil))
			got := p.a.verdicts(func() {
				p.a.queues[0][redPort].Inject(frame)
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("IPv%d: %s: got %v, want %v", version, c.name, got, want)
			}
		}
	}
}

func TestAnOverlayTakesPacketsOnlyFromVTEPsThatItTrusts(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	// red's VXLAN trusts one node of each family; its Geneve and blue's VXLAN on the same UDP port trust anybody.
	p.a.withVPC(red, func(v *VPC) {
		v.Attachments = append([]Attachment(nil), v.Attachments...)
		v.Attachments[0].Trusted = prefixes("192.168.1.11/32", "192.168.9.0/24", "fd00:1::14/127")
	})
	stranger := func(b []byte) []byte { return edit(b, func(b []byte) { b[14+15]++; fixIPv4(b[14:]) }) }
	frame := func(v vpcName, place, version int) []byte {
		_, b := fromHost(v, 1, place, udpPacket(v.host(1, place, version), v.host(2, place, version), 64, 0, 1, 2, nil))
		return b
	}
	arp := overlayFrame(red, 1, atVXLAN4, layers.EthernetTypeARP, arpRequest(red.host(1, atVXLAN4, 4), red.gateways(1)[0]))
	six := frame(red, atVXLAN6, 4) // the node is fd00:1::14
	far := edit(frame(red, atVXLAN4, 4), func(b []byte) { b[14+14] = 9; b[14+15] = 200; fixIPv4(b[14:]) })
	for _, c := range []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{"a node that is trusted", frame(red, atVXLAN4, 4), ToPeer},
		{"a node of a prefix that is trusted", far, ToPeer},
		{"a stranger", stranger(frame(red, atVXLAN4, 4)), UnknownVTEP},
		{"a stranger with IPv6 inside", stranger(frame(red, atVXLAN4, 6)), UnknownVTEP},
		{"a stranger who asks for the gateway", stranger(arp), UnknownVTEP},
		{"an IPv6 node that is trusted", six, ToPeer},
		{"a stranger to an attachment without a list", stranger(frame(red, atGeneve4, 4)), ToPeer},
		{"a stranger to another VPC on the same port", stranger(frame(blue, atVXLAN4, 4)), ToPeer},
	} {
		got := p.a.verdicts(func() {
			p.a.queues[0][sitePort].Inject(c.frame)
			p.a.turn()
		})
		if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
	}
	p.a.got(wanPort)
}

// Cryptokey routing per VPC, with a second peer beside the one that sends: who
// shares a prefix may use it, who has the longer one has it alone, and nobody is
// the gateway or somebody else's tunnel end.
func TestAPeerIsTheSourceOfNothingButItsOwnAddresses(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	key, err := wireguard.NewPrivateKey()
	check(t, err)
	second, err := p.a.device.SetPeer(wireguard.PeerConfig{PublicKey: key.PublicKey(), ID: 1})
	check(t, err)
	s := *p.a.snap
	s.Peers = append(append([]Peer(nil), s.Peers...), Peer{Name: "second", WireGuard: second, Tunnel: []netip.Addr{addr("100.64.0.9"), addr("fd64::9")}})
	s.VPCs = append([]VPC(nil), s.VPCs...)
	remote := func(prefix string, peers ...uint32) fib.Route {
		r := fib.Route{Prefix: netip.MustParsePrefix(prefix)}
		for _, id := range peers {
			r.NextHops = append(r.NextHops, fib.NextHop{Kind: fib.Remote, ID: id})
		}
		return r
	}
	for _, v := range []vpcName{defaultVPC, red} {
		s.VPCs[v].Routes, err = s.VPCs[v].Routes.With([]fib.Route{
			remote("0.0.0.0/0", 0), remote("::/0", 0), // the peer has the default route
			remote("203.0.113.0/24", 0, 1), remote("2001:db8:1::/48", 0, 1), // both
			remote("203.0.113.128/25", 1), remote("2001:db8:1:8000::/49", 1), // the second alone
			remote("203.0.113.192/26", 0), remote("2001:db8:1:c000::/50", 0), // and a part of it the first
		}, nil)
		check(t, err)
	}
	check(t, p.a.relay.Update(&s))
	cases := []struct {
		name      string
		four, six string
		want      map[vpcName]Verdict
	}{
		{"its own prefix", "10.2.3.11", "fd10:2:3::11", map[vpcName]Verdict{red: ToSite}},
		{"what its default route covers", "192.0.2.1", "2001:db8:9::1", map[vpcName]Verdict{defaultVPC: ToSite, red: ToSite}},
		{"a prefix that two peers have", "203.0.113.1", "2001:db8:1::1", map[vpcName]Verdict{defaultVPC: ToSite, red: ToSite}},
		{"the other's longer prefix", "203.0.113.129", "2001:db8:1:8000::1", map[vpcName]Verdict{defaultVPC: SourceNotAllowed, red: SourceNotAllowed}},
		{"its own, longer yet", "203.0.113.193", "2001:db8:1:c000::1", map[vpcName]Verdict{defaultVPC: ToSite, red: ToSite}},
		{"a host of this site", "10.1.1.11", "fd10:1:1::11", map[vpcName]Verdict{red: SourceNotAllowed}},
		{"a gateway address of this site", "10.1.0.1", "fd10:1::1", map[vpcName]Verdict{red: SourceNotAllowed}},
		{"its own tunnel address", "100.64.0.2", "fd64::2", map[vpcName]Verdict{defaultVPC: ToSite}},
		{"our tunnel address", "100.64.0.1", "fd64::1", map[vpcName]Verdict{defaultVPC: SourceNotAllowed}},
	}
	for _, c := range cases {
		for v, want := range c.want {
			for version, src := range map[int]string{4: c.four, 6: c.six} {
				inner := udpPacket(netip.MustParseAddr(src), v.host(1, atRouted, version), 64, 0, 1, 2, nil)
				if v != defaultVPC {
					inner = tunnelled(v.vni(1), etherTypeOfPacket(inner), inner)
				}
				got := p.a.verdicts(func() {
					p.sealTo(t, inner)
					p.a.turn()
				})
				if !maps.Equal(got, map[string]uint64{want.String(): 1}) {
					t.Errorf("%v IPv%d: %s: got %v, want %v", v, version, c.name, got, want)
				}
			}
		}
	}
	// The second's tunnel address is nobody else's, where no default route says so.
	check(t, p.a.relay.Update(p.a.snap))
	s = *p.a.snap
	s.Peers = append(append([]Peer(nil), s.Peers...), Peer{Name: "second", WireGuard: second, Tunnel: []netip.Addr{addr("100.64.0.9"), addr("fd64::9")}})
	check(t, p.a.relay.Update(&s))
	got := p.a.verdicts(func() {
		p.sealTo(t, udpPacket(addr("100.64.0.9"), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, nil))
		p.a.turn()
	})
	if !maps.Equal(got, map[string]uint64{SourceNotAllowed.String(): 1}) {
		t.Errorf("another peer's tunnel address: got %v", got)
	}
	p.a.got(hostPort)
	p.a.got(redPort)
}
