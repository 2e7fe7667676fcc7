package relay

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
)

// What an access list lets through, and what it answers, in captures: the same
// seven packets in each direction and family, of which a list for that direction
// allows the first three, denies two and rejects two.

func policyInner(from, version int) [][]byte {
	src, dst := red.host(from, atRouted, version), red.host(3-from, atRouted, version)
	return [][]byte{
		tcpPacket(src, dst, []byte("GET / HTTP/1.1\r\n\r\n")),
		udpPacket(src, dst, 64, 0, 5004, 53, []byte("query")),
		echoPacket(src, dst, 1, 2, []byte("abcdefgh")),
		udpPacket(src, dst, 64, 0, 5004, 54, []byte("denied by the default")),
		echoPacket(src, red.host(3-from, atVXLAN4, version), 1, 2, []byte("denied destination")),
		udpPacket(src, dst, 64, 0, 5004, 161, []byte("rejected")),
		tcpPacket(src, red.host(3-from, atGeneve4, version), []byte("rejected")),
	}
}

func policyList(from, version int, direction Direction) ACL {
	denied, rejected := red.host(3-from, atVXLAN4, version), red.host(3-from, atGeneve4, version)
	icmp := uint8(packet.ProtoICMP)
	request := ICMPMatch{Type: packet.Echo}
	if version == 6 {
		icmp, request.Type = packet.ProtoICMPv6, packet.Echo6
	}
	rules := []ACLRule{
		{Action: Deny, Destination: prefixes(fmt.Sprintf("%v/%d", denied, denied.BitLen()))},
		{Action: Reject, Destination: prefixes(fmt.Sprintf("%v/%d", rejected, rejected.BitLen()))},
		{Action: Allow, Protocol: packet.ProtoTCP, DestinationPorts: []PortRange{{440, 450}}},
		{Action: Allow, Protocol: packet.ProtoUDP, DestinationPorts: []PortRange{{53, 53}}},
		{Action: Allow, Protocol: icmp, ICMP: []ICMPMatch{request}},
		{Action: Reject, Protocol: packet.ProtoUDP, SourcePorts: []PortRange{{5000, 5999}}, DestinationPorts: []PortRange{{100, 200}}},
	}
	for i := range rules {
		rules[i].ID, rules[i].Direction = fmt.Sprint(i), direction
	}
	return ACL{Rules: rules, Default: Deny}
}

func TestGoldenPolicy(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, version := range []int{4, 6} {
		for _, direction := range []Direction{DirectionFromSite, DirectionToSite} {
			name := fmt.Sprintf("acl-%v-inner%d", direction, version)
			t.Run(name, func(t *testing.T) {
				from := 1
				if direction == DirectionToSite {
					from = 2
				}
				p.a.withVPC(red, func(v *VPC) { v.ACL = policyList(from, version, direction) })
				in := filepath.Join("testdata", name+".in.pcap")
				if *update {
					writeCapture(t, in, layers.LinkTypeRaw, policyInner(from, version))
				}
				for _, inner := range readCapture(t, in) {
					if direction == DirectionFromSite {
						_, frame := fromHost(red, 1, atRouted, inner)
						p.a.queues[0][redPort].Inject(frame)
					} else {
						p.sealTo(t, tunnelled(red.vni(1), etherTypeOfPacket(inner), inner))
					}
				}
				got := p.a.verdicts(func() { p.a.turn() })
				if got[ACLDenied.String()] != 4 || got[Originated.String()] != 2 || got[ToPeer.String()]+got[ToSite.String()] != 3 {
					t.Errorf("verdicts are %v", got)
				}
				for port, packets := range map[string][][]byte{"site": p.a.got(redPort), "wan": p.plainOf(t)} {
					want := filepath.Join("testdata", name+"."+port+".want.pcap")
					link := layers.LinkTypeEthernet
					if port == "wan" {
						link = layers.LinkTypeRaw
					}
					if *update {
						writeCapture(t, want, link, packets)
					}
					compare(t, link, packets, readCapture(t, want))
				}
			})
		}
	}
}
