package gateway

import (
	"errors"
	"fmt"
	"net/netip"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
)

// maxTraced is the longest packet that can be made for a trace: with all headers it fits into the smaller packet buffer.
const maxTraced = 1600

// innerPacket makes an IP packet of a request's words.
func innerPacket(r *sluicev1.TraceRequest) ([]byte, error) {
	src, err := netip.ParseAddr(r.GetSource())
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	dst, err := netip.ParseAddr(r.GetDestination())
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	src, dst = src.Unmap().WithZone(""), dst.Unmap().WithZone("")
	if src.Is4() != dst.Is4() {
		return nil, fmt.Errorf("source %v and destination %v are of different families", src, dst)
	}
	proto, ttl := uint8(r.GetProtocol()), uint8(r.GetTtl())
	if proto == 0 {
		proto = packet.ProtoUDP
	}
	if ttl == 0 {
		ttl = 64
	}
	header := packet.IPv4Len
	if src.Is6() {
		header = packet.IPv6Len
	}
	length := max(int(r.GetLength()), header+transportLen(proto))
	switch {
	case length > maxTraced:
		return nil, fmt.Errorf("length %d: at most %d", length, maxTraced)
	case r.GetProtocol() > 255 || r.GetTtl() > 255 || r.GetSourcePort() > 65535 || r.GetDestinationPort() > 65535:
		return nil, errors.New("protocol and ttl are at most 255, ports at most 65535")
	}
	b := make([]byte, length)
	if src.Is4() {
		packet.PutIPv4(b[:header], 0, length, ttl, proto, src.As4(), dst.As4())
	} else {
		packet.PutIPv6(b[:header], 0, 0, length-header, ttl, proto, src.As16(), dst.As16())
	}
	putTransport(b, header, proto, uint16(r.GetSourcePort()), uint16(r.GetDestinationPort()))
	return b, nil
}

const tcpLen = 20

func transportLen(proto uint8) int {
	switch proto {
	case packet.ProtoTCP:
		return tcpLen
	case packet.ProtoUDP:
		return packet.UDPLen
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return packet.ICMPLen
	}
	return 0
}

// putTransport writes what the packet's first bytes behind the IP header at off are: a SYN, a datagram, a ping.
func putTransport(b []byte, off int, proto uint8, sport, dport uint16) {
	t := b[off:]
	switch proto {
	case packet.ProtoTCP:
		packet.PutUDP(t[:packet.UDPLen], sport, dport, 0) // ports are where TCP has them; the rest is overwritten
		copy(t[4:], []byte{0, 0, 0, 1, 0, 0, 0, 0, tcpLen / 4 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0})
		packet.PutTransportChecksum(b, off, proto)
	case packet.ProtoUDP:
		packet.PutUDP(t[:packet.UDPLen], sport, dport, len(t))
		packet.PutTransportChecksum(b, off, proto)
	case packet.ProtoICMP:
		packet.PutICMP(t, packet.Echo, 0, 1)
	case packet.ProtoICMPv6:
		t[0] = packet.Echo6
		packet.PutTransportChecksum(b, off, proto)
	}
}

// sourceOf is the source of an IP packet.
func sourceOf(b []byte) (netip.Addr, error) {
	var ip packet.IP
	if len(b) == 0 || ip.Parse(b) != packet.Fine {
		return netip.Addr{}, errors.New("the packet is no IP packet (for a frame name the port, too)")
	}
	return ip.Src(b), nil
}

// tracedMAC is the host's that packets for a trace come from: locally administered, nobody's.
var tracedMAC = [6]byte{0x02, 0, 0, 0, 0, 0x01}

// siteFrame wraps an inner packet as an attachment's hosts do.
func siteFrame(a relay.Attachment, port *relay.Port, vpc *relay.VPC, vtep netip.Addr, inner []byte) ([]byte, error) {
	etherType := uint16(packet.TypeIPv4)
	if inner[0]>>4 == 6 {
		etherType = packet.TypeIPv6
	}
	if a.Kind == relay.Routed {
		b := make([]byte, packet.EthernetLen, packet.EthernetLen+len(inner))
		packet.PutEthernet(b, port.MAC, tracedMAC, etherType)
		return append(b, inner...), nil
	}
	if !vtep.IsValid() {
		return nil, errors.New("which VTEP sends it is not known: name one")
	}
	vtep = vtep.Unmap()
	for _, own := range port.Addresses {
		if own = own.Unmap().WithZone(""); own.Is4() == vtep.Is4() && !own.IsLinkLocalUnicast() {
			return overlayFrame(a, port.MAC, vpc, vtep, own, etherType, inner), nil
		}
	}
	return nil, fmt.Errorf("port %s has no address of the family of VTEP %v", port.Name, vtep)
}

func overlayFrame(a relay.Attachment, mac [6]byte, vpc *relay.VPC, vtep, own netip.Addr, etherType uint16, inner []byte) []byte {
	ipLen, outerType := packet.IPv4Len, uint16(packet.TypeIPv4)
	if vtep.Is6() {
		ipLen, outerType = packet.IPv6Len, packet.TypeIPv6
	}
	udpLen := packet.UDPLen + packet.VXLANLen + packet.EthernetLen + len(inner) // GeneveLen is the same
	b := make([]byte, packet.EthernetLen+ipLen+udpLen)
	packet.PutEthernet(b[:packet.EthernetLen], mac, tracedMAC, outerType)
	ip := b[packet.EthernetLen:]
	if vtep.Is4() {
		packet.PutIPv4(ip[:ipLen], 0, len(ip), 64, packet.ProtoUDP, vtep.As4(), own.As4())
	} else {
		packet.PutIPv6(ip[:ipLen], 0, 0, udpLen, 64, packet.ProtoUDP, vtep.As16(), own.As16())
	}
	udp := ip[ipLen:]
	dst := a.UDPPort
	switch {
	case dst != 0:
	case a.Kind == relay.VXLAN:
		dst = packet.PortVXLAN
	default:
		dst = packet.PortGeneve
	}
	packet.PutUDP(udp[:packet.UDPLen], 50000, dst, udpLen)
	header := udp[packet.UDPLen : packet.UDPLen+packet.VXLANLen]
	if a.Kind == relay.VXLAN {
		packet.PutVXLAN(header, vpc.VNI)
	} else {
		packet.PutGeneve(header, packet.TypeEthernet, vpc.VNI, 0, false)
	}
	inside := udp[packet.UDPLen+packet.VXLANLen:]
	packet.PutEthernet(inside[:packet.EthernetLen], vpc.GatewayMAC, tracedMAC, etherType)
	copy(inside[packet.EthernetLen:], inner)
	if vtep.Is6() {
		packet.PutTransportChecksum(ip, ipLen, packet.ProtoUDP)
	}
	return b
}
