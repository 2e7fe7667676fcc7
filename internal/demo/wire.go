package demo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// wireRules say what may be on the WAN.
type wireRules struct {
	gateways   []netip.Addr // WireGuard between these
	neighbours []netip.Addr // ARP and neighbour discovery for these: the gateways and the router
	port       uint16
	marker     []byte // in no packet
}

// sight is what a capture saw.
type sight struct {
	Packets   int            // all
	Bytes     int            // of all
	Kinds     map[string]int // packets that may be there, by what they are
	Forbidden int            // packets that may not
	Why       []string       // of the first few of those
	Marked    int            // packets with the marker in them
	Lost      int            // packets that the kernel dropped before we saw them
}

// maxWhy bounds what is told of forbidden packets.
const maxWhy = 3

func (s *sight) add(o sight) {
	s.Packets += o.Packets
	s.Bytes += o.Bytes
	s.Forbidden += o.Forbidden
	s.Marked += o.Marked
	s.Lost += o.Lost
	for _, why := range o.Why {
		s.explain(why)
	}
	if s.Kinds == nil {
		s.Kinds = make(map[string]int)
	}
	for kind, n := range o.Kinds {
		s.Kinds[kind] += n
	}
}

// explain notes why a packet is forbidden, each reason once.
func (s *sight) explain(why string) {
	if len(s.Why) < maxWhy && !slices.Contains(s.Why, why) {
		s.Why = append(s.Why, why)
	}
}

// judge looks at packets, one goroutine's.
type judge struct {
	wireRules
	sight
	parser   *gopacket.DecodingLayerParser
	decoded  []gopacket.LayerType
	ethernet layers.Ethernet
	arp      layers.ARP
	ip4      layers.IPv4
	ip6      layers.IPv6
	udp      layers.UDP
	icmp4    layers.ICMPv4
	icmp6    layers.ICMPv6
	payload  gopacket.Payload
}

func newJudge(rules wireRules) *judge {
	j := &judge{wireRules: rules, sight: sight{Kinds: make(map[string]int)}}
	j.parser = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet,
		&j.ethernet, &j.arp, &j.ip4, &j.ip6, &j.udp, &j.icmp4, &j.icmp6, &j.payload)
	j.parser.IgnoreUnsupported = true
	return j
}

// see judges one Ethernet frame. frame is borrowed for the call.
func (j *judge) see(frame []byte) {
	j.Packets++
	j.Bytes += len(frame)
	if bytes.Contains(frame, j.marker) {
		j.Marked++
	}
	kind, err := j.kind(frame)
	if err == nil {
		j.Kinds[kind]++
		return
	}
	j.Forbidden++
	j.explain(err.Error())
}

// kind names a packet that may be on the WAN, and says of any other why it may not.
func (j *judge) kind(frame []byte) (string, error) {
	if err := j.parser.DecodeLayers(frame, &j.decoded); err != nil {
		return "", fmt.Errorf("not readable: %w", err)
	}
	if j.parser.Truncated {
		return "", errors.New("cut short")
	}
	switch {
	case j.is(layers.LayerTypeARP):
		return "ARP", j.checkARP()
	case j.is(layers.LayerTypeIPv4):
		source, _ := netip.AddrFromSlice(j.ip4.SrcIP)
		destination, _ := netip.AddrFromSlice(j.ip4.DstIP)
		if j.ip4.Flags&layers.IPv4MoreFragments != 0 || j.ip4.FragOffset != 0 {
			return "", fmt.Errorf("fragment %s > %s", source, destination)
		}
		if j.is(layers.LayerTypeICMPv4) && j.icmp4.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort) {
			return j.portUnreachable(source, destination, j.icmp4.Payload)
		}
		if j.ip4.Protocol != layers.IPProtocolUDP || !j.is(layers.LayerTypeUDP) {
			return "", fmt.Errorf("%s %s > %s", j.ip4.Protocol, source, destination)
		}
		return j.wireGuard(source, destination)
	case j.is(layers.LayerTypeIPv6):
		source, _ := netip.AddrFromSlice(j.ip6.SrcIP)
		destination, _ := netip.AddrFromSlice(j.ip6.DstIP)
		if j.is(layers.LayerTypeUDP) {
			return j.wireGuard(source, destination)
		}
		if j.is(layers.LayerTypeICMPv6) && j.icmp6.TypeCode == layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable) && len(j.icmp6.Payload) > 4 {
			return j.portUnreachable(source, destination, j.icmp6.Payload[4:])
		}
		if j.is(layers.LayerTypeICMPv6) {
			return j.neighbourDiscovery(source, destination)
		}
		return "", fmt.Errorf("%s %s > %s", j.ip6.NextHeader, source, destination)
	}
	return "", fmt.Errorf("%s %s > %s", j.ethernet.EthernetType, j.ethernet.SrcMAC, j.ethernet.DstMAC)
}

