package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// testCase is a packet on the loopback and the verdict under testState.
type testCase struct {
	name   string
	packet []byte
	want   Verdict
}

// Offsets in an untagged packet to an IPv4 or IPv6 address, and of what is in its UDP datagram.
const (
	atIP   = 14
	atUDP4 = atIP + 20
	atUDP6 = atIP + 40
	atData = atUDP4 + 8 // behind IPv4 without options
)

// testCases has every verdict but those that need another state, socket or rate. Wherever it makes sense a case comes
// with IPv4 and IPv6 outside, and with IPv4 and IPv6 inside.
func testCases() []testCase {
	return slices.Concat(linkCases(), ipCases(), routedCases(), groupCases(), wireguardCases(), tunnelCases(), innerCases())
}

func linkCases() []testCase {
	remote := netip.MustParseAddr("10.2.3.4")
	red := stack(udp(remote, 7), bytesLayer(8))
	broadcast := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return []testCase{
		{"arp on the link passes", build(stack(ethernetTo(broadcast, layers.EthernetTypeARP), []layer{arp("192.0.2.1")})...), PassNotIP},
		{"an unknown ethertype passes", build(stack(ethernet(layers.EthernetTypeLinkLayerDiscovery), bytesLayer(46))...), PassNotIP},
		{"a frame for another host's mac passes", build(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv4), red)...), PassOtherMAC},
		{"a broadcast frame passes", build(stack(ethernetTo(broadcast, layers.EthernetTypeIPv4), red)...), PassOtherMAC},
		{"a vlan without a port passes", build(stack(ethernet(layers.EthernetTypeIPv4, 11), red)...), PassUnknownVLAN},
		{"two tags of which only the inner is a port's pass", build(stack(ethernet(layers.EthernetTypeIPv4, 11, 10), red)...), PassUnknownVLAN},
		{"two tags of which only the outer is a port's pass", build(stack(ethernet(layers.EthernetTypeIPv4, 10, 11), red)...), PassUnknownVLAN},
		{"three tags pass", build(stack(ethernet(layers.EthernetTypeIPv4, 10, 0, 0), red)...), PassUnknownVLAN},
		{"a priority tag counts as none", build(stack(ethernet(layers.EthernetTypeIPv4, 0), red)...), PassNoRoute},
		{"a priority tag around a vlan tag counts as none", build(stack(ethernet(layers.EthernetTypeIPv4, 0, 10), red)...), PassNotOurs},
		{"a priority tag inside a vlan tag counts as none", build(stack(ethernet(layers.EthernetTypeIPv4, 10, 0), red)...), PassNotOurs},
		{"two tags choose the port that has both", build(stack(ethernet(layers.EthernetTypeIPv4, 20, 30), red)...), DivertRouted},
		{"an outer tag of 802.1ad is a tag", edit(build(stack(ethernet(layers.EthernetTypeIPv4, 20, 30), red)...), func(b []byte) {
			binary.BigEndian.PutUint16(b[12:], 0x88a8)
		}), DivertRouted},
		{"a frame that ends inside its tag passes", build(ethernet(layers.EthernetTypeIPv4, 10)...)[:16], PassBadEthernet},
		{"a frame that ends inside its second tag passes", build(ethernet(layers.EthernetTypeIPv4, 20, 30)...)[:20], PassBadEthernet},
	}
}

