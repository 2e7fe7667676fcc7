package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

// template is the headers that go in front of packets to one place, written
// once: Ethernet unless it is inside a tunnel, IP, UDP and what follows. put
// copies them and fills in what differs from packet to packet.
type template struct {
	len      int    // of all headers
	ip, udp  int    // where they begin
	sum      uint16 // IPv4: of the header with neither TOS nor length; IPv6: of pseudo-header and UDP with neither lengths nor source port
	behind   uint16 // sum of the headers behind UDP
	six      bool   // IPv6
	checksum bool   // UDP over IPv6 has one
	spread   bool   // flows differ by source port and flow label (RFC 6438), for the routers and queues on the way
	first    uint16 // spread: the lowest source port, and
	count    uint16 // how many there are
	bytes    [packet.EthernetLen + packet.IPv6Len + packet.UDPLen + packet.GeneveLen]byte
}

// add makes room for n bytes more and returns them.
func (t *template) add(n int) []byte {
	t.len += n
	return t.bytes[t.len-n : t.len]
}

// tunnel adds IP and UDP; both addresses are of the same family.
func (t *template) tunnel(src, dst netip.Addr, srcPort, dstPort uint16) {
	t.ip = t.len
	if t.six = dst.Is6(); t.six {
		packet.PutIPv6(t.add(packet.IPv6Len), 0, 0, 0, 64, packet.ProtoUDP, src.As16(), dst.As16())
	} else {
		header := t.add(packet.IPv4Len)
		packet.PutIPv4(header, 0, 0, 64, packet.ProtoUDP, src.As4(), dst.As4())
		t.sum = ^binary.BigEndian.Uint16(header[10:12])
	}
	t.udp = t.len
	packet.PutUDP(t.add(packet.UDPLen), srcPort, dstPort, 0)
	if t.six {
		t.sum = packet.Sum(packet.PseudoSum(t.bytes[t.ip:t.udp], packet.ProtoUDP, 0), t.bytes[t.udp+2:t.udp+4])
	}
}

// sourcePort changes that of the packet b, which has these headers and no UDP checksum.
func (t *template) sourcePort(b []byte, port uint16) { binary.BigEndian.PutUint16(b[t.udp:], port) }

// overlay adds the header of an overlay.
func (t *template) overlay(kind AttachmentKind, vni uint32) {
	var header []byte
	if kind == Geneve {
		header = t.add(packet.GeneveLen)
		packet.PutGeneve(header, packet.TypeEthernet, vni, 0, false)
	} else {
		header = t.add(packet.VXLANLen)
		packet.PutVXLAN(header, vni)
	}
	t.behind = packet.Sum(0, header)
}

// entropy gives flows the source ports that are recommended for overlays (packet.EntropyPort).
func (t *template) entropy() { t.spreadOver(packet.EntropyFirst, packet.EntropyCount) }

// spreadOver gives flows a source port of a range of their own; count is a power of two.
func (t *template) spreadOver(first, count uint16) {
	t.spread, t.first, t.count = true, first, count
}

// overhead is what the headers take of the path's MTU.
func (t *template) overhead() int { return t.len - t.ip }

// put writes the headers to the front of the packet b: lengths, DSCP and ECN,
// what tells its flow from others, checksums. What the headers add to a sum is
// computed from the template's: summing bytes up that were written just now
// would make the processor wait for them.
//
// The UDP checksum stays zero over IPv4, as it may (RFC 768): WireGuard's tag
// protects the payload, and an overlay's inner packets have sums of their own.
// Over IPv6 it is computed: kernels refuse zero unless told otherwise.
//
// options is how Geneve, in which the headers end then, announces the options behind it in b (packet.GeneveOptions);
// 0: there are none. b ends in the inner packet that is parsed as inner, nil: in something else.
func (t *template) put(b []byte, tos uint8, flow uint32, options uint16, inner *packet.IP) {
	copy(b, t.bytes[:t.len])
	if options != 0 {
		binary.BigEndian.PutUint16(b[t.len-packet.GeneveLen:], options)
	}
	ip, udp := b[t.ip:], b[t.udp:]
	if t.spread {
		binary.BigEndian.PutUint16(udp[0:2], packet.FlowPort(flow, t.first, t.count))
	}
	binary.BigEndian.PutUint16(udp[4:6], uint16(len(udp)))
	if !t.six {
		ip[1] = tos
		binary.BigEndian.PutUint16(ip[2:4], uint16(len(ip)))
		sum := uint32(t.sum) + uint32(tos) + uint32(len(ip))
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(ip[10:12], ^uint16(sum>>16+sum))
		return
	}
	label := uint32(0)
	if t.spread {
		label = flow & 0xfffff
	}
	binary.BigEndian.PutUint32(ip[0:4], 6<<28|uint32(tos)<<20|label)
	binary.BigEndian.PutUint16(ip[4:6], uint16(len(udp)))
	if t.checksum {
		binary.BigEndian.PutUint16(udp[6:8], t.udpChecksum(udp, b[t.len:], options, inner))
	}
}

// knownFrom is from how many bytes on it is cheaper to know the sum of an inner packet from its own checksum than to
// add it up, measured.
const knownFrom = 256

// udpChecksum is that of the UDP datagram udp over IPv6. From data on, bytes are
// summed up; before, they are as in the template, but for lengths, source port and options.
func (t *template) udpChecksum(udp, data []byte, options uint16, inner *packet.IP) uint16 {
	sum := uint32(t.sum) + uint32(binary.BigEndian.Uint16(udp)) + 2*uint32(len(udp)) + uint32(t.behind) + uint32(options)
	if inner != nil && inner.Len >= knownFrom {
		if known, ok := packet.KnownSum(data[len(data)-inner.Len:], inner); ok {
			sum += uint32(known)
			data = data[:len(data)-inner.Len]
			// What is left was written just now, in small pieces: the processor would hold up larger reads of it.
			for ; len(data) >= 2; data = data[2:] {
				sum += uint32(binary.BigEndian.Uint16(data))
			}
		}
	}
	sum = sum>>16 + sum&0xffff
	// The end first: at the front are headers that were written just now.
	front := min(len(data), 64)
	check := ^packet.Sum(packet.Sum(uint16(sum>>16+sum), data[front:]), data[:front])
	if check == 0 {
		return 0xffff // zero means that there is none (RFC 768)
	}
	return check
}
