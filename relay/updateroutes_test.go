package relay

import (
	"net/netip"
	"testing"

	"github.com/sluicegw/sluice/internal/fib"
)

// UpdateRoutes must leave what Update of the same snapshot would: packets for a prefix that came go to its router, and
// no longer when it went.
func TestRoutesComeAndGoWithoutANewSnapshot(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	at := -1
	for i := range p.a.snap.VPCs {
		if p.a.snap.VPCs[i].VNI == red.vni(1) {
			at = i
		}
	}
	prefix, host := netip.MustParsePrefix("10.77.0.0/16"), netip.MustParseAddr("10.77.0.1")
	before := p.a.snap.VPCs[at].Routes
	id := uint32(len(p.a.snap.Deliveries))
	table, err := before.With([]fib.Route{{Prefix: prefix, NextHops: []fib.NextHop{{Kind: fib.Local, ID: id}}, Counter: 7}}, nil)
	check(t, err)
	via := red.host(1, atRouted, 4) // whom the neighbour source knows
	send := func() map[string]uint64 {
		inner := echoPacket(red.host(2, atRouted, 4), host, 1, 2, []byte("abcdefgh"))
		p.sealTo(t, tunnelled(red.vni(1), etherTypeOfPacket(inner), inner))
		return p.a.verdicts(func() { p.a.turn() })
	}
	if got := send(); got[NoRoute.String()] != 1 {
		t.Fatalf("before: %v", got)
	}
	p.a.got(redPort)
	snapshot, err := p.a.relay.UpdateRoutes([]RouteChange{{VNI: red.vni(1), Routes: table, Set: []*fib.Route{table.Exact(prefix)}}},
		[]Delivery{{VNI: red.vni(1), Attachment: 2, Via: via}})
	check(t, err)
	if got := send(); got[ToSite.String()] != 1 || len(p.a.got(redPort)) != 1 {
		t.Errorf("with the route: %v", got)
	}
	if len(snapshot.Deliveries) != int(id)+1 || snapshot.VPCs[at].Routes != table || p.a.snap.VPCs[at].Routes != before {
		t.Error("the snapshot is not the one in force, or the old one was changed")
	}
	if err := p.a.relay.Update(snapshot); err != nil {
		t.Errorf("the snapshot in force is refused: %v", err)
	}
	if _, err := p.a.relay.UpdateRoutes([]RouteChange{{VNI: red.vni(1), Routes: before}}, nil); err != nil {
		t.Error(err)
	}
	if got := send(); got[NoRoute.String()] != 1 {
		t.Errorf("after: %v", got)
	}
	for name, change := range map[string]RouteChange{
		"a vpc that is not there":      {VNI: 4242, Routes: table},
		"a delivery that is not there": {VNI: red.vni(1), Routes: table, Set: []*fib.Route{{Prefix: prefix, NextHops: []fib.NextHop{{Kind: fib.Local, ID: 4242}}}}},
		"a delivery of another vpc":    {VNI: blue.vni(1), Routes: table, Set: []*fib.Route{table.Exact(prefix)}},
		"a peer that is not there":     {VNI: red.vni(1), Routes: table, Set: []*fib.Route{{Prefix: prefix, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 4242}}}}},
	} {
		if _, err := p.a.relay.UpdateRoutes([]RouteChange{change}, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := p.a.relay.UpdateRoutes(nil, []Delivery{{VNI: red.vni(1), Attachment: 0, Learned: true}}); err == nil {
		t.Error("a delivery whose hosts are to be learned was taken")
	}
	if _, err := p.a.relay.UpdateRoutes(nil, []Delivery{{VNI: red.vni(1), Attachment: 0, VTEP: via}}); err != nil {
		t.Errorf("a delivery behind a VTEP: %v", err)
	}
}
