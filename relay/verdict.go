package relay

// Verdict is what became of a packet. Every packet that a worker receives, is
// given by Inject or Arrive, or makes itself ends in exactly one, or is still parked.
//
// The numbers may change between versions, the names do not: they are the keys
// of counters, logs and the API.
type Verdict uint8

// The verdicts, in the order a packet meets them.
const (
	pending Verdict = iota // not decided yet; never counted

	// Where packets are meant to end.
	ToPeer
	ToDirect
	ToSite
	Handshake
	Keepalive
	Answered
	Heard
	Originated
	EngineSent
	EchoHeard
	MessageHeard
	ToKernel
	KernelSent
	PassedOn

	// The frame as it came in.
	MultiBuffer
	ShortFrame
	Tagged
	NotIP
	BadOuterIP
	OuterChecksum
	OuterFragment
	NotOurs
	NotServed
	BadUDP
	DirectStranger

	// The overlay of an attachment, or the Geneve inside a tunnel.
	BadGeneve
	GeneveControl
	CriticalOption
	BadVXLAN
	UnknownVNI
	UnknownVTEP
	BadInnerFrame
	InnerNotIP

	// WireGuard.
	BadWireGuard
	HandshakeBusy
	HandshakeRate
	UnknownIndex
	BadAuth
	Replayed
	SessionExpired
	UnknownPeer
	BadPayload

	// The inner packet.
	BadInnerIP
	InnerChecksum
	Martian
	Multicast
	BadARP
	BadND
	ARPNotOurs
	NDNotOurs
	CongestionLost
	BadOption
	SourceRouted
	SourceNotAllowed
	SpoofedSource
	ACLDenied
	RateLimited
	TinyFragment
	BadTransport
	InsideAddress
	OutsideAddress
	TunnelMismatch
	NotForTransit
	RelayRefused
	RelayNoMessage
	RelayLimited
	GatewayOnly
	TTLExpired
	NoRoute
	TooBig
	EchoLimited
	EchoLost
	MessageLost

	// On the way out.
	NoPeer
	NoTunnel
	NoEndpoint
	PeerUnresolved
	NoSession
	NoHost
	VTEPUnresolved
	NoNeighbour
	NeighbourUnreachable
	ParkFull
	ParkExpired
	NoPort
	NoRoom
	TxFull
	Stopped

	// NumVerdicts is how many there are.
	NumVerdicts
)

