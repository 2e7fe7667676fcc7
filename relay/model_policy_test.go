package relay

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/gopacket/gopacket/layers"
)

// The slow model's view of what a VPC may have beside routes: access list, source check, groups, translations, segment
// sizes and limits. It reads the snapshot's own words, and knows nothing of what they are compiled to.

func (m *model) vpc(v vpcName) *VPC { return &m.snap.VPCs[v] }

// genuine is the source check.
func (m *model) genuine(t *travelling, src netip.Addr) bool {
	place := t.vpc.placeOf(src)
	switch m.vpc(t.vpc).Sources {
	case SourceOff:
		return true
	case SourceStrict:
		port := uint32(sitePort)
		if place == atRouted {
			port = t.vpc.routedPort()
		}
		return place != 0 && port == t.port
	}
	return place != 0
}

func (m *model) carried(v vpcName, dst netip.Addr) bool {
	for _, g := range m.vpc(v).Groups {
		if g.Contains(dst) {
			return true
		}
	}
	return false
}

// flood sends a packet to a group on, the first of the list last.
func (m *model) flood(t *travelling) {
	t.flooded = true
	if t.port != 0 {
		m.toPeer(t)
		return
	}
	list := m.vpc(t.vpc).Flood
	for _, id := range append(list[1:len(list):len(list)], list[0]) {
		c := *t
		c.ip = bytes.Clone(t.ip)
		m.deliver(&c, atVXLAN4+int(id)%(places-1)) // in the order of testSnapshot
	}
}

