package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// netmapPairs have prefix lengths on, before and behind the boundaries of bytes and words.
var netmapPairs = [][2]string{
	{"10.1.0.0/16", "10.101.0.0/16"},
	{"192.0.2.128/25", "198.51.100.0/25"},
	{"203.0.113.7/32", "255.255.0.1/32"},
	{"2001:db8:1::/48", "2001:db8:101::/48"},
	{"fd00:1:2:3::/64", "fd0f:ffff:2:8003::/64"},
	{"fd00:2::8000:0:0:0/65", "fd00:3::/65"},
	{"fd00:4::1/128", "fd00:5::ffff/128"},
}

// netmaps returns the translation and its opposite.
func netmaps() (out, in *Netmap) {
	out, in = new(Netmap), new(Netmap)
	for _, p := range netmapPairs {
		from, to := netip.MustParsePrefix(p[0]), netip.MustParsePrefix(p[1])
		out.Add(from, to)
		in.Add(to, from)
	}
	return out, in
}

// slowTranslate is the twin: bit by bit.
func slowTranslate(a netip.Addr) netip.Addr {
	for _, p := range netmapPairs {
		from, to := netip.MustParsePrefix(p[0]), netip.MustParsePrefix(p[1])
		if !from.Contains(a) {
			continue
		}
		b, prefix := a.AsSlice(), to.Addr().AsSlice()
		for bit := range to.Bits() {
			mask := byte(0x80) >> (bit % 8)
			b[bit/8] = b[bit/8]&^mask | prefix[bit/8]&mask
		}
		a, _ = netip.AddrFromSlice(b)
		return a
	}
	return a
}

func TestOnlyThePrefixOfAnAddressIsTranslated(t *testing.T) {
	for _, c := range []struct{ name, addr, want string }{
		{"the host bits stay", "10.1.2.3", "10.101.2.3"},
		{"the last address of a prefix belongs to it", "10.1.255.255", "10.101.255.255"},
		{"the address behind it does not", "10.2.0.0", "10.2.0.0"},
		{"a prefix ends between two bytes", "192.0.2.200", "198.51.100.72"},
		{"the lower half is somebody else's", "192.0.2.127", "192.0.2.127"},
		{"one single address", "203.0.113.7", "255.255.0.1"},
		{"IPv6 within the first word", "2001:db8:1:2::3", "2001:db8:101:2::3"},
		{"IPv6 up to the second word", "fd00:1:2:3::4", "fd0f:ffff:2:8003::4"},
		{"IPv6 a bit into the second word", "fd00:2::8000:0:0:4", "fd00:3::4"},
		{"IPv6 one single address", "fd00:4::1", "fd00:5::ffff"},
		{"IPv6 its neighbour", "fd00:4::2", "fd00:4::2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, want := netip.MustParseAddr(c.addr), netip.MustParseAddr(c.want)
			if slow := slowTranslate(a); slow != want {
				t.Fatalf("the slow twin says %v, want %v", slow, want)
			}
			peer := netip.MustParseAddr("172.16.0.1")
			if a.Is6() {
				peer = netip.MustParseAddr("fd99::1")
			}
			b := netmapUDP(a, peer, 1, []byte("x"))
			out, _ := netmaps()
			if out.Has(a.AsSlice()) != (a != want) {
				t.Errorf("Has(%v) = %v", a, out.Has(a.AsSlice()))
			}
			ip := mustParse(t, b)
			out.Source(b, ip)
			if got := ip.Src(b); got != want {
				t.Errorf("%v became %v, want %v", a, got, want)
			}
		})
	}
}

func mustParse(t testing.TB, b []byte) *IP {
	t.Helper()
	ip := new(IP)
	if bad := ip.Parse(b); bad != Fine {
		t.Fatalf("parse: %v", bad)
	}
	return ip
}

func netmapSerialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func netmapIP(src, dst netip.Addr, proto layers.IPProtocol) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		return ip, ip
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	return ip, ip
}

