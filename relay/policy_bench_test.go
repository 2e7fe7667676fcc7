package relay

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
)

// What policy costs on the way out. Access lists are the worst case: every rule
// is of the packets' protocol and direction, and only the last one matches.
//
//	go test -run=- -bench=Policy -benchtime=1s ./relay
func BenchmarkPolicyACL(b *testing.B) {
	for _, version := range []int{4, 6} {
		for _, rules := range []int{0, 1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("IPv%d/%d rules", version, rules), func(b *testing.B) {
				benchmarkPolicy(b, version, func(v *VPC) {
					for i := range rules {
						p := netip.PrefixFrom(addr("10.%d.%d.0", 100+i/256, i%256), 24)
						if version == 6 {
							p = netip.PrefixFrom(addr("fd99:%x::", i+1), 32)
						}
						r := ACLRule{ID: fmt.Sprint(i), Protocol: packet.ProtoUDP, Source: []netip.Prefix{p}, DestinationPorts: []PortRange{{uint16(i), uint16(i + 10)}}}
						if i == rules-1 {
							r.Source, r.DestinationPorts = nil, []PortRange{{2000, 2000}}
						}
						v.ACL.Rules = append(v.ACL.Rules, r)
					}
					if rules > 0 {
						v.ACL.Default = Deny
					}
				})
			})
		}
	}
}

// benchmarkPolicy runs 64-byte packets of 64 flows through the routed
// attachment of a default VPC that was changed.
func benchmarkPolicy(b *testing.B, version int, change func(*VPC)) {
	p := newPair(b, gatewayOptions{})
	p.connect(b)
	p.a.withVPC(defaultVPC, change)
	_, ifindex, frames := benchPackets(atRouted, 64, version)
	in, out := p.a.queues[0][ifindex], p.a.queues[0][wanPort]
	w := p.a.relay.workers[0]
	bare := newBareCipher(64)
	run := func() {
		w.turn()
		if n := out.Discard(); n != batchSize {
			b.Fatalf("%d packets sent: %v", n, nonzero(p.a.relay.Counters()))
		}
	}
	measure(b, in, func() [][]byte { return frames }, run, bare.seal)
}

// The source check is on unless it is turned off: a lookup more for what comes from the site.
func BenchmarkPolicySources(b *testing.B) {
	for _, version := range []int{4, 6} {
		for _, c := range []SourceCheck{SourceOff, SourceLoose, SourceStrict} {
			b.Run(fmt.Sprintf("IPv%d/%s", version, [...]string{"loose", "strict", "off"}[c]), func(b *testing.B) {
				benchmarkPolicy(b, version, func(v *VPC) { v.Sources = c })
			})
		}
	}
}