// groupMAC is the Ethernet address of a group.
func groupMAC(dst netip.Addr) [6]byte {
	b := dst.AsSlice()
	if dst.Is4() {
		return [6]byte{1, 0, 0x5e, b[1] & 127, b[2], b[3]}
	}
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// police says whether access list and limits let a packet pass.
func (m *model) police(t *travelling) bool {
	way := fromSite
	if t.port == 0 {
		way = fromPeer
	}
	v, peer := m.vpc(t.vpc), &m.snap.Peers[0]
	if len(v.ACL.Rules) > 0 || v.ACL.Default != Allow {
		d, bad := describe(t.ip)
		if bad != pending {
			m.end(bad)
			return false
		}
		action := v.ACL.Default
		if rule := slowMatch(&v.ACL, &d, way); rule < len(v.ACL.Rules) {
			action = v.ACL.Rules[rule].Action
		}
		switch action {
		case Deny:
			m.end(ACLDenied)
			return false
		case Reject:
			m.refuse(t, ACLDenied, layers.CreateICMPv4TypeCode(3, 13), layers.CreateICMPv6TypeCode(1, 1), 0)
			return false
		}
	}
	if way == fromSite {
		return m.within(&v.Limits.FromSite, t, len(t.ip))
	}
	return m.within(&v.Limits.ToSite, t, len(t.ip)) && m.within(&peer.Limits.ToSite, t, len(t.ip))
}

// describe reads what an access list can ask for, of packets without options and extension headers.
func describe(b []byte) (d described, bad Verdict) {
	d = described{version: int(b[0] >> 4), src: sourceOf(b), dst: destinationOf(b)}
	var rest []byte
	if d.version == 6 {
		d.proto, rest = b[6], b[40:]
	} else {
		d.proto, rest = b[9], b[20:]
		if d.later = laterFragment(b); d.later {
			if d.proto == 6 && binary.BigEndian.Uint16(b[6:])&0x1fff == 1 {
				return d, TinyFragment
			}
			return d, pending
		}
	}
	switch d.proto {
	case 6, 17:
		d.a, d.b = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		d.syn = d.proto == 6 && rest[13]&0x14 == 0 // neither ACK nor RST
	case 1, 58:
		d.a, d.b = uint16(rest[0]), uint16(rest[1])
	}
	return d, pending
}

// within takes a packet of so many bytes from a limit.
func (m *model) within(l *Limit, t *travelling, size int) bool {
	if *l == (Limit{}) || m.buckets.take(l, trafficClass(t.ip)>>2, float64(size)) {
		return true
	}
	m.end(RateLimited)
	return false
}

// slowBuckets are the token buckets of a snapshot's limits, of bytes and of packets. Time goes by in milliseconds, of which
// each brings a whole number of either, so that nothing is rounded.
type slowBuckets map[*Limit]*[2]slowTokens

// slowTokens is one bucket, and what of it the worker, the only one, has taken for a class and not spent.
type slowTokens struct {
	rate, depth, left float64 // rate per second
	credit            [NumClasses]float64
}

func newSlowTokens(rate, least float64) slowTokens {
	depth := max(rate/10, least) // a tenth of a second
	return slowTokens{rate: rate, depth: depth, left: depth}
}

// pass lets time go by.
func (s slowBuckets) pass(milliseconds int) {
	for _, both := range s {
		for i := range both {
			t := &both[i]
			t.left = min(t.depth, t.left+float64(milliseconds)*t.rate/1000)
		}
	}
}

// take takes a packet, and leaves a class what is for those above it.
func (s slowBuckets) take(l *Limit, dscp byte, size float64) bool {
	if _, known := s[l]; !known {
		s[l] = &[2]slowTokens{newSlowTokens(float64(l.Bits)/8, 32<<10), newSlowTokens(float64(l.Packets), 32)}
	}
	class, sixteenths := 2, 4.0
	switch {
	case dscp >= 40:
		class, sixteenths = 0, 0
	case dscp >= 24:
		class, sixteenths = 1, 2
	case dscp == 1 || dscp == 8:
		class, sixteenths = 3, 8
	}
	bytes, packets := &s[l][0], &s[l][1]
	enough := bytes.fetch(class, sixteenths, size)
	if enough = packets.fetch(class, sixteenths, 1) && enough; enough {
		bytes.credit[class] -= size
		packets.credit[class]--
	}
	return enough
}

// fetch sees to it that a class has n tokens: what it lacks, or better a whole grant, comes from what is above its floor.
func (t *slowTokens) fetch(class int, sixteenths, n float64) bool {
	if t.rate == 0 {
		return true
	}
	lacks := n - t.credit[class]
	for _, want := range []float64{max(lacks, math.Floor(t.depth/64)), lacks} {
		if lacks > 0 && t.left-want >= t.depth*sixteenths/16 {
			t.left -= want
			t.credit[class] += want
			break
		}
	}
	return t.credit[class] >= n
}

// clamp lowers the segment size that a SYN announces to what fits both legs and to what the snapshot says.
func (m *model) clamp(t *travelling, ahead, back, peer int) {
	six, header := t.ip[0]>>4 == 6, 20
	proto := t.ip[9]
	if six {
		proto, header = t.ip[6], 40
	}
	if proto != 6 || laterFragment(t.ip) || len(t.ip) < header+20 || t.ip[header+13]&2 == 0 {
		return
	}
	vpc := m.vpc(t.vpc).MSS
	if vpc < 0 || peer < 0 {
		return
	}
	mss := min(ahead, back) - header - 20
	if vpc > 0 {
		mss = min(mss, vpc)
	}
	if peer > 0 {
		mss = min(mss, peer)
	}
	mss = max(mss, 88)
	segment := t.ip[header:]
	for at := 20; at < int(segment[12]>>4)*4; {
		switch {
		case segment[at] == 0:
			return
		case segment[at] == 1:
			at++
			continue
		case segment[at] == 2 && int(binary.BigEndian.Uint16(segment[at+2:])) > mss:
			before := bytes.Clone(segment)
			binary.BigEndian.PutUint16(segment[at+2:], uint16(mss))
			binary.BigEndian.PutUint16(segment[16:], slowUpdate(binary.BigEndian.Uint16(segment[16:]), before, segment))
		}
		at += int(segment[at+1])
	}
}

// peerLeg and placeLeg are the longest inner packets that fit on the way to the peer and to a place of the site.
func (m *model) peerLeg(t *travelling) int {
	switch direct := m.snap.Peers[0].Direct; {
	case direct.IsValid() && direct.Addr().Is6():
		return wireMTU - 40 - 8 - 8 - len(t.options.bytes)
	case direct.IsValid():
		return wireMTU - 20 - 8 - 8 - len(t.options.bytes)
	case t.vpc == defaultVPC:
		return sealedLimit
	}
	return sealedLimit - tunnelHeader - len(t.options.bytes)
}

func (m *model) placeLeg(t *travelling, place int) int {
	limit := overlayMTU - overlayInner
	switch {
	case place == atRouted:
		return wireMTU
	case place == atVXLAN4:
		return limit - 20
	case place == atVXLAN6:
		return limit - 40
	case m.mizar(t.vpc, place) != nil: // always all of its options, and IPv4
		return limit - 20 - 64
	case place == atGeneve4:
		return limit - 20 - len(t.options.bytes)
	}
	return limit - 40 - len(t.options.bytes)
}

// backLeg is that of the way that a packet has come; any length when nobody knows it.
func (m *model) backLeg(t *travelling) int {
	if t.port == 0 {
		return m.peerLeg(t)
	}
	if place := t.vpc.placeOf(sourceOf(t.ip)); place != 0 {
		return m.placeLeg(t, place)
	}
	if t.vpc.at(2, sourceOf(t.ip)) {
		return m.peerLeg(t)
	}
	return 1 << 16
}

// slowUpdate corrects a checksum for a change of what it covers, word by word (RFC 1624 equation 3).
func slowUpdate(sum uint16, before, after []byte) uint16 {
	if bytes.Equal(before, after) {
		return sum
	}
	word := func(b []byte, i int) uint16 {
		if i+1 == len(b) {
			return uint16(b[i]) << 8
		}
		return binary.BigEndian.Uint16(b[i:])
	}
	total := uint32(^sum)
	for i := 0; i < len(before); i += 2 {
		total += uint32(^word(before, i)) + uint32(word(after, i))
		total = total>>16 + total&0xffff
	}
	return ^uint16(total>>16 + total&0xffff)
}

// inside turns an address that the site is known by into the one that its host has, outside the other way; any other stays.
func (m *model) inside(v vpcName, a netip.Addr) netip.Addr {
	for _, t := range m.vpc(v).Translate {
		if t.As.Contains(a) {
			return swapPrefix(a, t.Prefix)
		}
	}
	return a
}

func (m *model) outside(v vpcName, a netip.Addr) netip.Addr {
	for _, t := range m.vpc(v).Translate {
		if t.Prefix.Contains(a) {
			return swapPrefix(a, t.As)
		}
	}
	return a
}

// swapPrefix replaces an address's first bits, one by one.
func swapPrefix(a netip.Addr, by netip.Prefix) netip.Addr {
	b, p := a.AsSlice(), by.Addr().AsSlice()
	for i := range by.Bits() {
		bit := byte(0x80 >> (i % 8))
		b[i/8] = b[i/8]&^bit | p[i/8]&bit
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

// translateIn is what happens to a packet that enters a VPC with translations. It says whether it lives.
func (m *model) translateIn(t *travelling) bool {
	src, dst := sourceOf(t.ip), destinationOf(t.ip)
	switch {
	case m.inside(t.vpc, src) != src:
		m.end(OutsideAddress)
	case t.port == 0 && m.outside(t.vpc, dst) != dst:
		m.end(InsideAddress)
	case t.port != 0 && m.inside(t.vpc, dst) != dst && isMartian(src):
		m.end(Martian)
	case t.port != 0 && m.inside(t.vpc, dst) != dst && !m.genuine(t, src):
		m.end(SpoofedSource)
	case t.port != 0 && m.inside(t.vpc, dst) != dst:
		m.refuse(t, OutsideAddress, layers.CreateICMPv4TypeCode(3, 1), layers.CreateICMPv6TypeCode(1, 3), 0)
	default:
		if t.port == 0 {
			slowTranslate(t.ip, false, func(a netip.Addr) netip.Addr { return m.inside(t.vpc, a) })
		}
		return true
	}
	return false
}

func (m *model) translateOut(t *travelling) {
	slowTranslate(t.ip, true, func(a netip.Addr) netip.Addr { return m.outside(t.vpc, a) })
}

// slowTranslate changes the source or the destination of a packet without options and extension headers, and the
// opposite one of a packet that it quotes; then it corrects every checksum that covers what has changed.
func slowTranslate(b []byte, source bool, change func(netip.Addr) netip.Addr) {
	header, proto, at, size := 20, b[9], 12, 4
	if b[0]>>4 == 6 {
		header, proto, at, size = 40, b[6], 8, 16
	}
	if !source {
		at += size
	}
	before := bytes.Clone(b)
	a, _ := netip.AddrFromSlice(b[at : at+size])
	copy(b[at:], change(a).AsSlice())
	if size == 4 {
		binary.BigEndian.PutUint16(b[10:], slowUpdate(binary.BigEndian.Uint16(b[10:]), before[at:at+size], b[at:at+size]))
	}
	if laterFragment(b) {
		return
	}
	payload := b[header:]
	if quotes := isICMPError(b); quotes && len(payload) >= 8+20 && (payload[8]>>4 == 4 || payload[8]>>4 == 6 && len(payload) >= 8+40) {
		slowTranslate(payload[8:], !source, change)
	}
	field := map[byte]int{6: 16, 17: 6, 58: 2}[proto]
	covered := func(packet []byte) []byte {
		if proto == 1 {
			return packet[header:]
		}
		return append(bytes.Clone(packet[at:at+size]), packet[header:]...)
	}
	if proto == 1 {
		field = 2
	}
	if field == 0 || field+2 > len(payload) {
		return
	}
	old := binary.BigEndian.Uint16(payload[field:])
	if proto == 17 && old == 0 {
		return
	}
	sum := slowUpdate(old, covered(before), covered(b))
	if proto == 17 && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(payload[field:], sum)
}
