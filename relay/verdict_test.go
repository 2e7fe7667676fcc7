package relay

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func TestVerdictsHaveNamesAndReasons(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range Verdicts() {
		if v.String() == "" || v.Explain() == "" || seen[v.String()] {
			t.Errorf("verdict %d: name %q, reason %q", v, v, v.Explain())
		}
		seen[v.String()] = true
	}
	if len(seen) != int(NumVerdicts)-1 {
		t.Errorf("%d verdicts, want %d", len(seen), NumVerdicts-1)
	}
}

// edit changes bytes of a copy.
func edit(b []byte, f func(b []byte)) []byte {
	b = bytes.Clone(b)
	f(b)
	return b
}

// fixIPv4 writes a fresh header checksum.
func fixIPv4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packet.Sum(0, b[:int(b[0]&15)*4]))
}

// From the site: every way in which a packet can be wrong has its verdict. The
// offsets are of Ethernet 14, IPv4 20, UDP 8, VXLAN or Geneve 8, Ethernet 14.
func TestAPacketFromTheSiteThatIsWrongHasItsVerdict(t *testing.T) {
	const ip, udp, overlay, inside, inner = 14, 34, 42, 50, 64
	good := udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atVXLAN4, 4), 64, 0, 1, 2, []byte("hello"))
	_, vxlan := fromHost(red, 1, atVXLAN4, good)
	_, geneve := fromHost(red, 1, atGeneve4, good)
	_, routed := fromHost(red, 1, atRouted, good)
	wrap := func(inner []byte) []byte { _, b := fromHost(red, 1, atVXLAN4, inner); return b }
	withInner := func(f func(b []byte)) []byte { return edit(vxlan, func(b []byte) { f(b[inner:]); fixIPv4(b[inner:]) }) }
	good6 := udpPacket(red.host(1, atVXLAN4, 6), red.host(2, atVXLAN4, 6), 64, 0, 1, 2, []byte("hello"))
	critical := []*layers.GeneveOption{{Class: 0x0102, Type: 0x81, Length: 8, Data: make([]byte, 4)}}
	cases := []struct {
		name  string
		port  uint32
		frame []byte
		want  Verdict
	}{
		{"an empty frame", sitePort, nil, ShortFrame},
		{"a frame of 13 bytes", sitePort, vxlan[:13], ShortFrame},
		{"a tag cut short", sitePort, edit(vxlan, func(b []byte) { b[12], b[13] = 0x81, 0 })[:16], ShortFrame},
		{"a tagged frame", sitePort, append(append(bytes.Clone(vxlan[:12]), 0x81, 0, 0, 7), vxlan[12:]...), Tagged},
		{"ARP outside of an overlay", sitePort, edit(vxlan, func(b []byte) { b[13] = 6 }), NotIP},
		{"an outer version of 5", sitePort, edit(vxlan, func(b []byte) { b[ip] = 0x55 }), BadOuterIP},
		{"an outer header cut short", sitePort, vxlan[:30], BadOuterIP},
		{"an outer length beyond the frame", sitePort, edit(vxlan, func(b []byte) { b[ip+2] = 9; fixIPv4(b[ip:]) }), BadOuterIP},
		{"IPv4 under IPv6's EtherType", sitePort, edit(vxlan, func(b []byte) { b[12], b[13] = 0x86, 0xdd }), BadOuterIP},
		{"an outer checksum that is wrong", sitePort, edit(vxlan, func(b []byte) { b[ip+10]++ }), OuterChecksum},
		{"an outer fragment", sitePort, edit(vxlan, func(b []byte) { b[ip+6] = 0x20; fixIPv4(b[ip:]) }), OuterFragment},
		{"an outer destination of somebody else", sitePort, edit(vxlan, func(b []byte) { b[ip+19] = 99; fixIPv4(b[ip:]) }), NotOurs},
		{"TCP to our address", sitePort, edit(vxlan, func(b []byte) { b[ip+9] = 6; fixIPv4(b[ip:]) }), NotServed},
		{"UDP to a port that we do not serve", sitePort, edit(vxlan, func(b []byte) { b[udp+2]++ }), NotServed},
		{"an overlay on a port without one", hostPort, vxlan, NotServed},
		{"a UDP length beyond the packet", sitePort, edit(vxlan, func(b []byte) { b[udp+4] = 9 }), BadUDP},
		{"a UDP length below its header", sitePort, edit(vxlan, func(b []byte) { b[udp+4], b[udp+5] = 0, 7 }), BadUDP},
		{"a VXLAN header without a VNI", sitePort, edit(vxlan, func(b []byte) { b[overlay] = 0 }), BadVXLAN},
		{"a VXLAN header cut short", sitePort, edit(vxlan, func(b []byte) { b[udp+4], b[udp+5] = 0, 12 }), BadVXLAN},
		{"a VNI of no VPC", sitePort, edit(vxlan, func(b []byte) { b[overlay+6]++ }), UnknownVNI},
		{"a Geneve header of version 1", sitePort, edit(geneve, func(b []byte) { b[overlay] = 0x40 }), BadGeneve},
		{"Geneve options beyond the packet", sitePort, edit(geneve, func(b []byte) { b[overlay] = 63 }), BadGeneve},
		{"a Geneve option beyond the options", sitePort, edit(geneve, func(b []byte) { b[overlay] = 1; b[inside+3] = 31 }), BadGeneve},
		{"a Geneve control packet", sitePort, edit(geneve, func(b []byte) { b[overlay+1] = 0x80 }), GeneveControl},
		{"an inner Ethernet header cut short", sitePort, edit(vxlan, func(b []byte) { b[udp+4], b[udp+5] = 0, 20 }), BadInnerFrame},
		{"an inner tag", sitePort, edit(vxlan, func(b []byte) { copy(b[inside+12:], []byte{0x81, 0, 0, 9, 8, 0}) }), InnerNotIP},
		{"an inner EtherType of something else", sitePort, edit(vxlan, func(b []byte) { b[inside+13] = 0x99 }), InnerNotIP},
		{"an inner version of 5", sitePort, edit(vxlan, func(b []byte) { b[inner] = 0x55 }), BadInnerIP},
		{"an inner length beyond the packet", sitePort, withInner(func(b []byte) { b[2] = 9 }), BadInnerIP},
		{"inner IPv6 whose extension headers never end", sitePort, wrap(edit(good6, func(b []byte) { b[6] = 0; b[40] = 0; b[41] = 40 })), BadInnerIP},
		{"an inner checksum that is wrong", sitePort, edit(vxlan, func(b []byte) { b[inner+10]++ }), InnerChecksum},
		{"a source that is multicast", sitePort, withInner(func(b []byte) { b[12] = 224 }), Martian},
		{"an IPv6 source that is unspecified", sitePort, wrap(edit(good6, func(b []byte) { clear(b[8:24]) })), Martian},
		{"a destination that is multicast", sitePort, withInner(func(b []byte) { b[16] = 224 }), Multicast},
		{"an IPv6 destination that is link-local", sitePort, wrap(edit(good6, func(b []byte) { b[24], b[25] = 0xfe, 0x80 })), Multicast},
		{"a TTL of 1", sitePort, withInner(func(b []byte) { b[8] = 1 }), TTLExpired},
		{"a TTL of 0 on a routed port", redPort, edit(routed, func(b []byte) { b[14+8] = 0; fixIPv4(b[14:]) }), TTLExpired},
		{"a destination without a route", sitePort, withInner(func(b []byte) { b[16] = 11 }), NoRoute},
		{"a packet longer than the path", redPort, serialize(ethernet(hostMAC(1, red, atRouted), portMAC(1, redPort), layers.EthernetTypeIPv4),
			gopacket.Payload(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 1404-28+1)))), TooBig},
		{"UDP to the gateway", sitePort, withInner(func(b []byte) { copy(b[16:], red.gateways(1)[0].AsSlice()) }), GatewayOnly},
		{"ARP cut short", sitePort, overlayFrame(red, 1, atVXLAN4, layers.EthernetTypeARP, make([]byte, 27)), BadARP},
		{"ARP for somebody else", sitePort, overlayFrame(red, 1, atVXLAN4, layers.EthernetTypeARP, arpRequest(red.host(1, atVXLAN4, 4), red.host(1, atGeneve4, 4))), ARPNotOurs},
		{"a neighbour solicitation with a hop limit of 64", sitePort, wrap(edit(solicitation(red.host(1, atVXLAN4, 6), red.gateways(1)[1]), func(b []byte) { b[7] = 64 })), BadND},
		{"a neighbour solicitation for somebody else", sitePort, wrap(solicitation(red.host(1, atVXLAN4, 6), red.host(1, atGeneve4, 6))), NDNotOurs},
		{"a router solicitation", sitePort, wrap(edit(solicitation(red.host(1, atVXLAN4, 6), red.gateways(1)[1]), func(b []byte) { b[40] = 133 })), NDNotOurs},
		{"a congestion mark on a packet that cannot carry it", sitePort, edit(vxlan, func(b []byte) { b[ip+1] = 3; fixIPv4(b[ip:]) }), CongestionLost},
		{"a critical option in the default VPC", sitePort, overlayFrame(defaultVPC, 1, atGeneve4, layers.EthernetTypeIPv4,
			udpPacket(defaultVPC.host(1, atGeneve4, 4), defaultVPC.host(2, atGeneve4, 4), 64, 0, 1, 2, nil), critical...), CriticalOption},
		{"a handshake of a wrong length", wanPort, wireguardFrame(1, 147), BadWireGuard},
		{"a message of type 5", wanPort, wireguardFrame(5, 148), BadWireGuard},
		{"a message of three bytes", wanPort, wireguardFrame(4, 3), BadWireGuard},
		{"reserved bytes that are not zero", wanPort, edit(wireguardFrame(4, 64), func(b []byte) { b[overlay+1] = 1 }), BadWireGuard},
		{"data of no session", wanPort, wireguardFrame(4, 64), UnknownIndex},
		{"a handshake", wanPort, wireguardFrame(1, 148), Handshake},
	}
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := p.a.verdicts(func() {
				if !p.a.queues[0][c.port].Inject(c.frame) {
					t.Fatal("no frame")
				}
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	if n := p.carry(); n != 0 {
		t.Errorf("%d packets went to the WAN", n)
	}
}

// wireguardFrame is a WireGuard message of zeros from the other gateway.
func wireguardFrame(typ byte, length int) []byte {
	message := make([]byte, length)
	message[0] = typ
	return wanFrame(1, message)
}

// wanFrame wraps a message to a site's WireGuard port as the other gateway would.
func wanFrame(site int, message []byte) []byte { return wanFrameOver(4, site, message) }

func wanFrameOver(version, site int, message []byte) []byte {
	_, _, etherType := ipLayer(wanAddr(site, version), wanAddr(site, version), 0, 0, 0)
	return serialize(ethernet(portMAC(3-site, wanPort), portMAC(site, wanPort), etherType), gopacket.Payload(
		udpPacket(wanAddr(3-site, version), wanAddr(site, version), 64, 0, listenPort, listenPort, message)))
}

func arpRequest(from, target netip.Addr) []byte {
	return serialize(&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: make([]byte, 6), SourceProtAddress: from.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice()})
}

