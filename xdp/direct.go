package xdp

import (
	"errors"
	"fmt"
	"net/netip"
)

// DefaultDirectPort is the UDP port that gateways use between them for what is not encrypted: the one behind WireGuard's.
const DefaultDirectPort uint16 = 51821

// Limits of what the program forwards by itself, as in bpf/shared.h.
const (
	MaxHops        = 8192
	MaxDirectPeers = 4096 // outer addresses
)

// DirectPeer is an outer address of a gateway that speaks without encryption. Packets to a UDP port of State.Direct are
// taken from such addresses only.
type DirectPeer struct {
	ID   uint32     // not 0; a peer may have several addresses
	Addr netip.Addr // zones are ignored
}

// HopKind is what the program writes in front of a packet.
type HopKind uint8

// The kinds of hops.
const (
	ToPeer   HopKind = iota + 1 // Ethernet, IP, UDP, Geneve: another gateway
	ToVXLAN                     // Ethernet, IP, UDP, VXLAN, Ethernet: a host behind a VTEP
	ToGeneve                    // Ethernet, IP, UDP, Geneve, Ethernet: the same
	ToRouted                    // Ethernet: a neighbour on a routed port
)

// String is the kind's name in errors.
func (k HopKind) String() string {
	switch k {
	case ToPeer:
		return "peer"
	case ToVXLAN:
		return "vxlan"
	case ToGeneve:
		return "geneve"
	case ToRouted:
		return "routed"
	}
	return "unknown"
}

// Hop is a place that the program forwards packets of one VPC to by itself, and everything it has to write in front of
// them. A packet that needs more than that goes to the relay.
type Hop struct {
	// ID is what Prefix.Hop and HopCounters call it; not 0. An ID that a State has again may have become another place.
	ID   uint32
	Kind HopKind
	VNI  uint32 // the VPC, in this site's numbering
	Peer uint32 // ToPeer: the DirectPeer's ID, else 0

	// Ifindex is the interface that packets leave through; 0: not resolved, packets go to the relay.
	Ifindex int
	// SrcMAC and DstMAC are those of the outer Ethernet header: the interface's and the next hop's.
	SrcMAC, DstMAC [6]byte
	// MTU is the longest inner IP packet, in bytes, that fits. Longer ones go to the relay.
	MTU int
	// NoClamp leaves the MSS that TCP announces alone; else it is lowered to what MTU of both ends allows.
	NoClamp bool
	// MaxMSS lowers the announced MSS further, to at most this, in bytes. 0: no further.
	MaxMSS uint16

	// Src and Dst are the outer IP addresses, both IPv4 or both IPv6. Not for ToRouted.
	Src, Dst netip.Addr
	// UDPPort is the outer destination port; the source port is chosen by the inner flow. Not for ToRouted.
	UDPPort uint16
	// RemoteVNI is the VNI that is written: in the receiver's numbering. Not for ToRouted.
	RemoteVNI uint32
	// InnerSrc and InnerDst are the MACs of the inner Ethernet header: the gateway's and the host's. ToVXLAN, ToGeneve.
	InnerSrc, InnerDst [6]byte
}

// Resolved says whether the hop is complete; the others' packets go to the relay.
func (h *Hop) Resolved() bool { return h.Ifindex != 0 }

func (v *validation) direct(s State) {
	peers := make(map[uint32]bool)
	byAddr := make(map[netip.Addr]int)
	v.limit("direct peers", len(s.DirectPeers), MaxDirectPeers)
	for i, p := range s.DirectPeers {
		if p.ID == 0 {
			v.bad("direct peers[%d] id: missing", i)
		}
		peers[p.ID] = true
		if err := checkHost(p.Addr); err != nil {
			v.bad("direct peers[%d] addr: %w", i, err)
		}
		addr := p.Addr.Unmap().WithZone("")
		if first, ok := byAddr[addr]; ok && s.DirectPeers[first].ID != p.ID {
			v.bad("direct peers[%d] addr: %s is also that of direct peers[%d]", i, addr, first)
		}
		byAddr[addr] = i
	}
	ids := make(map[uint32]int)
	v.limit("hops", len(s.Hops), MaxHops)
	for i := range s.Hops {
		h := &s.Hops[i]
		if first, ok := ids[h.ID]; ok {
			v.bad("hops[%d] id: %d is also that of hops[%d]", i, h.ID, first)
		}
		ids[h.ID] = i
		for _, err := range h.problems(peers) {
			v.bad("hops[%d] %w", i, err)
		}
	}
	v.hopsOf("remote", s.Remote, s.Hops, ids)
	v.hopsOf("site", s.Site, s.Hops, ids)
	for i, r := range s.Groups {
		if r.Hop != 0 {
			v.bad("groups[%d] hop: the relay copies packets to groups", i)
		}
	}
}

