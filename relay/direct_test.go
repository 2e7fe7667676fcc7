package relay

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
)

// directFrame is a frame as direct peer `from` sends it to a site.
func directFrame(from netip.Addr, site int, vni uint32, proto layers.EthernetType, inner []byte, options ...*layers.GeneveOption) []byte {
	version := 4
	if from.Is6() {
		version = 6
	}
	to := wanAddr(site, version)
	ip, _, etherType := ipLayer(from, to, layers.IPProtocolUDP, 64, 0)
	payload := serialize(&layers.Geneve{Protocol: proto, VNI: vni, Options: options}, gopacket.Payload(inner))
	udp := []byte{0xc3, 0x50, directPort >> 8, directPort & 0xff, byte((8 + len(payload)) >> 8), byte(8 + len(payload)), 0, 0}
	return serialize(ethernet(portMAC(3-site, wanPort), portMAC(site, wanPort), etherType), ip, gopacket.Payload(append(udp, payload...)))
}

// clearText is a frame between direct peers, taken apart by gopacket.
type clearText struct {
	src, dst netip.Addr
	tos      byte
	udp      *layers.UDP
	geneve   *layers.Geneve
	inner    []byte
}

func readClear(t *testing.T, frame []byte) clearText {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || p.ErrorLayer() != nil {
		t.Fatalf("no UDP in %x: %v", frame, p.ErrorLayer())
	}
	g := &layers.Geneve{}
	check(t, g.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback))
	src, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	dst, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	return clearText{src, dst, trafficClass(frame[14:]), udp, g, g.Payload}
}

func TestEveryHostReachesEveryHostOfItsVPCOverAPlainLink(t *testing.T) {
	for _, outer := range []int{4, 6} {
		t.Run(fmt.Sprintf("IPv%d", outer), func(t *testing.T) {
			p := newPair(t, gatewayOptions{outer: outer, direct: true})
			n := uint64(0)
			for v := defaultVPC; v <= blue; v++ {
				for from := atVXLAN4; from < places; from++ {
					for to := atVXLAN4; to < places; to++ {
						for _, version := range []int{4, 6} {
							p.crosses(t, fmt.Sprintf("%v IPv%d from %s to %s", v, version, placeName(from), placeName(to)), v, from, to, version)
							n++
						}
					}
				}
			}
			if got, want := nonzero(p.a.relay.Counters()), map[string]uint64{"to_direct": n}; !maps.Equal(got, want) {
				t.Errorf("sender: %v, want %v", got, want)
			}
			if got, want := nonzero(p.b.relay.Counters()), map[string]uint64{"to_site": n}; !maps.Equal(got, want) {
				t.Errorf("receiver: %v, want %v", got, want)
			}
			for name, c := range map[string]struct {
				g *gateway
				d Direction
			}{"sent": {p.a, DirectionFromSite}, "received": {p.b, DirectionToSite}} {
				if m := c.g.relay.Meters()[MeterKey{Kind: DirectPeerMeter, Direction: c.d}]; m.Packets != n || m.Bytes == 0 {
					t.Errorf("%s: the peer's meter says %+v, want %d packets", name, m, n)
				}
			}
		})
	}
}

func TestGoldenDirect(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer, direct: true})
		for _, v := range []vpcName{defaultVPC, red} {
			for _, place := range []int{atVXLAN4, atRouted} {
				for _, version := range []int{4, 6} {
					name := fmt.Sprintf("outer%d-%v-%s-inner%d", outer, v, [...]string{atVXLAN4: "vxlan4", atRouted: "routed"}[place], version)
					var out, in [][]byte
					var port uint32
					for _, inner := range goldenInner(v, 1, place, version) {
						at, frame := fromHost(v, 1, place, inner)
						port, out = at, append(out, frame)
					}
					for _, inner := range goldenInner(v, 2, place, version) {
						in = append(in, directFrame(wanAddr(2, outer), 1, v.vni(1), etherTypeOfPacket(inner), inner))
					}
					golden(t, "direct-out-"+name, out, layers.LinkTypeEthernet, layers.LinkTypeEthernet, func(in [][]byte) [][]byte { return p.across(port, in, wanPort) })
					golden(t, "direct-in-"+name, in, layers.LinkTypeEthernet, layers.LinkTypeEthernet, func(in [][]byte) [][]byte { return p.across(wanPort, in, port) })
				}
			}
		}
	}
}

