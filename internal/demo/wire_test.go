package demo

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var testRules = wireRules{
	gateways:   []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:2::2")},
	neighbours: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2")},
	port:       51820,
	marker:     []byte("marker"),
}

// frame builds an Ethernet frame; the first layer below Ethernet decides its type.
func frame(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	switch parts[0].(type) {
	case *layers.IPv6:
		ethernet.EthernetType = layers.EthernetTypeIPv6
	case *layers.ARP:
		ethernet.EthernetType = layers.EthernetTypeARP
	case gopacket.Payload:
		ethernet.EthernetType = layers.EthernetTypeLinkLayerDiscovery
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append([]gopacket.SerializableLayer{ethernet}, parts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

func ip4(source, destination string, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
}

func ip6(source, destination string, p layers.IPProtocol, hops uint8) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: p, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
}

type networkLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

// udp is a datagram whose data is a type byte, zeros to length n, and a tail.
func udp(t testing.TB, ip networkLayer, from, to uint16, kind byte, n int, tail string) []byte {
	t.Helper()
	u := &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
	if err := u.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, n)
	if n > 0 {
		data[0] = kind
	}
	copy(data[max(0, n-len(tail)):], tail)
	return frame(t, ip, u, gopacket.Payload(data))
}

func icmp6(t testing.TB, ip *layers.IPv6, kind uint8) []byte {
	t.Helper()
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := i.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return frame(t, ip, i, gopacket.Payload(make([]byte, 24)))
}

// unreachable4 is an answer to a packet from source to destination.
func unreachable4(t testing.TB, source, destination string, quoted []byte) []byte {
	t.Helper()
	i := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}
	return frame(t, ip4(destination, source, layers.IPProtocolICMPv4), i, gopacket.Payload(quoted))
}

func unreachable6(t testing.TB, source, destination string, quoted []byte) []byte {
	t.Helper()
	ip := ip6(destination, source, layers.IPProtocolICMPv6, 64)
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)}
	if err := i.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return frame(t, ip, i, gopacket.Payload(append(make([]byte, 4), quoted...)))
}

func arp(t testing.TB, source, destination string) []byte {
	return frame(t, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
		SourceHwAddress: make([]byte, 6), DstHwAddress: make([]byte, 6),
		SourceProtAddress: net.ParseIP(source).To4(), DstProtAddress: net.ParseIP(destination).To4(),
	})
}