func ipCases() (cases []testCase) {
	ssh4 := build(stack(ethernet(layers.EthernetTypeIPv4), []layer{ip(netip.MustParseAddr("192.0.2.1"), 253)}, bytesLayer(26))...)
	ssh6 := build(stack(ethernet(layers.EthernetTypeIPv6), []layer{ip(netip.MustParseAddr("2001:db8::1"), 253)}, bytesLayer(26))...)
	cases = []testCase{
		{"ipv4 for us of another protocol passes", ssh4, PassLocal},
		{"ipv6 for us of another protocol passes", ssh6, PassLocal},
		{"ipv4 with version 5 passes as bad", edit(ssh4, func(b []byte) { b[atIP] = 0x55; ip4Sum(b, atIP) }), PassBadIP},
		{"ipv4 whose header length is below 20 passes as bad", edit(ssh4, func(b []byte) { b[atIP] = 0x44 }), PassBadIP},
		{"ipv4 whose header is longer than the packet passes as bad", edit(ssh4, func(b []byte) { b[atIP] = 0x4f }), PassBadIP},
		{"ipv4 whose total length is below its header passes as bad", edit(ssh4, func(b []byte) { b[atIP+3] = 19; ip4Sum(b, atIP) }), PassBadIP},
		{"ipv4 whose total length is beyond the frame passes as bad", edit(ssh4, func(b []byte) { b[atIP+3] = 47; ip4Sum(b, atIP) }), PassBadIP},
		{"ipv4 with a wrong checksum passes as bad", edit(ssh4, func(b []byte) { b[atIP+8]-- }), PassBadIP},
		{"ipv6 with version 4 passes as bad", edit(ssh6, func(b []byte) { b[atIP] = 0x40 }), PassBadIP},
		{"ipv6 whose payload is beyond the frame passes as bad", edit(ssh6, func(b []byte) { b[atIP+5] = 27 }), PassBadIP},
		{"the ethertype and not the version says which ip it is", edit(ssh4, func(b []byte) { binary.BigEndian.PutUint16(b[12:], 0x86dd) }), PassBadIP},
		{"ipv4 with a reserved flag is no fragment", edit(ssh4, func(b []byte) { b[atIP+6] = 0xc0; ip4Sum(b, atIP) }), PassLocal},
		{"a port that does not route passes what is not for us", build(stack(ethernet(layers.EthernetTypeIPv4, 40), udp(netip.MustParseAddr("172.16.2.7"), 7))...), PassNotOurs},
		{"a first fragment for us passes", edit(build(toUs("192.0.2.1", 51820)...), func(b []byte) { b[atIP+6] = 0x20; ip4Sum(b, atIP) }), PassFragment},
		{"a later fragment for us passes", edit(build(toUs("192.0.2.1", 51820)...), func(b []byte) { b[atIP+7] = 9; ip4Sum(b, atIP) }), PassFragment},
		{"a first fragment of an overlay packet passes under its own name", edit(build(toUs("192.0.2.1", DefaultVXLANPort)...), func(b []byte) { b[atIP+6] = 0x20; ip4Sum(b, atIP) }), PassOverlayFragment},
		{"a first fragment of another protocol passes", edit(build(toUs("192.0.2.1", DefaultVXLANPort)...), func(b []byte) { b[atIP+6], b[atIP+9] = 0x20, 6; ip4Sum(b, atIP) }), PassFragment},
		{"a later fragment of an overlay packet passes", edit(build(toUs("192.0.2.1", DefaultVXLANPort)...), func(b []byte) { b[atIP+6], b[atIP+7] = 0x20, 9; ip4Sum(b, atIP) }), PassFragment},
		{"a first ipv6 fragment of an overlay packet passes under its own name", fragment6(0, DefaultGenevePort), PassOverlayFragment},
		{"a first ipv6 fragment of wireguard passes", fragment6(0, 51820), PassFragment},
		{"a later ipv6 fragment of an overlay packet passes", fragment6(1, DefaultGenevePort), PassFragment},
		{"an ipv6 fragment that ends inside its header passes", build(stack(ethernet(layers.EthernetTypeIPv6),
			[]layer{ip(netip.MustParseAddr("2001:db8::1"), layers.IPProtocolIPv6Fragment)}, bytesLayer(7))...), PassFragment},
		{"an ipv6 fragment for us passes", build(stack(ethernet(layers.EthernetTypeIPv6),
			[]layer{ip(netip.MustParseAddr("2001:db8::1"), layers.IPProtocolIPv6Fragment)}, bytesLayer(16))...), PassFragment},
		{"an ipv4 protocol number of an ipv6 extension header is a protocol", build(stack(ethernet(layers.EthernetTypeIPv4),
			[]layer{ip(netip.MustParseAddr("192.0.2.1"), 51)}, bytesLayer(16))...), PassLocal},
	}
	for _, protocol := range []layers.IPProtocol{0, 43, 51, 60, 135, 139, 140} {
		cases = append(cases, testCase{"ipv6 for us passes with extension header " + protocol.String(), build(stack(
			ethernet(layers.EthernetTypeIPv6), []layer{ip(netip.MustParseAddr("2001:db8::1"), protocol)}, bytesLayer(16))...), PassExtension})
	}
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		at := atUDP4
		if netip.MustParseAddr(local).Is6() {
			at = atUDP6
		}
		message := build(stack(toUs(local, 51820), wireguard(4, 32))...)
		cases = append(cases,
			testCase{"udp for us on another port passes, " + local, build(stack(toUs(local, 53), bytesLayer(30))...), PassLocal},
			testCase{"a udp length below 8 passes as bad, " + local, edit(message, func(b []byte) { b[at+5] = 7 }), PassBadUDP},
			testCase{"a udp length beyond the packet passes as bad, " + local, edit(message, func(b []byte) { b[at+5]++ }), PassBadUDP},
			testCase{"a udp length of zero passes as bad, " + local, edit(message, func(b []byte) { b[at+5] = 0 }), PassBadUDP},
			testCase{"an ip packet too short for udp passes as bad, " + local, build(stack(ethernet(etherType(netip.MustParseAddr(local))),
				[]layer{ip(netip.MustParseAddr(local), layers.IPProtocolUDP)}, bytesLayer(7))...), PassBadUDP},
		)
	}
	return cases
}