// across takes frames through gateway 1 from port to port.
func (p *pair) across(from uint32, in [][]byte, to uint32) [][]byte {
	for _, b := range in {
		p.a.queues[0][from].Inject(b)
	}
	p.a.turn()
	return p.a.got(to)
}

func TestWhatGoesToADirectPeerIsGeneveInUDP(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer, direct: true})
		ports := make(map[layers.UDPPort]bool)
		for v := defaultVPC; v <= blue; v++ {
			for i := range 20 {
				inner := udpPacket(v.host(1, atVXLAN4, 4), v.host(2, atRouted, 4), 64, 0xb9, uint16(1000+i), 2000, []byte("in the clear"))
				_, frame := fromHost(v, 1, atVXLAN4, inner)
				sent := p.across(sitePort, [][]byte{frame}, wanPort)
				if len(sent) != 1 {
					t.Fatalf("%d packets: %v", len(sent), nonzero(p.a.relay.Counters()))
				}
				c := readClear(t, sent[0])
				if c.src != wanAddr(1, outer) || c.dst != wanAddr(2, outer) || c.udp.DstPort != directPort || c.udp.Checksum != 0 || c.tos != 0xb9 {
					t.Errorf("%v > %v, %+v, TOS %#x", c.src, c.dst, c.udp, c.tos)
				}
				if c.geneve.VNI != v.vni(2) || c.geneve.Protocol != layers.EthernetTypeIPv4 || c.geneve.OAMPacket || c.geneve.OptionsLength != 0 {
					t.Errorf("%v: %+v", v, c.geneve)
				}
				inner = bytes.Clone(inner)
				packet.DecrementTTL(inner)
				if !bytes.Equal(c.inner, inner) {
					t.Errorf("inside\n     %x\nwant %x", c.inner, inner)
				}
				ports[c.udp.SrcPort] = true
			}
		}
		if len(ports) < 30 {
			t.Errorf("60 flows have %d source ports", len(ports))
		}
	}
}

func TestGeneveOptionsTravelToADirectPeerAndBack(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true})
	options := []*layers.GeneveOption{{Class: 0x0102, Type: 0x81, Length: 12, Data: []byte("12345678")}}
	for _, v := range []vpcName{defaultVPC, red} {
		inner := udpPacket(v.host(1, atGeneve4, 4), v.host(2, atGeneve4, 4), 64, 0, 1, 2, []byte("x"))
		_, frame := fromHost(v, 1, atGeneve4, inner, options...)
		p.a.queues[0][sitePort].Inject(frame)
		p.settle()
		got := p.b.got(sitePort)
		if len(got) != 1 {
			t.Fatalf("%v: %v, %v", v, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
		}
		g := gopacket.NewPacket(got[0], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeGeneve).(*layers.Geneve)
		if !g.CriticalOption || len(g.Options) != 1 || !bytes.Equal(g.Options[0].Data, options[0].Data) {
			t.Errorf("%v: %+v", v, g)
		}
	}
}

