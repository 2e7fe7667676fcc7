package xdp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// BenchmarkProgram measures the program alone, with BPF_PROG_TEST_RUN's own clock: nanoseconds per packet in the kernel,
// without driver, redirect and socket. Table lookups find their lines in the cache, as only one packet is repeated.
func BenchmarkProgram(b *testing.B) {
	const ether = layers.EthernetTypeTransparentEthernetBridging
	ssh := func(local string) []byte {
		a := netip.MustParseAddr(local)
		return build(stack(ethernet(etherType(a)), []layer{ip(a, layers.IPProtocolTCP)}, bytesLayer(40))...)
	}
	for _, c := range []struct {
		name   string
		packet []byte
		want   Verdict
	}{
		{"pass/arp", build(stack(ethernet(layers.EthernetTypeARP), []layer{arp("192.0.2.1")})...), PassNotIP},
		{"pass/otherMAC", build(stack(ethernetTo(hostMAC, layers.EthernetTypeIPv4), innerIP("192.0.2.1"))...), PassOtherMAC},
		{"pass/local4", ssh("192.0.2.1"), PassLocal},
		{"pass/local6", ssh("2001:db8::1"), PassLocal},
		{"divert/wireguard4", build(stack(toUs("192.0.2.1", 51820), wireguard(4, 1452))...), DivertTransport},
		{"divert/wireguard6", build(stack(toUs("2001:db8::1", 51820), wireguard(4, 1452))...), DivertTransport},
		{"divert/handshake4", handshake(1, "203.0.113.1"), DivertHandshake},
		{"drop/wireguard", build(stack(toUs("192.0.2.1", 51820), wireguard(9, 1452))...), DropBadWireGuard},
	} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, testState(), c.packet, c.want) })
	}
	for _, n := range []int{1, 100, 10000} {
		s := testState()
		s.Remote = nil
		for i := range n {
			s.Remote = append(s.Remote,
				Prefix{VNI: 100, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
				Prefix{VNI: 0, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
				Prefix{VNI: 100, Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x10, 0, 2, byte(i >> 8), byte(i)}), 64)})
		}
		for _, c := range []struct {
			name   string
			packet []byte
			want   Verdict
		}{
			{"divert/geneve4", build(stack(toUs("192.0.2.1", DefaultGenevePort), []layer{geneve(100, ether)}, inner("10.0.0.4"))...), DivertGeneve},
			{"divert/geneve6", build(stack(toUs("2001:db8::1", DefaultGenevePort), []layer{geneve(100, ether)}, inner("fd10:2::4"))...), DivertGeneve},
			{"pass/geneve4", build(stack(toUs("192.0.2.1", DefaultGenevePort), []layer{geneve(100, ether)}, inner("10.200.0.4"))...), PassInnerNoRoute},
			{"divert/vxlan4", build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner("10.0.0.4"))...), DivertVXLAN},
			{"divert/routed4", build(stack(ethernet(layers.EthernetTypeIPv4), innerIP("10.0.0.4"))...), DivertRouted},
		} {
			b.Run(fmt.Sprintf("%s/remotes=%d", c.name, n), func(b *testing.B) { benchmark(b, s, c.packet, c.want) })
		}
	}
}

func benchmark(b *testing.B, s State, packet []byte, want Verdict) {
	h := newHarness(b, Options{HandshakeRate: 1e9, HandshakeBurst: 1e9, StrangersRate: 1e9, StrangersBurst: 1e9}, s)
	h.openSocket(b, loopback, 0)
	if got := h.run(b, packet, loopback, 0); got != want {
		b.Fatalf("verdict %s, want %s", got, want)
	}
	_, perPacket, err := h.objs.Sluice.Benchmark(packet, b.N, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(perPacket.Nanoseconds()), "ns/packet")
	b.ReportMetric(0, "ns/op") // would count the setting up
}

// BenchmarkForward measures the program alone where it forwards: a packet from the site becomes one from a peer, which
// becomes one from the site, for as long as the TTL lasts.
func BenchmarkForward(b *testing.B) {
	for _, c := range []struct {
		name     string
		peer     string // the outer addresses between gateways
		us       string
		site     HopKind
		src, dst string
	}{
		{"ipv4 in ipv4", "192.0.2.77", "192.0.2.1", ToVXLAN, "10.40.11.5", "10.30.1.5"},
		{"ipv6 in ipv4", "192.0.2.77", "192.0.2.1", ToVXLAN, "fd40:11::5", "fd30:1::5"},
		{"ipv4 in ipv6", "2001:db8::77", "2001:db8::1", ToGeneve, "10.40.11.5", "10.30.1.5"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := directState()
			peer := Hop{ID: 1, Kind: ToPeer, VNI: directVNI, Peer: 7, Ifindex: loopback, SrcMAC: hostMAC, DstMAC: portMAC, MTU: 1400,
				Src: netip.MustParseAddr(c.peer), Dst: netip.MustParseAddr(c.us), UDPPort: DefaultDirectPort, RemoteVNI: 200}
			back := peer
			back.ID, back.VNI = 2, 200
			site := Hop{ID: 3, Kind: c.site, VNI: 200, Ifindex: loopback, SrcMAC: hostMAC, DstMAC: portMAC, MTU: 1400, InnerSrc: hostMAC, InnerDst: hostMAC,
				Src: peer.Src, Dst: peer.Dst, UDPPort: map[HopKind]uint16{ToVXLAN: DefaultVXLANPort, ToGeneve: DefaultGenevePort}[c.site], RemoteVNI: directVNI}
			s.Hops = []Hop{peer, back, site}
			here, there := netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)
			of := func(a netip.Addr) netip.Prefix { p, _ := a.Prefix(a.BitLen() - 8); return p }
			s.Remote = append(testState().Remote, Prefix{directVNI, of(there), 1}, Prefix{200, of(here), 2})
			s.Site = append(testState().Site, Prefix{directVNI, of(here), 0}, Prefix{200, of(there), 3})
			h := newHarness(b, Options{}, s)
			packet := inVXLAN(udpFlow(c.src, c.dst, 64))
			ttl := atData + 8 + 14 + 8
			if here.Is6() {
				ttl--
			}
			packet = edit(packet, func(b []byte) {
				b[ttl] = 255
				if here.Is4() {
					ip4Sum(b, ttl-8)
				}
			})
			const repeat = 250
			var total, runs float64
			before, err := h.Counters()
			if err != nil {
				b.Fatal(err)
			}
			for n := 0; n < b.N; n += repeat {
				_, perPacket, err := h.objs.Sluice.Benchmark(packet, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				total, runs = total+float64(perPacket.Nanoseconds()), runs+1
			}
			after, err := h.Counters()
			if err != nil {
				b.Fatal(err)
			}
			before[DirectToPeer], before[DirectToSite] = after[DirectToPeer], after[DirectToSite]
			if before != after {
				b.Fatalf("not all packets were forwarded: %v", difference(before, after))
			}
			b.ReportMetric(total/runs, "ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}
