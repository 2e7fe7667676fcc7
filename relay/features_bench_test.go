package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What it costs a packet that other packets have features: the path of a gateway
// that has none against that of one that has all of them, for others. Both are
// there at once and take turns, in blocks of batches, one of them first and then
// the other; extra-ns is the median of the differences of such blocks, low and
// high the bounds of its 95 % interval (bootstrap).
//
//	go test -run=- -bench=Elsewhere -benchtime=400000x -count=3 ./relay
//
// Policy compares in the same way what is used, and counts (policy_bench_test.go).

func BenchmarkFeaturesElsewhere(b *testing.B) {
	for _, place := range []int{atRouted, atGeneve4, atGeneve6} {
		version := 4
		if place == atGeneve6 {
			version = 6
		}
		b.Run("out/"+benchName(place, 64), func(b *testing.B) {
			compareOut(b, place, version, (*pair).nothing, (*pair).featuresElsewhere)
		})
		b.Run("in/"+benchName(place, 64), func(b *testing.B) {
			compareIn(b, place, version, (*pair).nothing, (*pair).featuresElsewhere)
		})
	}
}

func (p *pair) nothing(testing.TB) {}

// featuresElsewhere gives both sites everything that packets can be subject to,
// where the packets of the default VPC and of red's Geneve are not: in blue, on a
// port that is no way to the peer, and at another peer.
func (p *pair) featuresElsewhere(t testing.TB) {
	for _, g := range []*gateway{p.a, p.b} {
		g.addPeers(t, 1)
		s := *g.snap
		s.Peers, s.VPCs, s.Ports = slices.Clone(s.Peers), slices.Clone(s.VPCs), slices.Clone(s.Ports)
		limit := Limit{Bits: 1e9, Packets: 1e6}
		s.Peers[1].Limits = Limits{FromSite: limit, ToSite: limit}
		s.Ports[bluePort-firstPort].ToPeers = limit
		v := &s.VPCs[blue]
		v.Limits = Limits{FromSite: limit, ToSite: limit}
		for i := range 100 {
			v.ACL.Rules = append(v.ACL.Rules, ACLRule{ID: fmt.Sprint(i), Protocol: 17, DestinationPorts: []PortRange{{uint16(i), uint16(i)}}})
		}
		v.ACL.Default = Deny
		v.Translate = []Translation{{netip.PrefixFrom(addr("10.%d.3.0", g.site), 24), netip.MustParsePrefix("10.77.3.0/24")}}
		v.Groups, v.Flood = prefixes("239.1.0.0/16", "ff05::/16"), []uint32{uint32(len(s.Deliveries) - 1)}
		v.Sources, v.MSS = SourceStrict, 1200
		v.Attachments = slices.Clone(v.Attachments)
		v.Attachments[1].Trusted = prefixes("192.168.0.0/16")
		check(t, g.relay.Update(&s))
		g.snap = &s
	}
}

// limitHere limits the packets themselves, far above what they are.
func (p *pair) limitHere(t testing.TB) {
	limit := Limit{Bits: 1e12, Packets: 1e9}
	for _, g := range []*gateway{p.a, p.b} {
		s := *g.snap
		s.Peers, s.VPCs, s.Ports = slices.Clone(s.Peers), slices.Clone(s.VPCs), slices.Clone(s.Ports)
		s.Peers[0].Limits = Limits{FromSite: limit, ToSite: limit}
		s.Ports[wanPort-firstPort].ToPeers = limit
		for i := range s.VPCs {
			s.VPCs[i].Limits = Limits{FromSite: limit, ToSite: limit}
		}
		check(t, g.relay.Update(&s))
		g.snap = &s
	}
}

// BenchmarkPolicyLimits: three limits on the way out (VPC, peer, port), two on the way in.
func BenchmarkPolicyLimits(b *testing.B) {
	b.Run("out", func(b *testing.B) { compareOut(b, atRouted, 4, (*pair).nothing, (*pair).limitHere) })
	b.Run("in", func(b *testing.B) { compareIn(b, atRouted, 4, (*pair).nothing, (*pair).limitHere) })
}

// side makes a pair and returns how long it takes to send a batch of 64-byte
// packets out, or, from the other site's, in.
func side(b *testing.B, place, version int, inwards, learn bool, change func(*pair, testing.TB)) func() time.Duration {
	p := newPair(b, gatewayOptions{learn: learn})
	p.connect(b)
	change(p, b)
	p.settle()
	_, ifindex, frames := benchPackets(place, 64, version)
	g, in, out := p.a, ifindex, uint32(wanPort)
	if inwards {
		g, in = p.b, wanPort
		if out = sitePort; place == atRouted {
			out = hostPort
		}
	}
	p.a.queues[0][wanPort].Discard()
	w, from, to := g.relay.workers[0], g.queues[0][in], g.queues[0][out]
	return func() time.Duration {
		batch := frames
		if inwards {
			for _, f := range frames {
				p.a.queues[0][ifindex].Inject(f)
			}
			p.a.turn()
			batch = p.a.queues[0][wanPort].Collect()
		}
		for _, f := range batch {
			from.Inject(f)
		}
		start := time.Now()
		w.turn()
		took := time.Since(start)
		if n := to.Discard(); n != batchSize {
			b.Fatalf("%d packets came through: %v", n, nonzero(g.relay.Counters()))
		}
		return took
	}
}

func compareOut(b *testing.B, place, version int, plain, other func(*pair, testing.TB)) {
	compareSides(b, side(b, place, version, false, false, plain), side(b, place, version, false, true, other))
}

func compareIn(b *testing.B, place, version int, plain, other func(*pair, testing.TB)) {
	compareSides(b, side(b, place, version, true, false, plain), side(b, place, version, true, true, other))
}

// compareBlock is how many batches one side has in a row, so that the other's memory is out of its caches only in the first.
const compareBlock = 16

// compareSides reports the median cost of each side and of what the second has more.
func compareSides(b *testing.B, plain, other func() time.Duration) {
	defer calm()()
	sides := [2]func() time.Duration{plain, other}
	var medians [2][]float64
	for packets := 0; packets < b.N || len(medians[0]) < 4; packets += 2 * compareBlock * batchSize {
		first := len(medians[0]) & 1
		for _, which := range [2]int{first, 1 - first} {
			var took [compareBlock]float64
			for i := range took {
				took[i] = float64(sides[which]()) / batchSize
			}
			medians[which] = append(medians[which], median(took[:]))
		}
	}
	extra := make([]float64, len(medians[0]))
	for i := range extra {
		extra[i] = medians[1][i] - medians[0][i]
	}
	b.ReportMetric(median(medians[0]), "plain-ns")
	b.ReportMetric(median(medians[1]), "other-ns")
	draws := make([]float64, 1000)
	random, draw := rand.New(rand.NewPCG(1, 2)), make([]float64, len(extra))
	for i := range draws {
		for j := range draw {
			draw[j] = extra[random.IntN(len(extra))]
		}
		draws[i] = median(draw)
	}
	slices.Sort(draws)
	b.ReportMetric(median(extra), "extra-ns")
	b.ReportMetric(draws[len(draws)/40], "low-ns")
	b.ReportMetric(draws[len(draws)-1-len(draws)/40], "high-ns")
	b.ReportMetric(0, "ns/op")
}

// median leaves v as it is.
func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}