func netmapUDP(src, dst netip.Addr, port uint16, payload []byte) []byte {
	ip, network := netmapIP(src, dst, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: 53}
	udp.SetNetworkLayerForChecksum(network)
	return netmapSerialize(ip, udp, gopacket.Payload(payload))
}

func netmapTCP(src, dst netip.Addr) []byte {
	ip, network := netmapIP(src, dst, layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 1, SYN: true, Window: 512}
	tcp.SetNetworkLayerForChecksum(network)
	return netmapSerialize(ip, tcp, gopacket.Payload("hello"))
}

func netmapICMP(src, dst netip.Addr, typ uint8, body []byte) []byte {
	if src.Is4() {
		ip, _ := netmapIP(src, dst, layers.IPProtocolICMPv4)
		return netmapSerialize(ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0)}, gopacket.Payload(body))
	}
	ip, network := netmapIP(src, dst, layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	icmp.SetNetworkLayerForChecksum(network)
	return netmapSerialize(ip, icmp, gopacket.Payload(append(make([]byte, 4), body...)))
}

// raw puts any bytes behind an IP header.
func raw(src, dst netip.Addr, proto uint8, body []byte) []byte {
	ip, _ := netmapIP(src, dst, layers.IPProtocol(proto))
	return netmapSerialize(ip, gopacket.Payload(body))
}

// pseudoSummed fills in the checksum of the transport header in b at `at`, for all or the covered part of it.
func pseudoSummed(b []byte, header, at, coverage int) []byte {
	field := b[header+at:]
	field[0], field[1] = 0, 0
	binary.BigEndian.PutUint16(field, ^slowSum(slowPseudo(b, header), b[header:header+coverage]))
	return b
}

// slowPseudo is the sum of the pseudo-header of a packet without a routing header.
func slowPseudo(b []byte, header int) uint16 {
	var ip IP
	ip.Parse(b)
	n := len(b) - header
	return slowSum(slowSum(0, b[map[byte]int{4: 12, 6: 8}[b[0]>>4]:map[byte]int{4: 20, 6: 40}[b[0]>>4]]), []byte{0, 0, byte(n >> 8), byte(n), 0, 0, 0, ip.Proto})
}

