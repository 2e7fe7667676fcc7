package relay

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/relaytest"
)

func TestTheFirstPacketsWaitForHandshakeAndNeighboursAndArriveInOrder(t *testing.T) {
	p := newPair(t, gatewayOptions{cold: true})
	const n = 5
	for i := range n {
		p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, []byte{byte(i)}))
	}
	p.a.turn()
	if got := p.a.relay.Counters(); got.Parked < n {
		t.Fatalf("%d packets are parked, want %d: %v", got.Parked, n, nonzero(got))
	}
	p.a.warm()
	for range 3 {
		p.settle()
	}
	p.b.warm()
	var got [][]byte
	p.until(t, "packets", func() bool { got = append(got, p.b.got(redPort)...); return len(got) >= n })
	for i, b := range got {
		if b[len(b)-1] != byte(i) {
			t.Errorf("packet %d at place %d", b[len(b)-1], i)
		}
	}
}

func TestWaitingIsBoundedInNumberAndTime(t *testing.T) {
	p := newPair(t, gatewayOptions{cold: true, tune: func(o *Options) { o.ParkPerKey, o.ParkTime, o.ErrorRate = 4, 20*time.Millisecond, -1 }})
	got := p.a.verdicts(func() {
		for range 6 {
			p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
		}
		p.a.turn()
		time.Sleep(150 * time.Millisecond) // longer than ParkTime and the time between two looks
		p.a.turn()
	})
	if want := map[string]uint64{"park_full": 2, "park_expired": 4}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestANextHopThatCannotBeReachedHasItsVerdict(t *testing.T) {
	for state, want := range map[neigh.State]string{neigh.Failed: "no_neighbour", neigh.Unreachable: "neighbour_unreachable"} {
		p := newPair(t, gatewayOptions{cold: true})
		key := neigh.Key{Dst: wanAddr(2, 4)}
		p.a.neigh.Set(&neigh.Entry{Key: key, State: state})
		got := p.a.verdicts(func() {
			p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
			p.a.turn()
		})
		if got[want] != 1 {
			t.Errorf("%v: got %v", state, got)
		}
	}
	p := newPair(t, gatewayOptions{cold: true})
	p.a.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: wanAddr(2, 4)}, State: neigh.Resolved, Egress: 99, Src: wanAddr(1, 4)})
	got := p.a.verdicts(func() {
		p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
		p.a.turn()
	})
	if want := map[string]uint64{"no_port": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// live runs a pair for real: every worker on its thread, a goroutine for the WAN.
func live(t *testing.T, p *pair) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, g := range []*gateway{p.a, p.b} {
		all.Go(func() {
			if err := g.relay.Run(ctx); err != nil {
				t.Errorf("run site %d: %v", g.site, err)
			}
		})
	}
	wan := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-wan:
				return
			default:
				if p.carry() == 0 {
					time.Sleep(50 * time.Microsecond)
				}
			}
		}
	})
	return func() { cancel(); close(wan); all.Wait() }
}

func TestOneToFourWorkersLoseNothingWhileTheSnapshotChanges(t *testing.T) {
	for workers := 1; workers <= 4; workers++ {
		p := newPair(t, gatewayOptions{workers: workers})
		p.connect(t)
		stop := live(t, p)
		const each = 400
		arrived := 0
		for i := range each {
			for w := range workers {
				inner := udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atGeneve4, 4), 64, 0, uint16(i), uint16(w), nil)
				_, frame := fromHost(red, 1, atVXLAN4, inner)
				for !p.a.queues[w][sitePort].Inject(frame) {
					time.Sleep(100 * time.Microsecond)
					arrived += len(p.b.got(sitePort))
				}
			}
			if i%20 == 0 { // the same again, as new tables
				check(t, p.a.relay.Update(testSnapshot(gatewayOptions{site: 1}, p.a.peer)))
				check(t, p.b.relay.Update(testSnapshot(gatewayOptions{site: 2}, p.b.peer)))
			}
			arrived += len(p.b.got(sitePort))
		}
		for deadline := time.Now().Add(10 * time.Second); arrived < each*workers && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
			arrived += len(p.b.got(sitePort))
		}
		stop()
		if arrived != each*workers {
			t.Errorf("%d workers: %d of %d packets arrived; site 1 %v, site 2 %v", workers, arrived, each*workers,
				nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
		}
		for _, v := range p.a.relay.Counters().VPCs {
			if v.VNI == red.vni(1) && v.ToPeers != each*uint64(workers) {
				t.Errorf("%d workers: vpc red counts %d packets to peers", workers, v.ToPeers)
			}
		}
	}
}

