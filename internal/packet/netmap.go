package packet

import (
	"encoding/binary"
	"net/netip"
)

// Netmap replaces prefixes of addresses by others of the same length and
// keeps the host bits: stateless 1:1 translation, what RFC 6296 (NPTv6)
// describes for IPv6 and Linux calls NETMAP. Unlike NPTv6 it leaves the host
// bits alone and corrects the checksums instead, so that an address is known
// by its last digits on both sides.
//
// Checksums are updated, not computed (RFC 1624): one that was right stays
// right, also in the first of several fragments, whose sum covers the others
// too; one that was wrong stays wrong. The Netmap of the opposite direction
// gives the original bytes back. (A checksum of 0xffff that should have been
// written as 0 comes back as 0, which verifies as well.)
//
// Protocols that protect addresses in another way (AH, or transport mode ESP
// with a checksum inside) do not survive, as with any address translation.
//
// The zero value translates nothing. A Netmap never changes once built.
type Netmap struct {
	four []netmap4
	six  []netmap6
}

// An address belongs to a translation when addr&mask is from, and becomes
// addr^flip: flip is the difference of the two prefixes, the same both ways.
type netmap4 struct{ from, mask, flip uint32 }

type netmap6 struct{ from, mask, flip [2]uint64 }

// Add makes m translate what lies in from into to. Both are masked, of the
// same family and length, and from overlaps no other one.
func (m *Netmap) Add(from, to netip.Prefix) {
	a, b := from.Addr().As16(), to.Addr().As16()
	if from.Addr().Is4() {
		e := netmap4{from: binary.BigEndian.Uint32(a[12:]), mask: ^uint32(0) << (32 - from.Bits())}
		e.flip = e.from ^ binary.BigEndian.Uint32(b[12:])
		m.four = append(m.four, e)
		return
	}
	var e netmap6
	for i := range 2 {
		e.from[i] = binary.BigEndian.Uint64(a[8*i:])
		e.mask[i] = ^uint64(0) << (64 - min(max(from.Bits()-64*i, 0), 64))
		e.flip[i] = e.from[i] ^ binary.BigEndian.Uint64(b[8*i:])
	}
	m.six = append(m.six, e)
}

// Has says whether the address a, of 4 or 16 bytes, is one that m translates.
func (m *Netmap) Has(a []byte) bool {
	if len(a) == 4 {
		return m.find4(binary.BigEndian.Uint32(a)) != nil
	}
	return m.find6(binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])) != nil
}

func (m *Netmap) find4(a uint32) *netmap4 {
	for i := range m.four {
		if e := &m.four[i]; a&e.mask == e.from {
			return e
		}
	}
	return nil
}

func (m *Netmap) find6(hi, lo uint64) *netmap6 {
	for i := range m.six {
		if e := &m.six[i]; hi&e.mask[0] == e.from[0] && lo&e.mask[1] == e.from[1] {
			return e
		}
	}
	return nil
}

// Source translates the source of the IP packet b, parsed as ip, and in an
// ICMP error the destination of the packet that it is about: that one went
// the other way.
func (m *Netmap) Source(b []byte, ip *IP) { m.rewrite(b, ip, true) }

// Destination translates the destination of the IP packet b, parsed as ip,
// and in an ICMP error the source of the packet that it is about.
func (m *Netmap) Destination(b []byte, ip *IP) { m.rewrite(b, ip, false) }

func (m *Netmap) rewrite(b []byte, ip *IP, source bool) {
	change := m.header(b, ip.Version, source)
	if !ip.First {
		return
	}
	b = b[:ip.Len]
	payload := b[ip.HeaderLen:]
	switch {
	case ip.Version == 4 && ip.Proto == ProtoICMP: // its checksum covers no addresses but those it quotes
		if icmp, bad := ParseICMP(payload); bad == Fine && icmp.Error(4) {
			adjust(payload, 2, m.quote(payload[ICMPLen:], !source), false)
		}
	case ip.Version == 6 && ip.Proto == ProtoICMPv6:
		if icmp, bad := ParseICMP(payload); bad == Fine && icmp.Error(6) {
			adjust(payload, 2, pseudoChange(b, ip, source, change)+m.quote(payload[ICMPLen:], !source), false)
			return
		}
		fallthrough
	default:
		if at := pseudoChecksumAt(ip.Proto); at >= 0 {
			adjust(payload, at, pseudoChange(b, ip, source, change), ip.Proto == ProtoUDP)
		}
	}
}

