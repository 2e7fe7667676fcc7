package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// FuzzNetmap: the address is what the slow twin says, the host's bytes stay, what verified before verifies afterwards
// and what did not still does not, and the opposite translation gives the original back.
func FuzzNetmap(f *testing.F) {
	for _, a := range [][2]string{{"10.1.2.3", "10.102.2.3"}, {"192.0.2.200", "203.0.113.7"}, {"2001:db8:1::3", "fd00:2::8000:0:0:4"}, {"fd00:4::1", "fd00:1:2:3::1"}} {
		src, dst := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
		v4 := src.Is4()
		for _, b := range [][]byte{
			netmapTCP(src, dst), netmapUDP(src, dst, 9, []byte("odd")),
			netmapICMP(src, dst, map[bool]uint8{true: Echo, false: Echo6}[v4], []byte("ping")),
			netmapICMP(src, dst, map[bool]uint8{true: Unreachable, false: TooBig6}[v4], netmapTCP(dst, src)),
			netmapICMP(src, dst, map[bool]uint8{true: TimeExceeded, false: Unreachable6}[v4], netmapUDP(dst, src, 9, nil)),
		} {
			f.Add(b, true)
			f.Add(b, false)
		}
	}
	src, dst := netip.MustParseAddr("fd99::1"), netip.MustParseAddr("2001:db8:1::3")
	f.Add(raw(src, dst, ProtoRouting, append([]byte{ProtoUDP, 2, 4, 1, 19: 1, 23: 0}, netmapUDP(src, dst, 1, nil)[40:]...)), false)
	f.Add(raw(src, dst, ProtoFragment, append([]byte{ProtoTCP, 0, 0, 1, 0, 0, 0, 1}, netmapTCP(src, dst)[40:]...)), false)
	out, in := netmaps()
	f.Fuzz(func(t *testing.T, b []byte, source bool) {
		if len(b) >= IPv4Len && b[0]>>4 == 4 { // past the parser
			if n := int(b[0]&0xf) * 4; n >= IPv4Len && n <= len(b) {
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[10:], ^slowSum(0, b[:n]))
			}
		}
		var ip IP
		if ip.Parse(b) != Fine || translatedAlready(in, b[:ip.Len], &ip, source) {
			return
		}
		original, before := bytes.Clone(b), netmapSums(b, &ip)
		out.rewrite(b, &ip, source)
		var again IP
		if bad := again.Parse(b); bad != Fine || again != ip {
			t.Fatalf("%v, %+v, was %+v", bad, again, ip)
		}
		was, is, same := ip.Src(original), ip.Src(b), ip.Dst(original) == ip.Dst(b)
		if !source {
			was, is, same = ip.Dst(original), ip.Dst(b), ip.Src(original) == ip.Src(b)
		}
		if want := slowTranslate(was); is != want || !same {
			t.Errorf("%v became %v, want %v; the other address stays: %v", was, is, want, same)
		}
		if after := netmapSums(b, &ip); after != before {
			t.Errorf("checksums were right: %+v, are right: %+v\nfrom %x\n  to %x", before, after, original, b)
		}
		in.rewrite(b, &ip, source)
		for i := range b {
			if b[i] != original[i] && !(original[i] == 0xff && b[i] == 0) { // 0xffff for 0, see Netmap
				t.Fatalf("byte %d came back as %#x:\n got %x\nwant %x", i, b[i], b, original)
			}
		}
	})
}

// translatedAlready: an address that the opposite translation would touch cannot come back.
func translatedAlready(in *Netmap, b []byte, ip *IP, source bool) bool {
	address := func(b []byte, ip *IP, source bool) []byte {
		if source {
			return ip.SrcBytes(b)
		}
		return ip.DstBytes(b)
	}
	if in.Has(address(b, ip, source)) {
		return true
	}
	var quote IP
	if b = b[ip.HeaderLen:]; len(b) < ICMPLen || !quote.parseQuote(b[ICMPLen:]) {
		return false
	}
	return in.Has(address(b[ICMPLen:], &quote, !source))
}

// sums says which checksums of a packet verify; one that is not there does not. A fragment's transport checksum can
// be held against the fragment as well: it is wrong before and after, or right by chance both times.
type sums struct{ header, transport, quotedHeader, quotedTransport bool }

func netmapSums(b []byte, ip *IP) (s sums) {
	b = b[:ip.Len]
	s.header = ip.Version == 4 && slowSum(0, b[:ip.HeaderLen]) == 0xffff
	if !ip.First {
		return s
	}
	payload := b[ip.HeaderLen:]
	s.transport = transportVerifies(b, ip, len(payload))
	icmp, bad := ParseICMP(payload)
	if bad != Fine || !icmp.Error(ip.Version) || ip.Proto != ProtoICMP && ip.Proto != ProtoICMPv6 {
		return s
	}
	quote := payload[ICMPLen:]
	var q IP
	if !q.parseQuote(quote) {
		return s
	}
	s.quotedHeader = q.Version == 4 && q.HeaderLen <= len(quote) && slowSum(0, quote[:q.HeaderLen]) == 0xffff
	if q.First && q.HeaderLen < q.Len {
		s.quotedTransport = transportVerifies(quote[:q.Len], &q, q.Len-q.HeaderLen)
	}
	return s
}

func transportVerifies(b []byte, ip *IP, length int) bool {
	payload := b[ip.HeaderLen:]
	if ip.Version == 4 && ip.Proto == ProtoICMP {
		return slowSum(0, payload) == 0xffff
	}
	at := checksumAt(ip.Proto)
	if at < 0 || len(payload) < at+2 || ip.Proto == ProtoUDP && binary.BigEndian.Uint16(payload[at:]) == 0 {
		return false
	}
	if ip.Version == 6 && segmentsLeft(b[:ip.HeaderLen]) {
		return false // the last address counts, wherever a routing header of this type has it
	}
	return slowSum(slowSum(PseudoSum(b, ip.Proto, length), nil), payload) == 0xffff
}
