package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// model is the gateway of site 1 once more: slow and obvious, on gopacket's layers and the test network's own naming
// scheme instead of our parsers and tables. It takes one packet at a time and says what must come of it. Handshakes,
// parking and neighbours are not its business; malformed packets are the verdict tests'.
type model struct {
	outcome
	pieces  int // fragments made
	mizars  int // packets delivered to Mizar's nodes
	snap    *Snapshot
	buckets slowBuckets // of its limits
}

// outcome is what becomes of one packet.
type outcome struct {
	verdicts map[string]uint64
	sealed   []sealedPacket      // towards the peer, without WireGuard
	sent     map[uint32][][]byte // frames to the site, by port; see normal
}

type sealedPacket struct {
	tos   byte   // of the outer header
	plain []byte // see normalPlain
}

// The figures that follow from the MTUs of the test network.
const (
	wireMTU      = 1500
	overlayMTU   = 1600
	sealedLimit  = wireMTU - 20 - 8 - 32      // the default VPC's longest packet over IPv4
	tunnelHeader = 20 + 8 + 8                 // IPv4, UDP and Geneve between tunnel addresses
	overlayInner = 8 + 8 + 14                 // UDP, VXLAN or Geneve, Ethernet
	quote4       = 576 - 20 - 8               // RFC 1812 section 4.3.2.3
	quote6       = 1280 - 40 - 8              // RFC 4443 section 2.4 c
	maxTestInner = wireMTU - overlayInner - 8 // of what the generator makes
)

func newModel(s *Snapshot, b slowBuckets) *model {
	return &model{outcome: outcome{verdicts: make(map[string]uint64), sent: make(map[uint32][][]byte)}, snap: s, buckets: b}
}

// travelling is a packet inside its VPC.
type travelling struct {
	vpc      vpcName
	ip       []byte // the packet, ours to change
	fromSite int    // place it came from; 0: from the peer
	port     uint32 // port it came from; 0: from the peer
	ours     bool   // made by the gateway
	flooded  bool   // to a multicast group
	options  geneveOptions
}

func (m *model) end(verdict Verdict) { m.verdicts[verdict.String()]++ }

// fromPort takes a frame that arrived at a port of the site.
func (m *model) fromPort(port uint32, frame []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	t := &travelling{port: port, fromSite: atRouted}
	if port != sitePort {
		for v := defaultVPC; v <= blue; v++ {
			if v.routedPort() == port {
				t.vpc = v
			}
		}
		t.ip = bytes.Clone(unpadded(p.LinkLayer().LayerPayload()))
		m.enter(t)
		return
	}
	var vni uint32
	if udp := p.Layer(layers.LayerTypeUDP).(*layers.UDP); udp.DstPort == 6081 {
		t.fromSite = atGeneve4
		vni, t.options, t.ip = readGeneve(udp.Payload)
	} else {
		t.fromSite = atVXLAN4
		vni, t.ip = innerOf(port, frame)
		t.ip = bytes.Clone(unpadded(t.ip))
	}
	t.vpc = vpcOf(vni)
	if m.congestion(t, trafficClass(p.LinkLayer().LayerPayload())) {
		m.enter(t)
	}
}

// enter takes an inner packet that has come into its VPC.
func (m *model) enter(t *travelling) {
	if m.translateIn(t) {
		m.route(t)
	}
}

// fromPeer takes what was inside of a WireGuard message; tos is that of the message's own header.
func (m *model) fromPeer(plain []byte, tos byte) {
	t := &travelling{ip: bytes.Clone(plain)}
	if !m.congestion(t, tos) {
		return
	}
	if dst := destinationOf(t.ip); dst == tunnelAddrs(1)[0] {
		inside := trafficClass(t.ip)
		var vni uint32
		vni, t.options, t.ip = readGeneve(t.ip[28:])
		t.vpc = vpcOf(vni)
		if !m.congestion(t, inside) {
			return
		}
	}
	m.enter(t)
}

func destinationOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(decode(b).NetworkLayer().NetworkFlow().Dst().Raw())
	return a
}

