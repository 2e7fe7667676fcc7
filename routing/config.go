package routing

import (
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/routing/bfd"
)

// Config is everything that a Router does. Set takes the whole of it, and owns it from then on.
type Config struct {
	ASN      uint32
	RouterID netip.Addr // IPv4
	// MaxPaths is how many equally good next hops of a prefix are used; 0 means 1.
	MaxPaths int
	Ports    []Port
	VPCs     []VPC
	// Gateways are the peers that EVPN routes may lead to.
	Gateways []Gateway
	// Leaving: we are about to go, and routers are to use others.
	Leaving Leaving
}

// Port is an interface with neighbours behind it.
type Port struct {
	Name string
	// EVPN: the neighbours are gateways, in the tunnels, and what passes are EVPN routes of all VPCs (RFC 9136). VPC is
	// empty, and Addresses are our tunnel addresses.
	EVPN bool
	// Fabric are the VPCs whose overlay is behind the port: the neighbours are its VTEPs or route reflectors, what passes are
	// EVPN routes too (fabric.go), and VPC is empty.
	Fabric []FabricVPC
	// ASN is ours on this port; 0: Config.ASN.
	ASN uint32
	// Ifindex tells an interface from another that had the same name before.
	Ifindex uint32
	// Device binds sockets to the interface Name. Without it they listen on ListenOn, for tests.
	Device bool
	// ListenOn are the addresses to listen on; none: all. ListenPort is the TCP port; 0: 179.
	ListenOn   []netip.Addr
	ListenPort uint16
	// Addresses of the interface: the next hops of what we announce.
	Addresses  []netip.Addr
	VPC        string
	Neighbours []Neighbour
	// KeepsForwarding: what the neighbours send us is forwarded also while there is no process, so they are asked to go on
	// (RFC 4724, as the one who restarts). Restarted: a process before us has left it so.
	KeepsForwarding, Restarted bool
}

// asn is ours on the port.
func (p *Port) asn(otherwise uint32) uint32 {
	if p.ASN != 0 {
		return p.ASN
	}
	return otherwise
}

// address is the port's first of another's family; invalid without.
func (p *Port) address(other netip.Addr) netip.Addr {
	for _, a := range p.Addresses {
		if a.Is4() == other.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// Neighbour is a router, or all routers of a range of addresses.
type Neighbour struct {
	Name string
	// Address of the router; invalid for a range.
	Address netip.Addr
	// Range: any router of these addresses may call; we call none.
	Range netip.Prefix
	// ASN of the router. For a range it may be 0 with ASNs in its place.
	ASN uint32
	// ASNs that routers of a range may have.
	ASNs []ASNRange
	// Port is the router's TCP port; 0: 179.
	Port uint16
	// Passive: we do not call, the router does.
	Passive  bool
	Password Secret // of TCP MD5 (RFC 2385); empty: none
	// TTLSecurity (RFC 5082): only packets that crossed no router are taken.
	TTLSecurity bool
	// Hold time, whole seconds; keepalives are sent three times as often. 0: 90 s.
	Hold time.Duration
	// ConnectRetry is how long we wait between calls; 0: 10 s.
	ConnectRetry time.Duration
	// MaxPrefixes of each family; the session ends when there are more. 0: any number.
	MaxPrefixes uint32
	// Import and Export say which routes pass; nil lets none pass (RFC 8212).
	Import, Export *Policy
	// Restart (RFC 4724) is how long routes are kept while the router restarts; 0: not at all. LongLived (RFC 9494)
	// is how long after that they are kept, as last resort.
	Restart, LongLived time.Duration
	// BFD (RFC 5880) watches the router; nil: does not.
	BFD *bfd.Session
	// Client (RFC 4456): this gateway is told what the others announce, and they what it does. Reflector: it tells us so.
	// NextHops are those that a client's routes may have.
	Client, Reflector bool
	NextHops          []netip.Addr
}

// ASNRange is First to Last, both included.
type ASNRange struct{ First, Last uint32 }

// VPC is what the neighbours of a VPC are told, and what they may not tell us.
type VPC struct {
	Name string
	// Export are the prefixes that other sites have.
	Export []netip.Prefix
	// Silent: they are told nothing at all. Spare: what routers are told is worse than what any other gateway of ours says (an
	// incomplete origin, and the worst MED), so that they know of it but do not use it.
	Silent, Spare bool
	// Reserved are prefixes that a site may not announce, nor anything that overlaps them.
	Reserved []Reserved
	// Static are prefixes that the configuration gives to the site: the same ones are not taken from BGP.
	Static []netip.Prefix
	// EVPN is how gateways are told of the VPC.
	EVPN VPCEVPN
}

// Reserved is a prefix that belongs to somebody else.
type Reserved struct {
	Prefix netip.Prefix
	Whose  string // "prefix of peer bergen-1"
	// Peer: it is a peer's, so that peers may announce it.
	Peer bool
}

// Secret is a password that no printing, logging or encoding shows.
type Secret struct{ text string }

// NewSecret keeps text.
func NewSecret(text string) Secret { return Secret{text} }

func (s Secret) String() string {
	if s.text == "" {
		return "none"
	}
	return "(secret)"
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
