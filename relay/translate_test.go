package relay

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
)

// hops lowers the TTL of a packet as n gateways do.
func hops(b []byte, n int) []byte {
	b = bytes.Clone(b)
	for range n {
		packet.DecrementTTL(b)
	}
	return b
}

func TestThreeSitesWithTheSameAddressesReachEachOther(t *testing.T) {
	var first map[string][]byte
	for _, run := range []string{"at first", "after a restart of all gateways"} {
		t.Run(run, func(t *testing.T) {
			m := newMesh(t, 3)
			seen := make(map[string][]byte)
			for from := 1; from <= 3; from++ {
				for to := 1; to <= 3; to++ {
					if from != to {
						m.converse(from, to, seen)
					}
				}
			}
			if first == nil {
				first = seen
			} else if !maps.EqualFunc(first, seen, bytes.Equal) {
				t.Error("the sites see other packets than before")
			}
		})
	}
}

// converse sends what a host can send to its namesake at another site, whose answers it must get.
func (m *mesh) converse(from, to int, seen map[string][]byte) {
	m.t.Helper()
	for _, v := range []vpcName{defaultVPC, red} {
		for _, version := range []int{4, 6} {
			host := sameHost(version)
			build := map[string]func(src, dst netip.Addr) []byte{
				"tcp":  func(src, dst netip.Addr) []byte { return tcpPacket(src, dst, []byte("hello")) },
				"udp":  func(src, dst netip.Addr) []byte { return udpPacket(src, dst, 64, 0, 5000, 5001, []byte("hello")) },
				"ping": func(src, dst netip.Addr) []byte { return echoPacket(src, dst, 1, 2, []byte("hello")) },
			}
			for name, build := range build {
				name = fmt.Sprintf("%v IPv%d %s from site %d to site %d", v, version, name, from, to)
				m.send(from, v, build(host, seenAs(to, host)))
				m.only(name, to, v, hops(build(seenAs(from, host), host), 2))
				m.send(to, v, build(host, seenAs(from, host)))
				m.only(name+", back", from, v, hops(build(seenAs(to, host), host), 2))
				seen[name] = build(seenAs(from, host), host)
			}
		}
	}
}

// only makes sure that this one packet has arrived there and nothing anywhere else.
func (m *mesh) only(name string, site int, v vpcName, want []byte) {
	m.t.Helper()
	for _, g := range m.gateways {
		for _, vpc := range []vpcName{defaultVPC, red} {
			got := m.arrived(g.site, vpc)
			switch {
			case g.site != site || vpc != v:
				if len(got) > 0 {
					m.t.Errorf("%s: %d packets arrived at site %d in %v", name, len(got), g.site, vpc)
				}
			case len(got) != 1:
				m.t.Errorf("%s: %d packets arrived: %v", name, len(got), nonzero(g.relay.Counters()))
			case !bytes.Equal(got[0], want):
				m.t.Errorf("%s:\n got %x\nwant %x", name, got[0], want)
			}
		}
	}
}

// quoted is what an ICMP error quotes.
func quoted(b []byte) []byte {
	if b[0]>>4 == 4 {
		return b[28:]
	}
	return b[48:]
}

