package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// synSegment is an IPv4 packet with a TCP SYN that has these options, of which
// the length is a multiple of 4, and a right checksum.
func synSegment(flags byte, options ...byte) []byte {
	b := make([]byte, IPv4Len+TCPLen+len(options)+3)
	PutIPv4(b, 0, len(b), 64, ProtoTCP, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
	segment := b[IPv4Len:]
	binary.BigEndian.PutUint32(segment, 40000<<16|443)
	segment[12], segment[13] = byte(TCPLen+len(options))/4<<4, flags
	copy(segment[TCPLen:], options)
	PutTransportChecksum(b, IPv4Len, ProtoTCP)
	return b
}

func TestClampMSS(t *testing.T) {
	mss := []byte{2, 4, 0x05, 0xb4} // 1460
	low := []byte{2, 4, 0x05, 0x50} // 1360
	options := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name     string
		flags    byte
		in, want []byte
	}{
		{"on a SYN", TCPSyn, mss, low},
		{"on a SYN-ACK", TCPSyn | TCPAck, mss, low},
		{"behind other options", TCPSyn, options([]byte{1, 3, 3, 7, 4, 2, 1, 1}, mss), options([]byte{1, 3, 3, 7, 4, 2, 1, 1}, low)},
		{"at an odd offset", TCPSyn, options([]byte{1}, mss, []byte{1, 1, 1}), options([]byte{1}, low, []byte{1, 1, 1})},
		{"twice", TCPSyn, options(mss, mss), options(low, low)},
		{"not when it is lower", TCPSyn, []byte{2, 4, 0x02, 0x18}, []byte{2, 4, 0x02, 0x18}},
		{"not when it is the same", TCPSyn, low, low},
		{"not when it is zero", TCPSyn, []byte{2, 4, 0, 0}, []byte{2, 4, 0, 0}},
		{"not without a SYN", TCPAck, mss, mss},
		{"not where there is none", TCPSyn, []byte{1, 1, 1, 0}, []byte{1, 1, 1, 0}},
		{"not behind the end of options", TCPSyn, options([]byte{1, 1, 1, 0}, mss), options([]byte{1, 1, 1, 0}, mss)},
		{"not behind an option of length 0", TCPSyn, options([]byte{8, 0, 0, 0}, mss), options([]byte{8, 0, 0, 0}, mss)},
		{"not behind an option longer than the header", TCPSyn, options([]byte{8, 40, 0, 0}, mss), options([]byte{8, 40, 0, 0}, mss)},
		{"not of a length that is not its own", TCPSyn, []byte{2, 3, 0xff, 0}, []byte{2, 3, 0xff, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, want := synSegment(c.flags, c.in...), synSegment(c.flags, c.want...)
			changed := ClampMSS(b[IPv4Len:], 1360)
			if changed == bytes.Equal(c.in, c.want) {
				t.Errorf("says changed %v", changed)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("got %x\nwant %x", b[IPv4Len:], want[IPv4Len:])
			}
		})
	}
}

// FuzzClampMSS: whatever the bytes, nothing but MSS figures and the checksum
// changes, no figure grows, none above the limit is left where a slow walk
// finds one, and a right checksum stays right.
func FuzzClampMSS(f *testing.F) {
	f.Add(synSegment(TCPSyn, 2, 4, 5, 0xb4)[IPv4Len:], uint16(1360))
	f.Add(synSegment(TCPSyn|TCPAck, 1, 2, 4, 5, 0xb4, 1, 1, 1)[IPv4Len:], uint16(1))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, segment []byte, mss uint16) {
		if len(segment) > 1400 {
			return
		}
		b := make([]byte, IPv4Len+len(segment))
		PutIPv4(b, 0, len(b), 64, ProtoTCP, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
		copy(b[IPv4Len:], segment)
		if len(segment) >= TCPLen {
			PutTransportChecksum(b, IPv4Len, ProtoTCP)
		}
		before := bytes.Clone(b[IPv4Len:])
		after := b[IPv4Len:]
		changed := ClampMSS(after, mss)
		if changed == bytes.Equal(before, after) {
			t.Fatalf("says changed %v", changed)
		}
		figures := mssOffsets(before)
		rest := bytes.Clone(after)
		for _, at := range figures {
			old, now := binary.BigEndian.Uint16(before[at:]), binary.BigEndian.Uint16(after[at:])
			if now != min(old, mss) {
				t.Errorf("%d at %d became %d, the limit is %d", old, at, now, mss)
			}
			copy(rest[at:at+2], before[at:])
		}
		if changed {
			if Sum(PseudoSum(b, ProtoTCP, len(segment)), after) != 0xffff {
				t.Error("the checksum is wrong now")
			}
			copy(rest[16:18], before[16:])
		}
		if !bytes.Equal(rest, before) {
			t.Errorf("more changed than the figure:\n%x\n%x", before, after)
		}
	})
}

// mssOffsets lists where a segment's MSS figures are, one byte at a time.
func mssOffsets(b []byte) (at []int) {
	if len(b) < TCPLen || b[13]&TCPSyn == 0 {
		return nil
	}
	header := int(b[12]>>4) * 4
	if header < TCPLen || header > len(b) {
		return nil
	}
	options := b[TCPLen:header]
	for i := 0; len(options) > 0; {
		switch {
		case options[0] == 0:
			return at
		case options[0] == 1:
			i, options = i+1, options[1:]
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return at
		default:
			if options[0] == 2 && options[1] == 4 {
				at = append(at, TCPLen+i+2)
			}
			i, options = i+int(options[1]), options[options[1]:]
		}
	}
	return at
}
