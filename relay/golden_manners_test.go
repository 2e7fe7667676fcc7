package relay

import (
	"testing"
)

// Cases of router manners, seen from site 1: what its hosts send into the port of the overlay, what the port sends
// back, and what comes out of the tunnel at the other gateway's redPort.
func TestGoldenManners(t *testing.T) {
	host := func(version int) []byte {
		return udpPacket(red.host(1, atVXLAN4, version), red.host(2, atRouted, version), 64, 0, 1, 2, []byte("x"))
	}
	expiring := func(version int, ttl byte) []byte {
		return udpPacket(red.host(1, atVXLAN4, version), red.host(2, atRouted, version), ttl, 0, 40000, 33434, []byte("probe"))
	}
	for name, inner := range map[string][][]byte{
		"manners-traceroute4":  {expiring(4, 1), expiring(4, 2), expiring(4, 3)},
		"manners-traceroute6":  {expiring(6, 1), expiring(6, 2), expiring(6, 3)},
		"manners-options4":     {withOptions(host(4), 148, 4, 0, 0), withOptions(host(4), 131, 7, 4, 10, 1, 1, 1), withOptions(host(4), 7, 99)},
		"manners-extensions6":  {withExtension(host(6), 0, 0, 0, 1, 4, 0, 0, 0, 0), withExtension(host(6), 43, 0, 0, 0, 1, 0, 0, 0, 0)},
		"manners-to-gateway":   {udpPacket(red.host(1, atVXLAN4, 4), red.gateways(1)[0], 64, 0, 5, 33434, nil), udpPacket(red.host(1, atVXLAN4, 6), red.gateways(1)[1], 64, 0, 5, 33434, nil)},
		"manners-no-route":     {udpPacket(red.host(1, atVXLAN4, 4), addr("10.99.0.1"), 64, 0, 5, 6, nil), udpPacket(red.host(1, atVXLAN4, 6), addr("fd99::1"), 64, 0, 5, 6, nil)},
		"manners-dscp-and-ecn": {udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atRouted, 4), 64, 46<<2|2, 1, 2, nil), udpPacket(red.host(1, atVXLAN4, 6), red.host(2, atRouted, 6), 64, 46<<2|1, 1, 2, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, gatewayOptions{})
			p.connect(t)
			var frames [][]byte
			for _, b := range inner {
				_, frame := fromHost(red, 1, atVXLAN4, b)
				frames = append(frames, frame)
			}
			goldenExchange(t, p, name, frames, redPort)
		})
	}
}
