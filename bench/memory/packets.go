package memory

import (
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// The network: we are site 1, the far end site 2; only the default VPC, whose
// packets travel as they are, which is what wireguard-go does, too.
var (
	nearHost   = netip.MustParseAddr("172.21.3.11")
	farHost    = netip.MustParseAddr("172.22.3.11")
	nearPrefix = netip.MustParsePrefix("172.21.0.0/16")
	farPrefix  = netip.MustParsePrefix("172.22.0.0/16")
	nearWAN    = netip.MustParseAddr("198.51.100.1")
	farWAN     = netip.MustParseAddr("198.51.100.2")
)

const (
	flows    = 64
	udpPort  = 51820
	innerMTU = 1420
	outerLen = packet.EthernetLen + packet.IPv4Len + packet.UDPLen
	message  = 4 // transport data, whitepaper 5.4.6
)

var (
	nearMAC = [6]byte{2, 0, 0, 0xff, 1, 1}
	farMAC  = [6]byte{2, 0, 0, 0xff, 2, 1}
	hostMAC = [6]byte{2, 0, 0, 0xaa, 1, 1}
)

// store is packets of one length, one after the other.
type store struct {
	memory []byte
	stride int
	length int
	count  int
}

func newStore(count, length int) *store {
	stride := (length + 63) &^ 63 // each begins in a cache line of its own
	return &store{memory: make([]byte, count*stride), stride: stride, length: length, count: count}
}

// at is the i-th packet; after the last one comes the first.
func (s *store) at(i int) []byte {
	off := i % s.count * s.stride
	return s.memory[off : off+s.length : off+s.stride]
}

// plaintexts are Ethernet frames of flows UDP packets from src to dst; size is the IP packet's.
func plaintexts(src, dst netip.Addr, size int) *store {
	s := newStore(flows, packet.EthernetLen+size)
	for i := range flows {
		b := s.at(i)
		packet.PutEthernet(b, nearMAC, hostMAC, packet.TypeIPv4)
		ip := b[packet.EthernetLen:]
		packet.PutIPv4(ip, 0, size, 64, packet.ProtoUDP, src.As4(), dst.As4())
		packet.PutUDP(ip[packet.IPv4Len:], uint16(1000+i), 2000, size-packet.IPv4Len)
		packet.PutTransportChecksum(ip, packet.IPv4Len, packet.ProtoUDP)
	}
	return s
}

// wrap writes the outer headers of a datagram from the far end around len(b)-outerLen bytes.
func wrap(b []byte) {
	packet.PutEthernet(b, nearMAC, farMAC, packet.TypeIPv4)
	ip := b[packet.EthernetLen:]
	packet.PutIPv4(ip, 0, len(ip), 64, packet.ProtoUDP, farWAN.As4(), nearWAN.As4())
	packet.PutUDP(ip[packet.IPv4Len:], udpPort, udpPort, len(ip)-packet.IPv4Len)
}

// isData tells transport messages with a packet inside from keepalives and handshakes.
func isData(m []byte) bool { return m[0] == message && len(m) > wireguard.Overhead }