var verdicts = [NumVerdicts]struct{ name, why string }{
	pending: {"pending", "no verdict yet; never counted"},

	ToPeer:       {"to_peer", "sealed and sent to a peer"},
	ToDirect:     {"to_direct", "sent in the clear to a peer of encryption: none"},
	ToSite:       {"to_site", "sent to its VTEP or routed neighbour at this site"},
	Handshake:    {"handshake", "WireGuard handshake message, handed to the engine"},
	Keepalive:    {"keepalive", "WireGuard keepalive: authentic, carries nothing"},
	Answered:     {"answered", "was for the gateway itself (ARP, ND, echo) and was answered"},
	Heard:        {"heard", "ARP or neighbour discovery that says where a host is, for the learner"},
	Originated:   {"originated", "made by the gateway itself (an answer, an ICMP error) and sent"},
	EngineSent:   {"engine_sent", "datagram of the WireGuard engine, sent"},
	EchoHeard:    {"echo_heard", "a peer's answer to a probe of the gateway's own"},
	MessageHeard: {"message_heard", "a message of a peer's to the gateway itself, about who is active for what"},
	ToKernel:     {"to_kernel", "from a peer to our tunnel address, handed to the host's kernel (wireguard.tun)"},
	KernelSent:   {"kernel_sent", "from the host's kernel to a peer's tunnel address, sealed and sent (wireguard.tun)"},
	PassedOn:     {"passed_on", "sealed message of a peer to another one, passed on to it (peers[].relayTo)"},

	MultiBuffer:   {"multi_buffer", "of several descriptors, and either longer than 16 KiB or the worker had no buffer left for it"},
	ShortFrame:    {"short_frame", "shorter than its Ethernet header"},
	Tagged:        {"tagged", "carries a VLAN tag, and no attachment of that VLAN exists"},
	NotIP:         {"not_ip", "neither IPv4 nor IPv6"},
	BadOuterIP:    {"bad_outer_ip", "outer IP header with a wrong version or impossible lengths"},
	OuterChecksum: {"outer_checksum", "outer IPv4 header checksum is wrong"},
	OuterFragment: {"outer_fragment", "fragment that reached a worker: the XDP program leaves those for our addresses to the kernel, a moment after a change it may not know them yet"},
	NotOurs:       {"not_ours", "not to one of our addresses, on a port that routes nothing"},
	NotServed:     {"not_served", "to one of our addresses, but to no UDP port that we serve"},
	BadUDP:        {"bad_udp", "UDP header cut short, or its length contradicts the IP packet"},

	DirectStranger: {"direct_stranger", "on the UDP port of direct peers, from an address that is no direct peer's"},

	BadGeneve:      {"bad_geneve", "Geneve header cut short, of another version, or with a malformed option"},
	GeneveControl:  {"geneve_control", "Geneve control packet (O bit), which we do not speak"},
	CriticalOption: {"critical_option", "Geneve option marked critical that cannot be carried on"},
	BadVXLAN:       {"bad_vxlan", "VXLAN header cut short or without a VNI"},
	UnknownVTEP:    {"unknown_vtep", "from an outer address that the attachment does not trust (trustedVTEPs)"},
	UnknownVNI:     {"unknown_vni", "VNI of no VPC attached there"},
	BadInnerFrame:  {"bad_inner_frame", "inner Ethernet header cut short"},
	InnerNotIP:     {"inner_not_ip", "inner packet is neither IP nor an ARP request"},

	BadWireGuard:   {"bad_wireguard", "on the WireGuard port, but of no known type or of a wrong length"},
	HandshakeBusy:  {"handshake_busy", "handshake message, but the engine's queue was full"},
	HandshakeRate:  {"handshake_rate", "handshake message that came by way of the kernel (in fragments, say), past the XDP program's limits, and too many of them did"},
	UnknownIndex:   {"unknown_index", "WireGuard data for a session that we do not have"},
	BadAuth:        {"bad_auth", "WireGuard data that does not authenticate"},
	Replayed:       {"replayed", "WireGuard data whose counter was seen before or is too old"},
	SessionExpired: {"session_expired", "WireGuard data of a session past its lifetime"},
	UnknownPeer:    {"unknown_peer", "authentic, but the snapshot does not hold that peer (being removed)"},
	BadPayload:     {"bad_payload", "authentic, but inside is neither IPv4 nor IPv6"},

	BadInnerIP:       {"bad_inner_ip", "inner IP header with a wrong version or impossible lengths"},
	InnerChecksum:    {"inner_checksum", "inner IPv4 header checksum is wrong"},
	Martian:          {"martian", "inner source address that no host can have"},
	Multicast:        {"multicast", "inner destination is multicast, broadcast or link-local: not routed"},
	BadARP:           {"bad_arp", "ARP packet cut short or not for IPv4 over Ethernet"},
	BadND:            {"bad_nd", "neighbour solicitation or advertisement that breaks a rule of RFC 4861 section 7.1"},
	ARPNotOurs:       {"arp_not_ours", "ARP that neither asks for a gateway address of the VPC nor tells of a host that we learn"},
	NDNotOurs:        {"nd_not_ours", "neighbour discovery that neither asks for a gateway address nor tells of a host that we learn"},
	CongestionLost:   {"congestion_lost", "congestion mark on the outside of a packet that cannot carry it (RFC 6040)"},
	BadOption:        {"bad_option", "inner IPv4 options that contradict their own lengths"},
	SourceRouted:     {"source_routed", "the inner packet names the routers it wants to pass (IPv4 source route, IPv6 type 0 routing header): refused (RFC 7126, RFC 5095)"},
	SourceNotAllowed: {"source_not_allowed", "the peer may not be the source of that address in that VPC"},
	SpoofedSource:    {"spoofed_source", "from this site, but the VPC has no local route back to the source (vpcs[].sourceCheck)"},
	ACLDenied:        {"acl_denied", "a rule of the VPC's access list, or its default, refuses it (sluice acl)"},
	RateLimited:      {"rate_limited", "beyond a limit of the VPC, the peer or the port (sluice status says which)"},
	TinyFragment:     {"tiny_fragment", "fragment that hides or overwrites a transport header, in a VPC with an access list (RFC 1858, RFC 3128)"},
	BadTransport:     {"bad_transport", "transport header cut short, in a VPC with an access list"},
	InsideAddress:    {"inside_address", "from a peer, to the address that a translated host has at this site only"},
	OutsideAddress:   {"outside_address", "from or, at this site, to an address that translated hosts have at the other sites only"},
	TunnelMismatch:   {"tunnel_mismatch", "tunnel addresses are not those of the peer and of us"},
	NotForTransit:    {"not_for_transit", "came from a peer and would go to a peer"},
	RelayRefused:     {"relay_refused", "sealed message of a peer to another one, which may not pass through us (peers[].relayTo), or not so: through a second peer"},
	RelayNoMessage:   {"relay_no_message", "from a peer to the tunnel address of another one that it may exchange sealed messages with through us, and no such message"},
	RelayLimited:     {"relay_limited", "sealed message of a peer to another one, beyond what it may send through us (peers[].relayLimit)"},
	GatewayOnly:      {"gateway_only", "to an address of the gateway itself, which does not speak that protocol"},
	TTLExpired:       {"ttl_expired", "TTL or hop limit ran out here"},
	NoRoute:          {"no_route", "the VPC has no route to the destination"},
	TooBig:           {"too_big", "longer than the path's MTU"},
	EchoLimited:      {"echo_limited", "echo request to our tunnel address, beyond 1000 per second of one peer"},
	EchoLost:         {"echo_lost", "a peer's answer to a probe of the gateway's own, which was too busy to take it"},
	MessageLost:      {"message_lost", "a message of a peer's to the gateway itself, which was too busy to take it, or it was too long"},

	NoPeer:               {"no_peer", "the route's peer does not exist (being removed)"},
	NoTunnel:             {"no_tunnel", "the peer and we share no family of tunnel addresses, which the VPC needs"},
	NoEndpoint:           {"no_endpoint", "the peer's address is not known yet"},
	PeerUnresolved:       {"peer_unresolved", "probe or answer to a peer whose next hop has no neighbour entry yet: probes are sent again"},
	NoSession:            {"no_session", "no session with the peer came up in time"},
	NoHost:               {"no_host", "no host of the overlay answers for the destination"},
	VTEPUnresolved:       {"vtep_unresolved", "question for a host, to a VTEP that has no neighbour entry yet: it is asked again"},
	NoNeighbour:          {"no_neighbour", "the next hop does not answer"},
	NeighbourUnreachable: {"neighbour_unreachable", "the kernel has no route to the next hop"},
	ParkFull:             {"park_full", "too many packets wait for the same peer or neighbour"},
	ParkExpired:          {"park_expired", "waited too long for a neighbour"},
	NoPort:               {"no_port", "the route leads out of an interface that is no port of ours"},
	NoRoom:               {"no_room", "the frame has no room for the headers"},
	TxFull:               {"tx_full", "the port's transmit ring was full"},
	Stopped:              {"stopped", "was waiting when its worker or port was stopped"},
}

// String is the verdict's stable name.
func (v Verdict) String() string {
	if v < NumVerdicts {
		return verdicts[v].name
	}
	return "unknown"
}

// Explain says in one line what the verdict means.
func (v Verdict) Explain() string {
	if v < NumVerdicts {
		return verdicts[v].why
	}
	return "unknown verdict"
}

// Good says that the packet went where it should; all others are drops.
func (v Verdict) Good() bool { return v >= ToPeer && v <= PassedOn }

// Verdicts returns all verdicts that are counted, in the order above.
func Verdicts() []Verdict {
	all := make([]Verdict, 0, NumVerdicts-1)
	for v := pending + 1; v < NumVerdicts; v++ {
		all = append(all, v)
	}
	return all
}