func routedCases() (cases []testCase) {
	to := func(dst string, vlans ...uint16) []byte {
		a := netip.MustParseAddr(dst)
		return build(stack(ethernet(etherType(a), vlans...), udp(a, 7), bytesLayer(20))...)
	}
	for _, c := range []struct {
		dst     string
		remote  bool
		comment string
	}{
		{"172.16.2.0", true, "the first of the prefix"}, {"172.16.2.255", true, "the last of the prefix"},
		{"172.16.1.255", false, "the one before the prefix"}, {"172.16.3.0", false, "the one behind the prefix"},
		{"10.2.3.4", false, "remote only in another vpc"},
		{"fd16:2::", true, "the first of the prefix"}, {"fd16:2::ffff:ffff:ffff:ffff", true, "the last of the prefix"},
		{"fd16:2:0:1::", false, "the one behind the prefix"}, {"fd10:2::5", false, "remote only in another vpc"},
	} {
		want := PassNoRoute
		if c.remote {
			want = DivertRouted
		}
		cases = append(cases, testCase{"routed to " + c.dst + ", " + c.comment, to(c.dst), want})
	}
	last4, last6 := to("172.16.2.7"), to("fd16:2::7")
	options := build(stack(ethernet(layers.EthernetTypeIPv4), []layer{&layers.IPv4{
		Version: 4, TTL: 1, Protocol: layers.IPProtocolUDP, SrcIP: []byte{172, 16, 1, 9}, DstIP: []byte{172, 16, 2, 9},
		Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}},
	}}, bytesLayer(20))...)
	cases = append(cases,
		testCase{"routed with ttl 1 is the relay's to answer", edit(last4, func(b []byte) { b[atIP+8] = 1; ip4Sum(b, atIP) }), DivertRouted},
		testCase{"routed with hop limit 1 is the relay's to answer", edit(last6, func(b []byte) { b[atIP+7] = 1 }), DivertRouted},
		testCase{"a routed fragment is routed", edit(last4, func(b []byte) { b[atIP+6] = 0x20; ip4Sum(b, atIP) }), DivertRouted},
		testCase{"a routed ipv6 fragment is routed", edit(last6, func(b []byte) { b[atIP+6] = 44 }), DivertRouted},
		testCase{"a routed packet with an extension header is routed", edit(last6, func(b []byte) { b[atIP+6] = 60 }), DivertRouted},
		testCase{"a routed packet with ip options is routed", options, DivertRouted},
		testCase{"a routed packet for a gateway address of the vpc is the relay's", to("172.16.9.1"), DivertGateway},
		testCase{"an address of ours inside a remote prefix stays ours", to("192.0.2.1", 20, 30), PassLocal},
		testCase{"a gateway address of another vpc is not the relay's", to("10.1.0.1"), PassNoRoute},
		testCase{"a default route takes ipv4", to("8.8.8.8", 20, 30), DivertRouted},
		testCase{"a default route takes ipv6", to("2001:db8:ffff::1", 20, 30), DivertRouted},
	)
	for _, dst := range []string{"224.0.0.5", "255.255.255.255", "169.254.1.1", "127.0.0.1", "0.0.0.0", "0.1.2.3", "239.255.255.250",
		"ff02::5", "ff0e::1", "fe80::1", "febf::1", "::", "::1", "::ffff:10.2.3.4"} {
		cases = append(cases, testCase{"no default route takes " + dst, linkScope(dst), PassLinkScope})
	}
	return append(cases, testCase{"a default route takes fec0::1, which is next to link-local", to("fec0::1", 20, 30), DivertRouted},
		testCase{"a default route takes ::2, which is next to loopback", to("::2", 20, 30), DivertRouted},
		testCase{"a default route takes 223.255.255.255, which is next to multicast", to("223.255.255.255", 20, 30), DivertRouted})
}