// hopsOf checks what prefixes say of their hops.
func (v *validation) hopsOf(name string, prefixes []Prefix, hops []Hop, ids map[uint32]int) {
	for i, r := range prefixes {
		if r.Hop == 0 {
			continue
		}
		at, ok := ids[r.Hop]
		if !ok {
			v.bad("%s[%d] hop: %d is none of hops", name, i, r.Hop)
			continue
		}
		h := &hops[at]
		if h.VNI != r.VNI {
			v.bad("%s[%d] hop: %d is one of vni %d, not %d", name, i, r.Hop, h.VNI, r.VNI)
		}
		if (h.Kind == ToPeer) != (name == "remote") {
			v.bad("%s[%d] hop: %d is of kind %s", name, i, r.Hop, h.Kind)
		}
	}
}

func (h *Hop) problems(peers map[uint32]bool) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if h.ID == 0 {
		bad("id: missing")
	}
	if h.Kind < ToPeer || h.Kind > ToRouted {
		bad("kind: %d is none", h.Kind)
	}
	if h.VNI > maxVNI {
		bad("vni: %d has more than 24 bits", h.VNI)
	}
	switch {
	case h.Kind == ToPeer && !peers[h.Peer]:
		bad("peer: %d is none of direct peers", h.Peer)
	case h.Kind != ToPeer && h.Peer != 0:
		bad("peer: set for kind %s", h.Kind)
	}
	if h.Ifindex < 0 || h.Ifindex > 1<<31-1 {
		bad("ifindex: %d is no interface index", h.Ifindex)
	}
	if !h.Resolved() {
		return errs
	}
	if h.MTU < minHopMTU || h.MTU > maxHopMTU {
		bad("mtu: %d is not in %d..%d", h.MTU, minHopMTU, maxHopMTU)
	}
	macs := map[string][6]byte{"src mac": h.SrcMAC, "dst mac": h.DstMAC}
	if h.Kind == ToVXLAN || h.Kind == ToGeneve {
		macs["inner src mac"], macs["inner dst mac"] = h.InnerSrc, h.InnerDst
	}
	for _, name := range []string{"src mac", "dst mac", "inner src mac", "inner dst mac"} {
		if mac, ok := macs[name]; ok {
			if err := checkMAC(mac); err != nil {
				bad("%s: %w", name, err)
			}
		}
	}
	if h.Kind != ToRouted {
		errs = append(errs, h.tunnelProblems()...)
	}
	return errs
}

// Bounds of Hop.MTU: what IPv4 asks of every link (RFC 791), and what a 16-bit length leaves beside the headers.
const (
	minHopMTU = 68
	maxHopMTU = 65535 - 128
)

func (h *Hop) tunnelProblems() (errs []error) {
	src, dst := h.Src.Unmap(), h.Dst.Unmap()
	if err := checkHost(src); err != nil {
		errs = append(errs, fmt.Errorf("src: %w", err))
	}
	if err := checkHost(dst); err != nil {
		errs = append(errs, fmt.Errorf("dst: %w", err))
	}
	if src.IsValid() && dst.IsValid() && src.Is4() != dst.Is4() {
		errs = append(errs, fmt.Errorf("dst: %s is not of the family of src %s", dst, src))
	}
	if h.UDPPort == 0 {
		errs = append(errs, errors.New("udp port: missing"))
	}
	if h.RemoteVNI > maxVNI {
		errs = append(errs, fmt.Errorf("remote vni: %d has more than 24 bits", h.RemoteVNI))
	}
	return errs
}

func checkMAC(mac [6]byte) error {
	switch {
	case mac == [6]byte{}:
		return errors.New("missing")
	case mac[0]&1 != 0:
		return fmt.Errorf("%x is a group's", mac)
	}
	return nil
}
