package packet

import (
	"encoding/binary"
	"net/netip"
)

// Notice is what a gateway says of itself when it answers a liveness probe of another: bits.
type Notice uint8

// Elsewhere asks peers to send through another gateway as long as they have one.
const Elsewhere Notice = 1

// Liveness probes are echo requests whose data begin with probeMagic and a byte that is zero. Whoever answers echo
// requests answers them, and returns the data as they came; a gateway that has something to say puts its Notice into
// that byte. Nobody else's pings are touched.
const (
	probeMagic = 0x736c756963650100 // "sluice", the format's number, the notice
	probeData  = ICMPLen + 8        // magic and notice end here
	noticeAt   = probeData - 2      // the 16 bits with the notice, as checksums see them
)

// ProbeLen is the length of a liveness probe of either family: a multiple of 16, so that it need not be padded.
const ProbeLen = 64

// Probe makes a liveness probe, which differs from an EchoRequest in its data. owned: the caller's.
func Probe(src, dst netip.Addr, tos uint8, id, seq uint16) []byte {
	b := EchoRequest(src, dst, tos, id, seq, ProbeLen)
	m := b[IPv6Len:]
	if src.Is4() {
		m = b[IPv4Len:]
	}
	binary.BigEndian.PutUint64(m[ICMPLen:], probeMagic)
	sum := binary.BigEndian.Uint16(m[2:4])
	for at := ICMPLen; at < probeData; at += 2 {
		sum = Update(sum, 0, binary.BigEndian.Uint16(m[at:]))
	}
	binary.BigEndian.PutUint16(m[2:4], sum)
	return b
}

// SetNotice puts a notice into the answer to a liveness probe, an ICMP or ICMPv6 message, and leaves any other message
// as it is.
func SetNotice(m []byte, n Notice) {
	if !isProbe(m) {
		return
	}
	before := binary.BigEndian.Uint16(m[noticeAt:])
	m[noticeAt+1] = byte(n)
	sum := Update(binary.BigEndian.Uint16(m[2:4]), before, binary.BigEndian.Uint16(m[noticeAt:]))
	binary.BigEndian.PutUint16(m[2:4], sum)
}

// NoticeOf returns the notice in the answer to a liveness probe, 0 for any other message.
func NoticeOf(m []byte) Notice {
	if !isProbe(m) {
		return 0
	}
	return Notice(m[noticeAt+1])
}

func isProbe(m []byte) bool {
	return len(m) >= probeData && binary.BigEndian.Uint64(m[ICMPLen:])&^0xff == probeMagic
}
