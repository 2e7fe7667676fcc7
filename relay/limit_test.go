package relay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// fakeClock is a clock that tests turn on.
type fakeClock struct {
	start time.Time
	gone  atomic.Int64
}

func newFakeClock() *fakeClock                { return &fakeClock{start: time.Now()} }
func (c *fakeClock) now() time.Time           { return c.start.Add(time.Duration(c.gone.Load())) }
func (c *fakeClock) advance(by time.Duration) { c.gone.Add(int64(by)) }

// Asked for all that it has every ten milliseconds, a bucket gives its rate and one burst, of which each class leaves
// its floor.
func TestABucketGivesItsRate(t *testing.T) {
	const seconds, step = 10, 10 * time.Millisecond
	for _, rate := range []float64{1000, 12_500, 1.25e6, 1.25e9} {
		for class := range uint8(NumClasses) {
			b := newBucket(rate, 50*time.Millisecond, leastBurst)
			want := float64(b.tokens())*float64(16-classFloor[class])/16 + (seconds-step.Seconds())*rate
			var got int64
			for now := int64(0); now < int64(seconds*time.Second); now += int64(step) {
				for grant := b.tokens(); grant > 0; { // halves, and halves of them, down to one token
					if n := b.take(now, grant, grant, class); n > 0 {
						got += n
					} else {
						grant /= 2
					}
				}
			}
			if diff := math.Abs(float64(got) - want); diff > 0.001*want+2 {
				t.Errorf("rate %g class %d: %d tokens in %d s, want %.0f", rate, class, got, seconds, want)
			}
		}
	}
}

// limited is a pair of gateways on a fake clock; site 1 has limits.
func limited(t *testing.T, workers int, change func(*Snapshot)) (*pair, *fakeClock) {
	t.Helper()
	clock := newFakeClock()
	p := newPair(t, gatewayOptions{workers: workers, now: clock.now})
	p.connect(t)
	p.a.change(change)
	return p, clock
}

// change publishes the gateway's snapshot with a change.
func (g *gateway) change(change func(*Snapshot)) {
	g.t.Helper()
	s := *g.snap
	s.Ports = append([]Port(nil), s.Ports...)
	s.VPCs = append([]VPC(nil), s.VPCs...)
	s.Peers = append([]Peer(nil), s.Peers...)
	change(&s)
	check(g.t, g.relay.Update(&s))
	g.snap = &s
}

// offer sends packets of 100 bytes from the site, in batches on one worker, with these TOS in turn.
func (p *pair) offer(v vpcName, worker, n int, tos ...uint8) {
	for ; n > 0; n -= batchSize {
		for i := range min(n, batchSize) {
			inner := udpPacket(v.host(1, atRouted, 4), v.host(2, atRouted, 4), 64, tos[i%len(tos)], uint16(i), 9, make([]byte, 72))
			_, b := fromHost(v, 1, atRouted, inner)
			p.a.queues[worker][v.routedPort()].Inject(b)
		}
		p.a.relay.workers[worker].turn()
		p.a.queues[worker][wanPort].Discard()
	}
}

func (p *pair) count(v Verdict) uint64 { return p.a.relay.Counters().Verdicts[v] }

func between(t *testing.T, what string, got uint64, low, high float64) {
	t.Helper()
	if float64(got) < low || float64(got) > high {
		t.Errorf("%s: %d, want %.0f to %.0f", what, got, low, high)
	}
}

