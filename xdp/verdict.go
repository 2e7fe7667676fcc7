package xdp

import "iter"

// Verdict says what became of a packet. Its values and names are those of enum verdict in bpf/shared.h; the name
// (Verdict.String) is also the name of the counter in metrics and in the command line.
type Verdict uint8

// The verdicts, in the order of bpf/shared.h. The pass ones leave the packet untouched to the kernel, the divert ones
// hand it to the AF_XDP socket of its queue, the direct ones send it on, the drop ones end it here.
const (
	PassNoPort Verdict = iota
	PassUnknownVLAN
	PassBadEthernet
	PassNotIP
	PassOtherMAC
	PassBadIP
	PassNotOurs
	PassNoRoute
	PassLinkScope
	PassFragment
	PassOverlayFragment
	PassExtension
	PassLocal
	PassBadUDP
	PassBadGeneve
	PassGeneveControl
	PassBadVXLAN
	PassUnknownVNI
	PassInnerVLAN
	PassInnerOther
	PassInnerARP
	PassBadInner
	PassInnerNoRoute
	PassInnerLinkScope
	PassNoSocket
	DivertGeneve
	DivertVXLAN
	DivertNeighbour
	DivertGateway
	DivertRouted
	DivertHandshake
	DivertTransport
	DivertDirect
	DirectToPeer
	DirectToSite
	DropBadWireGuard
	DropHandshakeRate
	DropHandshakeFlood
	DropBadDirect
	DropDirectStranger
	NumVerdicts = iota
)

var verdicts = [NumVerdicts]struct{ name, why string }{
	PassNoPort:          {"pass_no_port", "no port is configured for this interface, untagged"},
	PassUnknownVLAN:     {"pass_unknown_vlan", "tagged, and no port is configured for these tags; or more than two tags"},
	PassBadEthernet:     {"pass_bad_ethernet", "ends inside the Ethernet header or a VLAN tag"},
	PassNotIP:           {"pass_not_ip", "neither IPv4 nor IPv6: ARP, LLDP, ..."},
	PassOtherMAC:        {"pass_other_mac", "the destination MAC is not the port's: another host's, multicast, broadcast"},
	PassBadIP:           {"pass_bad_ip", "ends inside the IP header; bad version, length or IPv4 header checksum"},
	PassNotOurs:         {"pass_not_ours", "not for one of our addresses, and the port does not route"},
	PassNoRoute:         {"pass_no_route", "routed port: no remote prefix contains the destination"},
	PassLinkScope:       {"pass_link_scope", "routed port: multicast, broadcast, loopback or link-local destination"},
	PassFragment:        {"pass_fragment", "for one of our addresses, but a fragment: the kernel reassembles"},
	PassOverlayFragment: {"pass_overlay_fragment", "the same, and the first fragment of an overlay packet: the kernel's, not ours, even when it is for another site"},
	PassExtension:       {"pass_extension", "for one of our addresses, with an IPv6 extension header in front of the payload"},
	PassLocal:           {"pass_local", "for one of our addresses, but no protocol or UDP port of ours: SSH, BGP, ping"},
	PassBadUDP:          {"pass_bad_udp", "ends inside the UDP header, or the UDP length does not fit"},
	PassBadGeneve:       {"pass_bad_geneve", "Geneve: ends inside header or options, or version is not 0"},
	PassGeneveControl:   {"pass_geneve_control", "Geneve: O bit, a control message between tunnel endpoints"},
	PassBadVXLAN:        {"pass_bad_vxlan", "VXLAN: ends inside the header, or no I flag"},
	PassUnknownVNI:      {"pass_unknown_vni", "the VNI is none of ours"},
	PassInnerVLAN:       {"pass_inner_vlan", "the inner frame has a VLAN tag"},
	PassInnerOther:      {"pass_inner_other", "the inner packet is neither IP nor ARP"},
	PassInnerARP:        {"pass_inner_arp", "inner ARP, not to a gateway address, and no announcement that is wanted"},
	PassBadInner:        {"pass_bad_inner", "ends inside the inner headers, or these contradict each other"},
	PassInnerNoRoute:    {"pass_inner_no_route", "no remote prefix of the VNI contains the inner destination: local traffic of the site"},
	PassInnerLinkScope:  {"pass_inner_link_scope", "inner destination is multicast, broadcast, loopback or link-local"},
	PassNoSocket:        {"pass_no_socket", "would be diverted, but no socket is set for this queue"},
	DivertGeneve:        {"divert_geneve", "Geneve, inner destination is remote"},
	DivertVXLAN:         {"divert_vxlan", "VXLAN, inner destination is remote"},
	DivertNeighbour:     {"divert_neighbour", "inner ARP or neighbour discovery for a gateway address, or a host's announcement"},
	DivertGateway:       {"divert_gateway", "inner packet for a gateway address"},
	DivertRouted:        {"divert_routed", "routed port, destination is remote"},
	DivertHandshake:     {"divert_handshake", "WireGuard message of type 1 to 3"},
	DivertTransport:     {"divert_transport", "WireGuard message of type 4"},
	DivertDirect:        {"divert_direct", "from a direct peer, and more than the program does by itself"},
	DirectToPeer:        {"direct_to_peer", "sent on to a direct peer by the program, without the relay"},
	DirectToSite:        {"direct_to_site", "from a direct peer: sent on to its place at the site by the program, without the relay"},
	DropBadWireGuard:    {"drop_bad_wireguard", "for a WireGuard port, but no WireGuard message"},
	DropHandshakeRate:   {"drop_handshake_rate", "WireGuard message of type 1 to 3, from a source that sends too many"},
	DropHandshakeFlood:  {"drop_handshake_flood", "WireGuard message of type 1 to 3, from no peer's known address, while all such sources send too many"},
	DropBadDirect:       {"drop_bad_direct", "for the port of direct peers, but no Geneve with a sound IP packet in it"},
	DropDirectStranger:  {"drop_direct_stranger", "for the port of direct peers, from the address of none"},
}

// String is the name of the verdict and of its counter.
func (v Verdict) String() string {
	if int(v) >= len(verdicts) {
		return "unknown"
	}
	return verdicts[v].name
}

// Explain says in one line what the verdict means.
func (v Verdict) Explain() string {
	if int(v) >= len(verdicts) {
		return "unknown verdict"
	}
	return verdicts[v].why
}

// Direct says that the program has forwarded the packet by itself.
func (v Verdict) Direct() bool { return v == DirectToPeer || v == DirectToSite }

// Drop says that the packet ends here.
func (v Verdict) Drop() bool { return v >= DropBadWireGuard && int(v) < len(verdicts) }

// Counters holds one number of packets per verdict, summed over all processors since Load. Index it with a Verdict.
type Counters [NumVerdicts]uint64

// All yields every verdict with its count, in the order of the constants.
func (c *Counters) All() iter.Seq2[Verdict, uint64] {
	return func(yield func(Verdict, uint64) bool) {
		for v, n := range c {
			if !yield(Verdict(v), n) {
				return
			}
		}
	}
}
