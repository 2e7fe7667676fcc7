package xdp

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// With several buffers the program must say of every other packet what it says without.
func TestAProgramForJumboFramesClassifiesAllOthersAsUsual(t *testing.T) {
	h := newHarness(t, Options{MultiBuffer: true, HandshakeRate: -1}, testState())
	h.openSocket(t, loopback, 0)
	for _, c := range testCases() {
		if got := h.run(t, c.packet, loopback, 0); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestJumboFramesAreClassifiedByTheirHeaders(t *testing.T) {
	h := newHarness(t, Options{MultiBuffer: true, HandshakeRate: -1}, testState())
	h.openSocket(t, loopback, 0)
	big := func(l ...[]layer) []byte { return build(stack(append(l, bytesLayer(8500))...)...) }
	for _, c := range []testCase{
		{"vxlan to another site", big(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner("10.2.3.4")), DivertVXLAN},
		{"vxlan over IPv6, IPv6 inside", big(toUs("2001:db8::1", DefaultVXLANPort), []layer{vxlan(100)}, inner("fd10:2::4")), DivertVXLAN},
		{"vxlan inside the site", big(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner("10.1.3.4")), PassInnerNoRoute},
		{"geneve to another site", big(toUs("192.0.2.1", DefaultGenevePort), []layer{geneve(100, layers.EthernetTypeTransparentEthernetBridging)}, inner("10.2.3.4")), DivertGeneve},
		{"routed to another site", big(ethernet(layers.EthernetTypeIPv4, 20, 30), innerIP("10.2.3.4")), DivertRouted},
		{"wireguard data", build(stack(toUs("192.0.2.1", 51820), wireguard(4, 8800))...), DivertTransport},
		{"an IP length beyond the packet", edit(big(ethernet(layers.EthernetTypeIPv4, 20, 30), innerIP("10.2.3.4")), func(b []byte) {
			b[24] = 0xf0
			ip4Sum(b, 22)
		}), PassBadIP},
	} {
		if got := h.run(t, c.packet, loopback, 0); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