// Each kind of limit in each direction, in bits and in packets: in ten seconds
// ten times the rate passes and a burst, and everything else is refused and counted.
func TestLimitsHoldWhatPassesToTheirRate(t *testing.T) {
	byBits, byPackets := Limit{Bits: 800_000}, Limit{Packets: 1000} // 1000 packets of 100 bytes
	cases := []struct {
		name    string
		key     MeterKey
		toSite  bool
		size    float64 // of a packet as the limit sees it
		install func(*Snapshot, Limit)
	}{
		{"a VPC's, from the site", MeterKey{Kind: VPCLimitMeter, ID: red.vni(1), Direction: DirectionFromSite}, false, 100, func(s *Snapshot, l Limit) { s.VPCs[red].Limits.FromSite = l }},
		{"a VPC's, to the site", MeterKey{Kind: VPCLimitMeter, ID: red.vni(1), Direction: DirectionToSite}, true, 100, func(s *Snapshot, l Limit) { s.VPCs[red].Limits.ToSite = l }},
		{"a peer's, from the site", MeterKey{Kind: PeerLimitMeter, Direction: DirectionFromSite}, false, 100, func(s *Snapshot, l Limit) { s.Peers[0].Limits.FromSite = l }},
		{"a peer's, to the site", MeterKey{Kind: PeerLimitMeter, Direction: DirectionToSite}, true, 100, func(s *Snapshot, l Limit) { s.Peers[0].Limits.ToSite = l }},
		{"a port's", MeterKey{Kind: PortLimitMeter, ID: wanPort, Direction: DirectionFromSite}, false, 196, func(s *Snapshot, l Limit) { s.Ports[wanPort-firstPort].ToPeers = l }},
	}
	for _, c := range cases {
		for unit, l := range map[string]Limit{"bits": byBits, "packets": byPackets} {
			t.Run(c.name+" in "+unit, func(t *testing.T) {
				p, clock := limited(t, 1, func(s *Snapshot) { c.install(s, l) })
				before := p.a.relay.Counters()
				offered := uint64(0)
				for range 1000 { // of 10 ms, with three times what may pass
					clock.advance(10 * time.Millisecond)
					if !c.toSite {
						p.offer(red, 0, 30, 0)
					} else {
						inner := udpPacket(red.host(2, atRouted, 4), red.host(1, atRouted, 4), 64, 0, 1, 9, make([]byte, 72))
						inner = tunnelled(red.vni(1), etherTypeOfPacket(inner), inner)
						for range 30 {
							p.sealTo(t, inner)
						}
						p.a.turn()
						p.a.queues[0][redPort].Discard()
					}
					offered += 30
				}
				after := p.a.relay.Counters()
				good := ToPeer
				if c.toSite {
					good = ToSite
				}
				passed, refused := after.Verdicts[good]-before.Verdicts[good], after.Verdicts[RateLimited]
				if passed+refused != offered {
					t.Errorf("%d passed and %d were refused, of %d: %v", passed, refused, offered, nonzero(after))
				}
				rate := 10_000.0
				if unit == "bits" {
					rate *= 100 / c.size
				}
				between(t, "passed", passed, 0.99*rate, 1.01*rate+400)
				c.key.Class = classOf[0]
				if n := p.a.relay.Meters()[c.key]; n.Packets != refused || float64(n.Bytes) != float64(refused)*c.size {
					t.Errorf("the meter says %+v of %d refused", n, refused)
				}
			})
		}
	}
}

// Another VPC, and another direction, are not touched.
func TestALimitIsNobodyElses(t *testing.T) {
	p, _ := limited(t, 1, func(s *Snapshot) {
		s.VPCs[red].Limits.FromSite = Limit{Packets: 1}
		s.VPCs[blue].Limits.ToSite = Limit{Packets: 1}
	})
	before := p.count(ToPeer)
	p.offer(blue, 0, 640, 0)
	p.offer(defaultVPC, 0, 640, 0)
	if n := p.count(ToPeer) - before; n != 1280 || p.count(RateLimited) != 0 {
		t.Errorf("%d passed, %d were refused", n, p.count(RateLimited))
	}
}

// Workers that all have more to send than the limit allows get the same share.
func TestWorkersShareALimit(t *testing.T) {
	const workers = 4
	p, clock := limited(t, workers, func(s *Snapshot) { s.VPCs[red].Limits.FromSite = Limit{Bits: 8_000_000} }) // 10000 per second
	start := make([]uint64, workers)
	for i := range start {
		start[i] = p.a.relay.WorkerCounters(i).Verdicts[ToPeer]
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		for _, i := range r.Perm(workers) {
			clock.advance(time.Duration(r.IntN(500_000)))
			p.offer(red, i, 16, 0)
		}
	}
	seconds := time.Duration(clock.gone.Load()).Seconds()
	var sum uint64
	for i := range start {
		n := p.a.relay.WorkerCounters(i).Verdicts[ToPeer] - start[i]
		sum += n
		between(t, fmt.Sprint("worker ", i), n, 0.85*seconds*10_000/workers, 1.15*(seconds*10_000+1000)/workers)
	}
	between(t, "all workers", sum, 0.98*seconds*10_000, 1.02*seconds*10_000+1000)
}