// header translates an address of the IP header at b, corrects the checksum of
// an IPv4 header, and returns what the words of the address have added to any
// sum that covers them; 0: nothing was translated.
func (m *Netmap) header(b []byte, version uint8, source bool) (change uint64) {
	if version == 4 {
		a := b[16:20]
		if source {
			a = b[12:16]
		}
		old := binary.BigEndian.Uint32(a)
		e := m.find4(old)
		if e == nil {
			return 0
		}
		binary.BigEndian.PutUint32(a, old^e.flip)
		change = changed(uint64(old), uint64(old^e.flip))
		adjust(b, 10, change, false)
		return change
	}
	a := b[24:40]
	if source {
		a = b[8:24]
	}
	hi, lo := binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])
	e := m.find6(hi, lo)
	if e == nil {
		return 0
	}
	binary.BigEndian.PutUint64(a, hi^e.flip[0])
	binary.BigEndian.PutUint64(a[8:], lo^e.flip[1])
	return changed(hi, hi^e.flip[0]) + changed(lo, lo^e.flip[1])
}

// quote translates an address in the front part of a packet that an ICMP
// error quotes, with the checksums of that packet as far as they are there,
// and returns what this has added to the sum of the error.
func (m *Netmap) quote(b []byte, source bool) (change uint64) {
	var ip IP
	if !ip.parseQuote(b) {
		return 0
	}
	old := uint16(0)
	if ip.Version == 4 {
		old = binary.BigEndian.Uint16(b[10:12])
	}
	address := m.header(b, ip.Version, source)
	if address == 0 {
		return 0
	}
	change = address
	if ip.Version == 4 {
		change += changed(uint64(old), uint64(binary.BigEndian.Uint16(b[10:12])))
	}
	if at := pseudoChecksumAt(ip.Proto); ip.First && at >= 0 && ip.HeaderLen < ip.Len {
		change += adjust(b[ip.HeaderLen:ip.Len], at, pseudoChange(b, &ip, source, address), ip.Proto == ProtoUDP)
	}
	return change
}

// parseQuote reads the IP header of a packet of which only the front may be
// there, whose checksum does not matter and whose length is not to be trusted:
// Len is what is there of it. It says whether there is a header.
func (ip *IP) parseQuote(b []byte) bool {
	if len(b) < IPv4Len {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		ip.Version, ip.Proto, ip.HeaderLen = 4, b[9], int(b[0]&0xf)*4
		ip.First = binary.BigEndian.Uint16(b[6:8])&0x1fff == 0
		ip.Len = min(len(b), int(binary.BigEndian.Uint16(b[2:4])))
		return ip.HeaderLen >= IPv4Len
	case 6:
		if len(b) < IPv6Len {
			return false
		}
		ip.Version, ip.Proto, ip.HeaderLen, ip.First = 6, b[6], IPv6Len, true
		ip.Len = min(len(b), IPv6Len+int(binary.BigEndian.Uint16(b[4:6])))
		if ip.extensions(b[:ip.Len]) != Fine {
			ip.First = false // cut off, or not to be understood: where the transport header is, nobody knows
		}
		return true
	}
	return false
}

// pseudoChange is what of an address's change concerns the pseudo-header: all
// of it, but for the destination of a packet that is on its way through a
// routing header. There the last address of that header counts (RFC 8200
// section 8.1).
func pseudoChange(b []byte, ip *IP, source bool, change uint64) uint64 {
	if !source && ip.Version == 6 && ip.HeaderLen > IPv6Len && segmentsLeft(b[:ip.HeaderLen]) {
		return 0
	}
	return change
}

// segmentsLeft says that the IPv6 header at b, of which all extension headers
// are there, has a routing header that is not used up.
func segmentsLeft(b []byte) bool {
	next, at := b[6], IPv6Len
	for at+8 <= len(b) {
		switch next {
		case ProtoRouting:
			if b[at+3] > 0 {
				return true
			}
		case ProtoFragment:
			next, at = b[at], at+8
			continue
		case ProtoAH:
			next, at = b[at], at+(int(b[at+1])+2)*4
			continue
		}
		next, at = b[at], at+(int(b[at+1])+1)*8
	}
	return false
}

// pseudoChecksumAt is where the checksum of a transport header is that covers
// a pseudo-header, -1 without.
func pseudoChecksumAt(proto uint8) int {
	switch proto {
	case ProtoDCCP, ProtoUDPLite:
		return 6
	}
	return checksumAt(proto)
}

// changed is what a sum grows by, in one's complement, when a part of what it
// covers changes from old to new.
func changed(old, new uint64) uint64 { return uint64(fold(^old)) + uint64(fold(new)) }

// adjust corrects the checksum field at b[at:], as far as it is there, for a
// change of what it covers, and returns the change of the field itself. With
// optional the checksum is UDP's, where zero says that there is none.
func adjust(b []byte, at int, change uint64, optional bool) uint64 {
	if change == 0 || at+2 > len(b) {
		return 0
	}
	old := binary.BigEndian.Uint16(b[at:])
	if optional && old == 0 {
		return 0
	}
	sum := ^fold(uint64(^old) + change)
	if optional && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return changed(uint64(old), uint64(sum))
}
