package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The direct tests happen in VPC 300: others' prefixes 10.3x and fd3x, by peer; the site's 10.40 and fd40, by kind of hop.
const directVNI = 300

// directState is testState with two direct peers and hops of every kind, in both families.
func directState() State {
	s := testState()
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	s.Ports = append(s.Ports,
		Port{Ifindex: loopback, VLAN: 50, Routed: true, VNI: directVNI, MAC: portMAC},
		Port{Ifindex: loopback, VLAN: 60, Overlay: true, Virtual: true, MAC: portMAC})
	s.VNIs = append(s.VNIs, directVNI)
	s.Direct = []uint16{DefaultDirectPort}
	s.DirectPeers = []DirectPeer{
		{7, netip.MustParseAddr("192.0.2.77")}, {7, netip.MustParseAddr("2001:db8::77")}, {8, netip.MustParseAddr("2001:db8::88")},
	}
	hop := func(id uint32, kind HopKind, dst string) Hop {
		h := Hop{ID: id, Kind: kind, VNI: directVNI, Ifindex: loopback, SrcMAC: portMAC, DstMAC: [6]byte{2, 0, 0, 0, 1, byte(id)}, MTU: 1400}
		if kind == ToRouted {
			return h
		}
		h.Src, h.Dst, h.UDPPort, h.RemoteVNI = v4, netip.MustParseAddr(dst), 4789, directVNI
		if h.Dst.Is6() {
			h.Src = v6
		}
		switch kind {
		case ToPeer:
			h.UDPPort, h.RemoteVNI = DefaultDirectPort, 3000
		case ToGeneve:
			h.UDPPort = 6081
			fallthrough
		case ToVXLAN:
			h.InnerSrc, h.InnerDst = [6]byte{2, 0, 0, 0, 2, 1}, [6]byte{2, 0, 0, 0, 2, byte(id)}
		}
		return h
	}
	change := func(h Hop, f func(h *Hop)) Hop { f(&h); return h }
	peer := func(h Hop, id uint32) Hop { return change(h, func(h *Hop) { h.Peer = id }) }
	s.Hops = []Hop{
		peer(hop(1, ToPeer, "192.0.2.77"), 7),
		peer(hop(2, ToPeer, "2001:db8::88"), 8),
		{ID: 3, Kind: ToPeer, VNI: directVNI, Peer: 8},
		change(peer(hop(4, ToPeer, "192.0.2.77"), 7), func(h *Hop) { h.Ifindex = 4711 }),
		change(peer(hop(5, ToPeer, "192.0.2.77"), 7), func(h *Hop) { h.MaxMSS = 1000 }),
		change(peer(hop(6, ToPeer, "192.0.2.77"), 7), func(h *Hop) { h.NoClamp = true }),
		change(peer(hop(7, ToPeer, "192.0.2.77"), 7), func(h *Hop) { h.MTU = 68 }),
		hop(11, ToVXLAN, "198.51.100.11"), hop(12, ToGeneve, "198.51.100.12"),
		hop(13, ToVXLAN, "2001:db8::13"), hop(14, ToGeneve, "2001:db8::14"), hop(15, ToRouted, ""),
		{ID: 16, Kind: ToRouted, VNI: directVNI},
	}
	both := func(prefixes []Prefix, a, b int, hop uint32) []Prefix {
		return append(prefixes,
			Prefix{VNI: directVNI, Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", a, b)), Hop: hop},
			Prefix{VNI: directVNI, Prefix: netip.MustParsePrefix(fmt.Sprintf("fd%d:%d::/64", a, b)), Hop: hop})
	}
	for i := range 8 { // 10.30.0 is the relay's
		s.Remote = both(s.Remote, 30, i, uint32(i))
	}
	s.Site = both(s.Site, 40, 0, 0)
	for id := 11; id <= 16; id++ {
		s.Site = both(s.Site, 40, id, uint32(id))
	}
	s.Gateways = append(s.Gateways, Gateway{directVNI, netip.MustParseAddr("10.30.1.1")}, Gateway{directVNI, netip.MustParseAddr("10.40.11.1")})
	s.Groups = append(s.Groups, Prefix{VNI: directVNI, Prefix: netip.MustParsePrefix("239.3.0.0/16")})
	return s
}

// flow is an inner packet: IP from src to dst, and what follows.
func flow(src, dst string, protocol layers.IPProtocol, l ...layer) []layer {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	var header gopacket.NetworkLayer
	if b.Is4() {
		header = &layers.IPv4{Version: 4, TTL: 64, TOS: 0xb9 &^ 3, Id: 77, Protocol: protocol, SrcIP: a.AsSlice(), DstIP: b.AsSlice()}
	} else {
		header = &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: 0xb9 &^ 3, FlowLabel: 0xabcde, NextHeader: protocol, SrcIP: a.AsSlice(), DstIP: b.AsSlice()}
	}
	for _, l := range l {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(header); err != nil {
				panic(err)
			}
		}
	}
	return append([]layer{header.(layer)}, l...)
}

