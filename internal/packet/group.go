package packet

import (
	"net/netip"
	"slices"
)

// GroupMAC is the Ethernet address of a multicast group, of 4 or 16 bytes (RFC
// 1112 section 6.4, RFC 2464 section 7).
func GroupMAC(group []byte) [6]byte {
	if len(group) == 4 {
		return [6]byte{0x01, 0x00, 0x5e, group[1] & 0x7f, group[2], group[3]}
	}
	return [6]byte{0x33, 0x33, group[12], group[13], group[14], group[15]}
}

// The groups that stay on their link (RFC 5771 section 4, RFC 4291 section 2.7): those of the link, and in IPv6 of the
// interface and the reserved scope 0 as well.
var linkGroups = []netip.Prefix{netip.MustParsePrefix("224.0.0.0/24"), netip.MustParsePrefix("ff00::/16"), netip.MustParsePrefix("ff01::/16"),
	netip.MustParsePrefix("ff02::/16"), netip.MustParsePrefix("ff10::/16"), netip.MustParsePrefix("ff11::/16"), netip.MustParsePrefix("ff12::/16")}

// CarriedGroup says whether all addresses of a prefix are multicast groups that a router may forward.
func CarriedGroup(g netip.Prefix) bool {
	multicast := 4
	if g.Addr().Is6() {
		multicast = 8
	}
	return g.Addr().IsMulticast() && g.Bits() >= multicast && !slices.ContainsFunc(linkGroups, g.Overlaps)
}
