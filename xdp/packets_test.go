package xdp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The packets of the tests are built by gopacket, which knows nothing of our parser.

type layer = gopacket.SerializableLayer

// build puts the layers together, with lengths and IP checksums as they should be.
func build(l ...layer) []byte {
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, opts, l...); err != nil {
		panic(err)
	}
	return slices.Clone(b.Bytes())
}

func stack(parts ...[]layer) []layer { return slices.Concat(parts...) }

// ethernet is a frame to our MAC, with the VLAN tags given.
func ethernet(payload layers.EthernetType, vlans ...uint16) []layer {
	return ethernetTo(portMAC, payload, vlans...)
}

func ethernetTo(dst [6]byte, payload layers.EthernetType, vlans ...uint16) []layer {
	types := make([]layers.EthernetType, 0, len(vlans)+1)
	for range vlans {
		types = append(types, layers.EthernetTypeDot1Q)
	}
	types = append(types, payload)
	out := []layer{&layers.Ethernet{SrcMAC: hostMAC[:], DstMAC: net.HardwareAddr(dst[:]), EthernetType: types[0]}}
	for i, id := range vlans {
		out = append(out, &layers.Dot1Q{VLANIdentifier: id, Priority: 3, Type: types[i+1]})
	}
	return out
}

func etherType(a netip.Addr) layers.EthernetType {
	if a.Is4() {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

// source is a host of the same family.
func source(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return netip.MustParseAddr("192.0.2.9")
	}
	return netip.MustParseAddr("2001:db8::9")
}

// ip is the IP header to dst; for more than that, change what it returns.
func ip(dst netip.Addr, protocol layers.IPProtocol) layer {
	src := source(dst)
	if dst.Is4() {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// udp is IP and UDP to dst.
func udp(dst netip.Addr, port uint16) []layer {
	header := ip(dst, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: 55555, DstPort: layers.UDPPort(port)}
	if err := u.SetNetworkLayerForChecksum(header.(gopacket.NetworkLayer)); err != nil {
		panic(err)
	}
	return []layer{header, u}
}

// toUs is everything up to the UDP header of a packet to us, with or without VLAN tags.
func toUs(local string, port uint16, vlans ...uint16) []layer {
	a := netip.MustParseAddr(local)
	return stack(ethernet(etherType(a), vlans...), udp(a, port))
}

func geneve(vni uint32, protocol layers.EthernetType, options ...*layers.GeneveOption) *layers.Geneve {
	return &layers.Geneve{VNI: vni, Protocol: protocol, Options: options}
}

// option is a Geneve option with size bytes of data.
func option(class uint16, kind uint8, size int) *layers.GeneveOption {
	return &layers.GeneveOption{Class: class, Type: kind, Data: make([]byte, size)}
}

func vxlan(vni uint32) *layers.VXLAN { return &layers.VXLAN{ValidIDFlag: true, VNI: vni} }

// inner is what a pod sends to dst: Ethernet, IP, UDP.
func inner(dst string) []layer {
	a := netip.MustParseAddr(dst)
	return stack(ethernetTo(hostMAC, etherType(a)), innerIP(dst))
}

// innerIP is the same without Ethernet.
func innerIP(dst string) []layer {
	return stack(udp(netip.MustParseAddr(dst), 7), bytesLayer(20))
}

func bytesLayer(n int) []layer { return []layer{gopacket.Payload(make([]byte, n))} }

func arpRequest(target string) []layer {
	return stack(ethernetTo([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, layers.EthernetTypeARP), []layer{arp(target)})
}

func arp(target string) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: hostMAC[:], SourceProtAddress: []byte{10, 1, 0, 9},
		DstHwAddress: make([]byte, 6), DstProtAddress: netip.MustParseAddr(target).AsSlice(),
	}
}

// solicitation is a neighbour solicitation for target, to the address or group given.
func solicitation(target, dst string, hopLimit uint8) []layer {
	header := ip(netip.MustParseAddr(dst), layers.IPProtocolICMPv6).(*layers.IPv6)
	header.HopLimit = hopLimit
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(header); err != nil {
		panic(err)
	}
	return []layer{header, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: netip.MustParseAddr(target).AsSlice()}}
}

// advertisement is a whole inner frame that says where fd10:1::5 is.
func advertisement(dst string, hopLimit uint8) []layer {
	header := ip(netip.MustParseAddr(dst), layers.IPProtocolICMPv6).(*layers.IPv6)
	header.HopLimit = hopLimit
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(header); err != nil {
		panic(err)
	}
	return stack(ethernetTo(hostMAC, layers.EthernetTypeIPv6), []layer{header, icmp,
		&layers.ICMPv6NeighborAdvertisement{TargetAddress: netip.MustParseAddr("fd10:1::5").AsSlice()}})
}

// wireguard is a message of the given type and length.
func wireguard(kind byte, size int) []layer {
	b := make([]byte, size)
	if size > 0 {
		b[0] = kind
	}
	return []layer{gopacket.Payload(b)}
}

// edit changes a copy of a packet.
func edit(packet []byte, change func(b []byte)) []byte {
	out := slices.Clone(packet)
	change(out)
	return out
}

// ip4Sum makes the checksum of the IPv4 header at off right again.
func ip4Sum(b []byte, off int) {
	header := b[off : off+int(b[off]&0xf)*4]
	header[10], header[11] = 0, 0
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum))
}