// TestAnErrorAboutATranslatedPacketSpeaksOfThePacketThatWasSent: traceroute, path MTU discovery and refused connections
// work by it.
func TestAnErrorAboutATranslatedPacketSpeaksOfThePacketThatWasSent(t *testing.T) {
	m := newMesh(t, 2)
	for _, v := range []vpcName{defaultVPC, red} {
		for _, version := range []int{4, 6} {
			host, gateway := sameHost(version), sameGateway(version)
			m.send(1, v, udpPacket(host, seenAs(2, host), 64, 0, 1, 2, nil)) // brings the session up
			m.arrived(2, v)
			for _, c := range []struct {
				name string
				sent []byte
				from netip.Addr
				far  func(got []byte) []byte // what the far host answers
				hops int                     // that the quoted packet had behind it
			}{
				{"the TTL ends at the own gateway", udpPacket(host, seenAs(2, host), 1, 0, 7, 8, []byte("probe")), gateway, nil, 0},
				{"the TTL ends at the other gateway", udpPacket(host, seenAs(2, host), 2, 0, 7, 8, []byte("probe")), seenAs(2, gateway), nil, 1},
				{"it is too long for the tunnel", udpPacket(host, seenAs(2, host), 64, 0, 7, 8, make([]byte, 1450-8-20)), gateway, nil, 1},
				{"it is TCP, to an address that nobody there has", tcpPacket(host, seenAs(9, host), nil), gateway, nil, 1},
				{"the far host refuses it", udpPacket(host, seenAs(2, host), 64, 0, 7, 8, []byte("x")), seenAs(2, host), func(got []byte) []byte {
					return portUnreachable(host, seenAs(1, host), got)
				}, 2},
				{"the far host refuses TCP and quotes all of it", tcpPacket(host, seenAs(2, host), []byte("x")), seenAs(2, host), func(got []byte) []byte {
					return portUnreachable(host, seenAs(1, host), got)
				}, 2},
			} {
				t.Run(fmt.Sprintf("%v IPv%d %s", v, version, c.name), func(t *testing.T) {
					m.t = t
					m.send(1, v, c.sent)
					if got := m.arrived(2, v); c.far != nil {
						m.send(2, v, c.far(got[0]))
					}
					got := m.arrived(1, v)
					if len(got) != 1 {
						t.Fatalf("%d packets came back: %v, %v", len(got), nonzero(m.site(1).relay.Counters()), nonzero(m.site(2).relay.Counters()))
					}
					if src := sourceOf(got[0]); src != c.from || destinationOf(got[0]) != host {
						t.Errorf("it is from %v to %v, want %v to %v", src, destinationOf(got[0]), c.from, host)
					}
					checkTransport(t, got[0])
					quote, want := quoted(got[0]), hops(c.sent, c.hops)
					if want = want[:min(len(want), len(quote))]; !bytes.Equal(quote[:len(want)], want) {
						t.Errorf("it quotes\n     %x\nsent %x", quote, want)
					}
				})
			}
		}
	}
}

// portUnreachable is what a host answers to a packet for a closed port.
func portUnreachable(src, dst netip.Addr, about []byte) []byte {
	if src.Is4() {
		ip, _, _ := ipLayer(src, dst, layers.IPProtocolICMPv4, 64, 0)
		return serialize(ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}, gopacket.Payload(about))
	}
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolICMPv6, 64, 0)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, icmp, gopacket.Payload(append(make([]byte, 4), about...)))
}

// checkTransport holds an ICMP packet's checksum against a fresh one.
func checkTransport(t *testing.T, b []byte) {
	t.Helper()
	header, sum := 20, uint16(0)
	if b[0]>>4 == 6 {
		header = 40
		sum = packet.PseudoSum(b, packet.ProtoICMPv6, len(b)-header)
	}
	if packet.Sum(sum, b[header:]) != 0xffff {
		t.Errorf("the checksum of the error is wrong: %x", b)
	}
}