// solicitation asks for target, to its solicited-node address.
func solicitation(from, target netip.Addr) []byte {
	node := target.As16()
	to := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: node[13], 14: node[14], 15: node[15]})
	ip, network, _ := ipLayer(from, to, layers.IPProtocolICMPv6, 255, 0)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: []byte{2, 0, 0, 0, 0, 9}}}})
}

// sealTo seals plaintexts at site 2 and injects the messages at site 1.
func (p *pair) sealTo(t *testing.T, plain ...[]byte) {
	t.Helper()
	p.sealOver(t, 4, plain...)
}

// sealOver is sealTo over a WAN of this IP version.
func (p *pair) sealOver(t *testing.T, outer int, plain ...[]byte) {
	t.Helper()
	batch := p.b.device.NewBatch()
	for _, b := range plain {
		buf := make([]byte, wireguard.HeaderSize+len(b), wireguard.HeaderSize+len(b)+64)
		copy(buf[wireguard.HeaderSize:], b)
		pkts := []wireguard.Packet{{Buf: buf, Peer: p.b.peer}}
		batch.Seal(pkts, p.b.device.Clock())
		if pkts[0].Result != wireguard.OK {
			t.Fatalf("seal: %v", pkts[0].Result)
		}
		if !p.a.queues[0][wanPort].Inject(wanFrameOver(outer, 1, pkts[0].Buf)) {
			t.Fatal("no frame")
		}
	}
}

