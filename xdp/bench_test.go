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
