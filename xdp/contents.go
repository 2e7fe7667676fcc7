package xdp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// contents turns the state into map entries. slots has one for every interface of the state, hopSlots one for every hop.
func (s State) contents(slots map[int]uint32, hopSlots map[uint32]uint32) *contents {
	c := &contents{
		ports:   make(map[bpfPortKey]bpfPort, len(s.Ports)),
		local:   make(map[bpfAddress]uint32, len(s.Local)),
		peers:   make(map[bpfAddress]uint32, len(s.Peers)),
		udp:     make(map[bpfUdpPortKey]bpfService),
		vnis:    make(map[uint32]bpfVniFlags, len(s.VNIs)),
		routes4: make(map[bpfRoute4Key]bpfRoute),
		routes6: make(map[bpfRoute6Key]bpfRoute),
		hops:    make(map[uint32]bpfHop, len(s.Hops)),
		direct:  make(map[bpfAddress]uint32, len(s.DirectPeers)),
	}
	for _, p := range s.Ports {
		key := bpfPortKey{Ifindex: uint32(p.Ifindex), Vlan: p.VLAN, InnerVlan: p.InnerVLAN}
		c.ports[key] = bpfPort{Slot: slots[p.Ifindex], Vni: p.VNI, Flags: p.flags(), Mac: p.MAC}
	}
	for _, a := range s.Local {
		c.local[address(a)] = 1
	}
	for _, a := range s.Peers {
		c.peers[address(a)] = 1
	}
	for service, ports := range map[bpfService][]uint16{
		bpfServiceGENEVE: s.Geneve, bpfServiceVXLAN: s.VXLAN, bpfServiceWIREGUARD: s.WireGuard, bpfServiceDIRECT: s.Direct,
	} {
		for _, port := range ports {
			c.udp[bpfUdpPortKey{Port: bits.ReverseBytes16(port)}] = service
		}
	}
	for _, vni := range s.VNIs {
		c.vnis[vni] = bpfVniFlagsVNI_KNOWN
	}
	for _, vni := range s.Learn {
		c.vnis[vni] |= bpfVniFlagsVNI_LEARN
	}
	for _, vni := range s.Bounce {
		c.vnis[vni] |= bpfVniFlagsVNI_BOUNCE
	}
	for _, p := range s.DirectPeers {
		c.direct[address(p.Addr)] = p.ID
	}
	leadsTo := make(map[uint32]uint32, len(s.Hops)) // direct peer by hop
	for i := range s.Hops {
		h := &s.Hops[i]
		c.hops[hopSlots[h.ID]] = h.entry()
		leadsTo[h.ID] = h.Peer
	}
	to := func(d bpfDestination, p Prefix) bpfRoute {
		if p.Hop == 0 {
			return bpfRoute{Destination: d}
		}
		return bpfRoute{Destination: d, Hop: hopSlots[p.Hop], Peer: leadsTo[p.Hop]}
	}
	for _, r := range s.Remote {
		c.route(r.VNI, r.Prefix, to(bpfDestinationREMOTE, r))
	}
	for _, r := range s.Site { // after the remote prefixes: the same prefix is this site's
		c.route(r.VNI, r.Prefix, to(bpfDestinationNOWHERE, r))
	}
	for _, r := range s.Groups { // no host has such an address
		c.route(r.VNI, r.Prefix, bpfRoute{Destination: bpfDestinationGROUP})
	}
	for _, g := range s.Gateways { // after the prefixes: the same host route is the gateway's
		addr := g.Addr.Unmap()
		c.route(g.VNI, netip.PrefixFrom(addr, addr.BitLen()), bpfRoute{Destination: bpfDestinationGATEWAY})
	}
	return c
}

func (p Port) flags() bpfPortFlags {
	var flags bpfPortFlags
	if p.Overlay {
		flags |= bpfPortFlagsPORT_OVERLAY
	}
	if p.Routed {
		flags |= bpfPortFlagsPORT_ROUTED
	}
	if p.Virtual {
		flags |= bpfPortFlagsPORT_VIRTUAL
	}
	return flags
}

const vniBits = 32 // of the VNI in the keys of the routes, in front of the prefix

func (c *contents) route(vni uint32, prefix netip.Prefix, r bpfRoute) {
	length := vniBits + uint32(prefix.Bits())
	wire := bits.ReverseBytes32(vni)
	if a := address(prefix.Addr()); prefix.Addr().Is4() {
		c.routes4[bpfRoute4Key{PrefixLen: length, Vni: wire, Addr: a.Word[0]}] = r
	} else {
		c.routes6[bpfRoute6Key{PrefixLen: length, Vni: wire, Addr: a.Word}] = r
	}
}

// address puts an address into the order of the wire. Zones do not count: the program does not tell links apart.
func address(a netip.Addr) bpfAddress {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return bpfAddress{Family: familyIPv4, Word: [4]uint32{binary.NativeEndian.Uint32(b[:])}}
	}
	b := a.As16()
	out := bpfAddress{Family: familyIPv6}
	for i := range out.Word {
		out.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

// enum family in bpf/shared.h.
const (
	familyIPv4 = 4
	familyIPv6 = 6
)