func udpFlow(src, dst string, size int) []layer {
	return flow(src, dst, layers.IPProtocolUDP, &layers.UDP{SrcPort: 5555, DstPort: 7}, gopacket.Payload(slices.Repeat([]byte{0xa5}, size)))
}

func tcpFlow(src, dst string, syn bool, options ...layers.TCPOption) []layer {
	return flow(src, dst, layers.IPProtocolTCP, &layers.TCP{SrcPort: 5555, DstPort: 80, Seq: 1, SYN: syn, ACK: !syn, Window: 1000, Options: options})
}

func announce(mss uint16) layers.TCPOption {
	return layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, mss)}
}

// Ways that a packet comes in: around it, from the site or from a peer.
func inVXLAN(l []layer) []byte {
	return build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(directVNI)}, ethernetTo(hostMAC, typeOf(l)), l)...)
}

func inGeneve(l []layer, options ...*layers.GeneveOption) []byte {
	return build(stack(toUs("2001:db8::1", DefaultGenevePort), []layer{geneve(directVNI, typeOf(l), options...)}, l)...)
}

func inRouted(l []layer) []byte { return build(stack(ethernet(typeOf(l), 50), l)...) }

func inVirtual(l []layer) []byte {
	return build(stack(toUs("192.0.2.1", DefaultVXLANPort, 60), []layer{vxlan(directVNI)}, ethernetTo(hostMAC, typeOf(l)), l)...)
}

func fromPeer(outer string, l []layer, options ...*layers.GeneveOption) []byte {
	return fromPeerVNI(outer, directVNI, typeOf(l), l, options...)
}

func fromPeerVNI(outer string, vni uint32, kind layers.EthernetType, l []layer, options ...*layers.GeneveOption) []byte {
	a := netip.MustParseAddr(outer)
	to := netip.MustParseAddr("192.0.2.1")
	if a.Is6() {
		to = netip.MustParseAddr("2001:db8::1")
	}
	u := &layers.UDP{SrcPort: 50000, DstPort: layers.UDPPort(DefaultDirectPort)}
	return build(stack(ethernet(etherType(a)), flow(outer, to.String(), layers.IPProtocolUDP, u), []layer{geneve(vni, kind, options...)}, l)...)
}