// congestion is figure 4 of RFC 6040 by table.
func (m *model) congestion(t *travelling, outer byte) bool {
	inner := trafficClass(t.ip)
	want := decapsulatedECN[inner&3][outer&3]
	if want < 0 {
		m.end(CongestionLost)
		return false
	}
	setTrafficClass(t.ip, inner&^3|byte(want))
	return true
}

func setTrafficClass(b []byte, tos byte) {
	if b[0]>>4 == 4 {
		b[1] = tos
		fixIPv4(b)
		return
	}
	b[0], b[1] = 0x60|tos>>4, b[1]&15|tos<<4
}

func timeToLive(b []byte) *byte {
	if b[0]>>4 == 4 {
		return &b[8]
	}
	return &b[7]
}

// route is everything between decapsulation and the next hop.
func (m *model) route(t *travelling) {
	src, dst := sourceOf(t.ip), destinationOf(t.ip)
	switch {
	case t.port == 0 && !t.vpc.at(2, src):
		m.end(SourceNotAllowed)
		return
	case isMartian(src):
		m.end(Martian)
		return
	case t.port != 0 && !m.genuine(t, src):
		m.end(SpoofedSource)
		return
	case m.carried(t.vpc, dst):
	case dst.IsMulticast() || dst.IsLoopback() || dst.IsUnspecified() || dst.IsLinkLocalUnicast() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		m.end(Multicast)
		return
	}
	if !m.police(t) {
		return
	}
	if dst == t.vpc.gateways(1)[0] || dst == t.vpc.gateways(1)[1] {
		m.toGateway(t)
		return
	}
	if *timeToLive(t.ip) <= 1 {
		m.refuse(t, TTLExpired, layers.CreateICMPv4TypeCode(11, 0), layers.CreateICMPv6TypeCode(3, 0), 0)
		return
	}
	*timeToLive(t.ip)--
	if t.ip[0]>>4 == 4 {
		fixIPv4(t.ip)
	}
	m.forward(t)
}

func isMartian(src netip.Addr) bool {
	return src.IsMulticast() || src.IsLoopback() || src.IsUnspecified() || src.Is6() && src.IsLinkLocalUnicast()
}