// linkScope is a packet to dst on the port with a default route. gopacket would write IPv4 in IPv6 as IPv4.
func linkScope(dst string) []byte {
	a := netip.MustParseAddr(dst)
	if a.Is4() {
		return build(stack(ethernet(layers.EthernetTypeIPv4, 20, 30), udp(a, 7))...)
	}
	packet := build(stack(ethernet(layers.EthernetTypeIPv6, 20, 30), udp(netip.MustParseAddr("fd00::1"), 7))...)
	return edit(packet, func(b []byte) { copy(b[14+8+24:], a.AsSlice()) })
}

func wireguardCases() (cases []testCase) {
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, c := range []struct {
			name string
			kind byte
			size int
			want Verdict
		}{
			{"an initiation", 1, 148, DivertHandshake}, {"a response", 2, 92, DivertHandshake}, {"a cookie", 3, 64, DivertHandshake},
			{"a keepalive", 4, 32, DivertTransport}, {"a transport message", 4, 1440, DivertTransport},
			{"a transport message padded only to an mtu of 1420", 4, 1452, DivertTransport},
			{"an empty datagram", 0, 0, DropBadWireGuard}, {"three bytes", 4, 3, DropBadWireGuard},
			{"type 0", 0, 148, DropBadWireGuard}, {"type 5", 5, 148, DropBadWireGuard}, {"type 255", 255, 64, DropBadWireGuard},
			{"an initiation one short", 1, 147, DropBadWireGuard}, {"an initiation one long", 1, 149, DropBadWireGuard},
			{"a response of an initiation's size", 2, 148, DropBadWireGuard}, {"a response one short", 2, 91, DropBadWireGuard},
			{"a cookie one long", 3, 65, DropBadWireGuard}, {"a transport message one short", 4, 31, DropBadWireGuard},
		} {
			cases = append(cases, testCase{c.name + " to " + local, build(stack(toUs(local, 51820), wireguard(c.kind, c.size))...), c.want})
		}
	}
	message := build(stack(toUs("192.0.2.1", 51820), wireguard(4, 64))...)
	for i := 1; i <= 3; i++ {
		cases = append(cases, testCase{"a reserved byte that is not zero is dropped", edit(message, func(b []byte) { b[atData+i] = 1 }), DropBadWireGuard})
	}
	return append(cases,
		testCase{"wireguard on a vlan without overlay and routing", build(stack(toUs("192.0.2.1", 51820, 40), wireguard(4, 32))...), DivertTransport},
		testCase{"wireguard on two tags", build(stack(toUs("2001:db8::1", 51820, 20, 30), wireguard(1, 148))...), DivertHandshake},
		testCase{"wireguard for another host passes", build(stack(toUs("192.0.2.77", 51820), wireguard(4, 32))...), PassNoRoute},
		testCase{"wireguard with ip options", withOptions(message, 8), DivertTransport},
		testCase{"wireguard with the most ip options", withOptions(message, 40), DivertTransport},
		testCase{"wireguard with ethernet padding behind it", append(slices.Clone(message), make([]byte, 17)...), DivertTransport},
		testCase{"padding does not make a short message long", append(build(stack(toUs("192.0.2.1", 51820), wireguard(1, 100))...), make([]byte, 48)...), DropBadWireGuard},
	)
}