// The longest inner packet: 1500 less outer IP 20 or 40, UDP 8, Geneve 8.
func TestADirectPeersPathHasItsOwnMTU(t *testing.T) {
	for _, outer := range []int{4, 6} {
		limit := 1500 - 20 - 16
		if outer == 6 {
			limit -= 20
		}
		p := newPair(t, gatewayOptions{outer: outer, direct: true})
		for _, v := range []vpcName{defaultVPC, red} {
			for _, version := range []int{4, 6} {
				header := 28 + 20*(version/6)
				src, dst := v.host(1, atRouted, version), v.host(2, atRouted, version)
				name := fmt.Sprintf("outer IPv%d, %v, inner IPv%d", outer, v, version)
				_, fits := fromHost(v, 1, atRouted, udpPacket(src, dst, 64, 0, 1, 2, make([]byte, limit-header)))
				if got := p.across(v.routedPort(), [][]byte{fits}, wanPort); len(got) != 1 || len(got[0]) != 1514 {
					t.Errorf("%s: a packet of %d bytes: %d sent", name, limit, len(got))
				}
				_, back := p.send(v, atRouted, udpPacket(src, dst, 64, 0, 1, 2, make([]byte, limit-header+1)))
				if back == nil {
					t.Fatalf("%s: no word about a packet that is too big: %v", name, nonzero(p.a.relay.Counters()))
				}
				sound(t, back)
				mtu := int(back[26])<<8 | int(back[27])
				if version == 6 {
					mtu = int(back[46])<<8 | int(back[47])
				}
				if mtu != limit {
					t.Errorf("%s: told an MTU of %d, want %d", name, mtu, limit)
				}
				for _, ack := range []bool{false, true} {
					_, syn := fromHost(v, 1, atVXLAN4, synPacket(v.host(1, atVXLAN4, version), dst, ack, version == 6, 8960))
					out := p.across(sitePort, [][]byte{syn}, wanPort)
					synIn := synPacket(dst, v.host(1, atVXLAN4, version), ack, false, 8960)
					in := p.across(wanPort, [][]byte{directFrame(wanAddr(2, outer), 1, v.vni(1), etherTypeOfPacket(synIn), synIn)}, sitePort)
					if len(out) != 1 || len(in) != 1 {
						t.Fatalf("%s: %d SYNs out, %d in", name, len(out), len(in))
					}
					_, inner := innerOf(sitePort, in[0])
					want := limit - 40 - 20*(version/6)
					if got := mssOf(t, name, readClear(t, out[0]).inner); got != want {
						t.Errorf("%s: out, MSS %d, want %d", name, got, want)
					}
					if got := mssOf(t, name, inner); got != want {
						t.Errorf("%s: in, MSS %d, want %d", name, got, want)
					}
				}
			}
			inner := mayCut(udpPacket(v.host(1, atRouted, 4), v.host(2, atVXLAN4, 4), 64, 0, 1, 2, bytes.Repeat([]byte("fragment"), 184)))
			_, frame := fromHost(v, 1, atRouted, inner)
			p.a.queues[0][v.routedPort()].Inject(frame)
			p.settle()
			var pieces [][]byte
			for _, b := range p.b.got(sitePort) {
				_, piece := innerOf(sitePort, b)
				pieces = append(pieces, piece)
			}
			if data, ok := whole(pieces); !ok || len(pieces) != 2 || !bytes.Equal(data, inner[20:]) {
				t.Errorf("%v: %d pieces, whole %v", v, len(pieces), ok)
			}
		}
	}
}

func TestATracerouteOverAPlainLinkShowsBothGateways(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true})
	for i, version := range []int{4, 6} {
		src, dst := red.host(1, atVXLAN4, version), red.host(2, atVXLAN4, version)
		for hop := 1; hop <= 2; hop++ {
			_, back := p.send(red, atVXLAN4, udpPacket(src, dst, byte(hop), 0, 40000, 33434, []byte("probe")))
			if back == nil {
				t.Fatalf("IPv%d hop %d: nothing: %v, %v", version, hop, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
			}
			sound(t, back)
			if got, want := sourceOf(back), red.gateways(hop)[i]; got != want {
				t.Errorf("IPv%d hop %d is %v, want %v", version, hop, got, want)
			}
		}
	}
}

