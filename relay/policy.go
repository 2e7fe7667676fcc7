package relay

import (
	"net/netip"
)

// What a VPC lets through is decided in one place, between the checks of the
// inner packet and the way to its next hop: lookup.go calls police, which asks
// the access list (acl.go) and the limits (limit.go); what goes to a peer is held against
// that peer's limits when it is about to be sealed. A VPC without any policy has none of this: police is
// one branch then, on a pointer beside the gateway addresses that are compared
// anyway.
//
// ARP, neighbour discovery and what the relay makes itself (ICMP errors,
// answers) are not subject to policy; packets to a gateway address are.

// Direction is which way a packet crosses the gateway: by where it comes from,
// so that every packet has exactly one.
type Direction uint8

// The directions.
const (
	BothDirections    Direction = iota
	DirectionFromSite           // came through an attachment
	DirectionToSite             // came from a peer
)

// String is the word used in the configuration.
func (d Direction) String() string {
	switch d {
	case BothDirections:
		return "both"
	case DirectionFromSite:
		return "fromSite"
	case DirectionToSite:
		return "toSite"
	}
	return "unknown"
}

// directions is how many there are. As an index, a direction is the origin of
// its packets: fromSite or fromPeer.
const directions = 2

// covers says whether the direction includes that of a packet of this origin.
func (d Direction) covers(o origin) bool {
	return d == BothDirections || d == DirectionFromSite && o == fromSite || d == DirectionToSite && o == fromPeer
}

// ACLAction is what becomes of a packet that a rule matches.
type ACLAction uint8

// The actions.
const (
	Allow  ACLAction = iota
	Deny             // without a word
	Reject           // with an ICMP error: administratively prohibited
)

// String is the word used in the configuration.
func (a ACLAction) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	case Reject:
		return "reject"
	}
	return "unknown"
}

// ACL is the access list of a VPC: the first rule that matches decides. The
// zero value allows everything.
type ACL struct {
	Rules   []ACLRule
	Default ACLAction // for what no rule matches
}

// ACLRule matches packets that satisfy all of its fields; an empty field is
// satisfied by any. It has no memory of other packets.
//
// A field about what is behind the IP header (ports, ICMP, Established) is never
// satisfied by a packet that does not carry it: by a later fragment, or by a
// protocol behind a header that we do not know.
type ACLRule struct {
	// ID tells rules of a VPC apart. A rule's counters go on for as long as
	// there is one with its ID in the VPC.
	ID          string
	Action      ACLAction
	Direction   Direction
	Source      []netip.Prefix
	Destination []netip.Prefix
	// Protocol is the number of what follows the IP header and IPv6's
	// extension headers; 0 is any.
	Protocol         uint8
	SourcePorts      []PortRange // only with TCP or UDP
	DestinationPorts []PortRange // only with TCP or UDP
	ICMP             []ICMPMatch // only with ICMP or ICMPv6
	// Established is satisfied by TCP segments with ACK or RST: all but the
	// one that opens a connection. Only with TCP.
	Established bool
}

// PortRange is both ends and what is between.
type PortRange struct{ First, Last uint16 }

// ICMPMatch is a type of message, with one code or any.
type ICMPMatch struct {
	Type    uint8
	Code    uint8
	AnyCode bool
}

// policy is what applies to a VPC's packets; nil: nothing does.
type policy struct {
	acl    *acl              // nil: everything may pass
	limits [directions]int32 // numbers of limiters, 0: none
	peers  bool              // some peer is limited in what it sends
}

// policy compiles that of a VPC.
func (c *compiler) policy(v *VPC) *policy {
	p := policy{acl: c.acl(v), limits: c.limits(MeterKey{Kind: VPCLimitMeter, ID: v.VNI}, v.Limits), peers: c.out.metered}
	if p == (policy{}) {
		return nil
	}
	return &p
}

// limits gives those of both directions their numbers.
func (c *compiler) limits(key MeterKey, l Limits) (numbers [directions]int32) {
	key.Direction = DirectionFromSite
	numbers[fromSite] = c.limiter(key, l.FromSite)
	key.Direction = DirectionToSite
	numbers[fromPeer] = c.limiter(key, l.ToSite)
	return numbers
}

// police applies a VPC's policy to a packet that came in, and what limits its
// peer. It says whether the packet lives.
func (w *worker) police(f *frame, p *policy) bool {
	if p.acl != nil && !w.filter(f, p.acl) {
		return false
	}
	if n := p.limits[f.origin]; n != 0 && !w.within(n, f.ip.TOS, f.ip.Len) {
		w.drop(f, RateLimited)
		return false
	}
	if p.peers && f.origin == fromPeer {
		if n := w.state.peers[f.peer].limits[fromPeer]; n != 0 && !w.within(n, f.ip.TOS, f.ip.Len) {
			w.drop(f, RateLimited)
			return false
		}
	}
	return true
}

// shape holds a packet that is about to be sealed, which adds so many bytes, or
// sent to a direct peer, against the limits of its peer and of the port that leads there. It says whether the packet lives.
func (w *worker) shape(f *frame, peer *peerState, adj *adjacency, sealing int) bool {
	if n := peer.limits[fromSite]; n != 0 && !w.within(n, f.ip.TOS, f.ip.Len) {
		w.drop(f, RateLimited)
		return false
	}
	port := w.queueOf(adj).port
	if port < 0 {
		return true
	}
	if n := w.state.ports[port].toPeers; n != 0 && !w.within(n, f.ip.TOS, f.end-f.off+sealing+adj.headers.overhead()) {
		w.drop(f, RateLimited)
		return false
	}
	return true
}