// withOptions puts n bytes of options (no-operation) into an untagged IPv4 packet.
func withOptions(packet []byte, n int) []byte {
	out := slices.Insert(slices.Clone(packet), atUDP4, make([]byte, n)...)
	for i := range n {
		out[atUDP4+i] = 1
	}
	out[atIP] += byte(n / 4)
	binary.BigEndian.PutUint16(out[atIP+2:], binary.BigEndian.Uint16(out[atIP+2:])+uint16(n))
	ip4Sum(out, atIP)
	return out
}

func tunnelCases() (cases []testCase) {
	const ether = layers.EthernetTypeTransparentEthernetBridging
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, dst := range []string{"10.2.3.4", "fd10:2::4"} {
			where := " to " + dst + " over " + local
			critical := geneve(100, ether, option(0x0102, 0x80, 4), option(0x0101, 0x48, 12))
			critical.CriticalOption = true
			long := geneve(100, ether, option(1, 1, 124), option(1, 2, 120))
			control := geneve(100, ether)
			control.OAMPacket = true
			with := func(l layer, payload []layer) []byte {
				return build(stack(toUs(local, DefaultGenevePort), []layer{l}, payload)...)
			}
			cases = append(cases,
				testCase{"geneve" + where, with(geneve(100, ether), inner(dst)), DivertGeneve},
				testCase{"geneve on a second port" + where, build(stack(toUs(local, 16081, 10), []layer{geneve(100, ether)}, inner(dst))...), DivertGeneve},
				testCase{"geneve without inner ethernet" + where, with(geneve(100, etherType(netip.MustParseAddr(dst))), innerIP(dst)), DivertGeneve},
				testCase{"geneve with a critical option" + where, with(critical, inner(dst)), DivertGeneve},
				testCase{"geneve with 252 bytes of options" + where, with(long, inner(dst)), DivertGeneve},
				testCase{"geneve control message" + where, with(control, inner(dst)), PassGeneveControl},
				testCase{"geneve of an unknown vni" + where, with(geneve(101, ether), inner(dst)), PassUnknownVNI},
				testCase{"geneve of vni 0, which is remote for routed ports only" + where, with(geneve(0, ether), inner("172.16.2.7")), PassUnknownVNI},
				testCase{"vxlan" + where, build(stack(toUs(local, DefaultVXLANPort), []layer{vxlan(100)}, inner(dst))...), DivertVXLAN},
				testCase{"vxlan on the old port" + where, build(stack(toUs(local, LegacyVXLANPort), []layer{vxlan(100)}, inner(dst))...), DivertVXLAN},
				testCase{"vxlan on a vlan" + where, build(stack(toUs(local, DefaultVXLANPort, 10), []layer{vxlan(100)}, inner(dst))...), DivertVXLAN},
				testCase{"vxlan on a port without overlay" + where, build(stack(toUs(local, DefaultVXLANPort, 40), []layer{vxlan(100)}, inner(dst))...), PassLocal},
				testCase{"geneve on a port without overlay" + where, build(stack(toUs(local, DefaultGenevePort, 40), []layer{geneve(100, ether)}, inner(dst))...), PassLocal},
				testCase{"vxlan of an unknown vni" + where, build(stack(toUs(local, DefaultVXLANPort), []layer{vxlan(1)}, inner(dst))...), PassUnknownVNI},
			)
		}
	}
	g := build(stack(toUs("192.0.2.1", DefaultGenevePort), []layer{geneve(100, ether)}, inner("10.2.3.4"))...)
	v := build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner("10.2.3.4"))...)
	return append(cases,
		testCase{"geneve of the highest vni", build(stack(toUs("192.0.2.1", DefaultGenevePort), []layer{geneve(maxVNI, ether)}, inner("10.2.3.4"))...), DivertGeneve},
		testCase{"geneve with ip options outside", withOptions(g, 12), DivertGeneve},
		testCase{"geneve with bits in the reserved fields", edit(g, func(b []byte) { b[atData+1] |= 0x3f; b[atData+7] = 0xff }), DivertGeneve},
		testCase{"geneve of version 1 passes as bad", edit(g, func(b []byte) { b[atData] |= 0x40 }), PassBadGeneve},
		testCase{"geneve whose options end behind the datagram passes as bad", edit(g, func(b []byte) { b[atData] = 0x3f }), PassBadGeneve},
		testCase{"geneve too short for its header passes as bad", build(stack(toUs("192.0.2.1", DefaultGenevePort), bytesLayer(7))...), PassBadGeneve},
		testCase{"geneve of an unknown protocol passes", edit(g, func(b []byte) { b[atData+2] = 0 }), PassInnerOther},
		testCase{"geneve with arp directly in it passes", edit(g, func(b []byte) { binary.BigEndian.PutUint16(b[atData+2:], 0x0806) }), PassInnerOther},
		testCase{"vxlan without the i flag passes as bad", edit(v, func(b []byte) { b[atData] = 0 }), PassBadVXLAN},
		testCase{"vxlan with other flags and reserved bits", edit(v, func(b []byte) { b[atData] = 0xff; b[atData+3] = 1; b[atData+7] = 1 }), DivertVXLAN},
		testCase{"vxlan too short for its header passes as bad", build(stack(toUs("192.0.2.1", DefaultVXLANPort), bytesLayer(7))...), PassBadVXLAN},
		testCase{"vxlan for another host passes", build(stack(toUs("192.0.2.77", DefaultVXLANPort), []layer{vxlan(100)}, inner("10.2.3.4"))...), PassNoRoute},
	)
}