func TestAPacketFromADirectPeerThatIsWrongHasItsVerdict(t *testing.T) {
	const geneve = 14 + 20 + 8
	v4 := layers.EthernetTypeIPv4
	peer := wanAddr(2, 4)
	from, to := red.host(2, atRouted, 4), red.host(1, atRouted, 4)
	good := udpPacket(from, to, 64, 0, 1, 2, []byte("hello"))
	plain := udpPacket(defaultVPC.host(2, atRouted, 4), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
	frame := directFrame(peer, 1, red.vni(1), v4, good)
	red4 := func(inner []byte) []byte { return directFrame(peer, 1, red.vni(1), v4, inner) }
	p := newPair(t, gatewayOptions{direct: true, tune: func(o *Options) { o.ErrorRate = -1 }})
	for _, c := range []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{"a good one", frame, ToSite},
		{"a good one of the default VPC", directFrame(peer, 1, 0, v4, plain), ToSite},
		{"a good one in Ethernet", directFrame(peer, 1, red.vni(1), layers.EthernetTypeTransparentEthernetBridging,
			serialize(ethernet([6]byte{2}, [6]byte{2}, v4), gopacket.Payload(good))), ToSite},
		{"one from an address that is no peer's", directFrame(addr("198.51.100.9"), 1, red.vni(1), v4, good), DirectStranger},
		{"one from a peer's other address", directFrame(wanAddr(2, 6), 1, red.vni(1), v4, good), DirectStranger},
		{"one from the peer's address mapped into IPv6", directFrame(netip.AddrFrom16(peer.As16()), 1, red.vni(1), v4, good), DirectStranger},
		{"one to the port of Geneve", edit(frame, func(b []byte) { b[14+20+2], b[14+20+3] = 6081>>8, 6081&0xff }), NotServed},
		{"an outer fragment", edit(frame, func(b []byte) { b[14+6] = 0x20; fixIPv4(b[14:]) }), OuterFragment},
		{"nothing inside of UDP", edit(frame, func(b []byte) { b[14+20+4], b[14+20+5] = 0, 8 }), BadGeneve},
		{"a WireGuard message", edit(frame, func(b []byte) { copy(b[geneve:], []byte{1, 0, 0, 0, 0, 0, 0, 0}) }), BadGeneve},
		{"Geneve of version 1", edit(frame, func(b []byte) { b[geneve] = 0x40 }), BadGeneve},
		{"a Geneve control packet", edit(frame, func(b []byte) { b[geneve+1] = 0x80 }), GeneveControl},
		{"the VNI of the sender's numbering", directFrame(peer, 1, red.vni(2), v4, good), UnknownVNI},
		{"the VNI of another VPC", directFrame(peer, 1, 0, v4, good), SourceNotAllowed},
		{"a payload that is not IP", directFrame(peer, 1, red.vni(1), layers.EthernetTypeARP, good), InnerNotIP},
		{"IPv4 said to be IPv6", directFrame(peer, 1, red.vni(1), layers.EthernetTypeIPv6, good), BadInnerIP},
		{"IPv4 cut short", red4(good[:19]), BadInnerIP},
		{"a wrong inner checksum", red4(edit(good, func(b []byte) { b[10]++ })), InnerChecksum},
		{"a source of ours", red4(udpPacket(red.host(1, atVXLAN4, 4), to, 64, 0, 1, 2, nil)), SourceNotAllowed},
		{"a source of nobody", red4(udpPacket(addr("8.8.8.8"), to, 64, 0, 1, 2, nil)), SourceNotAllowed},
		{"a tunnel address as source", directFrame(peer, 1, 0, v4, udpPacket(tunnelAddrs(2)[0], defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, nil)), SourceNotAllowed},
		{"the Geneve of a tunnel", directFrame(peer, 1, 0, v4, tunnelled(red.vni(1), v4, good)), SourceNotAllowed},
		{"a destination at the peer's own site", red4(udpPacket(from, red.host(2, atVXLAN4, 4), 64, 0, 1, 2, nil)), NotForTransit},
		{"a TTL of 1", red4(udpPacket(from, to, 1, 0, 1, 2, nil)), TTLExpired},
		{"a congestion mark on a packet that cannot carry it", edit(frame, func(b []byte) { b[14+1] = 3; fixIPv4(b[14:]) }), CongestionLost},
		{"a critical option towards a routed host", directFrame(peer, 1, red.vni(1), v4, good,
			&layers.GeneveOption{Class: 0x0102, Type: 0x81, Length: 8, Data: make([]byte, 4)}), CriticalOption},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := p.a.verdicts(func() {
				if !p.a.queues[0][wanPort].Inject(c.frame) {
					t.Fatal("no frame")
				}
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The second peer of mixed: direct, with prefixes of its own.
var (
	mixedAddr     = addr("198.51.100.77")
	mixedPrefixes = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd10:9::/32")}
)

// mixed gives gateway 1 a direct peer beside the encrypted one, in every VPC.
func (g *gateway) mixed() {
	g.change(func(s *Snapshot) {
		s.DirectPort = directPort
		s.Peers = append(s.Peers, Peer{Name: "plain", Direct: netip.AddrPortFrom(mixedAddr, directPort)})
		for i := range s.VPCs {
			var routes []fib.Route
			for r := range s.VPCs[i].Routes.All() {
				routes = append(routes, *r)
			}
			for _, p := range mixedPrefixes {
				routes = append(routes, fib.Route{Prefix: p, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 1}}})
			}
			table, err := fib.New(routes)
			check(g.t, err)
			s.VPCs[i].Routes = table
			s.VPCs[i].Groups = []netip.Prefix{netip.MustParsePrefix("239.1.0.0/16")}
		}
	})
	g.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: mixedAddr}, State: neigh.Resolved, Egress: wanPort, Src: wanAddr(1, 4),
		SrcMAC: portMAC(1, wanPort), DstMAC: [6]byte{2, 7, 7}, NextHop: mixedAddr, MTU: 1500})
}

