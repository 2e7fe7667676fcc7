package packet

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestAProbeCarriesANoticeAndAPingDoesNot(t *testing.T) {
	for _, c := range []struct{ src, dst string }{{"100.64.0.1", "100.64.0.2"}, {"fd64::1", "fd64::2"}} {
		src, dst := netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)
		header, proto := IPv4Len, uint8(ProtoICMP)
		if src.Is6() {
			header, proto = IPv6Len, ProtoICMPv6
		}
		b := Probe(src, dst, 0xc0, 0x4c56, 0xfffe)
		if id, seq := EchoID(b[header:]); len(b) != ProbeLen || id != 0x4c56 || seq != 0xfffe {
			t.Fatalf("%s: %x", c.src, b)
		}
		for _, n := range []Notice{0, Elsewhere, 0xff, 0} {
			SetNotice(b[header:], n)
			if got := NoticeOf(b[header:]); got != n {
				t.Errorf("%s: notice %d, want %d", c.src, got, n)
			}
			want := bytes.Clone(b)
			want[header+2], want[header+3] = 0, 0
			if proto == ProtoICMP {
				check := ^Sum(0, want[header:])
				want[header+2], want[header+3] = byte(check>>8), byte(check)
			} else {
				PutTransportChecksum(want, header, proto)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("%s: notice %d: checksum\n got %x\nwant %x", c.src, n, b, want)
			}
		}
		ping := EchoRequest(src, dst, 0, 1, 2, 100)
		before := bytes.Clone(ping)
		SetNotice(ping[header:], Elsewhere)
		if !bytes.Equal(ping, before) || NoticeOf(ping[header:]) != 0 {
			t.Errorf("%s: a ping was changed: %x", c.src, ping)
		}
	}
}

// Whatever the message, a notice changes nothing but its byte and the checksum, and is read back if there is room for it.
func FuzzNotice(f *testing.F) {
	f.Add(Probe(netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2"), 0, 1, 2)[IPv4Len:], byte(1))
	f.Add([]byte{8, 0}, byte(1))
	f.Fuzz(func(t *testing.T, m []byte, n byte) {
		before := bytes.Clone(m)
		SetNotice(m, Notice(n))
		if got := NoticeOf(m); isProbe(before) && got != Notice(n) || !isProbe(before) && (got != 0 || !bytes.Equal(m, before)) {
			t.Fatalf("%x became %x, notice %d", before, m, got)
		}
		for i := range m {
			if m[i] != before[i] && i != 2 && i != 3 && i != noticeAt+1 {
				t.Fatalf("byte %d changed: %x became %x", i, before, m)
			}
		}
	})
}