// at says whether an address belongs to a site.
func (v vpcName) at(site int, a netip.Addr) bool {
	for _, p := range v.prefixes(site) {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// placeOf finds the place of site 1 that an address is at, 0: none.
func (v vpcName) placeOf(a netip.Addr) int {
	for place := atVXLAN4; place < places; place++ {
		four, six := netip.PrefixFrom(v.host(1, place, 4), 24).Masked(), netip.PrefixFrom(v.host(1, place, 6), 48).Masked()
		if four.Contains(a) || six.Contains(a) {
			return place
		}
	}
	return 0
}

func (m *model) forward(t *travelling) {
	dst := destinationOf(t.ip)
	place := t.vpc.placeOf(dst)
	switch {
	case dst.IsMulticast():
		m.flood(t)
	case place != 0:
		m.deliver(t, place)
	case !t.vpc.at(2, dst):
		m.refuse(t, NoRoute, layers.CreateICMPv4TypeCode(3, 0), layers.CreateICMPv6TypeCode(1, 0), 0)
	case t.port == 0 && !t.ours:
		m.end(NotForTransit)
	default:
		m.toPeer(t)
	}
}

// tooBig cuts what may be cut, and sends every piece on by again; it refuses what may not.
func (m *model) tooBig(t *travelling, limit int, again func(*travelling)) {
	if t.ip[0]>>4 == 4 && t.ip[6]&0x40 == 0 && !t.flooded {
		for _, piece := range slowFragments(t.ip, limit) {
			c := *t
			c.ip = piece
			again(&c)
			m.pieces++
		}
		return
	}
	m.refuse(t, TooBig, layers.CreateICMPv4TypeCode(3, 4), layers.CreateICMPv6TypeCode(2, 0), uint32(limit))
}

func (m *model) toPeer(t *travelling) {
	back := m.backLeg(t) // while the source is still the site's own
	m.translateOut(t)
	if m.snap.Peers[0].Direct.IsValid() {
		m.toDirect(t, back)
		return
	}
	plain, tos := t.ip, trafficClass(t.ip)
	if t.vpc == defaultVPC {
		if t.options.critical {
			m.end(CriticalOption)
			return
		}
		m.clamp(t, sealedLimit, back, m.snap.Peers[0].MSS)
		if len(plain) > sealedLimit {
			m.tooBig(t, sealedLimit, m.toPeer)
			return
		}
	} else {
		limit := m.peerLeg(t)
		m.clamp(t, limit, back, m.snap.Peers[0].MSS)
		if len(plain) > limit {
			m.tooBig(t, limit, m.toPeer)
			return
		}
		plain = overUDP(tunnelAddrs(1)[0], tunnelAddrs(2)[0], tos, 6081, false,
			gopacket.Payload(geneveBytes(t.vpc.vni(2), etherTypeOfPacket(plain), t.options, plain)))
	}
	onWire := 20 + 8 + 32 + len(plain) // IPv4, UDP and WireGuard around it, without padding
	if !m.within(&m.snap.Peers[0].Limits.FromSite, t, len(t.ip)) || !m.within(&m.snap.Ports[wanPort-firstPort].ToPeers, t, onWire) {
		return
	}
	m.sealed = append(m.sealed, sealedPacket{tos, normalPlain(plain)})
	m.end(t.good(ToPeer))
}

// good is the verdict of a packet that goes where it should.
func (t *travelling) good(v Verdict) Verdict {
	if t.ours {
		return Originated
	}
	return v
}

// framed is a frame that is not padded to 60 bytes, as gopacket's are: that is for the NIC to do.
func framed(header *layers.Ethernet, payload gopacket.Payload) []byte {
	return append(serialize(header)[:14], payload...)
}

// overUDP is IP and UDP from port 0 around what comes behind; no checksum over IPv4, and over IPv6 if asked for.
func overUDP(src, dst netip.Addr, tos byte, port uint16, checksum bool, inside ...gopacket.SerializableLayer) []byte {
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolUDP, 64, tos)
	udp := &layers.UDP{DstPort: layers.UDPPort(port)}
	must0(udp.SetNetworkLayerForChecksum(network))
	b := serialize(append([]gopacket.SerializableLayer{ip, udp}, inside...)...)
	if !checksum {
		at := map[byte]int{4: 26, 6: 46}[b[0]>>4]
		b[at], b[at+1] = 0, 0
	}
	return b
}

func (m *model) deliver(t *travelling, place int) {
	mac := hostMAC(1, t.vpc, place)
	if t.flooded {
		mac = groupMAC(destinationOf(t.ip))
	}
	sender := 0
	if t.port == 0 && !t.ours {
		sender = m.snap.Peers[0].MSS
	}
	if place == atRouted {
		if t.options.critical {
			m.end(CriticalOption)
			return
		}
		m.clamp(t, wireMTU, m.backLeg(t), sender)
		if len(t.ip) > wireMTU {
			m.tooBig(t, wireMTU, func(c *travelling) { m.deliver(c, place) })
			return
		}
		port := t.vpc.routedPort()
		m.send(port, framed(ethernet(portMAC(1, port), mac, etherTypeOfPacket(t.ip)), gopacket.Payload(t.ip)))
		m.end(t.good(ToSite))
		return
	}
	vtep, own := m.vtep(t.vpc, place), siteAddr(1, 4)
	if vtep.Is6() {
		own = siteAddr(1, 6)
	}
	if !m.optionsFor(t, place) {
		return
	}
	limit := m.placeLeg(t, place)
	m.clamp(t, limit, m.backLeg(t), sender)
	if len(t.ip) > limit {
		m.tooBig(t, limit, func(c *travelling) { m.deliver(c, place) })
		return
	}
	inside := framed(ethernet(t.vpc.mac(), mac, etherTypeOfPacket(t.ip)), t.ip)
	header := []gopacket.SerializableLayer{&layers.VXLAN{ValidIDFlag: true, VNI: t.vpc.vni(1)}, gopacket.Payload(inside)}
	port := uint16(4789)
	if place == atGeneve4 || place == atGeneve6 {
		port, header = 6081, []gopacket.SerializableLayer{gopacket.Payload(geneveBytes(t.vpc.vni(1), layers.EthernetTypeTransparentEthernetBridging, t.options, inside))}
	}
	packet := overUDP(own, vtep, trafficClass(t.ip), port, vtep.Is6(), header...)
	if m.mizar(t.vpc, place) != nil {
		m.mizars++
	}
	m.send(sitePort, framed(ethernet(portMAC(1, sitePort), nodeMAC(1, place), etherTypeOfPacket(packet)), gopacket.Payload(packet)))
	m.end(t.good(ToSite))
}

func (m *model) send(port uint32, frame []byte) { m.sent[port] = append(m.sent[port], normal(frame)) }

// toGateway answers pings, and UDP with an error.
func (m *model) toGateway(t *travelling) {
	p := decode(t.ip)
	gateway, host := destinationOf(t.ip), sourceOf(t.ip)
	if fragmented(t.ip) {
		m.end(GatewayOnly)
		return
	}
	if p.Layer(layers.LayerTypeUDP) != nil {
		m.refuse(t, GatewayOnly, layers.CreateICMPv4TypeCode(3, 3), layers.CreateICMPv6TypeCode(1, 4), 0)
		return
	}
	var answer []byte
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoRequest {
		ip, _, _ := ipLayer(gateway, host, layers.IPProtocolICMPv4, 64, trafficClass(t.ip))
		answer = serialize(ip, &layers.ICMPv4{Id: icmp.Id, Seq: icmp.Seq}, gopacket.Payload(icmp.Payload))
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && icmp.TypeCode.Type() == layers.ICMPv6TypeEchoRequest {
		ip, network, _ := ipLayer(gateway, host, layers.IPProtocolICMPv6, 64, trafficClass(t.ip))
		reply := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)}
		must0(reply.SetNetworkLayerForChecksum(network))
		answer = serialize(ip, reply, gopacket.Payload(icmp.Payload))
	}
	if answer == nil {
		m.end(GatewayOnly)
		return
	}
	m.end(Answered)
	m.forward(&travelling{vpc: t.vpc, ip: answer, ours: true})
}