// Whatever is sent, and whether there is a session or not: on the WAN there is nothing in the clear but what goes to the
// direct peer's address and into its prefixes (or to a group, of which every peer has a copy).
func TestAPeerWithAKeyNeverGetsClearText(t *testing.T) {
	marker := []byte("this is a secret, but for the direct peer")
	p := newPair(t, gatewayOptions{frames: 8192, tune: func(o *Options) { o.ErrorRate = 1 << 30 }})
	p.a.mixed()
	inClear, sealed := 0, 0
	watch := func() {
		t.Helper()
		for _, frame := range p.a.got(wanPort) {
			eth := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
			udp, ok := eth.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if !ok {
				t.Fatalf("no UDP on the WAN: %x", frame)
			}
			dst, _ := netip.AddrFromSlice(eth.NetworkLayer().NetworkFlow().Dst().Raw())
			if udp.DstPort == listenPort && dst == wanAddr(2, 4) {
				if bytes.Contains(frame, marker) || udp.Payload[0] > 4 || udp.Payload[1]|udp.Payload[2]|udp.Payload[3] != 0 {
					t.Fatalf("in the clear to the peer with a key: %x", frame)
				}
				sealed++
				p.b.queues[0][wanPort].Inject(frame)
				continue
			}
			c := readClear(t, frame)
			if inside := destinationOf(c.inner); c.dst != mixedAddr || c.udp.DstPort != directPort ||
				!slices.ContainsFunc(mixedPrefixes, func(p netip.Prefix) bool { return p.Contains(inside) }) && !inside.IsMulticast() {
				t.Fatalf("in the clear to %v port %v: a packet for %v", c.dst, c.udp.DstPort, inside)
			}
			inClear++
		}
	}
	run := func(what string, n int) {
		t.Helper()
		inClear, sealed = 0, 0
		for i := range uint64(n) {
			r := newRandomPacket(rand.New(rand.NewPCG(*seed, i)))
			place := 1 + r.IntN(places-1)
			dst := r.destination(2)
			switch r.IntN(4) {
			case 0:
				dst = r.pick("10.9.1.1", "fd10:9::1")
			case 1:
				dst = group(4)
			}
			src := r.source(1)
			if dst.Is4() != src.Is4() {
				continue
			}
			port, frame := fromHost(r.vpc, 1, place, udpPacket(src, dst, 64, 0, uint16(i), 1, append(bytes.Clone(marker), r.bytes(r.size())...)))
			p.a.queues[0][port].Inject(frame)
			if r.one(10) { // the peer with a key, or somebody with its address, speaks in the clear
				p.a.queues[0][wanPort].Inject(directFrame(wanAddr(2, 4), 1, r.vpc.vni(1), layers.EthernetTypeIPv4,
					udpPacket(r.vpc.host(2, atRouted, 4), r.vpc.host(1, atRouted, 4), 64, 0, 1, 2, marker)))
			}
			p.a.turn()
			watch()
		}
		if inClear < n/20 {
			t.Errorf("%s: only %d packets to the direct peer", what, inClear)
		}
	}
	run("without a session", 500)
	p.until(t, "session", func() bool { watch(); p.b.turn(); p.carry(); return p.a.peer.Status().Session })
	run("with a session", 4000)
	if sealed < 1000 {
		t.Errorf("only %d messages to the peer with a key", sealed)
	}
	if n := p.a.relay.Counters().Verdicts[DirectStranger]; n == 0 {
		t.Error("what the peer with a key said in the clear was not refused")
	}
}