// tunnelled wraps an inner packet of a VPC as site 2 does for site 1.
func tunnelled(vni uint32, proto layers.EthernetType, inner []byte, options ...*layers.GeneveOption) []byte {
	return tunnelledBetween(tunnelAddrs(2)[0], tunnelAddrs(1)[0], vni, proto, inner, options...)
}

func tunnelledBetween(src, dst netip.Addr, vni uint32, proto layers.EthernetType, inner []byte, options ...*layers.GeneveOption) []byte {
	return udpPacket(src, dst, 64, 0, 50000, 6081, serialize(&layers.Geneve{Protocol: proto, VNI: vni, Options: options}, gopacket.Payload(inner)))
}

func TestAPacketFromAPeerThatIsWrongHasItsVerdict(t *testing.T) {
	v4 := layers.EthernetTypeIPv4
	from, to := red.host(2, atRouted, 4), red.host(1, atRouted, 4)
	good := udpPacket(from, to, 64, 0, 1, 2, []byte("hello"))
	plain := udpPacket(defaultVPC.host(2, atRouted, 4), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
	vni := red.vni(1)
	critical := []*layers.GeneveOption{{Class: 0x0102, Type: 0x81, Length: 8, Data: make([]byte, 4)}}
	cases := []struct {
		name  string
		plain []byte
		want  Verdict
	}{
		{"a good one of the default VPC", plain, ToSite},
		{"a good one of another VPC", tunnelled(vni, v4, good), ToSite},
		{"a good one in Ethernet", tunnelled(vni, layers.EthernetTypeTransparentEthernetBridging, serialize(ethernet([6]byte{2}, [6]byte{2}, v4), gopacket.Payload(good))), ToSite},
		{"nothing inside", nil, Keepalive},
		{"neither IPv4 nor IPv6", []byte{0x50, 0, 0, 0}, BadPayload},
		{"IPv4 cut short", plain[:19], BadInnerIP},
		{"a wrong checksum", edit(plain, func(b []byte) { b[10]++ }), InnerChecksum},
		{"a source that only another VPC has", udpPacket(from, defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, nil), SourceNotAllowed},
		{"a source of ours", udpPacket(defaultVPC.host(1, atVXLAN4, 4), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, nil), SourceNotAllowed},
		{"a source of nobody", udpPacket(addr("8.8.8.8"), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, nil), SourceNotAllowed},
		{"a source of ours in another VPC", tunnelled(vni, v4, udpPacket(red.host(1, atVXLAN4, 4), to, 64, 0, 1, 2, nil)), SourceNotAllowed},
		{"a source of the default VPC in another", tunnelled(vni, v4, udpPacket(defaultVPC.host(2, atRouted, 4), to, 64, 0, 1, 2, nil)), SourceNotAllowed},
		{"a tunnel source that is not the peer's", tunnelledBetween(addr("100.64.0.9"), tunnelAddrs(1)[0], vni, v4, good), TunnelMismatch},
		{"to another tunnel address", tunnelledBetween(tunnelAddrs(2)[0], addr("100.64.0.9"), vni, v4, good), NoRoute},
		{"the VNI of the sender's numbering", tunnelled(red.vni(2), v4, good), UnknownVNI},
		{"the default VPC in Geneve", tunnelled(0, v4, plain), UnknownVNI},
		{"Geneve of version 1", edit(tunnelled(vni, v4, good), func(b []byte) { b[28] = 0x40 }), BadGeneve},
		{"a Geneve control packet", edit(tunnelled(vni, v4, good), func(b []byte) { b[29] = 0x80 }), GeneveControl},
		{"a Geneve payload of EtherType 0", tunnelled(vni, 0, good), InnerNotIP},
		{"a Geneve payload that is not IP", tunnelled(vni, layers.EthernetTypeARP, good), InnerNotIP},
		{"an inner Ethernet header cut short", tunnelled(vni, layers.EthernetTypeTransparentEthernetBridging, good[:9]), BadInnerFrame},
		{"IPv4 said to be IPv6", tunnelled(vni, layers.EthernetTypeIPv6, good), BadInnerIP},
		{"a UDP length beyond the tunnel packet", edit(tunnelled(vni, v4, good), func(b []byte) { b[24] = 9 }), BadUDP},
		{"a critical option towards a routed host", tunnelled(vni, v4, good, critical...), CriticalOption},
		{"TTL ran out", tunnelled(vni, v4, udpPacket(from, to, 1, 0, 1, 2, nil)), TTLExpired},
		{"a destination at the peer's own site", tunnelled(vni, v4, udpPacket(from, red.host(2, atVXLAN4, 4), 64, 0, 1, 2, nil)), NotForTransit},
		{"TCP to our tunnel address", tcpPacket(tunnelAddrs(2)[0], tunnelAddrs(1)[0], nil), GatewayOnly},
		{"a congestion mark on a packet that cannot carry it", edit(tunnelled(vni, v4, good), func(b []byte) { b[1] = 3; fixIPv4(b) }), CongestionLost},
	}
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := p.a.verdicts(func() {
				p.sealTo(t, c.plain)
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestWireGuardDataThatIsNotGenuineHasItsVerdict(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.b.queues[0][hostPort].Inject(routedPacket(defaultVPC, 2, 1, 4, []byte("once")))
	p.b.turn()
	message := p.b.got(wanPort)[0]
	tampered := edit(message, func(b []byte) { b[len(b)-1]++; b[40], b[41] = 0, 0 })
	for _, c := range []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{"a tag that does not match", tampered, BadAuth},
		{"a message of another session", edit(message, func(b []byte) { b[42+4]++ }), UnknownIndex},
		{"a message cut short", wanFrame(1, message[42:42+31]), BadWireGuard},
		{"the message itself", message, ToSite},
		{"the message once more", message, Replayed},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := p.a.verdicts(func() {
				p.a.queues[0][wanPort].Inject(c.frame)
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAFullTransmitRingDropsTheNewestAndFreesThem(t *testing.T) {
	p := newPair(t, gatewayOptions{txSize: 10})
	p.connect(t)
	got := p.a.verdicts(func() {
		for range 16 {
			p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
		}
		p.a.turn()
	})
	if want := map[string]uint64{"to_peer": 10, "tx_full": 6}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