// Twice as much as the limit is offered, half of it voice: voice passes whole.
func TestLowerClassesAreRefusedFirst(t *testing.T) {
	const ef, af41, best, least = 46 << 2, 34 << 2, 0, 1 << 2
	p, clock := limited(t, 1, func(s *Snapshot) { s.Ports[wanPort-firstPort].ToPeers = Limit{Packets: 1000} })
	refused := func(class uint8) uint64 {
		return p.a.relay.Meters()[MeterKey{Kind: PortLimitMeter, ID: wanPort, Direction: DirectionFromSite, Class: class}].Packets
	}
	run := func(seconds int, tos ...uint8) {
		for range seconds * 50 { // of 20 ms: 40 offered, 20 may pass
			clock.advance(20 * time.Millisecond)
			p.offer(red, 0, 40, tos...)
		}
	}
	run(10, ef, best, ef, least) // EF alone fills the rate
	if n := refused(0); n > 20 {
		t.Errorf("%d of 10000 voice packets were refused", n)
	}
	between(t, "normal packets refused", refused(2), 4800, 5000)
	between(t, "least effort packets refused", refused(3), 4900, 5000)
	before2, before3 := refused(2), refused(3)
	run(10, af41, best, least, least) // video and normal fill it
	if n := refused(1); n > 20 {
		t.Errorf("%d of 5000 video packets were refused", n)
	}
	between(t, "normal packets refused", refused(2)-before2, 0, 200)
	between(t, "least effort packets refused", refused(3)-before3, 9700, 10_000)
}

// A reload grants nothing: the bucket is the same one.
func TestAReloadIsNoNewBurst(t *testing.T) {
	p, _ := limited(t, 1, func(s *Snapshot) { s.VPCs[red].Limits.FromSite = Limit{Packets: 1000} })
	before := p.count(ToPeer)
	for range 50 {
		p.a.change(func(s *Snapshot) { s.VPCs[blue].Limits.FromSite.Packets++ })
		p.offer(red, 0, 64, 0)
	}
	between(t, "passed without time going on", p.count(ToPeer)-before, 1, 100)
}

// What finds no room in the transmit ring is the newest of the lowest class.
func TestAFullRingTakesTheHigherClassesFirst(t *testing.T) {
	const ring = 16
	for _, on := range []bool{false, true} {
		p := newPair(t, gatewayOptions{txSize: ring})
		p.connect(t)
		if on {
			p.a.change(func(s *Snapshot) { s.Ports[wanPort-firstPort].ToPeers = Limit{Bits: 1e11} })
		}
		p.a.got(wanPort)
		for i := range 32 {
			tos := uint8(0)
			if i >= 24 {
				tos = 46 << 2
			}
			inner := udpPacket(defaultVPC.host(1, atRouted, 4), defaultVPC.host(2, atRouted, 4), 64, tos, uint16(i), 9, nil)
			_, b := fromHost(defaultVPC, 1, atRouted, inner)
			p.a.queues[0][hostPort].Inject(b)
		}
		p.a.turn()
		voice, last := 0, -1
		sent := p.plainOf(t)
		for _, b := range sent {
			if b[1] == 46<<2 {
				voice++
			} else if port := int(b[20])<<8 | int(b[21]); port <= last {
				t.Error("a flow's packets have changed places")
			} else {
				last = port
			}
		}
		if want := map[bool]int{false: 0, true: 8}[on]; voice != want || len(sent) != ring {
			t.Errorf("classes %v: %d of %d packets sent are voice, want %d", on, voice, len(sent), want)
		}
	}
}
