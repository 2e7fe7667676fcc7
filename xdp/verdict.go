package xdp

import "iter"

// Verdict says what became of a packet. Its values and names are those of enum verdict in bpf/shared.h; the name
// (Verdict.String) is also the name of the counter in metrics and in the command line.
type Verdict uint8

// The verdicts, in the order of bpf/shared.h. The pass ones leave the packet untouched to the kernel, the divert ones
// hand it to the AF_XDP socket of its queue, the drop ones end it here.
const (
	PassNoPort         Verdict = iota // no port is configured for this interface, untagged
	PassUnknownVLAN                   // tagged, and no port is configured for these tags; or more than two tags
	PassBadEthernet                   // ends inside the Ethernet header or a VLAN tag
	PassNotIP                         // neither IPv4 nor IPv6: ARP, LLDP, …
	PassOtherMAC                      // the destination MAC is not the port's: another host's, multicast, broadcast
	PassBadIP                         // ends inside the IP header; bad version, length or IPv4 header checksum
	PassNotOurs                       // not for one of our addresses, and the port does not route
	PassNoRoute                       // routed port: no remote prefix contains the destination
	PassLinkScope                     // routed port: multicast, broadcast, loopback or link-local destination
	PassFragment                      // for one of our addresses, but a fragment: the kernel reassembles
	PassExtension                     // for one of our addresses, with an IPv6 extension header in front of the payload
	PassLocal                         // for one of our addresses, but no protocol or UDP port of ours: SSH, BGP, ping
	PassBadUDP                        // ends inside the UDP header, or the UDP length does not fit
	PassBadGeneve                     // Geneve: ends inside header or options, or version is not 0
	PassGeneveControl                 // Geneve: O bit, a control message between tunnel endpoints
	PassBadVXLAN                      // VXLAN: ends inside the header, or no I flag
	PassUnknownVNI                    // the VNI is none of ours
	PassInnerVLAN                     // the inner frame has a VLAN tag
	PassInnerOther                    // the inner packet is neither IP nor ARP
	PassInnerARP                      // inner ARP that is no request for a gateway address
	PassBadInner                      // ends inside the inner headers, or these contradict each other
	PassInnerNoRoute                  // no remote prefix of the VNI contains the inner destination: local traffic of the site
	PassInnerLinkScope                // inner destination is multicast, broadcast, loopback or link-local
	PassNoSocket                      // would be diverted, but no socket is set for this queue
	DivertGeneve                      // Geneve, inner destination is remote
	DivertVXLAN                       // VXLAN, inner destination is remote
	DivertNeighbour                   // inner ARP request or neighbour solicitation for a gateway address
	DivertGateway                     // inner packet for a gateway address
	DivertRouted                      // routed port, destination is remote
	DivertHandshake                   // WireGuard message of type 1 to 3
	DivertTransport                   // WireGuard message of type 4
	DropBadWireGuard                  // for a WireGuard port, but no WireGuard message
	DropHandshakeRate                 // WireGuard message of type 1 or 2, from a source that sends too many
	NumVerdicts        = iota
)

var verdictNames = [NumVerdicts]string{
	PassNoPort:         "pass_no_port",
	PassUnknownVLAN:    "pass_unknown_vlan",
	PassBadEthernet:    "pass_bad_ethernet",
	PassNotIP:          "pass_not_ip",
	PassOtherMAC:       "pass_other_mac",
	PassBadIP:          "pass_bad_ip",
	PassNotOurs:        "pass_not_ours",
	PassNoRoute:        "pass_no_route",
	PassLinkScope:      "pass_link_scope",
	PassFragment:       "pass_fragment",
	PassExtension:      "pass_extension",
	PassLocal:          "pass_local",
	PassBadUDP:         "pass_bad_udp",
	PassBadGeneve:      "pass_bad_geneve",
	PassGeneveControl:  "pass_geneve_control",
	PassBadVXLAN:       "pass_bad_vxlan",
	PassUnknownVNI:     "pass_unknown_vni",
	PassInnerVLAN:      "pass_inner_vlan",
	PassInnerOther:     "pass_inner_other",
	PassInnerARP:       "pass_inner_arp",
	PassBadInner:       "pass_bad_inner",
	PassInnerNoRoute:   "pass_inner_no_route",
	PassInnerLinkScope: "pass_inner_link_scope",
	PassNoSocket:       "pass_no_socket",
	DivertGeneve:       "divert_geneve",
	DivertVXLAN:        "divert_vxlan",
	DivertNeighbour:    "divert_neighbour",
	DivertGateway:      "divert_gateway",
	DivertRouted:       "divert_routed",
	DivertHandshake:    "divert_handshake",
	DivertTransport:    "divert_transport",
	DropBadWireGuard:   "drop_bad_wireguard",
	DropHandshakeRate:  "drop_handshake_rate",
}

// String is the name of the verdict and of its counter.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return "unknown"
	}
	return verdictNames[v]
}

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