func (j *judge) is(layer gopacket.LayerType) bool { return slices.Contains(j.decoded, layer) }

// portUnreachable is what the kernel of a gateway that does not run (yet, or any more) says about WireGuard messages of
// another: quoted is one of those, or its beginning.
func (j *judge) portUnreachable(source, destination netip.Addr, quoted []byte) (string, error) {
	const ports = 4 // of a UDP header
	at, udp := 40, false
	var from, to netip.Addr
	if source.Is4() && len(quoted) >= 20 {
		at, udp = int(quoted[0]&15)*4, quoted[9] == byte(layers.IPProtocolUDP)
		from, to = netip.AddrFrom4([4]byte(quoted[12:16])), netip.AddrFrom4([4]byte(quoted[16:20]))
	} else if source.Is6() && len(quoted) >= 40 {
		udp = quoted[6] == byte(layers.IPProtocolUDP)
		from, to = netip.AddrFrom16([16]byte(quoted[8:24])), netip.AddrFrom16([16]byte(quoted[24:40]))
	}
	if !udp || from != destination || to != source || !slices.Contains(j.gateways, from) || !slices.Contains(j.gateways, to) ||
		len(quoted) < at+ports || binary.BigEndian.Uint16(quoted[at+2:]) != j.port {
		return "", fmt.Errorf("ICMP port unreachable %s > %s that is not about WireGuard", source, destination)
	}
	return "port unreachable, about WireGuard", nil
}

// wireGuard checks what can be seen of a message without its keys: type, the
// reserved bytes, the length (WireGuard's paper, section 5.4). Contents are padded
// to 16 bytes, but not beyond what the path carries, and a gateway that tries out how
// much that is sends probes of any length, which receivers have to take.
func (j *judge) wireGuard(source, destination netip.Addr) (string, error) {
	problem := func(text string, args ...any) (string, error) {
		return "", fmt.Errorf("UDP %s:%d > %s:%d %s", source, j.udp.SrcPort, destination, j.udp.DstPort, fmt.Sprintf(text, args...))
	}
	if !slices.Contains(j.gateways, source) || !slices.Contains(j.gateways, destination) {
		return problem("is not between the gateways")
	}
	if uint16(j.udp.SrcPort) != j.port || uint16(j.udp.DstPort) != j.port {
		return problem("is not on the WireGuard port")
	}
	message := j.udp.Payload
	if len(message) < 4 || message[1] != 0 || message[2] != 0 || message[3] != 0 {
		return problem("has no WireGuard header")
	}
	switch kind, n := message[0], len(message); {
	case kind == 1 && n == 148:
		return "WireGuard handshake initiation", nil
	case kind == 2 && n == 92:
		return "WireGuard handshake response", nil
	case kind == 3 && n == 64:
		return "WireGuard cookie reply", nil
	case kind == 4 && n >= 32: // a header, contents, a tag
		return "WireGuard data", nil
	default:
		return problem("is no WireGuard message: type %d, %d bytes", kind, n)
	}
}

func (j *judge) checkARP() error {
	for _, raw := range [][]byte{j.arp.SourceProtAddress, j.arp.DstProtAddress} {
		if addr, ok := netip.AddrFromSlice(raw); !ok || !slices.Contains(j.neighbours, addr) {
			return fmt.Errorf("ARP about %v", addr)
		}
	}
	return nil
}

// neighbourDiscovery allows what a kernel says on a link about that link only:
// solicitations and advertisements (hop limit 255: RFC 4861 section 7.1) and
// multicast listener reports (RFC 3810).
func (j *judge) neighbourDiscovery(source, destination netip.Addr) (string, error) {
	ours := func(a netip.Addr) bool {
		return a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || slices.Contains(j.neighbours, a)
	}
	what := j.icmp6.TypeCode
	if ours(source) && ours(destination) {
		switch what.Type() {
		case layers.ICMPv6TypeNeighborSolicitation, layers.ICMPv6TypeNeighborAdvertisement:
			if j.ip6.HopLimit == 255 {
				return "neighbour discovery", nil
			}
		case layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2:
			if destination.IsLinkLocalMulticast() {
				return "multicast listener report", nil
			}
		}
	}
	return "", fmt.Errorf("ICMPv6 %s %s > %s", what, source, destination)
}
