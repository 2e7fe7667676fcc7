package relay

import (
	"testing"

	"github.com/sluicegw/sluice/internal/fib"
)

// number gives the routes of every VPC of a gateway counters of their own, and
// returns them by VPC and prefix.
func (g *gateway) number(t *testing.T) map[string]uint32 {
	t.Helper()
	numbers, next := make(map[string]uint32), uint32(1)
	for i := range g.snap.VPCs {
		vpc := &g.snap.VPCs[i]
		var routes []fib.Route
		for r := range vpc.Routes.All() {
			routes = append(routes, fib.Route{Prefix: r.Prefix, NextHops: r.NextHops, Counter: next})
			numbers[vpc.Name+" "+r.Prefix.String()] = next
			next++
		}
		var err error
		vpc.Routes, err = fib.New(routes)
		check(t, err)
	}
	check(t, g.relay.Update(g.snap))
	return numbers
}

func TestRoutesCountBothDirections(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	a, b := p.a.number(t), p.b.number(t)
	p.connect(t)
	const n, payload = 5, 100
	for range n {
		p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, make([]byte, payload)))
		p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 6, make([]byte, payload)))
	}
	p.settle()
	const four, six = n * (payload + 28), n * (payload + 48)
	for _, c := range []struct {
		name string
		got  RouteCounters
		want RouteCounters
	}{
		{"at the sender, towards the peer", p.a.relay.RouteCounter(a["red 10.2.0.0/16"]), RouteCounters{ToPackets: n, ToBytes: four}},
		{"at the sender, IPv6", p.a.relay.RouteCounter(a["red fd10:2::/32"]), RouteCounters{ToPackets: n, ToBytes: six}},
		{"at the receiver, towards the host", p.b.relay.RouteCounter(b["red 10.2.3.0/24"]), RouteCounters{ToPackets: n, ToBytes: four}},
		{"at the receiver, from the peer", p.b.relay.RouteCounter(b["red 10.1.0.0/16"]), RouteCounters{FromPackets: n, FromBytes: four}},
		{"at the receiver, from the peer, IPv6", p.b.relay.RouteCounter(b["red fd10:1::/32"]), RouteCounters{FromPackets: n, FromBytes: six}},
		{"a route that nobody used", p.b.relay.RouteCounter(b["blue 10.1.0.0/16"]), RouteCounters{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
	if vpcs := p.a.relay.Counters().VPCs; vpcs[1].VNI != 100 || vpcs[1].ToPeers != 2*n || vpcs[1].ToPeersBytes != four+six {
		t.Errorf("red at the sender: %+v", vpcs[1])
	}
}

func TestCountersSurviveAnUpdate(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	numbers := p.a.number(t)
	p.connect(t)
	for range 3 {
		p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
		p.settle()
		p.a.number(t) // the same numbers in new tables
	}
	if got := p.a.relay.RouteCounter(numbers["red 10.2.0.0/16"]).ToPackets; got != 3 {
		t.Errorf("%d packets counted over three tables, want 3", got)
	}
}

func TestDroppedPacketsCountForTheirVPC(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	far := vpcName(red).host(1, atRouted, 4)
	inner := udpPacket(far, addr("203.0.113.1"), 64, 0, 1, 2, nil) // no route
	for range 4 {
		_, frame := fromHost(red, 1, atRouted, inner)
		p.a.queues[0][redPort].Inject(frame)
	}
	p.settle()
	for _, v := range p.a.relay.Counters().VPCs {
		want := uint64(0)
		if v.VNI == 100 {
			want = 4
		}
		if v.Dropped != want {
			t.Errorf("vni %d: %d dropped, want %d", v.VNI, v.Dropped, want)
		}
	}
}

func TestBusyWorkersPublishRoutesInTime(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	w := p.a.relay.workers[0]
	w.adoptRoutes(3 * maxDirtyRoutes)
	for n := range uint32(3 * maxDirtyRoutes) { // more than fit into the list of what is to be published
		w.routeCount(&frame{route: n})
	}
	w.now += latePublishInterval + 1
	w.publish()
	for n := uint32(1); n < 3*maxDirtyRoutes; n++ { // 0 is for what nobody counts
		if c := p.a.relay.RouteCounter(n); c.ToPackets != 1 {
			t.Fatalf("counter %d: %+v", n, c)
		}
	}
	if c := p.a.relay.RouteCounter(MaxRouteCounters); c != (RouteCounters{}) {
		t.Errorf("a counter that nobody has made: %+v", c)
	}
	if len(w.dirtyRoutes) != 0 {
		t.Errorf("%d counters are not published", len(w.dirtyRoutes))
	}
}

func TestASnapshotWithTooLargeACounterIsRefused(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	snap := *p.a.snap
	snap.VPCs = append([]VPC(nil), snap.VPCs...)
	table, err := snap.VPCs[0].Routes.With([]fib.Route{{Prefix: red.prefixes(2)[0], Counter: MaxRouteCounters,
		NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 0}}}}, nil)
	check(t, err)
	snap.VPCs[0].Routes = table
	if err := p.a.relay.Update(&snap); err == nil {
		t.Error("it was taken")
	}
}