func fragmented(b []byte) bool {
	return b[0]>>4 == 4 && binary.BigEndian.Uint16(b[6:])&0x3fff != 0
}

func laterFragment(b []byte) bool {
	return b[0]>>4 == 4 && binary.BigEndian.Uint16(b[6:])&0x1fff != 0
}

// refuse ends a packet with a verdict, and tells its source why.
func (m *model) refuse(t *travelling, v Verdict, four layers.ICMPv4TypeCode, six layers.ICMPv6TypeCode, word uint32) {
	m.end(v)
	if t.ours || laterFragment(t.ip) || isICMPError(t.ip) || destinationOf(t.ip).IsMulticast() {
		return
	}
	version := int(t.ip[0] >> 4)
	from := t.vpc.gateways(1)[version/6]
	if t.fromSite == atRouted {
		from = addr("169.254.%d.1", t.port)
		if version == 6 {
			from = addr("fd99:%d::1", t.port)
		}
	}
	var b []byte
	if version == 4 {
		ip, _, _ := ipLayer(from, sourceOf(t.ip), layers.IPProtocolICMPv4, 64, 0)
		b = serialize(ip, &layers.ICMPv4{TypeCode: four, Id: uint16(word >> 16), Seq: uint16(word)}, gopacket.Payload(t.ip[:min(len(t.ip), quote4)]))
	} else {
		ip, network, _ := ipLayer(from, sourceOf(t.ip), layers.IPProtocolICMPv6, 64, 0)
		icmp := &layers.ICMPv6{TypeCode: six}
		must0(icmp.SetNetworkLayerForChecksum(network))
		body := binary.BigEndian.AppendUint32(nil, word)
		b = serialize(ip, icmp, gopacket.Payload(append(body, t.ip[:min(len(t.ip), quote6)]...)))
	}
	slowTranslate(b, false, func(a netip.Addr) netip.Addr { return m.inside(t.vpc, a) }) // it may be about one that was translated already
	m.forward(&travelling{vpc: t.vpc, ip: b, ours: true})
}