func TestAPacketThatWaitedForADirectPeerIsSealedIfThatHasGotAKeySince(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true, cold: true})
	_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("waits")))
	p.a.queues[0][redPort].Inject(frame)
	p.a.turn()
	if got := p.a.relay.Counters().Parked; got != 1 {
		t.Fatalf("%d packets wait: %v", got, nonzero(p.a.relay.Counters()))
	}
	encrypted := testSnapshot(gatewayOptions{site: 1, outer: 4}, p.a.peer)
	check(t, p.a.relay.Update(encrypted))
	p.a.warm()
	for _, frame := range p.across(wanPort, nil, wanPort) {
		if bytes.Contains(frame, []byte("waits")) {
			t.Fatalf("sent in the clear after its peer was given a key: %x", frame)
		}
	}
	p.until(t, "the packet at the other site", func() bool {
		p.b.change(func(s *Snapshot) { *s = *testSnapshot(gatewayOptions{site: 2, outer: 4}, p.b.peer) })
		p.b.warm()
		return len(p.b.got(redPort)) == 1
	})
	if got := p.a.relay.Counters().Verdicts; got[ToDirect] != 0 || got[ToPeer] != 1 {
		t.Errorf("%v", nonzero(p.a.relay.Counters()))
	}
}

func TestAPacketToADirectPeerWaitsForItsNeighbour(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true, cold: true})
	_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("waits")))
	p.a.queues[0][redPort].Inject(frame)
	p.a.turn()
	p.a.warm()
	p.a.turn()
	if got := p.a.got(wanPort); len(got) != 1 || !bytes.Contains(got[0], []byte("waits")) {
		t.Errorf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
	}
}

