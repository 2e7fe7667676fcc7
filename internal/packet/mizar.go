package packet

import "encoding/binary"

// Mizar's hosts put 64 bytes of Geneve options into every packet, four of
// them, and read them at fixed offsets, without a look at their lengths. The
// option class is a number that they store in the byte order of the host,
// hence 11 01 on the wire, and the two labels are too.
//
//	 0  return to sender (0x48)   4+12  a byte of flags, IPv4 and MAC address of the sender's host, padding
//	16  scaled endpoint (0x49)    4+28  an address translation, or unused: type 0, and a length field of 0
//	48  pod label (0x50)          4+4
//	56  namespace label (0x51)    4+4
//
// A reader that goes by the length fields sees the unused second option as
// empty, and whatever its 28 bytes hold as more options.
const (
	MizarLen = 64

	mizarRTS       = 0
	mizarScaled    = 16
	mizarPod       = 48
	mizarNamespace = 56
)

// Class, type and length (in words of 4) of the options, as on the wire.
const (
	mizarRTSHeader       = 0x1101_48_03
	mizarScaledHeader    = 0x1101_49_07
	mizarUnusedHeader    = 0x1101_00_00
	mizarPodHeader       = 0x1101_50_01
	mizarNamespaceHeader = 0x1101_51_01
)

// IsMizar says whether the Geneve options b are Mizar's, all four of them.
func IsMizar(b []byte) bool {
	if len(b) != MizarLen || binary.BigEndian.Uint32(b[mizarRTS:]) != mizarRTSHeader {
		return false
	}
	scaled := binary.BigEndian.Uint32(b[mizarScaled:])
	return (scaled == mizarScaledHeader || scaled == mizarUnusedHeader) &&
		binary.BigEndian.Uint32(b[mizarPod:]) == mizarPodHeader && binary.BigEndian.Uint32(b[mizarNamespace:]) == mizarNamespaceHeader
}

// PutMizar writes all four options with these labels, nobody to return to and
// no scaled endpoint; b has MizarLen bytes.
func PutMizar(b []byte, pod, namespace uint32) {
	clear(b[:MizarLen])
	binary.BigEndian.PutUint32(b[mizarRTS:], mizarRTSHeader)
	binary.BigEndian.PutUint32(b[mizarScaled:], mizarUnusedHeader)
	binary.BigEndian.PutUint32(b[mizarPod:], mizarPodHeader)
	binary.LittleEndian.PutUint32(b[mizarPod+4:], pod)
	binary.BigEndian.PutUint32(b[mizarNamespace:], mizarNamespaceHeader)
	binary.LittleEndian.PutUint32(b[mizarNamespace+4:], namespace)
}

// SetMizarSender makes the options b say that answers go to the host at this
// outer address. The flags stay.
func SetMizarSender(b []byte, ip, mac []byte) {
	_ = b[MizarLen-1]
	copy(b[mizarRTS+5:mizarRTS+9], ip)
	copy(b[mizarRTS+9:mizarRTS+15], mac)
}