func isICMPError(b []byte) bool {
	if b[0]>>4 == 6 {
		icmp, ok := decode(b).Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		return ok && icmp.TypeCode.Type() < 128
	}
	if b[9] != 1 { // by hand: gopacket does not look into a first fragment
		return false
	}
	switch b[int(b[0]&15)*4] {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// normal takes from a frame what a gateway is free to choose: the source port of an overlay, the flow label, and the
// UDP checksum over IPv6 that covers them, which must be right though.
func normal(frame []byte) []byte {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || !overlayPort(udp.Contents[2:]) || p.Layers()[2] != gopacket.Layer(udp) {
		return frame
	}
	b := bytes.Clone(frame)
	if p.Layer(layers.LayerTypeIPv6) != nil && b[12] == 0x86 && udp.DstPort != directPort {
		if wrongUDPChecksum(b[14:]) {
			panic(fmt.Sprintf("a UDP checksum over IPv6 is wrong: %x", frame))
		}
		b[60], b[61] = 0, 0
		return append(b[:14], normalPlain(b[14:])...)
	}
	return append(b[:14], normalPlain(b[14:])...)
}

// normalPlain is normal without Ethernet.
func normalPlain(b []byte) []byte {
	b = bytes.Clone(b)
	switch {
	case b[0]>>4 == 4 && b[9] == 17 && overlayPort(b[22:]):
		b[20], b[21] = 0, 0
	case b[0]>>4 == 6 && b[6] == 17 && overlayPort(b[42:]):
		b[1], b[2], b[3] = b[1]&0xf0, 0, 0
		b[40], b[41] = 0, 0
	}
	return b
}

func overlayPort(b []byte) bool {
	port := binary.BigEndian.Uint16(b)
	return port == 4789 || port == 6081 || port == directPort
}

// wrongUDPChecksum adds the datagram of an IPv6 packet up word by word.
func wrongUDPChecksum(b []byte) bool {
	sum := uint32(17) + uint32(len(b)-40)
	for i := 8; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return sum != 0xffff
}

// unpadded is an IP packet without what Ethernet or WireGuard put behind it.
func unpadded(b []byte) []byte {
	if b[0]>>4 == 6 {
		return b[:40+int(binary.BigEndian.Uint16(b[4:]))]
	}
	return b[:binary.BigEndian.Uint16(b[2:])]
}

// opened is what site 2 finds in a message to it.
func (p *pair) opened(frame []byte) (sealedPacket, wireguard.Result) {
	plain, result := p.plain(p.b.device.NewBatch(), frame)
	if result != wireguard.OK {
		return sealedPacket{}, result
	}
	return sealedPacket{trafficClass(frame[14:]), normalPlain(unpadded(plain))}, wireguard.OK
}

func must0(err error) {
	if err != nil {
		panic(err)
	}
}

// slowFragments cuts an IPv4 packet without options byte by byte into pieces of at most limit bytes.
func slowFragments(b []byte, limit int) (pieces [][]byte) {
	begin, last := int(b[6]&0x1f)<<8|int(b[7]), b[6]&0x20 == 0
	for data := b[20:]; len(data) > 0; {
		n := min(len(data), (limit-20)/8*8)
		piece := append(bytes.Clone(b[:20]), data[:n]...)
		data = data[n:]
		piece[2], piece[3] = byte(len(piece)>>8), byte(len(piece))
		piece[6], piece[7] = byte(begin>>8), byte(begin)
		if len(data) > 0 || !last {
			piece[6] |= 0x20
		}
		fixIPv4(piece)
		pieces = append(pieces, piece)
		begin += n / 8
	}
	return pieces
}