func innerCases() (cases []testCase) {
	const ether = layers.EthernetTypeTransparentEthernetBridging
	type tunnel struct {
		name                string
		with, learn, bounce func(payload []layer) []byte
	}
	for _, local := range []string{"198.51.100.1", "2001:db8::1"} {
		for _, o := range []tunnel{
			{"geneve over " + local, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultGenevePort), []layer{geneve(100, ether, option(1, 1, 8))}, p)...)
			}, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultGenevePort), []layer{geneve(200, ether, option(1, 1, 8))}, p)...)
			}, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultGenevePort), []layer{geneve(maxVNI, ether, option(1, 1, 8))}, p)...)
			}},
			{"vxlan over " + local, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultVXLANPort), []layer{vxlan(100)}, p)...)
			}, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultVXLANPort), []layer{vxlan(200)}, p)...)
			}, func(p []layer) []byte {
				return build(stack(toUs(local, DefaultVXLANPort), []layer{vxlan(maxVNI)}, p)...)
			}},
		} {
			in4, in6 := inner("10.2.3.4"), inner("fd10:2::4")
			at := len(o.with(bytesLayer(100))) - 100 // of the inner frame
			wrong := func(p []layer, off int, value byte) []byte {
				return edit(o.with(p), func(b []byte) { b[at+off] = value })
			}
			resum := func(b []byte) []byte { ip4Sum(b, at+14); return b }
			for _, c := range []testCase{
				{"local ipv4", o.with(inner("10.1.5.5")), PassInnerNoRoute},
				{"local ipv6", o.with(inner("fd10:1::5")), PassInnerNoRoute},
				{"a host route", o.with(inner("10.9.9.9")), map[bool]Verdict{true: DivertGeneve, false: DivertVXLAN}[o.name[0] == 'g']},
				{"this site's, inside a remote prefix", o.with(inner("10.2.77.4")), PassInnerNoRoute},
				{"a neighbour of a host route", o.with(inner("10.9.9.8")), PassInnerNoRoute},
				{"ipv4 for the gateway", o.with(inner("10.1.0.1")), DivertGateway},
				{"ipv4 for a gateway inside a remote prefix", o.with(inner("10.2.0.1")), DivertGateway},
				{"ipv6 for the gateway", o.with(inner("fd10:1::1")), DivertGateway},
				{"ipv6 for the gateway's link-local address", o.with(inner("fe80::1")), DivertGateway},
				{"another link-local address", o.with(inner("fe80::2")), PassInnerLinkScope},
				{"ipv4 multicast", o.with(inner("224.0.0.251")), PassInnerLinkScope},
				{"ipv6 multicast", o.with(inner("ff02::fb")), PassInnerLinkScope},
				{"arp for the gateway", o.with(arpRequest("10.1.0.1")), DivertNeighbour},
				{"arp for another", o.with(arpRequest("10.1.0.2")), PassInnerARP},
				{"arp for a remote address", o.with(arpRequest("10.2.3.4")), PassInnerARP},
				{"arp for an address of another vpc's gateway", o.with(arpRequest("172.16.9.1")), PassInnerARP},
				{"an arp reply to the gateway", wrong(arpRequest("10.1.0.1"), 14+7, 2), DivertNeighbour},
				{"an arp reply to another", wrong(arpRequest("10.1.0.2"), 14+7, 2), PassInnerARP},
				{"another arp operation", wrong(arpRequest("10.1.0.1"), 14+7, 3), PassInnerARP},
				{"a gratuitous arp request", o.with(arpRequest("10.1.0.9")), PassInnerARP},
				{"a gratuitous arp request of a vpc that learns", o.learn(arpRequest("10.1.0.9")), DivertNeighbour},
				{"a gratuitous arp reply of a vpc that learns", edit(o.learn(arpRequest("10.1.0.9")), func(b []byte) { b[at+14+7] = 2 }), DivertNeighbour},
				{"arp for another in a vpc that learns", o.learn(arpRequest("10.1.0.2")), PassInnerARP},
				{"arp for a remote address in a vpc whose bouncer we are", o.bounce(arpRequest("10.2.3.4")), DivertNeighbour},
				{"arp for a local address in a vpc whose bouncer we are", o.bounce(arpRequest("10.1.3.4")), PassInnerARP},
				{"an arp reply to a remote address in a vpc whose bouncer we are", edit(o.bounce(arpRequest("10.2.3.4")), func(b []byte) { b[at+14+7] = 2 }), PassInnerARP},
				{"an advertisement to the gateway", o.with(advertisement("fd10:1::1", 255)), DivertNeighbour},
				{"an advertisement to the gateway that was forwarded", o.with(advertisement("fd10:1::1", 254)), DivertGateway},
				{"an advertisement to another", o.with(advertisement("fd10:1::5", 255)), PassInnerNoRoute},
				{"an advertisement to all nodes", o.with(advertisement("ff02::1", 255)), PassInnerLinkScope},
				{"an advertisement to all nodes of a vpc that learns", o.learn(advertisement("ff02::1", 255)), DivertNeighbour},
				{"an advertisement to other nodes of a vpc that learns", o.learn(advertisement("ff02::2", 255)), PassInnerLinkScope},
				{"an advertisement to all nodes of a vpc that learns that was forwarded", o.learn(advertisement("ff02::1", 254)), PassInnerLinkScope},
				{"arp of another hardware", wrong(arpRequest("10.1.0.1"), 14+1, 6), PassInnerARP},
				{"arp of another protocol", wrong(arpRequest("10.1.0.1"), 14+2, 0x86), PassInnerARP},
				{"arp with long hardware addresses", wrong(arpRequest("10.1.0.1"), 14+4, 8), PassInnerARP},
				{"arp with long protocol addresses", wrong(arpRequest("10.1.0.1"), 14+5, 16), PassInnerARP},
				{"a solicitation for the gateway by multicast", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "ff02::1:ff00:1", 255))), DivertNeighbour},
				{"a solicitation for the gateway by unicast", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "fd10:1::1", 255))), DivertNeighbour},
				{"a solicitation for the gateway's link-local address", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fe80::1", "ff02::1:ff00:1", 255))), DivertNeighbour},
				{"a solicitation for another in the same group", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1:0:7::1", "ff02::1:ff00:1", 255))), PassInnerLinkScope},
				{"a solicitation that was forwarded", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "ff02::1:ff00:1", 254))), PassInnerLinkScope},
				{"an advertisement", wrong(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "ff02::1:ff00:1", 255)), 14+40, 136), PassInnerLinkScope},
				{"a solicitation with a code", wrong(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "ff02::1:ff00:1", 255)), 14+41, 1), PassInnerLinkScope},
				{"a solicitation whose target ends behind the packet", wrong(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), solicitation("fd10:1::1", "ff02::1:ff00:1", 255)), 14+5, 23), PassInnerLinkScope},
				{"an inner vlan", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv4, 5), innerIP("10.2.3.4"))), PassInnerVLAN},
				{"an inner 802.1ad tag", edit(o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv4, 5), innerIP("10.2.3.4"))), func(b []byte) { b[at+12], b[at+13] = 0x88, 0xa8 }), PassInnerVLAN},
				{"another inner ethertype", o.with(stack(ethernetTo(hostMAC, layers.EthernetTypeLinkLayerDiscovery), bytesLayer(50))), PassInnerOther},
				{"no inner frame", o.with(nil), PassBadInner},
				{"thirteen bytes of an inner frame", o.with([]layer{gopacket.Payload(make([]byte, 13))}), PassBadInner},
				{"an inner packet of the wrong version", wrong(in4, 14, 0x65), PassBadInner},
				{"an inner ipv6 packet of the wrong version", wrong(in6, 14, 0x40), PassBadInner},
				{"an inner header length below 20", wrong(in4, 14, 0x41), PassBadInner},
				{"an inner total length beyond the datagram", resum(wrong(in4, 14+3, 49)), PassBadInner},
				{"an inner payload length beyond the datagram", wrong(in6, 14+5, 29), PassBadInner},
				{"an inner checksum that is wrong", wrong(in4, 14+10, 0xfe), PassBadInner},
				{"arp that ends early", o.with([]layer{gopacket.Payload(build(arpRequest("10.1.0.1")...)[:14+27])}), PassBadInner},
			} {
				c.name = o.name + ": " + c.name
				cases = append(cases, c)
			}
		}
	}
	return cases
}

