package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The slow model's view of Geneve: options as the bytes that they are, for gopacket cannot read Mizar's; what Mizar's nodes
// want of them; and the peer that is spoken to in the clear.

// geneveOptions are those of one packet.
type geneveOptions struct {
	bytes    []byte
	critical bool // the header says, or one of them, that they must not be ignored
}

func geneveBytes(vni uint32, etherType layers.EthernetType, o geneveOptions, inside []byte) []byte {
	b := []byte{byte(len(o.bytes) / 4), 0, byte(etherType >> 8), byte(etherType), byte(vni >> 16), byte(vni >> 8), byte(vni), 0}
	if o.critical {
		b[1] = 0x40
	}
	return append(append(b, o.bytes...), inside...)
}

// readGeneve takes Geneve apart, and Ethernet inside of it.
func readGeneve(b []byte) (vni uint32, o geneveOptions, inner []byte) {
	end := 8 + int(b[0]&0x3f)*4
	o = geneveOptions{bytes: bytes.Clone(b[8:end]), critical: b[1]&0x40 != 0}
	if !areMizars(o.bytes) {
		for rest := o.bytes; len(rest) > 0; rest = rest[4+int(rest[3]&31)*4:] {
			o.critical = o.critical || rest[2]&0x80 != 0
		}
	}
	inner = b[end:]
	if binary.BigEndian.Uint16(b[2:]) == 0x6558 {
		inner = inner[14:]
	}
	return binary.BigEndian.Uint32(b[4:]) >> 8, o, bytes.Clone(unpadded(inner))
}

// areMizars looks at the four places where Mizar looks.
func areMizars(b []byte) bool {
	at := func(offset int, header string) bool { return string(b[offset:offset+4]) == header }
	return len(b) == 64 && at(0, "\x11\x01\x48\x03") && (at(16, "\x11\x01\x49\x07") || at(16, "\x11\x01\x00\x00")) &&
		at(48, "\x11\x01\x50\x01") && at(56, "\x11\x01\x51\x01")
}

// mizar is what a place's nodes want if they are Mizar's, nil if they are not.
func (m *model) mizar(v vpcName, place int) *Mizar {
	if place != atGeneve4 && place != atGeneve6 {
		return nil
	}
	return m.vpc(v).Attachments[1].Mizar
}

// vtep is the address of a place, which Mizar has in IPv4 only.
func (m *model) vtep(v vpcName, place int) netip.Addr {
	if place == atGeneve6 && m.mizar(v, place) != nil {
		return secondBouncer(1)
	}
	return vtepAddr(1, place)
}

// optionsFor gives a packet the options that it must have at an overlay's place. It says whether the packet lives.
func (m *model) optionsFor(t *travelling, place int) bool {
	labels, have := m.mizar(t.vpc, place), areMizars(t.options.bytes)
	lost := labels == nil && (have || place == atVXLAN4 || place == atVXLAN6) || labels != nil && !have
	if lost && t.options.critical {
		m.end(CriticalOption)
		return false
	}
	switch {
	case labels == nil && have:
		t.options = geneveOptions{}
	case labels != nil:
		b := bytes.Clone(t.options.bytes)
		if !have {
			b = make([]byte, 64)
			copy(b, "\x11\x01\x48\x03")
			copy(b[16:], "\x11\x01\x00\x00")
			copy(b[48:], "\x11\x01\x50\x01")
			binary.LittleEndian.PutUint32(b[52:], labels.PodLabel)
			copy(b[56:], "\x11\x01\x51\x01")
			binary.LittleEndian.PutUint32(b[60:], labels.NamespaceLabel)
		}
		own, mac := siteAddr(1, 4), portMAC(1, sitePort)
		copy(b[5:], own.AsSlice()) // answers are to come to us
		copy(b[9:], mac[:])
		t.options.bytes = b
	}
	return true
}

