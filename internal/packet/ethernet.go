package packet

import "encoding/binary"

// EtherTypes (IANA).
const (
	TypeIPv4     = 0x0800
	TypeARP      = 0x0806
	TypeVLAN     = 0x8100 // 802.1Q
	TypeIPv6     = 0x86dd
	TypeQinQ     = 0x88a8 // 802.1ad
	TypeEthernet = 0x6558 // transparent Ethernet bridging: Ethernet as a payload
)

// EthernetLen is the length of an untagged Ethernet header.
const EthernetLen = 14

// maxTags is how many VLAN tags we look behind: a customer's in a provider's.
const maxTags = 2

// Ethernet is a parsed header; the addresses are at fixed offsets: the
// destination at 0, the source at 6.
type Ethernet struct {
	Len  int    // of the header with its tags
	Type uint16 // of what follows the tags
	Tags int    // VLAN tags
	VLAN uint16 // identifier of the outermost tag; 0 is a priority tag
}

// ParseEthernet reads the header and up to two VLAN tags.
func ParseEthernet(b []byte) (Ethernet, Problem) {
	if len(b) < EthernetLen {
		return Ethernet{}, Short
	}
	e := Ethernet{Len: EthernetLen, Type: binary.BigEndian.Uint16(b[12:14])}
	for e.Type == TypeVLAN || e.Type == TypeQinQ {
		if e.Tags == maxTags {
			return e, BadField
		}
		if len(b) < e.Len+4 {
			return e, Short
		}
		if e.Tags == 0 {
			e.VLAN = binary.BigEndian.Uint16(b[e.Len:]) & 0xfff
		}
		e.Type = binary.BigEndian.Uint16(b[e.Len+2:])
		e.Len += 4
		e.Tags++
	}
	return e, Fine
}

// PutEthernet writes an untagged header; b has EthernetLen bytes.
func PutEthernet(b []byte, dst, src [6]byte, etherType uint16) {
	_ = b[EthernetLen-1]
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
	binary.BigEndian.PutUint16(b[12:14], etherType)
}