func groupCases() (cases []testCase) {
	mac := [6]byte{0x01, 0x00, 0x5e, 1, 2, 3}
	for _, group := range []struct {
		red, green, other string // of VNI 100; of VNI 200, which only IPv4 has; of neither
	}{{"239.1.2.3", "239.2.2.3", "239.3.2.3"}, {"ff08::2:3", "", "ff05::2:3"}} {
		red, other := netip.MustParseAddr(group.red), netip.MustParseAddr(group.other)
		cases = append(cases,
			testCase{"a carried group in vxlan is diverted: " + group.red, build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner(group.red))...), DivertVXLAN},
			testCase{"a carried group in geneve is diverted: " + group.red, build(stack(toUs("2001:db8::1", DefaultGenevePort), []layer{geneve(100, layers.EthernetTypeTransparentEthernetBridging)}, inner(group.red))...), DivertGeneve},
			testCase{"another group in vxlan passes: " + group.other, build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner(group.other))...), PassInnerLinkScope},
			testCase{"another vpc's group in vxlan passes: " + group.red, build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(200)}, inner(group.red))...), PassInnerLinkScope},
			testCase{"another group on a routed port passes: " + group.other, build(stack(ethernetTo(mac, etherType(other), 20, 30), udp(other, 7))...), PassOtherMAC},
			testCase{"another vpc's group on a routed port passes: " + group.red, build(stack(ethernetTo(mac, etherType(red), 20, 30), udp(red, 7))...), PassOtherMAC},
			testCase{"a group on a port that does not route passes: " + group.red, build(stack(ethernetTo(mac, etherType(red), 10), udp(red, 7))...), PassOtherMAC},
		)
		if group.green != "" {
			green := netip.MustParseAddr(group.green)
			cases = append(cases,
				testCase{"a carried group on a routed port is diverted", build(stack(ethernetTo(mac, etherType(green), 20, 30), udp(green, 7))...), DivertRouted},
				testCase{"a carried group for our mac on a routed port is diverted", build(stack(ethernet(etherType(green), 20, 30), udp(green, 7))...), DivertRouted},
				testCase{"a carried group with a broken header passes", build(stack(ethernetTo(mac, etherType(green), 20, 30), udp(green, 7))...)[:30], PassOtherMAC},
			)
		}
	}
	return cases
}

// fragment6 is an IPv6 fragment for us, at an offset of so many bytes times 8, with UDP to a port.
func fragment6(offset uint16, port uint16) []byte {
	header := make([]byte, 8)
	header[0] = 17
	binary.BigEndian.PutUint16(header[2:], offset<<3|1)
	datagram := make([]byte, 16)
	binary.BigEndian.PutUint16(datagram[2:], port)
	return build(stack(ethernet(layers.EthernetTypeIPv6), []layer{ip(netip.MustParseAddr("2001:db8::1"), layers.IPProtocolIPv6Fragment)},
		[]layer{gopacket.Payload(append(header, datagram...))})...)
}
