package relay

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// sourceOf is the source address of an IP packet.
func sourceOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(decode(b).NetworkLayer().NetworkFlow().Src().Raw())
	return a
}

func TestATracerouteShowsBothGatewaysAndThenTheHost(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, v := range []vpcName{defaultVPC, red} {
		for _, place := range []int{atVXLAN4, atGeneve6, atRouted} {
			for i, version := range []int{4, 6} {
				name := fmt.Sprintf("%v IPv%d %s", v, version, placeName(place))
				src, dst := v.host(1, place, version), v.host(2, atVXLAN4, version)
				for hop, want := range []netip.Addr{v.gateways(1)[i], v.gateways(2)[i]} {
					if hop == 0 && place == atRouted { // what a routed host has as its next hop
						want = [2]netip.Addr{addr("169.254.%d.1", v.routedPort()), addr("fd99:%d::1", v.routedPort())}[i]
					}
					probe := udpPacket(src, dst, byte(hop+1), 0, 40000, 33434, []byte("probe"))
					_, back := p.send(v, place, probe)
					if back == nil {
						t.Fatalf("%s: hop %d says nothing: %v, %v", name, hop+1, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
					}
					sound(t, back)
					if got := sourceOf(back); got != want {
						t.Errorf("%s: hop %d is %v, want %v", name, hop+1, got, want)
					}
				}
				p.send(v, place, udpPacket(src, dst, 3, 0, 40000, 33434, []byte("probe")))
				if got := p.b.got(sitePort); len(got) != 1 {
					t.Errorf("%s: %d packets arrive with a TTL of 3", name, len(got))
				}
			}
		}
	}
}

func TestUDPToTheGatewayIsAnsweredWithPortUnreachable(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for i, version := range []int{4, 6} {
		for site := 1; site <= 2; site++ {
			target := red.gateways(site)[i]
			if site == 2 {
				target = defaultVPC.gateways(2)[i]
			}
			v := []vpcName{red, defaultVPC}[site-1]
			_, back := p.send(v, atVXLAN4, udpPacket(v.host(1, atVXLAN4, version), target, 64, 0, 40000, 33434, nil))
			if back == nil {
				t.Fatalf("IPv%d site %d: nothing came back: %v", version, site, nonzero(p.b.relay.Counters()))
			}
			sound(t, back)
			packet := decode(back)
			if got := sourceOf(back); got != target {
				t.Errorf("from %v, want %v", got, target)
			}
			if version == 4 {
				if icmp := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 3) {
					t.Errorf("got %v", icmp.TypeCode)
				}
			} else if icmp := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); icmp.TypeCode != layers.CreateICMPv6TypeCode(1, 4) {
				t.Errorf("got %v", icmp.TypeCode)
			}
		}
	}
}

// RFC 6040, figure 4: rows are the inner codepoint, columns the outer one. -1: the packet is lost.
var decapsulatedECN = map[byte][4]int{ // by inner; columns Not-ECT, ECT(1), ECT(0), CE in the order of their numbers
	notECT:  {notECT, notECT, notECT, -1},
	ecnECT1: {ecnECT1, ecnECT1, ecnECT1, ecnCE},
	ecnECT0: {ecnECT0, ecnECT1, ecnECT0, ecnCE},
	ecnCE:   {ecnCE, ecnCE, ecnCE, ecnCE},
}

func TestECNIsCarriedAsRFC6040Says(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	const dscp = 46 << 2
	for _, version := range []int{4, 6} {
		for inner, row := range decapsulatedECN {
			for outer, want := range row {
				name := fmt.Sprintf("IPv%d, %d inside, %d outside", version, inner, outer)
				sent := udpPacket(red.host(1, atVXLAN4, version), red.host(2, atRouted, version), 64, dscp|inner, 1, 2, []byte("x"))
				_, frame := fromHost(red, 1, atVXLAN4, sent)
				p.a.queues[0][sitePort].Inject(edit(frame, func(b []byte) { b[15] = byte(outer); fixIPv4(b[14:]) }))
				p.a.turn()
				wan := p.a.got(wanPort)
				if want < 0 {
					if len(wan) != 0 {
						t.Errorf("%s: travels", name)
					}
					continue
				}
				if len(wan) != 1 || wan[0][15] != dscp|byte(want) {
					t.Fatalf("%s: %d messages, TOS %x, want %x", name, len(wan), wan[0][15], dscp|want)
				}
				p.b.queues[0][wanPort].Inject(wan[0])
				p.b.turn()
				got := p.b.got(redPort)
				if len(got) != 1 {
					t.Fatalf("%s: %v", name, nonzero(p.b.relay.Counters()))
				}
				_, b := innerOf(redPort, got[0])
				sound(t, b)
				if tos := trafficClass(b); tos != dscp|byte(want) {
					t.Errorf("%s: arrives with %#x, want %#x", name, tos, dscp|want)
				}
			}
		}
	}
}

func trafficClass(b []byte) byte {
	if b[0]>>4 == 4 {
		return b[1]
	}
	return b[0]<<4 | b[1]>>4
}

