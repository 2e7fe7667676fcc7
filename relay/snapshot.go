package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Snapshot is the whole forwarding state that workers read. It describes; New
// and Update check it and turn it into the tables the workers look things up
// in. After it was given to Update neither it nor anything it points to may be
// changed: build the next one.
//
// The zero value is valid and forwards nothing.
type Snapshot struct {
	// Ports are the gateway's ports. A port that has no queue yet (see
	// SetQueues) may be listed, and a queue may exist before its port is.
	Ports []Port

	// VPCs, each with a VNI of its own; the default VPC has VNI 0.
	VPCs []VPC

	// Deliveries are the places at this site that packets go to. A
	// fib.NextHop of kind Local holds an index into it.
	Deliveries []Delivery

	// Peers, by peer id: a fib.NextHop of kind Remote holds an index into it.
	// Keep an id for as long as the peer exists; one that is gone leaves a
	// hole, an element that has neither WireGuard nor Direct.
	Peers []Peer

	// Local are outer addresses that are ours beside the ports' own ones (a
	// loopback address for the tunnels, say).
	Local []netip.Addr

	// Tunnel are our addresses inside the tunnels, at most one of each
	// family: between them and the peers' the Geneve of all VPCs but the
	// default one runs.
	Tunnel []netip.Addr

	// TunPort is the ifindex of the TUN device that leads to the host's own kernel;
	// it is no element of Ports, and its queues carry bare IP packets. What peers send
	// to our tunnel addresses goes there, and what comes from there goes to the peers'
	// ones. 0: there is none.
	TunPort uint32

	// WireGuardPort is the UDP port we listen on; 0 means no WireGuard at all.
	WireGuardPort uint16

	// DirectPort is the UDP port that direct peers send to; 0: there are none.
	DirectPort uint16

	// Notice is what we say of ourselves when peers probe us.
	Notice packet.Notice
}

// Port is one NIC.
type Port struct {
	Ifindex uint32
	Name    string
	MAC     [6]byte
	// MTU of the link: the longest IP packet. 0 means 1500.
	MTU int
	// Addresses of the interface: outer addresses that are ours; the first
	// of a family is the source of ICMP errors towards routed hosts behind it.
	Addresses []netip.Addr
	// Virtual marks a port (veth, tap, virtio) that can hand us packets whose
	// TCP or UDP checksum is not finished; we finish those before they travel.
	Virtual bool
	// ToPeers limits what leaves through the port to peers, as outer IP packets
	// without WireGuard's padding.
	ToPeers Limit
}

// AttachmentKind says how a site's traffic reaches a port.
type AttachmentKind uint8

// The kinds of attachment.
const (
	Routed AttachmentKind = iota // plain IP in Ethernet, we are the next hop
	Geneve                       // RFC 8926, the inner packet in Ethernet or bare
	VXLAN                        // RFC 7348
)

// String is the word used in the configuration.
func (k AttachmentKind) String() string {
	switch k {
	case Routed:
		return "routed"
	case Geneve:
		return "geneve"
	case VXLAN:
		return "vxlan"
	}
	return "unknown"
}

// Attachment is one way of a VPC to its site. Two VPCs may share a port and a
// UDP port (the VNI tells them apart), but a port is `routed` for one VPC only.
type Attachment struct {
	Kind    AttachmentKind
	Ifindex uint32 // the port
	UDPPort uint16 // overlays; 0 means 6081 for Geneve, 4789 for VXLAN
	// Trusted are the outer sources that an overlay takes packets from; nil: any.
	Trusted []netip.Prefix
	Mizar   *Mizar // Geneve: the nodes are Mizar's; nil: they are not
}

// VPC is a routing domain.
type VPC struct {
	Name string
	// VNI at this site, on the wire of its overlays and inside the relay.
	VNI uint32
	// GatewayAddresses are ours inside the VPC: inside overlays we answer ARP,
	// ND and echo for them, and ICMP errors come from the first of a family.
	GatewayAddresses []netip.Addr
	// GatewayMAC is the Ethernet address that goes with them.
	GatewayMAC  [6]byte
	Attachments []Attachment
	// Sources says which packets of this site are taken for genuine.
	Sources SourceCheck
	// Groups are multicast groups that are carried between sites, to every peer
	// that has a route in the VPC and, at this site, to the deliveries that
	// Flood lists. See packet.CarriedGroup.
	Groups []netip.Prefix
	// Flood lists where packets to groups go at this site: indexes in Deliveries, one
	// for each node of the overlays and each routed attachment. Their MAC is not used.
	Flood []uint32
	// ACL says what may pass; its zero value lets everything through.
	ACL ACL
	// Limits of the VPC, as inner IP packets.
	Limits Limits
	// Translate are the site's prefixes that other sites know by others. No
	// two of all their prefixes overlap.
	Translate []Translation
	// MSS says what becomes of the TCP segment size that hosts announce
	// (SYN and SYN-ACK, both directions): 0 lowers it to what fits the path,
	// a positive figure to that at most, a negative one leaves it alone.
	MSS int
	// Routes of the VPC; nil is an empty table. Local next hops must be
	// deliveries of this very VPC, remote ones peers that exist.
	Routes *fib.Table
	// Spare are next hops, all of them peers, that Routes leaves out for now, by the
	// very prefixes of Routes: nothing is sent to them, and what they send is taken.
	// nil: there are none.
	Spare *fib.Table
}

// Delivery is a place at this site: a host behind a VTEP of an overlay
// attachment, or whatever can be reached through a routed attachment.
type Delivery struct {
	VNI        uint32     // the VPC
	Attachment int        // index into that VPC's Attachments
	VTEP       netip.Addr // overlays: where the host's node is
	// Via, for a routed attachment, is the router that everything goes to, of either
	// family; invalid: each address is reached as the kernel's routes say.
	Via netip.Addr
	MAC [6]byte // overlays: the host's own address
	// Learned, in overlays: VTEP and MAC are empty, and each address has a place
	// of its own, which Options.Hosts knows or finds out. At most one such delivery
	// for each attachment.
	Learned bool
	// Listen: what the hosts send tells where they are, not only their answers.
	Listen bool
}

// Peer is another gateway.
type Peer struct {
	Name string
	// WireGuard is the peer's half in the Device; nil: it is direct, or a hole.
	WireGuard *wireguard.Peer
	// Direct is where a peer without WireGuard is, which gets everything in the
	// clear and is known by this address alone; invalid: it is not direct. Tunnel and
	// FlowPorts are not for it.
	Direct netip.AddrPort
	// Tunnel are its addresses inside the tunnel, at most one of each family.
	Tunnel []netip.Addr
	// FlowPorts are the outer source ports of data for it, chosen by flow: a
	// power of two of them, or none.
	FlowPorts wireguard.FlowPorts
	// RelayTo are peers that it may exchange sealed messages with through us, by index; one of the two says
	// so. RelayLimit is how much of them it may send, as packets inside its tunnel.
	RelayTo    []uint32
	RelayLimit Limit
	// Through are the peers through whose tunnels its messages to us may come.
	Through []uint32
	// Limits of all VPCs together, as inner IP packets.
	Limits Limits
	// VPCs lists those whose VNI differs there; any other has the same at both ends.
	VPCs []PeerVPC
	// MSS is VPC.MSS for what travels to and from this peer; the stricter of
	// the two holds, and either can switch the clamp off.
	MSS int
}

// PeerVPC maps a VPC's VNI at this site to the one at the peer.
type PeerVPC struct {
	VNI       uint32 // here
	RemoteVNI uint32 // there; what we write into packets for that peer
}