// TestATranslatedPacketIsTheOneThatTheOtherAddressWouldHaveSent builds each packet twice, with the address before and the
// one after; the checksums are somebody else's (gopacket).
func TestATranslatedPacketIsTheOneThatTheOtherAddressWouldHaveSent(t *testing.T) {
	type build func(ours, theirs netip.Addr, swap func(a, b netip.Addr) (src, dst netip.Addr)) []byte
	cases := []struct {
		name string
		only int // IP version, 0: both
		build
	}{
		{"TCP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			return netmapTCP(dir(a, b))
		}},
		{"UDP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return netmapUDP(src, dst, 5000, []byte("odd"))
		}},
		{"UDP without a checksum keeps none", 4, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			p := netmapUDP(src, dst, 5000, []byte("odd"))
			p[26], p[27] = 0, 0
			return p
		}},
		{"UDP of a tunnel over IPv6, without a checksum (RFC 6935)", 6, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			p := netmapUDP(src, dst, 5000, []byte("odd"))
			p[46], p[47] = 0, 0
			return p
		}},
		{"a ping", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return netmapICMP(src, dst, map[bool]uint8{true: Echo, false: Echo6}[a.Is4()], []byte("abcdefgh"))
		}},
		{"an ICMP error about TCP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return netmapICMP(src, dst, map[bool]uint8{true: Unreachable, false: Unreachable6}[a.Is4()], netmapTCP(dst, src))
		}},
		{"an ICMP error that quotes eight bytes of TCP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			quote := netmapTCP(dst, src)
			return netmapICMP(src, dst, map[bool]uint8{true: TimeExceeded, false: TimeExceeded6}[a.Is4()], quote[:len(quote)-5-12])
		}},
		{"an ICMP error about UDP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return netmapICMP(src, dst, map[bool]uint8{true: Unreachable, false: Unreachable6}[a.Is4()], netmapUDP(dst, src, 9, []byte("x")))
		}},
		{"an ICMP error about a ping", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return netmapICMP(src, dst, map[bool]uint8{true: TimeExceeded, false: TimeExceeded6}[a.Is4()],
				netmapICMP(dst, src, map[bool]uint8{true: Echo, false: Echo6}[a.Is4()], []byte("ping")))
		}},
		{"UDP-Lite", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			p := raw(src, dst, ProtoUDPLite, []byte{0, 1, 0, 2, 0, 8, 0, 0, 'n', 'o', 't'})
			return pseudoSummed(p, len(p)-11, 6, 8)
		}},
		{"DCCP", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			p := raw(src, dst, ProtoDCCP, []byte{0, 1, 0, 2, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
			return pseudoSummed(p, len(p)-16, 6, 16)
		}},
		{"ESP is left alone", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return raw(src, dst, 50, bytes.Repeat([]byte{0xab}, 32))
		}},
		{"a TCP header that is cut off before its checksum", 0, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			return raw(src, dst, ProtoTCP, make([]byte, 17))
		}},
		{"IPv6 extension headers are between", 6, func(a, b netip.Addr, dir func(a, b netip.Addr) (netip.Addr, netip.Addr)) []byte {
			src, dst := dir(a, b)
			p := raw(src, dst, ProtoDestOpts, append([]byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, netmapUDP(src, dst, 3, []byte("x"))[40:]...))
			return pseudoSummed(p, 48, 6, 9)
		}},
	}
	for _, c := range cases {
		for _, addrs := range [][3]string{{"10.1.2.3", "10.101.2.3", "10.102.2.3"}, {"2001:db8:1::3", "2001:db8:101::3", "2001:db8:102::3"}} {
			real, as, theirs := netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1]), netip.MustParseAddr(addrs[2])
			version := 4
			if real.Is6() {
				version = 6
			}
			if c.only != 0 && c.only != version {
				continue
			}
			for _, source := range []bool{true, false} {
				name := fmt.Sprintf("%s/IPv%d/%s", c.name, version, map[bool]string{true: "source", false: "destination"}[source])
				t.Run(name, func(t *testing.T) {
					dir := func(a, b netip.Addr) (netip.Addr, netip.Addr) {
						if source {
							return a, b
						}
						return b, a
					}
					got, want := c.build(real, theirs, dir), c.build(as, theirs, dir)
					original := bytes.Clone(got)
					out, in := netmaps()
					out.rewrite(got, mustParse(t, got), source)
					if !bytes.Equal(got, want) {
						t.Errorf("translated:\n got %x\nwant %x", got, want)
					}
					in.rewrite(got, mustParse(t, got), source)
					if !bytes.Equal(got, original) {
						t.Errorf("translated back:\n got %x\nwant %x", got, original)
					}
				})
			}
		}
	}
}