func TestJudgeKnowsWhatMayBeOnTheWAN(t *testing.T) {
	wg4 := func() *layers.IPv4 { return ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolUDP) }
	wg6 := func() *layers.IPv6 { return ip6("2001:db8:1::2", "2001:db8:2::2", layers.IPProtocolUDP, 64) }
	fragment := wg4()
	fragment.Flags = layers.IPv4MoreFragments
	tests := []struct {
		name  string
		frame []byte
		want  string // empty: forbidden
	}{
		{"a handshake initiation", udp(t, wg4(), 51820, 51820, 1, 148, ""), "WireGuard handshake initiation"},
		{"a handshake response over IPv6", udp(t, wg6(), 51820, 51820, 2, 92, ""), "WireGuard handshake response"},
		{"a cookie reply", udp(t, wg4(), 51820, 51820, 3, 64, ""), "WireGuard cookie reply"},
		{"a keepalive", udp(t, wg4(), 51820, 51820, 4, 32, ""), "WireGuard data"},
		{"a full data message", udp(t, wg6(), 51820, 51820, 4, 1440, ""), "WireGuard data"},
		{"a data message that fills the link, which leaves no room for padding", udp(t, wg6(), 51820, 51820, 4, 1452, ""), "WireGuard data"},
		{"a probe of the path's MTU, which is not padded", udp(t, wg4(), 51820, 51820, 4, 45, ""), "WireGuard data"},
		{"an ARP request between gateway and router", arp(t, "192.0.2.2", "192.0.2.1"), "ARP"},
		{"a neighbour solicitation", icmp6(t, ip6("2001:db8:1::2", "ff02::1:ff00:1", layers.IPProtocolICMPv6, 255), 135), "neighbour discovery"},
		{"a neighbour advertisement", icmp6(t, ip6("fe80::1", "2001:db8:1::1", layers.IPProtocolICMPv6, 255), 136), "neighbour discovery"},

		{"what a gateway's kernel says of a message", unreachable4(t, "192.0.2.2", "198.51.100.2", udp(t, wg4(), 51820, 51820, 1, 148, "")[14:]), "port unreachable, about WireGuard"},
		{"and over IPv6", unreachable6(t, "2001:db8:1::2", "2001:db8:2::2", udp(t, wg6(), 51820, 51820, 1, 148, "")[14:]), "port unreachable, about WireGuard"},

		{"what a gateway's kernel says of something else", unreachable4(t, "192.0.2.2", "198.51.100.2", udp(t, wg4(), 51820, 6081, 4, 64, "")[14:]), ""},
		{"of a message of somebody else", unreachable4(t, "192.0.2.2", "198.51.100.2", udp(t, ip4("172.16.1.10", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 64, "")[14:]), ""},
		{"or of half a header", unreachable6(t, "2001:db8:1::2", "2001:db8:2::2", make([]byte, 39)), ""},
		{"a message of unknown type", udp(t, wg4(), 51820, 51820, 5, 64, ""), ""},
		{"an initiation that is too long", udp(t, wg4(), 51820, 51820, 1, 149, ""), ""},
		{"a data message that is cut short", udp(t, wg4(), 51820, 51820, 4, 31, ""), ""},
		{"a data message without contents or tag", udp(t, wg4(), 51820, 51820, 4, 16, ""), ""},
		{"an empty datagram", udp(t, wg4(), 51820, 51820, 0, 0, ""), ""},
		{"reserved bytes that are set", udp(t, wg4(), 51820, 51820, 4, 32, strings.Repeat("x", 31)), ""},
		{"another port", udp(t, wg4(), 51820, 6081, 4, 32, ""), ""},
		{"an endpoint's address", udp(t, ip4("172.16.1.10", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 32, ""), ""},
		{"a fragment", udp(t, fragment, 51820, 51820, 4, 32, ""), ""},
		{"a ping", frame(t, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolICMPv4), gopacket.Payload(make([]byte, 64))), ""},
		{"a ping over IPv6", icmp6(t, ip6("2001:db8:1::2", "2001:db8:2::2", layers.IPProtocolICMPv6, 64), 128), ""},
		{"TCP", frame(t, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolTCP), gopacket.Payload(make([]byte, 20))), ""},
		{"TCP over IPv6", frame(t, ip6("2001:db8:1::2", "2001:db8:2::2", layers.IPProtocolTCP, 64), gopacket.Payload(make([]byte, 20))), ""},
		{"an ARP request for someone else", arp(t, "192.0.2.2", "10.2.1.11"), ""},
		{"a neighbour solicitation from elsewhere", icmp6(t, ip6("fd10:1::1:11", "ff02::1:ff00:1", layers.IPProtocolICMPv6, 255), 135), ""},
		{"a neighbour solicitation that was forwarded", icmp6(t, ip6("2001:db8:1::2", "ff02::1:ff00:1", layers.IPProtocolICMPv6, 254), 135), ""},
		{"something that is not IP", frame(t, gopacket.Payload(make([]byte, 50))), ""},
		{"half a header", frame(t, wg4())[:20], ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJudge(testRules)
			j.see(tt.frame)
			if j.Packets != 1 || j.Bytes != len(tt.frame) || j.Marked != 0 {
				t.Errorf("saw %+v", j.sight)
			}
			if tt.want == "" && (j.Forbidden != 1 || len(j.Why) != 1) || tt.want != "" && (j.Forbidden != 0 || j.Kinds[tt.want] != 1) {
				t.Errorf("saw %+v, want %q", j.sight, tt.want)
			}
		})
	}
}

func TestJudgeFindsTheMarkerWhereverItIs(t *testing.T) {
	j := newJudge(testRules)
	j.see(udp(t, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 1440, "marker"))
	j.see(udp(t, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 1440, "marke"))
	if j.Marked != 1 || j.Kinds["WireGuard data"] != 2 {
		t.Errorf("saw %+v", j.sight)
	}
}

func TestSightsAddUp(t *testing.T) {
	a, b := newJudge(testRules), newJudge(testRules)
	a.see(arp(t, "192.0.2.2", "192.0.2.1"))
	b.see(arp(t, "192.0.2.2", "192.0.2.1"))
	for range maxWhy {
		b.see(frame(t, gopacket.Payload(make([]byte, 50))))
	}
	var total sight
	total.add(a.sight)
	total.add(b.sight)
	if total.Packets != 2+maxWhy || total.Kinds["ARP"] != 2 || total.Forbidden != maxWhy || len(total.Why) != 1 {
		t.Errorf("in all %+v", total)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(udp(f, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 32, "marker"))
	f.Add(udp(f, ip6("2001:db8:1::2", "2001:db8:2::2", layers.IPProtocolUDP, 64), 51820, 51820, 1, 148, ""))
	f.Add(arp(f, "192.0.2.2", "192.0.2.1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		j := newJudge(testRules)
		j.see(data)
		allowed := 0
		for _, n := range j.Kinds {
			allowed += n
		}
		if j.Packets != 1 || allowed+j.Forbidden != 1 {
			t.Errorf("one packet made %+v", j.sight)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	j := newJudge(testRules)
	packet := udp(b, ip4("192.0.2.2", "198.51.100.2", layers.IPProtocolUDP), 51820, 51820, 4, 1440, "")
	b.ReportAllocs()
	for b.Loop() {
		j.see(packet)
	}
}
