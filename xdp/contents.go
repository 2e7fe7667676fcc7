package xdp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// contents turns the state into map entries. slots has one for every interface of the state.
func (s State) contents(slots map[int]uint32) *contents {
	c := &contents{
		ports:   make(map[bpfPortKey]bpfPort, len(s.Ports)),
		local:   make(map[bpfAddress]uint32, len(s.Local)),
		peers:   make(map[bpfAddress]uint32, len(s.Peers)),
		udp:     make(map[bpfUdpPortKey]bpfService),
		vnis:    make(map[uint32]bpfVniFlags, len(s.VNIs)),
		routes4: make(map[bpfRoute4Key]bpfDestination),
		routes6: make(map[bpfRoute6Key]bpfDestination),
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
		bpfServiceGENEVE: s.Geneve, bpfServiceVXLAN: s.VXLAN, bpfServiceWIREGUARD: s.WireGuard,
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
	for _, r := range s.Remote {
		c.route(r.VNI, r.Prefix, bpfDestinationREMOTE)
	}
	for _, r := range s.Site { // after the remote prefixes: the same prefix is this site's
		c.route(r.VNI, r.Prefix, bpfDestinationNOWHERE)
	}
	for _, r := range s.Groups { // no host has such an address
		c.route(r.VNI, r.Prefix, bpfDestinationGROUP)
	}
	for _, g := range s.Gateways { // after the prefixes: the same host route is the gateway's
		addr := g.Addr.Unmap()
		c.route(g.VNI, netip.PrefixFrom(addr, addr.BitLen()), bpfDestinationGATEWAY)
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
	return flags
}

const vniBits = 32 // of the VNI in the keys of the routes, in front of the prefix

func (c *contents) route(vni uint32, prefix netip.Prefix, d bpfDestination) {
	length := vniBits + uint32(prefix.Bits())
	wire := bits.ReverseBytes32(vni)
	if a := address(prefix.Addr()); prefix.Addr().Is4() {
		c.routes4[bpfRoute4Key{PrefixLen: length, Vni: wire, Addr: a.Word[0]}] = d
	} else {
		c.routes6[bpfRoute6Key{PrefixLen: length, Vni: wire, Addr: a.Word}] = d
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
