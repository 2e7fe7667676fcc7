package relay

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// policies changes the VPCs of a snapshot: access lists, source checks, groups, translations, segment sizes, and whose nodes
// the Geneve ones are.
func (r *randomPacket) policies(s *Snapshot) {
	s.Deliveries = slices.Clone(s.Deliveries)
	for i := range s.VPCs {
		v, name := &s.VPCs[i], vpcName(i)
		v.Sources = SourceCheck(r.IntN(3))
		v.MSS = [...]int{0, 0, -1, 1000, 60}[r.IntN(5)]
		r.mizarise(s, v)
		v.ACL, v.Groups, v.Flood, v.Translate = ACL{}, nil, nil, nil
		if r.one(2) {
			v.ACL = r.accessList(name)
		}
		if r.one(2) {
			v.Groups = prefixes("239.1.0.0/16", "ff08::/16")
			for id := range s.Deliveries {
				if s.Deliveries[id].VNI == v.VNI {
					v.Flood = append(v.Flood, uint32(id))
				}
			}
		}
		if r.one(2) {
			for _, prefix := range name.prefixes(1) {
				v.Translate = append(v.Translate, Translation{Prefix: prefix, As: netip.PrefixFrom(seenAs(1, prefix.Addr()), prefix.Bits())})
			}
		}
	}
	s.Peers[0].MSS = [...]int{0, 0, -1, 900}[r.IntN(4)]
}

// mizarise makes the Geneve attachment of a VPC Mizar's, or not.
func (r *randomPacket) mizarise(s *Snapshot, v *VPC) {
	v.Attachments = slices.Clone(v.Attachments)
	v.Attachments[1].Mizar = nil
	vtep := vtepAddr(1, atGeneve6)
	if r.one(2) {
		v.Attachments[1].Mizar = &Mizar{PodLabel: r.Uint32(), NamespaceLabel: r.Uint32()}
		vtep = secondBouncer(1)
	}
	for id := range s.Deliveries {
		if s.Deliveries[id].VNI == v.VNI && atVXLAN4+id%(places-1) == atGeneve6 { // in the order of testSnapshot
			s.Deliveries[id].VTEP = vtep
		}
	}
}

// accessList is randomACL about addresses that there are.
func (r *randomPacket) accessList(v vpcName) ACL {
	l := randomACL(r.Rand)
	l.Default = [...]ACLAction{Allow, Allow, Allow, Deny, Reject}[r.IntN(5)]
	for i := range l.Rules {
		for _, list := range [][]netip.Prefix{l.Rules[i].Source, l.Rules[i].Destination} {
			for at := range list {
				version := 4 + 2*r.IntN(2)
				bits := map[int][]int{4: {0, 16, 24, 32}, 6: {0, 32, 48, 128}}[version][r.IntN(4)]
				list[at] = netip.PrefixFrom(v.host(1+r.IntN(2), 1+r.IntN(places-1), version), bits).Masked()
			}
		}
	}
	return *l
}

// The same with everything that a VPC may have, another set of policies for every 250 packets; the peer may be a direct one.
func TestRandomPacketsFareAsTheSlowModelSaysUnderPolicies(t *testing.T) {
	for at, c := range []struct {
		name    string
		packets uint64
		o       gatewayOptions
		toPeer  Verdict
	}{
		{"WireGuard", 10_000, gatewayOptions{}, ToPeer},
		{"in the clear over IPv4", 5000, gatewayOptions{direct: true}, ToDirect},
		{"in the clear over IPv6", 5000, gatewayOptions{direct: true, outer: 6}, ToDirect},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.tune = func(o *Options) { o.ErrorRate = 1 << 30 }
			p := newPair(t, c.o)
			p.a.resolveBouncer()
			if !c.o.direct {
				p.connect(t)
			}
			seen, mizars := make(tallyOf), 0
			clamped := p.a.relay.Counters().Clamped
			for i := range c.packets {
				r := newRandomPacket(rand.New(rand.NewPCG(*seed, uint64(at+1)<<32+i)))
				if i%250 == 0 {
					p.a.change(r.policies)
				}
				want := newModel(p.a.snap, nil)
				got, what := p.exchange(t, r, want)
				if !got.equal(want.outcome) {
					t.Fatalf("packet %d in %v %s\n got %v\nwant %v\nunder %+v", i, r.vpc, what, got, want.outcome, p.a.snap.VPCs[r.vpc])
				}
				seen.add(got)
				mizars += want.mizars
			}
			if n := p.a.relay.Counters().Clamped - clamped; n < 50 {
				t.Errorf("%d segment sizes were lowered", n)
			}
			seen.atLeast(t, 20, c.toPeer, ToSite, Answered, Originated, ACLDenied, InsideAddress, OutsideAddress, SpoofedSource, Multicast, NotForTransit, CriticalOption)
			seen.atLeast(t, int(c.packets/3000), TooBig, TinyFragment)
			if mizars < 100 {
				t.Errorf("%d packets reached Mizar's nodes", mizars)
			}
		})
	}
}

// The same under limits of packets and bits, with time that passes in whole milliseconds.
func TestRandomPacketsFareAsTheSlowModelSaysUnderLimits(t *testing.T) {
	for at, c := range []struct {
		name   string
		o      gatewayOptions
		toPeer Verdict
	}{{"WireGuard", gatewayOptions{}, ToPeer}, {"in the clear", gatewayOptions{direct: true, outer: 6}, ToDirect}} {
		t.Run(c.name, func(t *testing.T) {
			clock := newFakeClock()
			c.o.now, c.o.tune = clock.now, func(o *Options) { o.ErrorRate = 1 << 30 }
			p := newPair(t, c.o)
			if !c.o.direct {
				p.connect(t)
			}
			var buckets slowBuckets
			seen := make(tallyOf)
			for i := range uint64(6000) {
				r := newRandomPacket(rand.New(rand.NewPCG(*seed, uint64(at+4)<<32+i)))
				if i%1000 == 0 {
					p.a.change(r.limits)
					clock.advance(time.Second) // all buckets are full
					buckets = make(slowBuckets)
				}
				if r.one(20) {
					clock.advance(5 * time.Millisecond)
					buckets.pass(5)
				}
				want := newModel(p.a.snap, buckets)
				got, what := p.exchange(t, r, want)
				if !got.equal(want.outcome) {
					t.Fatalf("packet %d in %v %s\n got %v\nwant %v\nwith %v", i, r.vpc, what, got, want.outcome, buckets)
				}
				seen.add(got)
			}
			seen.atLeast(t, 100, c.toPeer, ToSite, RateLimited)
		})
	}
}

// limits changes all limits that there are. The rates divide the worker's unit of time.
func (r *randomPacket) limits(s *Snapshot) {
	limit := func() Limit {
		return Limit{Packets: [...]uint64{0, 0, 0, 200, 400}[r.IntN(5)], Bits: [...]uint64{0, 0, 0, 800_000, 1_600_000}[r.IntN(5)]}
	}
	for v := range s.VPCs {
		s.VPCs[v].Limits = Limits{FromSite: limit(), ToSite: limit()}
	}
	s.Peers[0].Limits = Limits{FromSite: limit(), ToSite: limit()}
	s.Ports[wanPort-firstPort].ToPeers = limit()
}
