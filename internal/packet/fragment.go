package packet

import "encoding/binary"

// Flags and offset of an IPv4 header, its fourth word (RFC 791 section 3.1).
const (
	flagMoreFragments = 0x2000
	fragmentOffset    = 0x1fff // in units of eight bytes
)

// FragmentOffset is where the data of the IPv4 packet b belongs in the whole
// packet, in bytes, and whether more of it follows.
func FragmentOffset(b []byte) (offset int, more bool) {
	word := binary.BigEndian.Uint16(b[6:8])
	return int(word&fragmentOffset) * 8, word&flagMoreFragments != 0
}

// SetFragment makes the IPv4 packet b, header with options and data, a
// fragment: it writes length, offset (a multiple of 8) and flags, and the
// header's checksum.
func SetFragment(b []byte, offset int, more bool) {
	header := b[:int(b[0]&0xf)*4]
	binary.BigEndian.PutUint16(b[2:4], uint16(len(b)))
	word := uint16(offset/8) & fragmentOffset
	if more {
		word |= flagMoreFragments
	}
	binary.BigEndian.PutUint16(b[6:8], word)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:12], ^Sum(0, header))
}

// optionCopied marks IPv4 options that all fragments have.
const optionCopied = 0x80

// CopiedOptions writes to dst those of the IPv4 options that go into every
// fragment (RFC 791 section 3.1), and returns their length, a multiple of 4. dst is
// as long as options. Malformed options end the list.
func CopiedOptions(dst, options []byte) int {
	n := 0
	for len(options) > 0 && options[0] != 0 {
		length := 1
		if options[0] != 1 {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				break
			}
			length = int(options[1])
		}
		if options[0]&optionCopied != 0 {
			n += copy(dst[n:], options[:length])
		}
		options = options[length:]
	}
	for n%4 != 0 {
		dst[n] = 0 // end of options
		n++
	}
	return n
}

// FragmentLen is the length of IPv6's fragment header.
const FragmentLen = 8

// PutFragment6 makes the IPv6 packet b a fragment (RFC 8200 section 4.5): it writes
// the fragment header right behind the IPv6 one, in front of the data, and the
// payload length. offset is a multiple of 8, next what the data begins with.
func PutFragment6(b []byte, next uint8, offset int, more bool, id uint32) {
	binary.BigEndian.PutUint16(b[4:6], uint16(len(b)-IPv6Len))
	b[6] = ProtoFragment
	h := b[IPv6Len : IPv6Len+FragmentLen]
	word := uint16(offset) &^ 7
	if more {
		word |= 1
	}
	h[0], h[1] = next, 0
	binary.BigEndian.PutUint16(h[2:4], word)
	binary.BigEndian.PutUint32(h[4:8], id)
}