// TestFragmentsAreTranslatedLikeTheWholePacket cuts translated and untranslated packets at the same place.
func TestFragmentsAreTranslatedLikeTheWholePacket(t *testing.T) {
	out, _ := netmaps()
	real, as, peer := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.101.2.3"), netip.MustParseAddr("10.102.2.3")
	cut := func(src netip.Addr, offset, length int, more bool) []byte {
		whole := netmapUDP(src, peer, 5000, bytes.Repeat([]byte("fragment"), 8))[20:]
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: layers.IPProtocolUDP, FragOffset: uint16(offset / 8), SrcIP: src.AsSlice(), DstIP: peer.AsSlice()}
		if more {
			ip.Flags = layers.IPv4MoreFragments
		}
		return netmapSerialize(ip, gopacket.Payload(whole[offset:offset+length]))
	}
	real6, as6, peer6 := netip.MustParseAddr("2001:db8:1::3"), netip.MustParseAddr("2001:db8:101::3"), netip.MustParseAddr("fd99::1")
	cut6 := func(src netip.Addr, offset, length int, more uint16) []byte {
		whole := netmapUDP(src, peer6, 5000, bytes.Repeat([]byte("fragment"), 8))[40:]
		header := []byte{ProtoUDP, 0, 0, 0, 0, 0, 0, 9}
		binary.BigEndian.PutUint16(header[2:], uint16(offset)|more)
		return raw(src, peer6, ProtoFragment, append(header, whole[offset:offset+length]...))
	}
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"the first carries the checksum of all", cut(real, 0, 40, true), cut(as, 0, 40, true)},
		{"one in the middle has no transport header", cut(real, 40, 16, true), cut(as, 40, 16, true)},
		{"the last", cut(real, 56, 16, false), cut(as, 56, 16, false)},
		{"the first of IPv6", cut6(real6, 0, 40, 1), cut6(as6, 0, 40, 1)},
		{"the last of IPv6", cut6(real6, 40, 32, 0), cut6(as6, 40, 32, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			out.Source(c.got, mustParse(t, c.got))
			if !bytes.Equal(c.got, c.want) {
				t.Errorf("\n got %x\nwant %x", c.got, c.want)
			}
		})
	}
}

func TestAChecksumThatBecomesZero(t *testing.T) {
	out, in := netmaps()
	src, dst := netip.MustParseAddr("10.101.2.3"), netip.MustParseAddr("10.102.2.3")
	for _, c := range []struct {
		name  string
		proto uint8
		at    int
		want  uint16
	}{
		{"of UDP is written as all ones, for zero means none", ProtoUDP, 26, 0xffff},
		{"of TCP is zero", ProtoTCP, 36, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Choose the payload so that the translated packet sums up to nothing.
			body := make([]byte, 22)
			binary.BigEndian.PutUint16(body[4:], 22)
			b := pseudoSummed(raw(src, dst, c.proto, body), 20, c.at-20, 22)
			copy(b[40:42], b[c.at:c.at+2])
			b = pseudoSummed(b, 20, c.at-20, 22)
			if sum := binary.BigEndian.Uint16(b[c.at:]); sum != 0 {
				t.Fatalf("the sum is %#x: the test is wrong", sum)
			}
			binary.BigEndian.PutUint16(b[c.at:], c.want)
			want := bytes.Clone(b)
			in.Source(b, mustParse(t, b))
			if sum := binary.BigEndian.Uint16(b[c.at:]); sum == 0 || sum == 0xffff {
				t.Fatalf("the other sum is %#x: the test is wrong", sum)
			}
			out.Source(b, mustParse(t, b))
			if !bytes.Equal(b, want) {
				t.Errorf("\n got %x\nwant %x", b, want)
			}
		})
	}
}

// TestTheChecksumOfASourceRoutedPacketCoversTheLastAddress: RFC 8200 section 8.1.
func TestTheChecksumOfASourceRoutedPacketCoversTheLastAddress(t *testing.T) {
	out, _ := netmaps()
	build := func(dst string, left byte) []byte {
		udp := netmapUDP(netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd77::7"), 9, []byte("x"))[40:]
		last := netip.MustParseAddr("fd77::7").As16()
		routing := append([]byte{ProtoUDP, 2, 4, left, 0, 0, 0, 0}, last[:]...)
		return raw(netip.MustParseAddr("fd99::1"), netip.MustParseAddr(dst), ProtoRouting, append(routing, udp...))
	}
	got, want := build("2001:db8:1::3", 1), build("2001:db8:101::3", 1)
	out.Destination(got, mustParse(t, got))
	if !bytes.Equal(got, want) {
		t.Errorf("on the way:\n got %x\nwant %x", got, want)
	}
	got, want = build("2001:db8:1::3", 0), build("2001:db8:101::3", 0)
	out.Destination(got, mustParse(t, got))
	if bytes.Equal(got, want) {
		t.Error("at its last address, the checksum did not follow it")
	}
}
