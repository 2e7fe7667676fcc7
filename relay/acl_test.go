package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
)

// withVPC publishes the gateway's snapshot with a VPC changed.
func (g *gateway) withVPC(v vpcName, change func(*VPC)) {
	g.t.Helper()
	s := *g.snap
	s.VPCs = append([]VPC(nil), s.VPCs...)
	change(&s.VPCs[v])
	check(g.t, g.relay.Update(&s))
	g.snap = &s
}

func prefixes(text ...string) (all []netip.Prefix) {
	for _, t := range text {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// ruleMeter is how many packets a rule of a VPC has matched; "" is the default.
func (g *gateway) ruleMeter(v vpcName, id string) uint64 {
	return g.relay.Meters()[MeterKey{Kind: RuleMeter, ID: v.vni(g.site), Name: id}].Packets
}

// every rule that can be told apart by direction, against packets of both
// directions: what is meant for one never acts on the other.
func TestEachDirectionIsFilteredByItsOwnRules(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	for _, version := range []int{4, 6} {
		for _, v := range []vpcName{defaultVPC, red} {
			here, there := v.host(1, atRouted, version), v.host(2, atRouted, version)
			for _, direction := range []Direction{BothDirections, DirectionFromSite, DirectionToSite} {
				for _, action := range []ACLAction{Allow, Deny} {
					other := Deny
					if action == Deny {
						other = Allow
					}
					p.a.withVPC(v, func(vpc *VPC) {
						vpc.ACL = ACL{Default: other, Rules: []ACLRule{{ID: "r", Action: action, Direction: direction}}}
					})
					out := p.a.verdicts(func() {
						p.a.queues[0][v.routedPort()].Inject(routedPacket(v, 1, 2, version, nil))
						p.a.turn()
					})
					in := p.a.verdicts(func() {
						inner := udpPacket(there, here, 64, 0, 1000, 2000, nil)
						if v != defaultVPC {
							inner = tunnelled(v.vni(1), etherTypeOfPacket(inner), inner)
						}
						p.sealTo(t, inner)
						p.a.turn()
					})
					want := func(matched bool, good Verdict) map[string]uint64 {
						if matched == (action == Allow) {
							return map[string]uint64{good.String(): 1}
						}
						return map[string]uint64{ACLDenied.String(): 1}
					}
					if w := want(direction != DirectionToSite, ToPeer); !maps.Equal(out, w) {
						t.Errorf("%v IPv%d: %v %v: from the site %v, want %v", v, version, action, direction, out, w)
					}
					if w := want(direction != DirectionFromSite, ToSite); !maps.Equal(in, w) {
						t.Errorf("%v IPv%d: %v %v: to the site %v, want %v", v, version, action, direction, in, w)
					}
				}
			}
			p.a.withVPC(v, func(vpc *VPC) { vpc.ACL = ACL{} })
		}
	}
	p.a.got(hostPort)
	p.a.got(redPort)
}

// What must not get through, does not: each case is a list and packets that it
// denies although they look like something that it allows.
func TestNothingPassesForSomethingElse(t *testing.T) {
	src, dst := red.host(1, atRouted, 4), red.host(2, atRouted, 4)
	src6, dst6 := red.host(1, atRouted, 6), red.host(2, atRouted, 6)
	web := ACLRule{ID: "web", Protocol: packet.ProtoTCP, DestinationPorts: []PortRange{{443, 443}}}
	dns := ACLRule{ID: "dns", Protocol: packet.ProtoUDP, DestinationPorts: []PortRange{{53, 53}}}
	anyTCP := ACLRule{ID: "tcp", Protocol: packet.ProtoTCP}
	replies := ACLRule{ID: "replies", Protocol: packet.ProtoTCP, Established: true}
	ping := ACLRule{ID: "ping", Protocol: packet.ProtoICMP, ICMP: []ICMPMatch{{Type: 8, Code: 0}}}
	ping6 := ACLRule{ID: "ping6", Protocol: packet.ProtoICMPv6, ICMP: []ICMPMatch{{Type: 128, AnyCode: true}}}
	tcp := tcpPacket(src, dst, []byte("data")) // ACK, port 443
	tcp6 := tcpPacket(src6, dst6, []byte("data"))
	proto := func(b []byte, n byte) []byte { return edit(b, func(b []byte) { b[9] = n; fixIPv4(b) }) }
	frag := func(b []byte, field uint16) []byte {
		return edit(b, func(b []byte) { binary.BigEndian.PutUint16(b[6:], field); fixIPv4(b) })
	}
	// cut leaves n bytes behind the IPv4 header.
	cut := func(b []byte, n int) []byte {
		return edit(b, func(b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(20+n)); fixIPv4(b) })[:20+n]
	}
	// extended puts extension headers between IPv6 and its payload.
	extended := func(b []byte, first byte, headers ...byte) []byte {
		return edit(append(append(bytes.Clone(b[:40]), headers...), b[40:]...), func(b []byte) {
			b[6] = first
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		})
	}
	cases := []struct {
		name   string
		rules  []ACLRule
		packet []byte
		want   Verdict
	}{
		{"TCP to the port allowed", []ACLRule{web}, tcp, ToPeer},
		{"UDP to the port that TCP may go to", []ACLRule{web}, udpPacket(src, dst, 64, 0, 40000, 443, nil), ACLDenied},
		{"a protocol that nobody knows, with the bytes of TCP", []ACLRule{web, anyTCP}, proto(tcp, 200), ACLDenied},
		{"a protocol that nobody knows, where any protocol may pass", []ACLRule{{ID: "any"}}, proto(tcp, 200), ToPeer},
		{"a protocol by its number", []ACLRule{{ID: "gre", Protocol: 47}}, proto(tcp, 47), ToPeer},
		{"another protocol than that number", []ACLRule{{ID: "gre", Protocol: 47}}, proto(tcp, 48), ACLDenied},
		{"TCP to the port allowed, from another prefix", []ACLRule{{ID: "r", Source: prefixes("10.1.9.0/24")}}, tcp, ACLDenied},
		{"IPv6 where only IPv4 prefixes are allowed", []ACLRule{{ID: "r", Source: prefixes("0.0.0.0/0")}}, tcp6, ACLDenied},
		{"a ping", []ACLRule{ping}, echoPacket(src, dst, 1, 1, nil), ToPeer},
		{"an echo reply where requests are allowed", []ACLRule{ping}, edit(echoPacket(src, dst, 1, 1, nil), func(b []byte) { b[20] = 0 }), ACLDenied},
		{"a ping of another code", []ACLRule{ping}, edit(echoPacket(src, dst, 1, 1, nil), func(b []byte) { b[21] = 1 }), ACLDenied},
		{"ICMPv6's number in IPv4", []ACLRule{ping6, {ID: "i", Protocol: packet.ProtoICMP}}, proto(echoPacket(src, dst, 1, 1, nil), 58), ACLDenied},
		{"a ping of IPv6", []ACLRule{ping6}, echoPacket(src6, dst6, 1, 1, nil), ToPeer},
		{"a reply of a TCP connection", []ACLRule{replies}, tcp, ToPeer},
		{"the opening of a TCP connection where replies are allowed", []ACLRule{replies}, edit(tcp, func(b []byte) { b[33] = packet.TCPSyn }), ACLDenied},
		{"a later fragment where a port is allowed", []ACLRule{web}, frag(tcp, 100), ACLDenied},
		{"a later fragment where replies are allowed", []ACLRule{replies}, frag(tcp, 100), ACLDenied},
		{"a later fragment where TCP is allowed", []ACLRule{anyTCP}, frag(tcp, 100), ToPeer},
		{"a later fragment of UDP where TCP is allowed", []ACLRule{anyTCP}, frag(udpPacket(src, dst, 64, 0, 1, 2, []byte("x")), 100), ACLDenied},
		{"a first fragment to the port allowed", []ACLRule{web}, frag(tcp, 0x2000), ToPeer},
		{"a first fragment without TCP's flags", []ACLRule{web, anyTCP}, frag(cut(tcp, 8), 0x2000), TinyFragment},
		{"a first fragment without UDP's length", []ACLRule{dns}, frag(cut(udpPacket(src, dst, 64, 0, 1, 53, nil), 4), 0x2000), TinyFragment},
		{"a fragment that would overwrite TCP's flags", []ACLRule{anyTCP}, frag(tcp, 1), TinyFragment},
		{"TCP cut short", []ACLRule{{ID: "any"}}, cut(tcp, 19), BadTransport},
		{"UDP cut short", []ACLRule{dns}, cut(udpPacket(src, dst, 64, 0, 1, 53, nil), 7), BadTransport},
		{"ICMP cut short", []ACLRule{ping}, cut(echoPacket(src, dst, 1, 1, nil), 7), BadTransport},
		{"TCP behind IPv4 options", []ACLRule{web}, edit(append(append(bytes.Clone(tcp[:20]), 1, 1, 1, 1), tcp[20:]...), func(b []byte) {
			b[0] = 0x46
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			fixIPv4(b)
		}), ToPeer},
		{"TCP behind extension headers", []ACLRule{web}, extended(tcp6, 0, 60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0), ToPeer},
		{"UDP behind an extension header with the bytes of TCP", []ACLRule{web}, extended(tcp6, 60, 17, 0, 1, 4, 0, 0, 0, 0), ACLDenied},
		{"TCP behind a header that nobody knows", []ACLRule{web, anyTCP}, extended(tcp6, 253, 6, 0, 1, 4, 0, 0, 0, 0), ACLDenied},
		{"TCP behind ESP", []ACLRule{web, anyTCP}, extended(tcp6, 50, 6, 0, 1, 4, 0, 0, 0, 0), ACLDenied},
		{"a first IPv6 fragment to the port allowed", []ACLRule{web}, extended(tcp6, 44, 6, 0, 0, 1, 0, 0, 0, 9), ToPeer},
		{"a later IPv6 fragment where a port is allowed", []ACLRule{web}, extended(tcp6, 44, 6, 0, 1, 1, 0, 0, 0, 9), ACLDenied},
		{"a later IPv6 fragment where TCP is allowed", []ACLRule{anyTCP}, extended(tcp6, 44, 6, 0, 1, 0, 0, 0, 0, 9), ToPeer},
		{"an IPv6 fragment that would overwrite TCP's flags", []ACLRule{anyTCP}, extended(tcp6, 44, 6, 0, 0, 9, 0, 0, 0, 9), TinyFragment},
	}
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p.a.withVPC(red, func(v *VPC) { v.ACL = ACL{Rules: c.rules, Default: Deny} })
			_, frame := fromHost(red, 1, atRouted, c.packet)
			got := p.a.verdicts(func() {
				p.a.queues[0][redPort].Inject(frame)
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The same addresses in two VPCs, and other rules in each.
func TestVPCsWithTheSameAddressesHaveRulesOfTheirOwn(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.a.withVPC(red, func(v *VPC) { v.ACL = ACL{Default: Deny} })
	for v, want := range map[vpcName]Verdict{red: ACLDenied, blue: ToPeer} {
		got := p.a.verdicts(func() {
			p.a.queues[0][v.routedPort()].Inject(routedPacket(v, 1, 2, 4, nil))
			p.a.turn()
		})
		if !maps.Equal(got, map[string]uint64{want.String(): 1}) {
			t.Errorf("%v: got %v, want %v", v, got, want)
		}
	}
}

func TestARejectedPacketIsAnsweredAndADeniedOneIsNot(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, version := range []int{4, 6} {
		for _, action := range []ACLAction{Deny, Reject} {
			p.a.withVPC(red, func(v *VPC) { v.ACL = ACL{Default: action} })
			p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, version, nil))
			p.a.turn()
			got := p.a.got(redPort)
			if action == Deny {
				if len(got) != 0 {
					t.Errorf("IPv%d: a denied packet is answered: %x", version, got)
				}
				continue
			}
			if len(got) != 1 {
				t.Fatalf("IPv%d: %d answers to a rejected packet", version, len(got))
			}
			decoded := gopacket.NewPacket(got[0], layers.LayerTypeEthernet, gopacket.Default)
			if version == 4 {
				m, _ := decoded.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
				if m == nil || m.TypeCode != layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeCommAdminProhibited) {
					t.Errorf("answer is %v", decoded)
				}
			} else if m, _ := decoded.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); m == nil || m.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodeAdminProhibited) {
				t.Errorf("answer is %v", decoded)
			}
		}
	}
}

