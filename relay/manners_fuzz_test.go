package relay

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
)

// slowOptions is what options says, by cutting one option after the other off.
func slowOptions(options []byte) Verdict {
	if len(options) == 0 || options[0] == 0 {
		return pending
	}
	if options[0] == 1 {
		return slowOptions(options[1:])
	}
	if len(options) == 1 || options[1] < 2 || int(options[1]) > len(options) {
		return BadOption
	}
	if options[0] == 131 || options[0] == 137 {
		return SourceRouted
	}
	return slowOptions(options[options[1]:])
}

// slowExtensions does the same for IPv6: rest begins with a header of type next.
func slowExtensions(next byte, rest []byte) Verdict {
	length := 0
	switch next {
	case 0, 43, 60, 135, 139, 140:
		length = 8 + 8*int(rest[1])
	case 51:
		length = 8 + 4*int(rest[1])
	case 44:
		length = 8
		if binary.BigEndian.Uint16(rest[2:])>>3 != 0 {
			return pending
		}
	default:
		return pending
	}
	if next == 43 && rest[2] == 0 && rest[3] != 0 {
		return SourceRouted
	}
	return slowExtensions(rest[0], rest[length:])
}

// FuzzOptions gives the walkers over IPv4 options and IPv6 extension headers any bytes: they say what their slow twins
// say, and what may travel arrives as it was sent.
func FuzzOptions(f *testing.F) {
	f.Add(false, []byte{1, 131, 7, 4, 10, 1, 1, 1})
	f.Add(false, []byte{7, 7, 4, 0, 0, 0, 0, 0})
	f.Add(false, []byte{148, 4, 0, 0, 68, 255, 1, 0})
	f.Add(true, []byte{43, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0})
	f.Add(true, []byte{60, 44, 0, 1, 4, 0, 0, 0, 0, 43, 0, 0, 8, 0, 0, 0, 9})
	p := newPair(f, gatewayOptions{tune: func(o *Options) { o.ErrorRate = -1 }})
	p.connect(f)
	v4 := udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("payload"))
	v6 := udpPacket(red.host(1, atRouted, 6), red.host(2, atRouted, 6), 64, 0, 1, 2, []byte("payload"))
	f.Fuzz(func(t *testing.T, six bool, b []byte) {
		var inner []byte
		var want Verdict
		if six {
			if len(b) == 0 || len(b) > 1000 {
				return
			}
			inner = append(append(bytes.Clone(v6[:40]), b[1:]...), v6[40:]...)
			inner[6] = b[0]
			inner[4], inner[5] = byte((len(inner)-40)>>8), byte(len(inner)-40)
			var ip packet.IP
			if ip.Parse6(inner) != packet.Fine {
				return // ends as bad_inner_ip: another test's
			}
			want = slowExtensions(inner[6], inner[40:])
		} else {
			b = b[:min(len(b), 40)]
			inner = withOptions(v4, bytes.Clone(b)...)
			want = slowOptions(inner[20 : len(inner)-len(v4)+20])
		}
		_, frame := fromHost(red, 1, atRouted, inner)
		got := p.a.verdicts(func() {
			p.a.queues[0][redPort].Inject(frame)
			p.a.turn()
		})
		if want == pending {
			want = ToPeer
		}
		if got[want.String()] != 1 || len(got) != 1 {
			t.Fatalf("%x: got %v, want %v", inner, got, want)
		}
		p.settle()
		for _, back := range p.b.got(redPort) {
			if _, arrived := innerOf(redPort, back); !bytes.Equal(arrived, forwarded(inner)) {
				t.Errorf("got %x\nwant %x", arrived, forwarded(inner))
			}
		}
	})
}

// FuzzICMPErrors makes the gateway complain about any packet that it takes for IP: the error is a right one, quotes what
// it complains about, and is not longer than allowed; there is none about errors and later fragments.
func FuzzICMPErrors(f *testing.F) {
	for _, version := range []int{4, 6} {
		f.Add(udpPacket(red.host(1, atRouted, version), red.host(2, atRouted, version), 1, 0, 1, 2, []byte("x")))
		f.Add(udpPacket(red.host(1, atRouted, version), red.host(2, atRouted, version), 1, 0, 1, 2, make([]byte, 1350)))
		f.Add(echoPacket(red.host(1, atRouted, version), red.host(2, atRouted, version), 1, 2, nil))
	}
	f.Add(withOptions(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 1, 0, 1, 2, nil), 7, 99))
	p := newPair(f, gatewayOptions{tune: func(o *Options) { o.ErrorRate = 1 << 30 }})
	p.connect(f)
	f.Fuzz(func(t *testing.T, inner []byte) {
		if len(inner) < 40 || len(inner) > 1480 {
			return
		}
		inner = bytes.Clone(inner)
		var ip packet.IP
		if inner[0]>>4 == 4 { // a packet that expires here, from a host that can be told
			copy(inner[12:], red.host(1, atRouted, 4).AsSlice())
			copy(inner[16:], red.host(2, atRouted, 4).AsSlice())
			inner[8] = 1
			inner[0] = 0x45 + inner[0]&15%6
			inner[2], inner[3] = byte(len(inner)>>8), byte(len(inner))
			fixIPv4(inner)
		} else {
			inner[0] = 0x60
			copy(inner[8:], red.host(1, atRouted, 6).AsSlice())
			copy(inner[24:], red.host(2, atRouted, 6).AsSlice())
			inner[7] = 1
			inner[4], inner[5] = byte((len(inner)-40)>>8), byte(len(inner)-40)
		}
		if ip.Parse(inner) != packet.Fine {
			return
		}
		_, frame := fromHost(red, 1, atRouted, inner)
		p.a.queues[0][redPort].Inject(frame)
		p.a.turn()
		got := p.a.got(redPort)
		if len(got) == 0 {
			return
		}
		_, b := innerOf(redPort, got[0])
		header, longest := 28, 576
		if ip.Version == 6 {
			header, longest = 48, 1280
		}
		if len(got) != 1 || len(b) > longest || len(b) != min(header+len(inner), longest) {
			t.Fatalf("%d errors, of %d bytes, about %d bytes", len(got), len(b), len(inner))
		}
		if !bytes.Equal(b[header:], inner[:len(b)-header]) {
			t.Errorf("quotes %x\nof %x", b[header:], inner)
		}
		var outer packet.IP
		if bad := outer.Parse(b); bad != packet.Fine || outer.Len != len(b) {
			t.Fatalf("the error's own header: %v", bad)
		}
		if sum := slowICMPSum(b, ip.Version); sum != 0xffff {
			t.Errorf("the checksum adds up to %#x", sum)
		}
		if !ip.First || ip.Proto == 1 && ip.Version == 4 && isICMPError(inner) {
			t.Errorf("an error about %x", inner)
		}
	})
}

// slowICMPSum adds an ICMP message, and for IPv6 its pseudo-header, word by word.
func slowICMPSum(b []byte, version uint8) uint32 {
	var sum uint32
	message := b[20:]
	if version == 6 {
		message = b[40:]
		sum = 58 + uint32(len(message))
		for i := 8; i < 40; i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	for i, x := range message {
		sum += uint32(x) << (8 * (1 - i&1))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