// TestATranslatedSiteIsReachableByItsOutsideAddressesOnly: and nobody uses those inside.
func TestATranslatedSiteIsReachableByItsOutsideAddressesOnly(t *testing.T) {
	m := newMesh(t, 3)
	host := sameHost(4)
	m.send(1, defaultVPC, udpPacket(host, seenAs(2, host), 64, 0, 1, 2, nil))
	m.arrived(2, defaultVPC)
	fromPeer := func(src, dst netip.Addr) func() {
		return func() {
			p := &pair{a: m.site(1), b: m.site(2)}
			p.b.peer = m.site(2).snap.Peers[0].WireGuard
			p.sealTo(t, udpPacket(src, dst, 64, 0, 1, 2, nil))
		}
	}
	fromHost := func(src, dst netip.Addr) func() {
		return func() { m.send(1, defaultVPC, udpPacket(src, dst, 64, 0, 1, 2, nil)) }
	}
	for _, c := range []struct {
		name string
		send func()
		want map[string]uint64
	}{
		{"a peer reaches a host by its outside address", fromPeer(seenAs(2, host), seenAs(1, host)), map[string]uint64{"to_site": 1}},
		{"not by the one that it really has", fromPeer(seenAs(2, host), host), map[string]uint64{"inside_address": 1}},
		{"nor can a peer use the address that its own host really has", fromPeer(host, seenAs(1, host)), map[string]uint64{"source_not_allowed": 1}},
		{"nor a third site's", fromPeer(seenAs(3, host), seenAs(1, host)), map[string]uint64{"source_not_allowed": 1}},
		{"nor our outside address", fromPeer(seenAs(1, host), seenAs(1, host)), map[string]uint64{"outside_address": 1}},
		{"a host that uses an outside address as its own is stopped", fromHost(seenAs(1, host), seenAs(2, host)), map[string]uint64{"outside_address": 1}},
		{"and one that asks for an outside address of its own site is told", fromHost(host, seenAs(1, host)), map[string]uint64{"outside_address": 1, "originated": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.t = t
			got := m.site(1).verdicts(func() { c.send(); m.settle() })
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestATranslationThatMakesNoSenseIsRefused(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		name      string
		translate []Translation
		want      string
	}{
		{"two families", []Translation{{p("10.1.0.0/16"), p("fd00::/16")}}, "vpc red: translation of 10.1.0.0/16 as fd00::/16: two prefixes of the same family and length are needed"},
		{"two lengths", []Translation{{p("10.1.0.0/16"), p("10.2.0.0/17")}}, "vpc red: translation of 10.1.0.0/16 as 10.2.0.0/17: two prefixes of the same family and length are needed"},
		{"a missing prefix", []Translation{{As: p("10.2.0.0/17")}}, "two prefixes of the same family and length are needed"},
		{"host bits", []Translation{{p("10.1.0.1/16"), p("10.2.0.0/16")}}, "10.1.0.1/16 is not a plain prefix without host bits"},
		{"one into itself", []Translation{{p("10.1.0.0/16"), p("10.1.0.0/16")}}, "10.1.0.0/16 overlaps 10.1.0.0/16"},
		{"a chain", []Translation{{p("10.1.0.0/16"), p("10.2.0.0/16")}, {p("10.2.1.0/24"), p("10.3.0.0/24")}}, "10.2.1.0/24 overlaps 10.2.0.0/16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := compile(&Snapshot{VPCs: []VPC{{Name: "red", VNI: 1, Translate: c.translate}}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

// TestGoldenTranslation: what site 1's host sends, what its namesake at site 2 gets, and what comes back to site 1.
func TestGoldenTranslation(t *testing.T) {
	for _, version := range []int{4, 6} {
		host := sameHost(version)
		to := seenAs(2, host)
		noSum := udpPacket(host, to, 64, 0, 1, 2, []byte("no checksum"))
		fragments := fragmentsOf(udpPacket(host, to, 64, 0, 1, 2, bytes.Repeat([]byte("fragment"), 30)), 128)
		if version == 4 {
			noSum[26], noSum[27] = 0, 0
		}
		for name, sent := range map[string][][]byte{
			"flows":      {tcpPacket(host, to, []byte("GET /")), udpPacket(host, to, 64, 0xb8, 53, 54, []byte("query")), noSum, echoPacket(host, to, 1, 2, []byte("ping"))},
			"fragments":  fragments,
			"traceroute": {udpPacket(host, to, 1, 0, 40000, 33434, []byte("probe")), udpPacket(host, to, 2, 0, 40000, 33435, []byte("probe")), udpPacket(host, to, 3, 0, 40000, 33436, []byte("probe"))},
			"refused":    {portUnreachable(host, to, tcpPacket(to, host, []byte("quoted")))},
			"gateway":    {echoPacket(host, seenAs(2, sameGateway(version)), 1, 2, []byte("ping"))},
		} {
			name = fmt.Sprintf("translate-%s%d", name, version)
			t.Run(name, func(t *testing.T) {
				m := newMesh(t, 2)
				m.send(2, red, udpPacket(host, seenAs(1, host), 64, 0, 1, 2, nil))
				m.arrived(1, red)
				in, back, arrives := filepath.Join("testdata", name+".in.pcap"), filepath.Join("testdata", name+".want.pcap"), filepath.Join("testdata", name+".arrives.pcap")
				if *update {
					writeCapture(t, in, layers.LinkTypeRaw, sent)
				}
				for _, b := range readCapture(t, in) {
					m.send(1, red, b)
				}
				gotBack, gotArrives := m.arrived(1, red), m.arrived(2, red)
				if *update {
					writeCapture(t, back, layers.LinkTypeRaw, gotBack)
					writeCapture(t, arrives, layers.LinkTypeRaw, gotArrives)
				}
				if len(gotBack)+len(gotArrives) == 0 {
					t.Fatal("nothing came out")
				}
				same(t, layers.LinkTypeRaw, gotBack, readCapture(t, back))
				same(t, layers.LinkTypeRaw, gotArrives, readCapture(t, arrives))
			})
		}
	}
}

// fragmentsOf cuts a packet without options into pieces of this many bytes of payload.
func fragmentsOf(b []byte, size int) (fragments [][]byte) {
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	src, dst, payload := sourceOf(b), destinationOf(b), b[header:]
	for at := 0; at < len(payload); at += size {
		end, more := min(at+size, len(payload)), byte(1)
		if end == len(payload) {
			more = 0
		}
		if header == 20 {
			f := append(bytes.Clone(b[:20]), payload[at:end]...)
			f[2], f[3], f[5], f[6], f[7] = byte(len(f)>>8), byte(len(f)), 9, more<<5|byte(at/8>>8), byte(at/8)
			fixIPv4(f)
			fragments = append(fragments, f)
			continue
		}
		f := make([]byte, 48, 48+size)
		packet.PutIPv6(f[:40], 0, 0, 8+end-at, 64, packet.ProtoFragment, src.As16(), dst.As16())
		f[40], f[42], f[43], f[47] = packet.ProtoUDP, byte(at>>8), byte(at)|more, 9
		fragments = append(fragments, append(f, payload[at:end]...))
	}
	return fragments
}

// translateBlue makes the addresses of blue others outside of site 1.
func (g *gateway) translateBlue() {
	g.t.Helper()
	s := testSnapshot(gatewayOptions{site: 1, virtual: true}, g.peer)
	s.TunPort = g.snap.TunPort
	for i := range s.VPCs {
		if s.VPCs[i].Name == blue.String() {
			s.VPCs[i].Translate = sameTranslations(1)
		}
	}
	check(g.t, g.relay.Update(s))
}

func TestATraceTellsOfTheTranslation(t *testing.T) {
	m := newMesh(t, 2)
	_, frame := fromHost(red, 1, atRouted, udpPacket(sameHost(4), seenAs(2, sameHost(4)), 64, 0, 1, 2, nil))
	for _, c := range []struct {
		name string
		site int
		in   TraceInput
		want string
	}{
		{"on the way out", 1, TraceInput{Ifindex: redPort, Frame: frame}, "the source is 10.101.0.10 at the other sites"},
		{"on the way in", 2, TraceInput{Inner: udpPacket(seenAs(1, sameHost(4)), seenAs(2, sameHost(4)), 64, 0, 1, 2, nil), VNI: red.vni(2)}, "the destination is 10.1.0.10 at this site"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trace, err := m.site(c.site).relay.Trace(c.in)
			check(t, err)
			if !slices.Contains(trace.Steps, TraceStep{"translate", c.want}) {
				t.Errorf("steps %v, want %q", trace.Steps, c.want)
			}
		})
	}
}

// A packet to an outside address whose source cannot be told the truth ends without a word: the error would go to a group
// or to another site.
func TestNobodyElseIsToldOfAPacketToAnOutsideAddress(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.groups(t)
	p.a.withVPC(red, func(v *VPC) { v.Translate = sameTranslations(1) })
	for _, version := range []int{4, 6} {
		outside := seenAs(1, red.host(1, atRouted, version))
		for _, c := range []struct {
			name string
			src  netip.Addr
			want map[string]uint64
		}{
			{"a host's", red.host(1, atRouted, version), map[string]uint64{"outside_address": 1, "originated": 1}},
			{"a group's", group(version), map[string]uint64{"martian": 1}},
			{"another site's", red.host(2, atRouted, version), map[string]uint64{"spoofed_source": 1}},
		} {
			_, frame := fromHost(red, 1, atRouted, udpPacket(c.src, outside, 64, 0, 1, 2, nil))
			got := p.a.verdicts(func() {
				p.a.queues[0][redPort].Inject(frame)
				p.a.turn()
			})
			if !maps.Equal(got, c.want) {
				t.Errorf("IPv%d, the source is %s: got %v, want %v", version, c.name, got, c.want)
			}
			if n := len(p.a.got(wanPort)); n != 0 {
				t.Errorf("IPv%d, the source is %s: %d packets to the peer", version, c.name, n)
			}
			p.a.got(redPort)
		}
	}
}
