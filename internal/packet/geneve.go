package packet

import "encoding/binary"

// UDP ports (IANA).
const (
	PortGeneve = 6081
	PortVXLAN  = 4789
)

// Header lengths without options.
const (
	GeneveLen = 8
	VXLANLen  = 8
)

// MaxGeneveOptions is what the six bits of the length field can say.
const MaxGeneveOptions = 63 * 4

// Geneve is a parsed Geneve header (RFC 8926). The options are at GeneveLen up
// to Len. It has four fields and no more because the compiler keeps such a
// struct in registers.
type Geneve struct {
	Len   int    // with options
	Type  uint16 // EtherType of the payload
	VNI   uint32
	flags uint8
}

const (
	geneveControl  = 0x80 // O bit
	geneveCritical = 0x40 // C bit
)

// Control says that the packet is for the endpoint itself.
func (g Geneve) Control() bool { return g.flags&geneveControl != 0 }

// Critical says that there is an option which must not be ignored: by the C
// bit, or because an option is marked so.
func (g Geneve) Critical() bool { return g.flags&geneveCritical != 0 }

// ParseGeneve reads the header and walks the options, so that their lengths
// can be trusted afterwards. Mizar's are not walked: what looks like more options
// behind the unused one need not make sense.
func ParseGeneve(b []byte) (Geneve, Problem) {
	if len(b) < GeneveLen {
		return Geneve{}, Short
	}
	g := Geneve{Len: GeneveLen + int(b[0]&0x3f)*4, flags: b[1],
		Type: binary.BigEndian.Uint16(b[2:4]), VNI: binary.BigEndian.Uint32(b[4:8]) >> 8}
	if b[0]>>6 != 0 {
		return g, BadVersion
	}
	if g.Len > len(b) {
		return g, Short
	}
	rest := b[GeneveLen:g.Len]
	if IsMizar(rest) {
		return g, Fine
	}
	for len(rest) > 0 {
		option, length, bad := ParseGeneveOption(rest)
		if bad != Fine {
			return g, bad
		}
		if option.Critical {
			g.flags |= geneveCritical
		}
		rest = rest[length:]
	}
	return g, Fine
}

// GeneveOption is one option (RFC 8926 section 3.5).
type GeneveOption struct {
	Class    uint16
	Type     uint8
	Critical bool
	DataLen  int // behind the four bytes of the option's header
}

// ParseGeneveOption reads the first option of b and returns its whole length.
func ParseGeneveOption(b []byte) (GeneveOption, int, Problem) {
	if len(b) < 4 {
		return GeneveOption{}, 0, Short
	}
	o := GeneveOption{Class: binary.BigEndian.Uint16(b[0:2]), Type: b[2], Critical: b[2]&0x80 != 0, DataLen: int(b[3]&0x1f) * 4}
	if 4+o.DataLen > len(b) {
		return o, 0, BadLength
	}
	return o, 4 + o.DataLen, Fine
}

// PutGeneve writes a header without options; b has GeneveLen bytes. Where
// options follow, the caller has put them behind and says how long they are (a
// multiple of 4) and whether one is critical.
func PutGeneve(b []byte, etherType uint16, vni uint32, options int, critical bool) {
	_ = b[GeneveLen-1]
	binary.BigEndian.PutUint16(b[0:2], GeneveOptions(options, critical))
	binary.BigEndian.PutUint16(b[2:4], etherType)
	binary.BigEndian.PutUint32(b[4:8], vni<<8)
}

// GeneveOptions is the first word of a Geneve header: version 0, how many bytes of options follow it, and whether one
// of them is critical.
func GeneveOptions(options int, critical bool) uint16 {
	word := uint16(options/4) << 8
	if critical {
		word |= geneveCritical
	}
	return word
}

// ParseVXLAN reads a VXLAN header (RFC 7348) and returns its VNI. The I flag
// must be set; the reserved bits are ignored, as the RFC asks, so that
// packets with the group policy extension pass.
func ParseVXLAN(b []byte) (vni uint32, bad Problem) {
	if len(b) < VXLANLen {
		return 0, Short
	}
	if b[0]&0x08 == 0 {
		return 0, BadField
	}
	return binary.BigEndian.Uint32(b[4:8]) >> 8, Fine
}

// PutVXLAN writes a header; b has VXLANLen bytes.
func PutVXLAN(b []byte, vni uint32) {
	_ = b[VXLANLen-1]
	binary.BigEndian.PutUint32(b[0:4], 0x08<<24)
	binary.BigEndian.PutUint32(b[4:8], vni<<8)
}
