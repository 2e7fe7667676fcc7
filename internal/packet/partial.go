package packet

import "encoding/binary"

// A Linux socket whose packet leaves through a device with checksum offload
// writes only the sum of the pseudo-header into the TCP or UDP checksum field
// and leaves the rest to the hardware (CHECKSUM_PARTIAL). On a virtual link
// there is no hardware: the packet arrives like that, and AF_XDP carries no
// flag that says so. Such a packet may not leave the host.

// Unfinished says that the transport checksum of the IP packet b, parsed as
// ip, is the bare sum of its pseudo-header. A finished packet looks the same
// once in 65 thousand; finishing that one again writes the sum it has.
func Unfinished(b []byte, ip *IP) bool {
	off := checksumAt(ip.Proto)
	if off < 0 || ip.Proto == ProtoICMPv6 || ip.Fragment {
		return false
	}
	at := ip.HeaderLen + off
	if ip.Len > len(b) || at+2 > ip.Len {
		return false
	}
	have := binary.BigEndian.Uint16(b[at:])
	return have == PseudoSum(b, ip.Proto, ip.Len-ip.HeaderLen)
}

// Finish completes the transport checksum of a packet that is Unfinished and
// says whether it was.
func Finish(b []byte, ip *IP) bool {
	if !Unfinished(b, ip) {
		return false
	}
	PutTransportChecksum(b[:ip.Len], ip.HeaderLen, ip.Proto)
	return true
}