// A reload is one exchange of everything: with a packet before and after each,
// what all lists deny is never let through, and a rule that stays keeps counting.
func TestAReloadOpensNoGapAndKeepsTheCounts(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(t)
	denied := ACLRule{ID: "never", Action: Deny, Protocol: packet.ProtoUDP, DestinationPorts: []PortRange{{2000, 2000}}}
	got := p.a.verdicts(func() {
		for i := range 50 {
			rules := []ACLRule{denied, {ID: "rest"}}
			if i%2 == 1 { // others before it come and go
				rules = []ACLRule{{ID: fmt.Sprint("other", i), Source: prefixes("192.0.2.0/24")}, denied}
			}
			p.a.withVPC(red, func(v *VPC) { v.ACL = ACL{Rules: rules} })
			for range 3 {
				p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
				p.a.turn()
			}
		}
	})
	if want := map[string]uint64{ACLDenied.String(): 150}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := p.a.ruleMeter(red, "never"); n != 150 {
		t.Errorf("the rule has counted %d of 150", n)
	}
	if n := p.a.relay.Meters(); len(n) != 3 {
		t.Errorf("%d meters for the rules in force and the default: %v", len(n), n)
	}
}

// A packet that waits for a neighbour is asked about again when the rules change.
func TestAParkedPacketDoesNotOutliveItsPermission(t *testing.T) {
	for _, action := range []ACLAction{Allow, Deny} {
		t.Run(action.String(), func(t *testing.T) {
			p := newPair(t, gatewayOptions{cold: true})
			p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
			p.a.turn()
			if n := p.a.relay.Counters().Parked; n != 1 {
				t.Fatalf("%d packets are parked", n)
			}
			got := p.a.verdicts(func() {
				p.a.withVPC(red, func(v *VPC) {
					v.ACL = ACL{Rules: []ACLRule{{ID: "r", Action: action, Direction: DirectionFromSite}}, Default: Deny}
				})
				p.a.turn()
				p.a.relay.workers[0].publish()
			})
			want := map[string]uint64{}
			if action == Deny {
				want[ACLDenied.String()] = 1
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAnACLThatContradictsItselfIsRefused(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	for why, r := range map[string]ACLRule{
		"no id":                  {},
		"ports without protocol": {ID: "r", SourcePorts: []PortRange{{1, 2}}},
		"a range backwards":      {ID: "r", Protocol: packet.ProtoTCP, SourcePorts: []PortRange{{2, 1}}},
		"types without protocol": {ID: "r", Protocol: packet.ProtoUDP, ICMP: []ICMPMatch{{}}},
		"established UDP":        {ID: "r", Protocol: packet.ProtoUDP, Established: true},
		"an action of its own":   {ID: "r", Action: 9},
		"a mapped prefix":        {ID: "r", Source: prefixes("::ffff:10.0.0.0/104")},
		"far too much":           {ID: "r", Source: make([]netip.Prefix, 400), Destination: make([]netip.Prefix, 400)},
	} {
		for i := range r.Source {
			if !r.Source[i].IsValid() {
				r.Source[i], r.Destination[i] = netip.PrefixFrom(addr("10.0.%d.%d", i/256, i%256), 32), netip.PrefixFrom(addr("10.1.%d.%d", i/256, i%256), 32)
			}
		}
		s := *p.a.snap
		s.VPCs = append([]VPC(nil), s.VPCs...)
		s.VPCs[red].ACL.Rules = []ACLRule{r}
		if err := p.a.relay.Update(&s); err == nil {
			t.Errorf("%s: accepted", why)
		}
	}
}

// slowMatch is the access list as its documentation reads. The packet is
// described, not parsed.
type described struct {
	version  int
	src, dst netip.Addr
	proto    uint8
	later    bool // fragment without a transport header
	a, b     uint16
	syn      bool // opens a connection
}

func slowMatch(l *ACL, d *described, way origin) (rule int) {
	in := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return len(list) == 0
	}
	ports := func(list []PortRange, n uint16) bool {
		for _, r := range list {
			if r.First <= n && n <= r.Last {
				return true
			}
		}
		return len(list) == 0
	}
	for i, r := range l.Rules {
		ok := r.Direction == BothDirections || (r.Direction == DirectionFromSite) == (way == fromSite)
		ok = ok && in(r.Source, d.src) && in(r.Destination, d.dst) && (r.Protocol == 0 || r.Protocol == d.proto)
		if len(r.SourcePorts)+len(r.DestinationPorts)+len(r.ICMP) > 0 || r.Established {
			ok = ok && !d.later && ports(r.SourcePorts, d.a) && ports(r.DestinationPorts, d.b) && !(r.Established && d.syn)
			if len(r.ICMP) > 0 {
				own := map[int]uint8{4: packet.ProtoICMP, 6: packet.ProtoICMPv6}[d.version]
				found := false
				for _, m := range r.ICMP {
					found = found || d.proto == own && d.a == uint16(m.Type) && (m.AnyCode || d.b == uint16(m.Code))
				}
				ok = ok && found
			}
		}
		if ok {
			return i
		}
	}
	return len(l.Rules)
}

// randomACL and randomDescribed draw from few values, so that they meet.
func randomACL(r *rand.Rand) *ACL {
	l := &ACL{Default: ACLAction(r.IntN(3))}
	for i := range r.IntN(12) {
		rule := ACLRule{ID: fmt.Sprint(i), Action: ACLAction(r.IntN(3)), Direction: Direction(r.IntN(3))}
		list := func() (all []netip.Prefix) {
			for range r.IntN(3) {
				a := randomAddr(r, 4+2*r.IntN(2))
				all = append(all, netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked())
			}
			return all
		}
		rule.Source, rule.Destination = list(), list()
		rule.Protocol = [...]uint8{0, 0, packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6, 47, 50}[r.IntN(8)]
		ports := func() (all []PortRange) {
			for range r.IntN(3) {
				first := uint16(r.IntN(4)) * 0x5555
				all = append(all, PortRange{first, first + uint16(r.IntN(2))*(0xffff-first)})
			}
			return all
		}
		switch rule.Protocol {
		case packet.ProtoTCP, packet.ProtoUDP:
			rule.SourcePorts, rule.DestinationPorts = ports(), ports()
			rule.Established = rule.Protocol == packet.ProtoTCP && r.IntN(3) == 0
		case packet.ProtoICMP, packet.ProtoICMPv6:
			for range r.IntN(3) {
				rule.ICMP = append(rule.ICMP, ICMPMatch{Type: uint8(r.IntN(3)), Code: uint8(r.IntN(2)), AnyCode: r.IntN(2) == 0})
			}
		}
		l.Rules = append(l.Rules, rule)
	}
	return l
}

func randomAddr(r *rand.Rand, version int) netip.Addr {
	b := [16]byte{10, byte(r.IntN(2)), 0, byte(r.IntN(4)), 4: byte(r.IntN(2)), 9: byte(r.IntN(2)), 15: byte(r.IntN(3))}
	if version == 4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	b[0] = 0xfd
	return netip.AddrFrom16(b)
}

func randomDescribed(r *rand.Rand) (described, []byte) {
	d := described{version: 4 + 2*r.IntN(2), proto: [...]uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6, 47, 50, 253}[r.IntN(7)], later: r.IntN(5) == 0}
	d.src, d.dst = randomAddr(r, d.version), randomAddr(r, d.version)
	rest := make([]byte, 24)
	switch d.proto {
	case packet.ProtoTCP:
		rest[12] = 0x50
		d.syn = r.IntN(2) == 0
		rest[13] = packet.TCPAck
		if d.syn {
			rest[13] = packet.TCPSyn
		}
		fallthrough
	case packet.ProtoUDP:
		d.a, d.b = uint16(r.IntN(4))*0x5555, uint16(r.IntN(7))*0x2aaa
		binary.BigEndian.PutUint16(rest, d.a)
		binary.BigEndian.PutUint16(rest[2:], d.b)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		d.a, d.b = uint16(r.IntN(3)), uint16(r.IntN(2))
		rest[0], rest[1] = byte(d.a), byte(d.b)
	}
	if d.version == 4 {
		b := make([]byte, 20+4*r.IntN(3))
		b[0], b[8], b[9] = 0x40|byte(len(b)/4), 64, d.proto
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(rest)))
		if d.later {
			binary.BigEndian.PutUint16(b[6:], 2+uint16(r.IntN(100)))
		}
		copy(b[12:], d.src.AsSlice())
		copy(b[16:], d.dst.AsSlice())
		fixIPv4(b)
		return d, append(b, rest...)
	}
	b, next := make([]byte, 40), 6
	b[0], b[7] = 0x60, 64
	copy(b[8:], d.src.AsSlice())
	copy(b[24:], d.dst.AsSlice())
	for range r.IntN(3) {
		b[next], next = packet.ProtoDestOpts, len(b)
		b = append(b, 0, 0, 1, 4, 0, 0, 0, 0)
	}
	if d.later {
		b[next], next = packet.ProtoFragment, len(b)
		b = append(b, 0, 0, 0, 16, 0, 0, 0, 1)
	}
	b[next] = d.proto
	b = append(b, rest...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return d, b
}

// FuzzACL holds the compiled list against slowMatch.
func FuzzACL(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		list := randomACL(r)
		c := compiler{out: new(state)}
		compiled := c.acl(&VPC{ACL: *list})
		if len(c.errs) != 0 {
			t.Fatal(c.errs)
		}
		for range 50 {
			d, b := randomDescribed(r)
			var ip packet.IP
			if bad := ip.Parse(b); bad != packet.Fine {
				t.Fatalf("%x: %v", b, bad)
			}
			for _, way := range []origin{fromSite, fromPeer} {
				want, got := slowMatch(list, &d, way), len(list.Rules)
				if compiled != nil {
					var k aclKey
					if v := k.read(b, &ip); v != pending {
						t.Fatalf("%+v: %v", d, v)
					}
					got = int(compiled.match(&k, way, ip.Version))
				}
				if got != want {
					t.Errorf("%+v: rule %d, want %d of %+v", d, got, want, list)
				}
			}
		}
	})
}
