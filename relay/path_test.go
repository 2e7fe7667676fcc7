package relay

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
)

// forwarded is what an inner packet looks like after two gateways.
func forwarded(inner []byte) []byte {
	b := bytes.Clone(inner)
	packet.DecrementTTL(b)
	packet.DecrementTTL(b)
	return b
}

func placeName(place int) string {
	return [...]string{atVXLAN4: "vxlan over IPv4", atGeneve4: "geneve over IPv4", atRouted: "routed", atVXLAN6: "vxlan over IPv6", atGeneve6: "geneve over IPv6"}[place]
}

func TestEveryHostReachesEveryHostOfItsVPCAtTheOtherSite(t *testing.T) {
	for _, outer := range []int{4, 6} {
		t.Run(fmt.Sprintf("WireGuard over IPv%d", outer), func(t *testing.T) {
			p := newPair(t, gatewayOptions{outer: outer})
			p.connect(t)
			for v := defaultVPC; v <= blue; v++ {
				for from := atVXLAN4; from < places; from++ {
					for to := atVXLAN4; to < places; to++ {
						for _, version := range []int{4, 6} {
							name := fmt.Sprintf("%v IPv%d from %s to %s", v, version, placeName(from), placeName(to))
							p.crosses(t, name, v, from, to, version)
						}
					}
				}
			}
		})
	}
}

// crosses sends one packet from site 1 to site 2 and looks for it at the one
// place where it may arrive.
func (p *pair) crosses(t *testing.T, name string, v vpcName, from, to, version int) {
	t.Helper()
	inner := tcpPacket(v.host(1, from, version), v.host(2, to, version), []byte(name))
	ifindex, frame := fromHost(v, 1, from, inner)
	if !p.a.queues[0][ifindex].Inject(frame) {
		t.Fatalf("%s: no frame", name)
	}
	p.settle()
	want := uint32(sitePort)
	if to == atRouted {
		want = v.routedPort()
	}
	for _, at := range []uint32{sitePort, hostPort, redPort, bluePort} {
		got := p.b.got(at)
		if at != want {
			if len(got) != 0 {
				t.Errorf("%s: a packet at port %d", name, at)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d packets at port %d; site 1 %v, site 2 %v", name, len(got), at, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
			continue
		}
		vni, b := innerOf(at, got[0])
		if !bytes.Equal(b, forwarded(inner)) {
			t.Errorf("%s:\n got %x\nwant %x", name, b, forwarded(inner))
		}
		if at == sitePort && vni != v.vni(2) {
			t.Errorf("%s: vni %d, want %d", name, vni, v.vni(2))
		}
		if _, want := fromHost(v, 2, to, forwarded(inner)); len(want) != len(got[0]) {
			t.Errorf("%s: %d bytes on the wire, want %d", name, len(got[0]), len(want))
		}
	}
}
