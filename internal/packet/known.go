package packet

// KnownSum is Sum of a whole IP packet, parsed as ip, computed without a look at its payload: a transport checksum that is
// right says what the sum of what it covers is, the complement of the pseudo-header's. False: the packet has none, or none
// that covers all of it (fragments, options and extension headers, UDP without checksum), and it has to be summed up.
//
// Of a packet with a wrong checksum the sum is wrong by the same amount. A checksum made of it is wrong then, too: damage is
// found by whoever looks at that one, it is never hidden. Linux makes outer checksums in the same way (local checksum offload).
func KnownSum(b []byte, ip *IP) (uint16, bool) {
	n := ip.Len - ip.HeaderLen
	if ip.Fragment || ip.HeaderLen != IPv4Len && ip.HeaderLen != IPv6Len {
		return 0, false
	}
	switch ip.Proto {
	case ProtoTCP:
		if n < TCPLen {
			return 0, false
		}
	case ProtoUDP:
		if u, bad := ParseUDP(b[ip.HeaderLen:ip.Len]); bad != Fine || u.Len != n || b[ip.HeaderLen+6]|b[ip.HeaderLen+7] == 0 {
			return 0, false
		}
	case ProtoICMPv6:
		if ip.Version != 6 || n < ICMPLen {
			return 0, false
		}
	default:
		return 0, false
	}
	if ip.Version == 4 {
		return fold(uint64(sum20(b)) + uint64(^PseudoSum(b, ip.Proto, n))), true
	}
	// The addresses are in both sums and cancel out.
	return Sum(^fold(uint64(ip.Proto)+uint64(n)), b[:8]), true
}
