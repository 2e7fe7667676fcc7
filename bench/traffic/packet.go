package traffic

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

const tunnelLen = packet.VXLANLen // Geneve's is as long

// offsets of the headers in a frame.
type offsets struct {
	outerIP, tunnel, ethernet, ip, udp, stamp int
}

func (f Flow) offsets() (o offsets) {
	if f.Format != Plain {
		o.outerIP = packet.EthernetLen
		o.tunnel = o.outerIP + ipLen(f.Outer.Src) + packet.UDPLen
		o.ethernet = o.tunnel + tunnelLen
	}
	o.ip = o.ethernet
	if f.Format != GeneveIP {
		o.ip += packet.EthernetLen
	}
	o.udp = o.ip + ipLen(f.Inner.Src)
	o.stamp = o.udp + packet.UDPLen
	return o
}

func ipLen(a netip.Addr) int {
	if a.Is4() {
		return packet.IPv4Len
	}
	return packet.IPv6Len
}

// stamp is struct stamp of bpf/stamp.h.
type stamp struct {
	flow uint16
	seq  uint32
	time uint64
}

func (s stamp) put(b []byte) {
	_ = b[stampLen-1]
	binary.LittleEndian.PutUint16(b[0:], stampMagic)
	binary.LittleEndian.PutUint16(b[2:], s.flow)
	binary.LittleEndian.PutUint32(b[4:], s.seq)
	binary.LittleEndian.PutUint64(b[8:], s.time)
}

// frame makes one frame of a flow: what the program has to make, and the source of its tables.
func (f Flow) frame(s stamp, size int) []byte {
	o, c := f.offsets(), f.choose(int(s.flow))
	b := make([]byte, o.ip+size)
	inner := f.Inner
	inner.Src = f.Sources.nth(inner.Src, c.src)
	inner.Dst = f.Destinations.nth(inner.Dst, c.dst)
	inner.SrcPort += uint16(c.port)

	if f.Format != GeneveIP {
		packet.PutEthernet(b[o.ethernet:], inner.DstMAC, inner.SrcMAC, etherType(inner.Src))
	}
	s.put(b[o.stamp:])
	inner.put(b[o.ip:])
	packet.PutTransportChecksum(b[o.ip:], o.udp-o.ip, packet.ProtoUDP)

	vni := uint32(f.VNI + c.vni)
	switch f.Format {
	case Plain:
		return b
	case VXLAN:
		packet.PutVXLAN(b[o.tunnel:], vni)
	case Geneve:
		packet.PutGeneve(b[o.tunnel:], packet.TypeEthernet, vni, 0, false)
	case GeneveIP:
		packet.PutGeneve(b[o.tunnel:], etherType(inner.Src), vni, 0, false)
	}
	outer := f.Outer
	if outer.SrcPort == 0 {
		// Of the dynamic range, as RFC 7348 section 5 asks; the golden ratio spreads neighbours.
		outer.SrcPort = 0xc000 | uint16(uint32(s.flow)*0x9e3779b1>>18)
	}
	packet.PutEthernet(b, outer.DstMAC, outer.SrcMAC, etherType(outer.Src))
	outer.put(b[o.outerIP:]) // its UDP checksum is zero: RFC 7348, RFC 6935
	return b
}

// put writes IP and UDP headers around what b holds behind them. The UDP checksum stays zero.
func (l Layer) put(b []byte) {
	if l.Src.Is4() {
		packet.PutIPv4(b, 0, len(b), 64, packet.ProtoUDP, l.Src.As4(), l.Dst.As4())
	} else {
		packet.PutIPv6(b, 0, 0, len(b)-packet.IPv6Len, 64, packet.ProtoUDP, l.Src.As16(), l.Dst.As16())
	}
	at := ipLen(l.Src)
	packet.PutUDP(b[at:], l.SrcPort, l.DstPort, len(b)-at)
}

// nth is the n-th address after the first.
func (s Spread) nth(first netip.Addr, n int) netip.Addr {
	b := first.AsSlice()
	word := b[s.word():]
	binary.BigEndian.PutUint32(word, binary.BigEndian.Uint32(word)+uint32(n)<<(32-wordBits(s.Bits)))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// word is where in the address the changing word begins.
func (s Spread) word() int { return (s.Bits - 1) / 32 * 4 }

func etherType(a netip.Addr) uint16 {
	if a.Is4() {
		return packet.TypeIPv4
	}
	return packet.TypeIPv6
}