func TestLimitsHoldForDirectPeers(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true})
	p.a.change(func(s *Snapshot) {
		s.Peers[0].Limits = Limits{FromSite: Limit{Packets: 8, Burst: 1}, ToSite: Limit{Packets: 8, Burst: 1}}
	})
	got := p.a.verdicts(func() {
		for range 50 {
			p.a.queues[0][redPort].Inject(routedPacket(red, 1, 2, 4, nil))
			inner := udpPacket(red.host(2, atRouted, 4), red.host(1, atRouted, 4), 64, 0, 1, 2, nil)
			p.a.queues[0][wanPort].Inject(directFrame(wanAddr(2, 4), 1, red.vni(1), layers.EthernetTypeIPv4, inner))
		}
		p.a.turn()
	})
	if got["rate_limited"] < 40 || got["to_direct"] == 0 || got["to_site"] == 0 || got["to_direct"] > 40 || got["to_site"] > 40 {
		t.Errorf("%v", got)
	}
}

func TestACaptureAndATraceShowWhatTravelsInTheClear(t *testing.T) {
	p := newPair(t, gatewayOptions{direct: true})
	a, b := p.a.startCapture(t, CaptureOptions{}), p.b.startCapture(t, CaptureOptions{})
	_, frame := fromHost(red, 1, atVXLAN4, udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atVXLAN4, 4), 64, 0, 1000, 2000, []byte("hello")))
	p.a.queues[0][sitePort].Inject(frame)
	p.settle()
	if got, want := stagesOf(drain(a)), []string{"site-in", "plain", "sealed"}; !slices.Equal(got, want) {
		t.Errorf("sender: %v, want %v", got, want)
	}
	if got, want := stagesOf(drain(b)), []string{"wan-in", "plain", "to-site"}; !slices.Equal(got, want) {
		t.Errorf("receiver: %v, want %v", got, want)
	}
	trace, err := p.a.relay.Trace(TraceInput{Ifindex: sitePort, Frame: frame})
	check(t, err)
	if !slices.Equal(trace.Verdicts, []Verdict{ToDirect}) || !slices.ContainsFunc(trace.Steps, func(s TraceStep) bool { return strings.Contains(s.Text, "in the clear") }) {
		t.Errorf("%+v", trace)
	}
	inner := udpPacket(red.host(2, atVXLAN4, 4), red.host(1, atVXLAN4, 4), 64, 0, 1, 2, nil)
	trace, err = p.a.relay.Trace(TraceInput{Inner: inner, VNI: red.vni(1)})
	check(t, err)
	if !slices.Equal(trace.Verdicts, []Verdict{ToSite}) {
		t.Errorf("%+v", trace)
	}
}

func TestASnapshotWithADirectPeerThatCannotBeIsRefused(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	direct := netip.AddrPortFrom(mixedAddr, directPort)
	for _, c := range []struct {
		name   string
		change func(*Snapshot)
		want   string
	}{
		{"a peer with a key", func(s *Snapshot) { s.DirectPort, s.Peers[0].Direct = directPort, direct }, "peer peer: is both encrypted and direct"},
		{"no port", func(s *Snapshot) { s.Peers = append(s.Peers, Peer{Name: "x", Direct: direct}) }, "peer x: is direct, and there is no UDP port for direct peers"},
		{"WireGuard's port", func(s *Snapshot) { s.DirectPort = listenPort }, "UDP port 51820 is both WireGuard's and that of direct peers"},
		{"an overlay's port", func(s *Snapshot) { s.DirectPort = 4789 }, "vpc red: UDP port 4789 of ifindex 2 is that of direct peers"},
		{"one address twice", func(s *Snapshot) {
			s.DirectPort = directPort
			s.Peers = append(s.Peers, Peer{Name: "x", Direct: direct}, Peer{Name: "y", Direct: direct})
		}, "peer y: 198.51.100.77 is the address of direct peer x already"},
		{"a group's address", func(s *Snapshot) {
			s.DirectPort = directPort
			s.Peers = append(s.Peers, Peer{Name: "x", Direct: netip.MustParseAddrPort("224.0.0.1:1")})
		}, "peer x: 224.0.0.1:1 is no address of a direct peer"},
	} {
		s := testSnapshot(gatewayOptions{site: 1, outer: 4}, p.a.peer)
		c.change(s)
		if err := p.a.relay.Update(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