// toDirect is the end of toPeer towards a peer without WireGuard.
func (m *model) toDirect(t *travelling, back int) {
	peer, limit := &m.snap.Peers[0], m.peerLeg(t)
	m.clamp(t, limit, back, peer.MSS)
	if len(t.ip) > limit {
		m.tooBig(t, limit, m.toPeer)
		return
	}
	own, other := wanAddr(1, 4), wanAddr(2, 4)
	if peer.Direct.Addr().Is6() {
		own, other = wanAddr(1, 6), wanAddr(2, 6)
	}
	packet := overUDP(own, other, trafficClass(t.ip), directPort, false,
		gopacket.Payload(geneveBytes(t.vpc.vni(2), etherTypeOfPacket(t.ip), t.options, t.ip)))
	if !m.within(&peer.Limits.FromSite, t, len(t.ip)) || !m.within(&m.snap.Ports[wanPort-firstPort].ToPeers, t, len(packet)) {
		return
	}
	m.send(wanPort, framed(ethernet(portMAC(1, wanPort), portMAC(2, wanPort), etherTypeOfPacket(packet)), gopacket.Payload(packet)))
	m.end(t.good(ToDirect))
}

// fromDirect takes a frame from a peer without WireGuard.
func (m *model) fromDirect(frame []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	t := &travelling{}
	var vni uint32
	vni, t.options, t.ip = readGeneve(p.Layer(layers.LayerTypeUDP).LayerPayload())
	t.vpc = vpcOf(vni)
	if m.congestion(t, trafficClass(frame[14:])) {
		m.enter(t)
	}
}

// vpcOf knows a VPC by what site 1 calls it.
func vpcOf(vni uint32) vpcName {
	for v := defaultVPC; v <= blue; v++ {
		if v.vni(1) == vni {
			return v
		}
	}
	panic("no VPC has this VNI")
}

// geneveFrame is an inner packet as a node of site 1 sends it.
func (m *model) geneveFrame(v vpcName, place int, inner []byte, o geneveOptions) []byte {
	vtep, own := m.vtep(v, place), siteAddr(1, 4)
	if vtep.Is6() {
		own = siteAddr(1, 6)
	}
	inside := framed(ethernet(hostMAC(1, v, place), v.mac(), etherTypeOfPacket(inner)), inner)
	b := udpPacket(vtep, own, 64, 0, 55555, 6081, geneveBytes(v.vni(1), layers.EthernetTypeTransparentEthernetBridging, o, inside))
	return framed(ethernet(nodeMAC(1, place), portMAC(1, sitePort), etherTypeOfPacket(b)), b)
}

// options draws none, some, Mizar's, or some that are nearly Mizar's.
func (r *randomPacket) options() (o geneveOptions) {
	switch r.IntN(8) {
	case 0, 1:
		o.bytes = r.mizarOptions()
	case 2:
		o.bytes = r.mizarOptions()
		copy(o.bytes[16:], "\x11\x01\x49\x07")
		o.bytes[[...]int{1, 17, 49, 57}[r.IntN(4)]]++
	case 3, 4, 5:
		for range 1 + r.IntN(2) {
			words := r.IntN(6)
			option := append([]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.IntN(128)), byte(words)}, r.bytes(4*words)...)
			if r.one(6) {
				option[2] |= 0x80
			}
			o.bytes = append(o.bytes, option...)
		}
	}
	o.critical = len(o.bytes) > 0 && r.one(12)
	return o
}

// mizarOptions are Mizar's four, with anything in them, and the scaled endpoint in use or not.
func (r *randomPacket) mizarOptions() []byte {
	b := r.bytes(64)
	copy(b, "\x11\x01\x48\x03")
	copy(b[16:], [...]string{"\x11\x01\x49\x07", "\x11\x01\x00\x00"}[r.IntN(2)])
	copy(b[48:], "\x11\x01\x50\x01")
	copy(b[56:], "\x11\x01\x51\x01")
	return b
}