func typeOf(l []layer) layers.EthernetType {
	if _, ok := l[0].(*layers.IPv4); ok {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

// directCase is a packet on the loopback and its verdict under directState.
type directCase = testCase

func directCases() (cases []directCase) {
	add := func(want Verdict, name string, packet []byte) { cases = append(cases, directCase{name, packet, want}) }
	// Site 40 to others 30, and back, in both families.
	host := func(six bool, a, b int) string {
		if six {
			return fmt.Sprintf("fd%d:%d::5", a, b)
		}
		return fmt.Sprintf("10.%d.%d.5", a, b)
	}
	for _, six := range []bool{false, true} {
		family := map[bool]string{false: " IPv4", true: " IPv6"}[six]
		site, siteNoHop, unresolved := host(six, 40, 11), host(six, 40, 0), host(six, 40, 16)
		one, two := host(six, 30, 1), host(six, 30, 2)
		icmp := flow(site, two, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2}, gopacket.Payload("ping"))
		mtu := 1400 - 28
		if six {
			mtu -= 20
			icmp = flow(site, two, layers.IPProtocolICMPv6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, gopacket.Payload("ping----"))
		}
		add(DirectToPeer, "VXLAN to a peer over IPv4,"+family, inVXLAN(udpFlow(site, one, 33)))
		add(DirectToPeer, "VXLAN to a peer over IPv6,"+family, inVXLAN(udpFlow(site, two, 33)))
		add(DirectToPeer, "Geneve without Ethernet to a peer,"+family, inGeneve(tcpFlow(site, one, false)))
		add(DirectToPeer, "Geneve with Ethernet to a peer,"+family, build(stack(toUs("192.0.2.1", DefaultGenevePort),
			[]layer{geneve(directVNI, layers.EthernetTypeTransparentEthernetBridging)}, ethernetTo(hostMAC, typeOf(icmp)), icmp)...))
		add(DirectToPeer, "routed, behind a tag, to a peer,"+family, inRouted(udpFlow(site, two, 0)))
		add(DirectToPeer, "from a part of the site without a hop,"+family, inVXLAN(udpFlow(siteNoHop, one, 5)))
		add(DirectToPeer, "padding is left behind,"+family, append(inVXLAN(udpFlow(site, one, 1)), make([]byte, 20)...))
		add(DirectToPeer, "as long as fits,"+family, inVXLAN(udpFlow(site, one, mtu)))
		add(DivertVXLAN, "one byte longer than fits,"+family, inVXLAN(udpFlow(site, one, mtu+1)))
		add(DivertGeneve, "Geneve options,"+family, inGeneve(udpFlow(site, one, 1), option(0x101, 1, 4)))
		add(DivertVXLAN, "a remote prefix without a hop,"+family, inVXLAN(udpFlow(site, host(six, 30, 0), 5)))
		add(DivertVXLAN, "a hop that is not resolved,"+family, inVXLAN(udpFlow(site, host(six, 30, 3), 5)))
		add(DivertVXLAN, "a hop whose interface is gone,"+family, inVXLAN(udpFlow(site, host(six, 30, 4), 5)))
		add(DivertVXLAN, "a source that is not the site's,"+family, inVXLAN(udpFlow(host(six, 50, 1), one, 5)))
		add(DivertVXLAN, "a source of another site,"+family, inVXLAN(udpFlow(two, one, 5)))
		add(DivertVXLAN, "a martian source,"+family, inVXLAN(udpFlow(map[bool]string{false: "127.0.0.1", true: "fe80::1"}[six], one, 5)))

		announced := announce(1460)
		add(DirectToPeer, "a SYN whose MSS is lowered,"+family, inVXLAN(tcpFlow(site, one, true, announced)))
		add(DirectToPeer, "a SYN whose MSS is lowered to the hop's own,"+family, inVXLAN(tcpFlow(site, host(six, 30, 5), true, announced)))
		add(DirectToPeer, "a SYN whose MSS is lowered no further than 88,"+family, inVXLAN(tcpFlow(site, host(six, 30, 7), true, announced)))
		add(DirectToPeer, "a SYN whose MSS is low enough,"+family, inVXLAN(tcpFlow(site, one, true, announce(536))))
		add(DirectToPeer, "a SYN without options,"+family, inVXLAN(tcpFlow(site, one, true)))
		add(DirectToPeer, "a SYN whose MSS is not clamped,"+family, inVXLAN(tcpFlow(site, host(six, 30, 6), true, announced)))
		add(DivertVXLAN, "a SYN whose MSS comes second,"+family, inVXLAN(tcpFlow(site, one, true, layers.TCPOption{OptionType: layers.TCPOptionKindNop}, announced)))
		add(DivertVXLAN, "a SYN from where no hop is,"+family, inVXLAN(tcpFlow(siteNoHop, one, true, announced)))
		add(DivertVXLAN, "a SYN from where the hop is not resolved,"+family, inVXLAN(tcpFlow(unresolved, one, true, announced)))
		add(DirectToPeer, "a virtual port, finished TCP,"+family, inVirtual(tcpFlow(site, one, false)))
		add(DirectToPeer, "a virtual port, finished UDP,"+family, inVirtual(udpFlow(site, one, 9)))
		add(DivertVXLAN, "a virtual port, unfinished TCP,"+family, unfinished(inVirtual(tcpFlow(site, one, false)), six, layers.IPProtocolTCP))
		add(DivertVXLAN, "a virtual port, unfinished UDP,"+family, unfinished(inVirtual(udpFlow(site, one, 9)), six, layers.IPProtocolUDP))
		add(DirectToPeer, "another port, TCP that only looks unfinished,"+family, unfinished(inVXLAN(tcpFlow(site, one, false)), six, layers.IPProtocolTCP))

		for id, to := range map[int]string{11: "VXLAN over IPv4", 12: "Geneve over IPv4", 13: "VXLAN over IPv6", 14: "Geneve over IPv6", 15: "a routed neighbour"} {
			local := host(six, 40, id)
			name := to + "," + family
			back := icmp[1:]
			protocol := layers.IPProtocolICMPv4
			if six {
				protocol = layers.IPProtocolICMPv6
			}
			add(DirectToSite, "UDP to "+name, fromPeer("192.0.2.77", udpFlow(one, local, 33)))
			add(DirectToSite, "UDP of even length from another address of the peer to "+name, fromPeer("2001:db8::77", udpFlow(one, local, 32)))
			add(DirectToSite, "TCP to "+name, fromPeer("2001:db8::88", tcpFlow(two, local, false)))
			add(DirectToSite, "a SYN to "+name, fromPeer("2001:db8::88", tcpFlow(two, local, true, announced)))
			add(DirectToSite, "a ping to "+name, fromPeer("2001:db8::88", flow(two, local, protocol, slices.Clone(back)...)))
			other := fromPeer("2001:db8::88", flow(two, local, 47, gopacket.Payload("generic routing")))
			if id == 13 || id == 14 {
				add(DivertDirect, "what has no checksum to "+name, other)
			} else {
				add(DirectToSite, "what has no checksum to "+name, other)
			}
			add(DivertDirect, "from another peer's address to "+name, fromPeer("192.0.2.77", udpFlow(two, local, 33)))
		}
		local := host(six, 40, 11)
		add(DivertDirect, "to a hop that is not resolved,"+family, fromPeer("192.0.2.77", udpFlow(one, unresolved, 3)))
		add(DivertDirect, "to a part of the site without a hop,"+family, fromPeer("192.0.2.77", udpFlow(one, siteNoHop, 3)))
		add(DivertDirect, "from a peer to another peer,"+family, fromPeer("192.0.2.77", udpFlow(one, two, 3)))
		add(DivertDirect, "from a peer, a source of the site,"+family, fromPeer("192.0.2.77", udpFlow(site, local, 3)))
		add(DivertDirect, "from a peer, a source of its own without a hop,"+family, fromPeer("192.0.2.77", udpFlow(host(six, 30, 0), local, 3)))
		add(DirectToSite, "from a peer, a source whose hop is not resolved,"+family, fromPeer("2001:db8::88", udpFlow(host(six, 30, 3), local, 3)))
		add(DivertDirect, "from a peer, a SYN from a source whose hop is not resolved,"+family, fromPeer("2001:db8::88", tcpFlow(host(six, 30, 3), local, true, announced)))
		add(DivertDirect, "from a peer, a VNI that is none of ours,"+family, fromPeerVNI("192.0.2.77", 301, typeOf(icmp), udpFlow(one, local, 3)))
		add(DivertDirect, "from a peer, with options,"+family, fromPeer("192.0.2.77", udpFlow(one, local, 3), option(1, 1, 4)))
		add(DropDirectStranger, "from an address that is no direct peer's,"+family, fromPeer("192.0.2.78", udpFlow(one, local, 3)))
		add(DropBadDirect, "from a peer, Ethernet inside,"+family, fromPeerVNI("192.0.2.77", directVNI, layers.EthernetTypeTransparentEthernetBridging,
			stack(ethernetTo(hostMAC, typeOf(icmp)), udpFlow(one, local, 3))))
		for _, c := range []struct {
			name string
			at   int
			bits byte
			want Verdict
		}{
			{"version 1", 0, 0x40, DropBadDirect}, {"the control bit", 1, 0x80, DropBadDirect},
			{"the critical bit without options", 1, 0x40, DivertDirect}, {"reserved bits", 1, 1, DivertDirect}, {"options beyond the packet", 0, 0x3f, DropBadDirect},
			{"another inner version", 8, 0x10, DropBadDirect},
		} {
			add(c.want, "from a peer, "+c.name+","+family, edit(fromPeer("192.0.2.77", udpFlow(one, local, 3)), func(b []byte) { b[atData+c.at] ^= c.bits }))
		}
		for outer := range byte(4) {
			for in := range byte(4) {
				packet := edit(fromPeer("192.0.2.77", udpFlow(one, local, 3)), func(b []byte) {
					b[atIP+1] = b[atIP+1]&^3 | outer
					ip4Sum(b, atIP)
					if six {
						b[atData+8+1] = b[atData+8+1]&^0x30 | in<<4
					} else {
						b[atData+8+1] = b[atData+8+1]&^3 | in
						ip4Sum(b, atData+8)
					}
				})
				want := DirectToSite
				if outer == 3 && in != 3 || outer == 1 && in == 2 {
					want = DivertDirect
				}
				add(want, fmt.Sprintf("ECN %d outside, %d inside,%s", outer, in, family), packet)
			}
		}
		add(DropBadDirect, "from a peer, an empty datagram,"+family, build(flowsToUs(six)...))
	}
	return append(cases, directFamilyCases()...)
}

func flowsToUs(six bool) []layer {
	src, dst := "192.0.2.77", "192.0.2.1"
	if six {
		src, dst = "2001:db8::77", "2001:db8::1"
	}
	l := flow(src, dst, layers.IPProtocolUDP, &layers.UDP{SrcPort: 5000, DstPort: layers.UDPPort(DefaultDirectPort)})
	return stack(ethernet(typeOf(l)), l)
}

// directFamilyCases are of one family only.
func directFamilyCases() (cases []directCase) {
	add := func(want Verdict, name string, packet []byte) { cases = append(cases, directCase{name, packet, want}) }
	const at = atData + 8 + 14 // the inner IP header in VXLAN over IPv4
	four, six := inVXLAN(udpFlow("10.40.11.5", "10.30.1.5", 20)), inVXLAN(udpFlow("fd40:11::5", "fd30:1::5", 20))
	for _, ttl := range []byte{0, 1, 2} {
		want := DivertVXLAN
		if ttl > 1 {
			want = DirectToPeer
		}
		add(want, fmt.Sprintf("TTL %d", ttl), edit(four, func(b []byte) { b[at+8] = ttl; ip4Sum(b, at) }))
		add(want, fmt.Sprintf("hop limit %d", ttl), edit(six, func(b []byte) { b[at+7] = ttl }))
	}
	for _, ttl := range []byte{254, 255} {
		add(DirectToPeer, fmt.Sprintf("TTL %d", ttl), edit(four, func(b []byte) { b[at+8] = ttl; ip4Sum(b, at) }))
	}
	add(DirectToPeer, "a first fragment", edit(four, func(b []byte) { b[at+6] = 0x20; ip4Sum(b, at) }))
	add(DirectToPeer, "a later fragment", edit(four, func(b []byte) { b[at+7] = 1; ip4Sum(b, at) }))
	add(DivertVXLAN, "a fragment of TCP", edit(inVXLAN(tcpFlow("10.40.11.5", "10.30.1.5", false)), func(b []byte) { b[at+6] = 0x20; ip4Sum(b, at) }))
	fragment := func(to string) []byte {
		return edit(fromPeer("2001:db8::88", udpFlow("10.30.2.5", to, 3)), func(b []byte) { b[atUDP6+16+6] = 0x20; ip4Sum(b, atUDP6+16) })
	}
	add(DirectToSite, "a fragment to a VTEP over IPv4", fragment("10.40.11.5"))
	add(DivertDirect, "a fragment to a VTEP over IPv6", fragment("10.40.13.5"))
	noSum := func(to string) []byte {
		return edit(fromPeer("2001:db8::88", udpFlow("10.30.2.5", to, 3)), func(b []byte) { b[atUDP6+16+20+6], b[atUDP6+16+20+7] = 0, 0 })
	}
	add(DirectToSite, "UDP without a checksum to a VTEP over IPv4", noSum("10.40.11.5"))
	add(DivertDirect, "UDP without a checksum to a VTEP over IPv6", noSum("10.40.13.5"))
	add(DivertDirect, "UDP that is shorter than its packet to a VTEP over IPv6", edit(fromPeer("2001:db8::88", udpFlow("10.30.2.5", "10.40.13.5", 3)), func(b []byte) { b[atUDP6+16+20+5]-- }))
	options := &layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolUDP, SrcIP: []byte{10, 40, 11, 5}, DstIP: []byte{10, 30, 1, 5},
		Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}}
	add(DivertVXLAN, "IP options", inVXLAN([]layer{options, gopacket.Payload(make([]byte, 20))}))
	for _, next := range []layers.IPProtocol{0, 43, 44, 51, 60, 135, 139, 140} {
		add(DivertVXLAN, "IPv6 extension header "+next.String(), inVXLAN(flow("fd40:11::5", "fd30:1::5", next, gopacket.Payload([]byte{17, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}))))
	}
	add(DirectToPeer, "ESP", inVXLAN(flow("fd40:11::5", "fd30:1::5", 50, gopacket.Payload("encrypted"))))
	add(DirectToPeer, "nothing behind the IP header", inVXLAN(flow("fd40:11::5", "fd30:1::5", 59)))
	add(DivertVXLAN, "TCP that is cut off", inVXLAN(flow("10.40.11.5", "10.30.1.5", layers.IPProtocolTCP, gopacket.Payload(make([]byte, 19)))))
	add(DivertVXLAN, "UDP that is cut off", inVXLAN(flow("10.40.11.5", "10.30.1.5", layers.IPProtocolUDP, gopacket.Payload(make([]byte, 7)))))
	add(DivertGateway, "a gateway address inside a remote prefix", inVXLAN(udpFlow("10.40.11.5", "10.30.1.1", 3)))
	add(DivertDirect, "from a peer, to a gateway address", fromPeer("192.0.2.77", udpFlow("10.30.1.5", "10.40.11.1", 3)))
	add(DivertDirect, "from a peer, the gateway's address as source", fromPeer("192.0.2.77", udpFlow("10.30.1.1", "10.40.11.5", 3)))
	add(DivertVXLAN, "a multicast group that is carried", inVXLAN(udpFlow("10.40.11.5", "239.3.1.1", 3)))
	add(DivertDirect, "from a peer, a multicast group", fromPeer("192.0.2.77", udpFlow("10.30.1.5", "239.3.1.1", 3)))
	add(PassInnerNoRoute, "the site's own traffic", inVXLAN(udpFlow("10.40.11.5", "10.40.12.5", 3)))
	marked := edit(four, func(b []byte) { b[atIP+1] = 3; ip4Sum(b, atIP) })
	add(DivertVXLAN, "a congestion mark of the site's own network", marked)
	add(PassFragment, "from a peer, an outer fragment", edit(fromPeer("192.0.2.77", udpFlow("10.30.1.5", "10.40.11.5", 3)), func(b []byte) { b[atIP+6] = 0x20; ip4Sum(b, atIP) }))
	return cases
}

// unfinished writes the sum of the pseudo-header into the checksum of the transport in VXLAN over IPv4, wherever that is.
func unfinished(packet []byte, six bool, protocol layers.IPProtocol) []byte {
	return edit(packet, func(b []byte) {
		at := atData + 8 + 14
		if b[12] == 0x81 {
			at += 4
		}
		addresses, header, length := b[at+12:at+20], 20, be16(b[at+2:])-20 // the frame may be padded
		if six {
			addresses, header, length = b[at+8:at+40], 40, be16(b[at+4:])
		}
		sum := uint32(protocol) + uint32(length)
		for i := 0; i < len(addresses); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(addresses[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		check := at + header + map[layers.IPProtocol]int{layers.IPProtocolTCP: 16, layers.IPProtocolUDP: 6}[protocol]
		binary.BigEndian.PutUint16(b[check:], uint16(sum))
	})
}
