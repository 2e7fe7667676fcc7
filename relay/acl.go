package relay

import (
	"encoding/binary"

	"github.com/sluicegw/sluice/internal/packet"
)

// An access list is compiled into flat lists, one for each direction, family
// and class of packet, that are read from the top: an entry is one source
// prefix, one destination prefix and two ranges, compared without a branch but
// the last. A packet is only ever held against entries that could match it. What
// follows an entry that matches everything is left out.

// aclClass is what a packet can be matched by behind its addresses: two
// numbers, a and b.
type aclClass uint8

const (
	classTCP   aclClass = iota // source and destination port
	classUDP                   // the same
	classICMP                  // type and code, of the family's own ICMP
	classOther                 // protocol, 0: nothing else is known of it
	classLater                 // protocol, 0: a fragment without the transport header
	aclClasses
)

// acl is the compiled access list of a VPC.
type acl struct {
	four    [directions][aclClasses][]entry4
	six     [directions][aclClasses][]entry6
	actions []ACLAction // by rule; the last is the default
	meters  []int32     // the same
}

// entry4 has 32 bytes: two to a cache line.
type entry4 struct {
	src, srcMask uint32
	dst, dstMask uint32
	rest         entryRest
}

type entry6 struct {
	src, srcMask [2]uint64
	dst, dstMask [2]uint64
	rest         entryRest
}

// entryRest is what an entry asks of a packet's class.
type entryRest struct {
	a, aSpan uint16 // first of the range, last minus first
	b, bSpan uint16
	need     uint32 // 1: established
	rule     int32
}

func (e *entryRest) matches(k *aclKey) bool {
	return k.a-e.a <= e.aSpan && k.b-e.b <= e.bSpan && e.need&^k.flags == 0
}

// aclKey is what an access list looks at of a packet. IPv4 addresses are in the
// second words.
type aclKey struct {
	src, dst [2]uint64
	a, b     uint16
	flags    uint32 // 1: established
	class    aclClass
}

// minTCPFragment is the least of TCP that a first fragment must carry, so that
// the flags are in it (RFC 1858 section 3.2.1).
const minTCPFragment = 16

// read fills the key from the IP packet b, parsed as ip. What it cannot read,
// or what would let a later fragment write over a header that was judged, has a
// verdict: no list could tell what the receiver will make of it.
func (k *aclKey) read(b []byte, ip *packet.IP) Verdict {
	if ip.Version == 4 {
		k.src, k.dst = [2]uint64{1: uint64(binary.BigEndian.Uint32(b[12:16]))}, [2]uint64{1: uint64(binary.BigEndian.Uint32(b[16:20]))}
	} else {
		k.src = [2]uint64{binary.BigEndian.Uint64(b[8:16]), binary.BigEndian.Uint64(b[16:24])}
		k.dst = [2]uint64{binary.BigEndian.Uint64(b[24:32]), binary.BigEndian.Uint64(b[32:40])}
	}
	k.a, k.b, k.flags = uint16(ip.Proto), 0, 0
	if !ip.First {
		k.class = classLater
		// RFC 3128: eight bytes into TCP begin its flags.
		if ip.Proto == packet.ProtoTCP && ip.FragmentOffset(b) == 8 {
			return TinyFragment
		}
		return pending
	}
	rest, need := b[ip.HeaderLen:], 0
	switch {
	case ip.Proto == packet.ProtoTCP:
		k.class, need = classTCP, packet.TCPLen
		if ip.Fragment {
			need = minTCPFragment
		}
	case ip.Proto == packet.ProtoUDP:
		k.class, need = classUDP, packet.UDPLen
	case ip.Proto == packet.ProtoICMP && ip.Version == 4, ip.Proto == packet.ProtoICMPv6 && ip.Version == 6:
		k.class, need = classICMP, packet.ICMPLen
	default:
		k.class = classOther
		return pending
	}
	switch {
	case len(rest) < need && ip.Fragment:
		return TinyFragment
	case len(rest) < need:
		return BadTransport
	case k.class == classICMP:
		k.a, k.b = uint16(rest[0]), uint16(rest[1])
		return pending
	}
	k.a, k.b = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	if k.class == classTCP && rest[13]&(packet.TCPAck|packet.TCPRst) != 0 {
		k.flags = 1
	}
	return pending
}

// match returns the index of the rule that decides.
func (a *acl) match(k *aclKey, way origin, version uint8) int32 {
	if version == 4 {
		list := a.four[way][k.class]
		src, dst := uint32(k.src[1]), uint32(k.dst[1])
		for i := range list {
			e := &list[i]
			if (src^e.src)&e.srcMask|(dst^e.dst)&e.dstMask == 0 && e.rest.matches(k) {
				return e.rest.rule
			}
		}
	} else {
		list := a.six[way][k.class]
		for i := range list {
			e := &list[i]
			if (k.dst[0]^e.dst[0])&e.dstMask[0]|(k.dst[1]^e.dst[1])&e.dstMask[1]|
				(k.src[0]^e.src[0])&e.srcMask[0]|(k.src[1]^e.src[1])&e.srcMask[1] == 0 && e.rest.matches(k) {
				return e.rest.rule
			}
		}
	}
	return int32(len(a.actions) - 1)
}

// filter asks the access list about a packet that came in, counts, and ends
// what may not pass. It says whether the packet lives.
func (w *worker) filter(f *frame, a *acl) bool {
	var k aclKey
	if v := k.read(f.data(), &f.ip); v != pending {
		w.drop(f, v)
		return false
	}
	rule := w.decide(f, a, &k)
	if w.trace != nil {
		w.trace.rule(f, rule, a)
	}
	w.meters.add(a.meters[rule], f.ip.Len)
	switch a.actions[rule] {
	case Allow:
		return true
	case Deny:
		w.drop(f, ACLDenied)
	default:
		w.prohibited(f)
	}
	return false
}

// prohibited ends a packet that a rule rejects, and tells its source (RFC 1812
// section 5.2.7.1, RFC 4443 section 3.1).
func (w *worker) prohibited(f *frame) {
	if f.ip.Version == 4 {
		w.icmpError(f, ACLDenied, packet.Unreachable, packet.CodeProhibited, 0)
	} else {
		w.icmpError(f, ACLDenied, packet.Unreachable6, packet.CodeProhibited6, 0)
	}
}

// stillAllowed asks a new state's access list about a packet that an older one
// let through and that waits: what is denied now does not leave any more.
func stillAllowed(f *frame, p *policy) bool {
	if p == nil || p.acl == nil || f.origin != fromSite && f.origin != fromPeer {
		return true
	}
	var k aclKey
	return k.read(f.data(), &f.ip) == pending && p.acl.actions[p.acl.match(&k, f.origin, f.ip.Version)] == Allow
}
