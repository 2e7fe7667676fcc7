package xdp

import "net/netip"

// State is everything the program decides by. SetState replaces the whole of it; the zero State passes every packet.
type State struct {
	Ports     []Port       // by (Ifindex, VLAN, InnerVLAN), no two alike
	Local     []netip.Addr // our outer addresses: WireGuard and overlay packets must be for one of them
	Geneve    []uint16     // UDP ports of Geneve, usually DefaultGenevePort
	VXLAN     []uint16     // UDP ports of VXLAN, usually DefaultVXLANPort and LegacyVXLANPort
	WireGuard []uint16     // UDP ports of WireGuard
	VNIs      []uint32     // the VNIs that overlay packets may carry, below 1<<24
	Remote    []Remote     // what other sites have
	Gateways  []Gateway    // addresses inside VPCs that the relay answers for
}

// UDP ports by common agreement: IANA for Geneve and VXLAN, and what Linux used for VXLAN before there was one.
const (
	DefaultGenevePort uint16 = 6081
	DefaultVXLANPort  uint16 = 4789
	LegacyVXLANPort   uint16 = 8472
)

// Port is an interface, or a VLAN on it. An interface with several VLANs has several Ports and one set of sockets.
type Port struct {
	Ifindex   int
	VLAN      uint16  // VLAN id 1..4094; 0: untagged and priority-tagged packets
	InnerVLAN uint16  // the second tag's VLAN id, 0: none
	Queues    int     // sockets may be set for queues 0..Queues-1; 0: MaxQueues
	Overlay   bool    // Geneve and VXLAN packets are looked into
	Routed    bool    // plain IP packets for remote prefixes of VNI are diverted
	VNI       uint32  // of the routed attachment
	MAC       [6]byte // of the interface: packets for other MACs are passed
}

// Remote is a prefix that another site has, in the VPC with this VNI.
type Remote struct {
	VNI    uint32
	Prefix netip.Prefix // masked
}

// Gateway is an address inside the VPC with this VNI that the relay answers for.
type Gateway struct {
	VNI  uint32
	Addr netip.Addr
}
