package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/sluicegw/sluice/internal/neigh"
)

// A delivery with a router: whatever the destination, packets of both families go to the router's MAC address, and an IPv4
// packet says so in its EtherType though the router's address is an IPv6 one (RFC 8950).
func TestPacketsForARouterGoToItWhateverTheirDestination(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	router, mac := netip.MustParseAddr("fd99::2"), [6]byte{2, 0, 0, 0, 0, 0x99}
	p.a.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: router, Ifindex: redPort}, State: neigh.Resolved, Egress: redPort,
		SrcMAC: portMAC(1, redPort), DstMAC: mac, NextHop: router, MTU: 1500})
	next := *p.a.snap
	next.Deliveries = append([]Delivery(nil), next.Deliveries...)
	changed := 0
	for i, d := range next.Deliveries {
		if d.VNI == red.vni(1) && d.Attachment == 2 {
			next.Deliveries[i].Via = router
			changed++
		}
	}
	if changed != 1 {
		t.Fatalf("%d deliveries changed", changed)
	}
	check(t, p.a.relay.Update(&next))
	for _, version := range []int{4, 6, 4} {
		inner := echoPacket(red.host(2, atRouted, version), red.host(1, atRouted, version), 1, 2, []byte("abcdefgh"))
		p.sealTo(t, tunnelled(red.vni(1), etherTypeOfPacket(inner), inner))
		p.a.turn()
		got := p.a.got(redPort)
		if len(got) != 1 {
			t.Fatalf("IPv%d: %d packets came out", version, len(got))
		}
		if !bytes.Equal(got[0][:6], mac[:]) {
			t.Errorf("IPv%d: it goes to %x, not to the router", version, got[0][:6])
		}
		if etherType := binary.BigEndian.Uint16(got[0][12:]); etherType != uint16(etherTypeOfPacket(inner)) {
			t.Errorf("IPv%d: EtherType %#x", version, etherType)
		}
	}
}