// withOptions puts options, padded to words, into an IPv4 packet.
func withOptions(b []byte, options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	out := append(bytes.Clone(b[:20]), options...)
	out = append(out, b[20:]...)
	out[0] = 0x45 + byte(len(options)/4)
	out[2], out[3] = byte(len(out)>>8), byte(len(out))
	fixIPv4(out)
	return out
}

// withExtension puts an extension header of one type into an IPv6 packet.
func withExtension(b []byte, typ byte, header ...byte) []byte {
	out := append(bytes.Clone(b[:40]), header...)
	out[40] = b[6]
	out[6] = typ
	out = append(out, b[40:]...)
	out[4], out[5] = byte((len(out)-40)>>8), byte(len(out)-40)
	return out
}

func TestOptionsTravelUnlessTheyChooseTheWay(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	v4 := udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("x"))
	v6 := udpPacket(red.host(1, atVXLAN4, 6), red.host(2, atRouted, 6), 64, 0, 1, 2, []byte("x"))
	for _, c := range []struct {
		name  string
		inner []byte
		want  string
	}{
		{"router alert", withOptions(v4, 148, 4, 0, 0), "to_peer"},
		{"record route", withOptions(v4, 7, 7, 4, 0, 0, 0, 0), "to_peer"},
		{"nops and an end with garbage behind it", withOptions(v4, 1, 1, 0, 99), "to_peer"},
		{"a loose source route", withOptions(v4, 1, 131, 7, 4, 10, 1, 1, 1), "source_routed"},
		{"a strict source route", withOptions(v4, 137, 7, 4, 10, 1, 1, 1), "source_routed"},
		{"an option of length 1", withOptions(v4, 7, 1, 0, 0), "bad_option"},
		{"an option longer than the header", withOptions(v4, 7, 9, 0, 0), "bad_option"},
		{"an option without a length", withOptions(v4, 1, 1, 1, 7), "bad_option"},
		{"hop-by-hop options", withExtension(v6, 0, 0, 0, 1, 4, 0, 0, 0, 0), "to_peer"},
		{"destination options", withExtension(v6, 60, 0, 0, 1, 4, 0, 0, 0, 0), "to_peer"},
		{"a segment routing header", withExtension(v6, 43, 0, 0, 4, 1, 0, 0, 0, 0), "to_peer"},
		{"a type 0 routing header at its end", withExtension(v6, 43, 0, 0, 0, 0, 0, 0, 0, 0), "to_peer"},
		{"a type 0 routing header", withExtension(v6, 43, 0, 0, 0, 1, 0, 0, 0, 0), "source_routed"},
		{"a type 0 routing header behind hop-by-hop options",
			withExtension(withExtension(v6, 43, 0, 0, 0, 1, 0, 0, 0, 0), 0, 0, 0, 1, 4, 0, 0, 0, 0), "source_routed"},
	} {
		_, frame := fromHost(red, 1, atVXLAN4, c.inner)
		got := p.a.verdicts(func() {
			p.a.queues[0][sitePort].Inject(frame)
			p.a.turn()
		})
		delete(got, "originated")
		if want := map[string]uint64{c.want: 1}; !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
		p.settle()
		p.a.got(sitePort)
		if arrived := p.b.got(redPort); c.want == "to_peer" {
			if len(arrived) != 1 {
				t.Fatalf("%s: %d packets arrive", c.name, len(arrived))
			}
			if _, b := innerOf(redPort, arrived[0]); !bytes.Equal(b, forwarded(c.inner)) {
				t.Errorf("%s:\n got %x\nwant %x", c.name, b, forwarded(c.inner))
			}
		} else if len(arrived) != 0 {
			t.Errorf("%s: arrives", c.name)
		}
	}
}

func TestABadOptionIsPointedAt(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	inner := withOptions(udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("x")), 1, 1, 7, 99)
	_, back := p.send(red, atVXLAN4, inner)
	if back == nil {
		t.Fatal("nothing came back")
	}
	sound(t, back)
	if back[20] != 12 || back[21] != 0 || back[24] != 22 {
		t.Errorf("type %d code %d pointer %d, want 12, 0, 22", back[20], back[21], back[24])
	}
	if !bytes.Equal(back[28:28+24], inner[:24]) {
		t.Errorf("quotes %x", back[28:])
	}
}

func TestOneHostDoesNotUseUpTheErrorsOfAllOthers(t *testing.T) {
	l := newErrorLimit(100)
	now := int64(10 * second)
	noisy, sent := 0, 0
	for range 1000 {
		if l.allow(now, 1) {
			noisy++
		}
		now += second / 1000
	}
	if noisy < 10 || noisy > 20 {
		t.Errorf("a host that asks for 1000 in a second gets %d errors, want its share of 10 and a burst of 10", noisy)
	}
	for host := range uint32(5) {
		if l.allow(now, 2+host) {
			sent++
		}
	}
	if sent != 5 {
		t.Errorf("%d of 5 other hosts get an error", sent)
	}
	all := 0
	for i := range uint32(1000) {
		if l.allow(now, i) {
			all++
		}
		now += second / 1000
	}
	if all > 115 {
		t.Errorf("%d errors in a second, want 100 and a burst of 10", all)
	}
	if none := newErrorLimit(-1); none.allow(now, 1) {
		t.Error("an error although none are wanted")
	}
}
