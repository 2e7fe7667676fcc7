package relay

import (
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The packets of these tests are built by gopacket, so that what we write and
// what we read is judged by somebody else.

func serialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func ethernet(src, dst [6]byte, etherType layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: etherType}
}

// ipLayer is the header of a packet; its EtherType comes with it.
func ipLayer(src, dst netip.Addr, proto layers.IPProtocol, ttl, tos uint8) (gopacket.SerializableLayer, gopacket.NetworkLayer, layers.EthernetType) {
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: ttl, TOS: tos, Protocol: proto, Flags: layers.IPv4DontFragment, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		return ip, ip, layers.EthernetTypeIPv4
	}
	ip := &layers.IPv6{Version: 6, HopLimit: ttl, TrafficClass: tos, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	return ip, ip, layers.EthernetTypeIPv6
}

// udpPacket is an inner IP packet with UDP inside.
func udpPacket(src, dst netip.Addr, ttl, tos uint8, srcPort, dstPort uint16, payload []byte) []byte {
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolUDP, ttl, tos)
	udp := &layers.UDP{SrcPort: layers.UDPPort(srcPort), DstPort: layers.UDPPort(dstPort)}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, udp, gopacket.Payload(payload))
}

func tcpPacket(src, dst netip.Addr, payload []byte) []byte {
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolTCP, 64, 0)
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 1000, Ack: 2000, ACK: true, PSH: true, Window: 512,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 0, 1, 0, 0, 0, 2}}}}
	if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, tcp, gopacket.Payload(payload))
}

func echoPacket(src, dst netip.Addr, id, seq uint16, payload []byte) []byte {
	if src.Is4() {
		ip, _, _ := ipLayer(src, dst, layers.IPProtocolICMPv4, 64, 0)
		return serialize(ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}, gopacket.Payload(payload))
	}
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolICMPv6, 64, 0)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, icmp, &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}, gopacket.Payload(payload))
}

func etherTypeOfPacket(b []byte) layers.EthernetType {
	if b[0]>>4 == 4 {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

// fromHost wraps an inner packet as the host at a place of a site sends it,
// and says on which port it arrives.
func fromHost(v vpcName, site, place int, inner []byte, options ...*layers.GeneveOption) (ifindex uint32, frame []byte) {
	if place == atRouted {
		return v.routedPort(), serialize(ethernet(hostMAC(site, v, place), portMAC(site, v.routedPort()), etherTypeOfPacket(inner)), gopacket.Payload(inner))
	}
	return sitePort, overlayFrame(v, site, place, etherTypeOfPacket(inner), inner, options...)
}

// overlayFrame wraps any inner Ethernet payload.
func overlayFrame(v vpcName, site, place int, inside layers.EthernetType, inner []byte, options ...*layers.GeneveOption) []byte {
	vtep := vtepAddr(site, place)
	own := siteAddr(site, 4)
	if vtep.Is6() {
		own = siteAddr(site, 6)
	}
	ip, network, etherType := ipLayer(vtep, own, layers.IPProtocolUDP, 64, 0)
	udp := &layers.UDP{SrcPort: 55555, DstPort: 4789}
	var header gopacket.SerializableLayer = &layers.VXLAN{ValidIDFlag: true, VNI: v.vni(site)}
	if place == atGeneve4 || place == atGeneve6 {
		udp.DstPort = 6081
		header = &layers.Geneve{Protocol: layers.EthernetTypeTransparentEthernetBridging, VNI: v.vni(site), Options: options}
	}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ethernet(nodeMAC(site, place), portMAC(site, sitePort), etherType), ip, udp, header,
		ethernet(hostMAC(site, v, place), v.mac(), inside), gopacket.Payload(inner))
}

// routedPacket is a UDP packet between the routed hosts of two sites, framed.
func routedPacket(v vpcName, from, to, version int, payload []byte) []byte {
	inner := udpPacket(v.host(from, atRouted, version), v.host(to, atRouted, version), 64, 0, 1000, 2000, payload)
	_, b := fromHost(v, from, atRouted, inner)
	return b
}

// placeOfPort says at which place a packet that left through a port arrives.
func innerOf(ifindex uint32, frame []byte) (vni uint32, inner []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if ifindex != sitePort {
		return 0, p.Layers()[0].LayerPayload()
	}
	for i, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.VXLAN:
			vni = l.VNI
		case *layers.Geneve:
			vni = l.VNI
		case *layers.Ethernet:
			if i > 0 {
				return vni, l.LayerPayload()
			}
		}
	}
	return vni, nil
}
