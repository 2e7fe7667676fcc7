package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// UDP ports by common agreement: IANA's for Geneve and VXLAN, and what Linux used for VXLAN before there was one.
const (
	DefaultGenevePort uint16 = 6081
	DefaultVXLANPort  uint16 = 4789
	LegacyVXLANPort   uint16 = 8472
)

// Limits of a State, as in bpf/shared.h. They bound what a faulty control plane can take of the kernel's memory; entries
// cost memory only when they are there.
const (
	MaxInterfaces = 32     // different Ifindexes among the ports
	MaxQueues     = 64     // per interface
	MaxPorts      = 1024   // interfaces and VLANs
	MaxLocal      = 1024   // outer addresses
	MaxPeers      = 16384  // outer addresses of peers
	MaxUDPPorts   = 256    // Geneve, VXLAN, WireGuard and Direct together
	MaxVNIs       = 4096   //
	MaxRoutes     = 100000 // of each address family: prefixes and gateway addresses together
	maxVNI        = 1<<24 - 1
	maxVLAN       = 4094
)

// State is everything the program decides by. SetState replaces the whole of it; the zero State passes every packet.
type State struct {
	Ports     []Port       // by (Ifindex, VLAN, InnerVLAN), no two alike
	Local     []netip.Addr // our outer addresses: WireGuard and overlay packets must be for one of them; zones are ignored
	Geneve    []uint16     // UDP ports of Geneve, usually DefaultGenevePort
	VXLAN     []uint16     // UDP ports of VXLAN, usually DefaultVXLANPort and LegacyVXLANPort
	WireGuard []uint16     // UDP ports of WireGuard, taken on every port
	Direct    []uint16     // UDP ports of direct peers, usually DefaultDirectPort, taken on every port
	Peers     []netip.Addr // outer addresses that peers are known to have: no flood of handshakes shuts them out
	VNIs      []uint32     // what overlay packets may carry
	Learn     []uint32     // of these: whose hosts' announcements (gratuitous ARP, unsolicited advertisements) are diverted
	Bounce    []uint32     // of these: whose hosts' ARP requests for addresses of Remote are diverted
	Remote    []Prefix     // what other sites have; the longest prefix of Remote, Site and Gateways wins
	Site      []Prefix     // what this site has: carves out of a shorter Remote what passes; wins over the same Remote
	Groups    []Prefix     // multicast groups that are carried to other sites
	Gateways  []Gateway    // addresses inside VPCs that the relay answers for; they win over prefixes of full length

	DirectPeers []DirectPeer // who may send to Direct
	Hops        []Hop        // what Remote and Site may name
}

// Port is an interface, or a VLAN on it. An interface with several VLANs has several Ports and one set of sockets.
//
// The program sees tags only where the NIC leaves them in the packet: turn the offload off (ethtool -K eth0 rxvlan off),
// or packets of all VLANs look untagged.
type Port struct {
	Ifindex   int
	VLAN      uint16  // VLAN id 1..4094; 0: untagged and priority-tagged packets
	InnerVLAN uint16  // the second tag's VLAN id; 0: none
	Queues    int     // sockets may be set for queues 0..Queues-1; 0: MaxQueues
	Overlay   bool    // Geneve and VXLAN packets are looked into
	Routed    bool    // plain IP packets for remote prefixes of VNI are diverted
	VNI       uint32  // of the routed attachment
	Virtual   bool    // a virtual link: packets may come with unfinished checksums, which only the relay can finish
	MAC       [6]byte // of the interface: packets for other MACs are passed
}

// Prefix is a prefix inside the VPC with this VNI.
type Prefix struct {
	VNI    uint32
	Prefix netip.Prefix // masked
	// Hop is the ID of a Hop of the same VNI: of kind ToPeer in Remote, of another in Site. 0: packets go to the relay. Of
	// packets from a direct peer, the source must lie in a prefix of Remote with a hop to that peer.
	Hop uint32
}

// Gateway is an address inside the VPC with this VNI that the relay answers for.
type Gateway struct {
	VNI  uint32
	Addr netip.Addr
}

// Validate reports everything that is wrong with the state, each with the name of the field.
func (s State) Validate() error {
	v := &validation{}
	v.ports(s.Ports)
	v.hosts("local", s.Local, MaxLocal)
	v.hosts("peers", s.Peers, MaxPeers)
	v.udp(s)
	v.limit("vnis", len(s.VNIs), MaxVNIs)
	for i, vni := range s.VNIs {
		if vni > maxVNI {
			v.bad("vnis[%d]: %d has more than 24 bits", i, vni)
		}
	}
	for i, vni := range s.Learn {
		if !slices.Contains(s.VNIs, vni) {
			v.bad("learn[%d]: %d is none of vnis", i, vni)
		}
	}
	for i, vni := range s.Bounce {
		if !slices.Contains(s.VNIs, vni) {
			v.bad("bounce[%d]: %d is none of vnis", i, vni)
		}
	}
	v.routes(s)
	v.direct(s)
	return errors.Join(v.errs...)
}

type validation struct{ errs []error }