func TestAPortComesAndGoesWhileTheRelayRuns(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	stop := live(t, p)
	defer stop()
	var rest []PortQueue
	for ifindex, q := range p.b.queues[0] {
		if ifindex != redPort {
			rest = append(rest, PortQueue{Ifindex: ifindex, Queue: q})
		}
	}
	check(t, p.b.relay.SetQueues(0, rest))
	dropped := p.b.verdicts(func() {
		p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
		for deadline := time.Now().Add(5 * time.Second); p.b.relay.Counters().Verdicts[NoPort] == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	})
	if dropped["no_port"] != 1 {
		t.Errorf("without the port: %v", dropped)
	}
	again := relaytest.NewQueue(p.b.umems[0], relaytest.Options{Notify: p.b.relay.Wake})
	p.b.queues[0][redPort] = again
	check(t, p.b.relay.SetQueues(0, append(rest, PortQueue{Ifindex: redPort, Queue: again})))
	p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
	got := 0
	for deadline := time.Now().Add(5 * time.Second); got == 0 && time.Now().Before(deadline); got += len(again.Collect()) {
		time.Sleep(time.Millisecond)
	}
	if got != 1 {
		t.Errorf("%d packets through the new port: %v", got, nonzero(p.b.relay.Counters()))
	}
}

func TestLossAndReorderingLoseNothingMore(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	wire := p.wires[0]
	wire.Rand, wire.Reorder, wire.Loss = rand.New(rand.NewPCG(1, 2)), true, 0.2
	reached := 0
	wire.Tap = func([]byte) { reached++ }
	got := 0
	for range 50 {
		for range 20 {
			p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 6, []byte("x")))
		}
		p.settle()
		got += len(p.b.got(hostPort))
	}
	if got != reached || got < 700 || got > 900 {
		t.Errorf("%d of %d packets that reached the gateway were delivered", got, reached)
	}
}

func TestAKickThatFailsIsCounted(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.a.queues[0][wanPort].SetKickError(errors.New("network is down"))
	p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
	p.a.turn()
	if n := p.a.relay.Counters().KickErrors; n == 0 {
		t.Error("not counted")
	}
}

func TestABatchDoesNotAllocate(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, place := range []int{atRouted, atVXLAN4, atGeneve6} {
		_, port, frames := benchPackets(place, 256, 4)
		in, wan := p.a.queues[0][port], p.a.queues[0][wanPort]
		run := func() {
			for _, f := range frames {
				in.Inject(f)
			}
			p.a.turn()
			wan.Discard()
		}
		run()
		if n := testing.AllocsPerRun(50, run); n != 0 {
			t.Errorf("%s: %v allocations for a batch out", placeName(place), n)
		}
		p.carry()
		var messages [][]byte // AllocsPerRun runs once more than it says
		for range 52 {
			for _, f := range frames {
				in.Inject(f)
			}
			p.a.turn()
			messages = append(messages, wan.Collect()...)
		}
		i := 0
		receive := func() {
			for range batchSize {
				p.b.queues[0][wanPort].Inject(messages[i])
				i++
			}
			p.b.turn()
			for _, q := range p.b.queues[0] {
				q.Discard()
			}
		}
		receive()
		if n := testing.AllocsPerRun(50, receive); n != 0 {
			t.Errorf("%s: %v allocations for a batch in", placeName(place), n)
		}
	}
}

func TestASnapshotThatContradictsItselfIsRefusedWithAllItsProblems(t *testing.T) {
	s := &Snapshot{
		Ports: []Port{{Ifindex: 2, Name: "a"}, {Ifindex: 2, Name: "b"}},
		VPCs: []VPC{{Name: "red", VNI: 7, Attachments: []Attachment{{Kind: VXLAN, Ifindex: 9}}},
			{Name: "blue", VNI: 7}},
		Deliveries: []Delivery{{VNI: 8, VTEP: netip.Addr{}}},
	}
	_, err := compile(s)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"port b: ifindex 2 occurs twice", "ifindex 9, which is no port", "vpc blue: vni 7 occurs twice", "delivery 0"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}

// A peer has talked to an address of ours that is then taken away: what we send comes from one that we have.
func TestAnAddressThatIsGoneIsNoSource(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	if local := p.a.peer.Endpoint().Local; local != wanAddr(1, 4) {
		t.Fatalf("the peer talked to %v, want %v", local, wanAddr(1, 4))
	}
	renumbered := netip.MustParseAddr("203.0.113.9")
	s := *p.a.snap
	s.Ports = slices.Clone(s.Ports)
	for i := range s.Ports {
		if s.Ports[i].Ifindex == wanPort {
			s.Ports[i].Addresses = []netip.Addr{renumbered, wanAddr(1, 6)}
		}
	}
	key := neigh.Key{Dst: wanAddr(2, 4)}
	old := p.a.neigh.Table().Lookup(key)
	p.a.neigh.Set(&neigh.Entry{Key: key, State: neigh.Resolved, Egress: wanPort, Src: renumbered, SrcMAC: old.SrcMAC, DstMAC: old.DstMAC,
		NextHop: old.NextHop, MTU: old.MTU})
	check(t, p.a.relay.Update(&s))
	p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, []byte("renumbered")))
	p.a.turn()
	sent := p.a.got(wanPort)
	if len(sent) != 1 {
		t.Fatalf("%d packets sent: %v", len(sent), nonzero(p.a.relay.Counters()))
	}
	if src := netip.AddrFrom4([4]byte(sent[0][26:30])); src != renumbered {
		t.Errorf("sent from %v, want %v", src, renumbered)
	}
}