func (v *validation) bad(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

func (v *validation) limit(name string, n, limit int) {
	if n > limit {
		v.bad("%s: %d of at most %d", name, n, limit)
	}
}

func (v *validation) hosts(name string, addrs []netip.Addr, limit int) {
	v.limit(name, len(addrs), limit)
	for i, a := range addrs {
		if err := checkHost(a); err != nil {
			v.bad("%s[%d]: %w", name, i, err)
		}
	}
}

func (v *validation) ports(ports []Port) {
	type key struct {
		ifindex         int
		vlan, innerVLAN uint16
	}
	seen := make(map[key]int)
	interfaces := make(map[int]bool)
	v.limit("ports", len(ports), MaxPorts)
	for i, p := range ports {
		interfaces[p.Ifindex] = true
		k := key{p.Ifindex, p.VLAN, p.InnerVLAN}
		if first, ok := seen[k]; ok {
			v.bad("ports[%d]: same interface and vlan as ports[%d]", i, first)
		}
		seen[k] = i
		for _, err := range p.problems() {
			v.bad("ports[%d] %w", i, err)
		}
	}
	v.limit("ports: interfaces", len(interfaces), MaxInterfaces)
}

func (p Port) problems() (errs []error) {
	if p.Ifindex < 1 || p.Ifindex > 1<<31-1 {
		errs = append(errs, fmt.Errorf("ifindex: %d is no interface index", p.Ifindex))
	}
	if p.VLAN > maxVLAN {
		errs = append(errs, fmt.Errorf("vlan: %d is above %d", p.VLAN, maxVLAN))
	}
	if p.InnerVLAN > maxVLAN {
		errs = append(errs, fmt.Errorf("inner vlan: %d is above %d", p.InnerVLAN, maxVLAN))
	}
	if p.InnerVLAN != 0 && p.VLAN == 0 {
		errs = append(errs, errors.New("inner vlan: set without vlan"))
	}
	if p.Queues < 0 || p.Queues > MaxQueues {
		errs = append(errs, fmt.Errorf("queues: %d is not in 0..%d", p.Queues, MaxQueues))
	}
	if p.VNI > maxVNI {
		errs = append(errs, fmt.Errorf("vni: %d has more than 24 bits", p.VNI))
	}
	if err := checkMAC(p.MAC); err != nil {
		errs = append(errs, fmt.Errorf("mac: %w", err))
	}
	return errs
}

func (v *validation) udp(s State) {
	seen := make(map[uint16]string)
	v.limit("udp ports", len(s.Geneve)+len(s.VXLAN)+len(s.WireGuard)+len(s.Direct), MaxUDPPorts)
	for _, service := range []struct {
		name  string
		ports []uint16
	}{{"geneve", s.Geneve}, {"vxlan", s.VXLAN}, {"wireguard", s.WireGuard}, {"direct", s.Direct}} {
		for i, port := range service.ports {
			if other, ok := seen[port]; ok && other != service.name {
				v.bad("%s[%d]: udp port %d is also in %s", service.name, i, port, other)
			}
			if port == 0 {
				v.bad("%s[%d]: udp port 0", service.name, i)
			}
			seen[port] = service.name
		}
	}
}

func (v *validation) routes(s State) {
	var n4, n6 int
	tally := func(is4 bool) {
		if is4 {
			n4++
		} else {
			n6++
		}
	}
	for _, field := range []struct {
		name     string
		prefixes []Prefix
	}{{"remote", s.Remote}, {"site", s.Site}, {"groups", s.Groups}} {
		for i, r := range field.prefixes {
			if r.VNI > maxVNI {
				v.bad("%s[%d] vni: %d has more than 24 bits", field.name, i, r.VNI)
			}
			switch p := r.Prefix; {
			case !p.IsValid():
				v.bad("%s[%d] prefix: missing or invalid", field.name, i)
			case p.Addr().Is4In6():
				v.bad("%s[%d] prefix: %s is IPv4 written as IPv6", field.name, i, p)
			case p != p.Masked():
				v.bad("%s[%d] prefix: %s has host bits, write %s", field.name, i, p, p.Masked())
			}
			if field.name == "groups" && r.Prefix.IsValid() && !r.Prefix.Addr().IsMulticast() {
				v.bad("groups[%d] prefix: %s is not multicast", i, r.Prefix)
			}
			tally(r.Prefix.Addr().Is4())
		}
	}
	for i, g := range s.Gateways {
		if g.VNI > maxVNI {
			v.bad("gateways[%d] vni: %d has more than 24 bits", i, g.VNI)
		}
		if err := checkHost(g.Addr); err != nil {
			v.bad("gateways[%d] addr: %w", i, err)
		}
		tally(g.Addr.Unmap().Is4())
	}
	v.limit("remote, site and gateways, ipv4", n4, MaxRoutes)
	v.limit("remote, site and gateways, ipv6", n6, MaxRoutes)
}

func checkHost(a netip.Addr) error {
	switch a = a.Unmap(); {
	case !a.IsValid():
		return errors.New("missing")
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is no host's address", a)
	}
	return nil
}
