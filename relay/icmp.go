package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

// How much of the packet an error quotes: as much as fits without exceeding
// 576 bytes in all (RFC 1812 section 4.3.2.3), or the smallest IPv6 MTU (RFC 4443 section 2.4 c).
const (
	maxError4 = 576
	maxError6 = 1280
)

// timeExceeded ends a packet whose TTL ran out.
func (w *worker) timeExceeded(f *frame) {
	if f.ip.Version == 4 {
		w.icmpError(f, TTLExpired, packet.TimeExceeded, 0, 0)
	} else {
		w.icmpError(f, TTLExpired, packet.TimeExceeded6, 0, 0)
	}
}

// tooBig ends a packet that is longer than the path allows, and tells its
// source what would fit (RFC 1191, RFC 8201). No IPv6 host believes in less than
// every link carries (RFC 8201 section 4), nor need it: see inPieces.
func (w *worker) tooBig(f *frame, mtu int) {
	if f.ip.Version == 4 {
		w.icmpError(f, TooBig, packet.Unreachable, packet.CodeFragNeeded, uint32(min(mtu, 0xffff)))
	} else {
		w.icmpError(f, TooBig, packet.TooBig6, 0, uint32(max(mtu, minMTU6)))
	}
}

// unreachable ends a packet that cannot get where it wants to.
func (w *worker) unreachable(f *frame, v Verdict) {
	code, code6 := uint8(packet.CodeHostUnreach), uint8(packet.CodeAddrUnreach6)
	if v == NoRoute || v == NeighbourUnreachable {
		code, code6 = packet.CodeNetUnreach, packet.CodeNoRoute6
	}
	if f.ip.Version == 4 {
		w.icmpError(f, v, packet.Unreachable, code, 0)
	} else {
		w.icmpError(f, v, packet.Unreachable6, code6, 0)
	}
}

// portUnreachable ends a packet to a port of the gateway's own addresses.
func (w *worker) portUnreachable(f *frame) {
	if f.ip.Version == 4 {
		w.icmpError(f, GatewayOnly, packet.Unreachable, packet.CodePortUnreach, 0)
	} else {
		w.icmpError(f, GatewayOnly, packet.Unreachable6, packet.CodePortUnreach6, 0)
	}
}

// icmpError ends a packet with v and, where one may and can be sent, makes an
// ICMP error to its source out of its frame. The error is a packet of its own
// from then on, with its own verdict, and finds its way like any other.
func (w *worker) icmpError(f *frame, v Verdict, typ, code uint8, word uint32) {
	src, ok := w.errorSource(f)
	if !ok || !mayAnswer(f) || !w.errors.allow(w.now, packet.SourceHash(f.data(), &f.ip)^uint32(f.vpc)) {
		w.drop(f, v)
		return
	}
	header := packet.IPv4Len + packet.ICMPLen
	quote := min(f.ip.Len, maxError4-header)
	if f.ip.Version == 6 {
		header = packet.IPv6Len + packet.ICMPLen
		quote = min(f.ip.Len, maxError6-header)
	}
	if !f.room(header) {
		w.drop(f, v)
		return
	}
	w.end(f, v)
	to := f.ip.Src(f.data())
	f.off -= header
	f.end = f.off + header + quote
	b := f.data()
	if f.ip.Version == 4 {
		packet.PutIPv4(b[:packet.IPv4Len], 0, len(b), 64, packet.ProtoICMP, src.As4(), to.As4())
		packet.PutICMP(b[packet.IPv4Len:], typ, code, word)
	} else {
		packet.PutIPv6(b[:packet.IPv6Len], 0, 0, len(b)-packet.IPv6Len, 64, packet.ProtoICMPv6, src.As16(), to.As16())
		b[packet.IPv6Len], b[packet.IPv6Len+1] = typ, code
		binary.BigEndian.PutUint32(b[packet.IPv6Len+4:], word)
		packet.PutTransportChecksum(b, packet.IPv6Len, packet.ProtoICMPv6)
	}
	w.originate(f)
}

// originate starts a packet of our own, an inner one in its VPC, on its way.
func (w *worker) originate(f *frame) {
	w.made++
	toKernel := f.origin == fromKernel
	f.origin, f.optsLen, f.critical, f.deadline, f.slot = fromRelay, 0, false, 0, -1
	if bad := f.ip.Parse(f.data()); bad != packet.Fine {
		w.drop(f, BadInnerIP)
		return
	}
	if toKernel {
		w.tellKernel(f)
		return
	}
	if t := w.state.vpcs[f.vpc].translate; t != nil {
		t.translateError(f)
	}
	w.route(f)
}

// errorSource is the address that errors about f come from: the port's own
// towards routed hosts, else the VPC's.
func (w *worker) errorSource(f *frame) (netip.Addr, bool) {
	if f.origin == fromKernel { // as if it came from where the packet was going: a kernel takes none from itself
		return f.ip.Dst(f.data()), true
	}
	vpc := &w.state.vpcs[f.vpc]
	four, six := vpc.icmp4, vpc.icmp6
	if f.slot >= 0 && f.origin == fromSite {
		if at := w.queues[f.slot].port; at >= 0 && w.state.ports[at].routed == f.vpc {
			port := &w.state.ports[at]
			if port.icmp4.IsValid() {
				four = port.icmp4
			}
			if port.icmp6.IsValid() {
				six = port.icmp6
			}
		}
	}
	if f.ip.Version == 4 {
		return four, four.IsValid()
	}
	return six, six.IsValid()
}

// mayAnswer applies the rules of RFC 1122 section 3.2.2 and RFC 4443 section
// 2.4 e: no error about an error, about a later fragment, about what went to a
// group, or about our own. (Impossible sources have met their end before.)
func mayAnswer(f *frame) bool {
	if f.origin >= fromRelay || !f.ip.First || unroutable(f.ip.Version, f.data()) {
		return false
	}
	if f.ip.Version == 4 && f.ip.Proto != packet.ProtoICMP || f.ip.Version == 6 && f.ip.Proto != packet.ProtoICMPv6 {
		return true
	}
	m, bad := packet.ParseICMP(f.data()[f.ip.HeaderLen:])
	return bad == packet.Fine && !m.Error(f.ip.Version)
}

// gateway answers what is sent to an address of the gateway itself: echo
// requests, and UDP with "port unreachable", which traceroute waits for. Nothing
// else is spoken here.
func (w *worker) gateway(f *frame) {
	b := f.data()
	if f.vpc < 0 || f.ip.Fragment {
		w.drop(f, GatewayOnly)
		return
	}
	m, bad := packet.ParseICMP(b[f.ip.HeaderLen:])
	if bad != packet.Fine {
		w.drop(f, GatewayOnly)
		return
	}
	switch {
	case f.ip.Proto == packet.ProtoUDP:
		w.portUnreachable(f)
		return
	case f.ip.Version == 4 && f.ip.Proto == packet.ProtoICMP && m.Type == packet.Echo:
		w.count(Answered)
		echoReply4(f)
	case f.ip.Version == 6 && f.ip.Proto == packet.ProtoICMPv6 && m.Type == packet.Echo6:
		w.count(Answered)
		echoReply6(f)
	default:
		w.drop(f, GatewayOnly)
		return
	}
	w.originate(f)
}

// echoReply4 turns a request into its reply. IP options are not returned: the
// header is a new one, right in front of the message.
func echoReply4(f *frame) {
	b := f.data()
	src, dst := [4]byte(b[12:16]), [4]byte(b[16:20])
	f.off += f.ip.HeaderLen - packet.IPv4Len
	b = f.data()
	m := b[packet.IPv4Len:]
	m[0] = packet.EchoReply
	sum := packet.Update(binary.BigEndian.Uint16(m[2:4]), packet.Echo<<8, packet.EchoReply<<8)
	binary.BigEndian.PutUint16(m[2:4], sum)
	packet.PutIPv4(b[:packet.IPv4Len], f.ip.TOS, len(b), 64, packet.ProtoICMP, dst, src)
}

// echoReply6 is echoReply4 for IPv6; extension headers are not returned.
// Swapping the addresses leaves the pseudo-header's sum as it is.
func echoReply6(f *frame) {
	b := f.data()
	src, dst := [16]byte(b[8:24]), [16]byte(b[24:40])
	f.off += f.ip.HeaderLen - packet.IPv6Len
	b = f.data()
	m := b[packet.IPv6Len:]
	m[0] = packet.EchoReply6
	sum := packet.Update(binary.BigEndian.Uint16(m[2:4]), packet.Echo6<<8, packet.EchoReply6<<8)
	binary.BigEndian.PutUint16(m[2:4], sum)
	packet.PutIPv6(b[:packet.IPv6Len], f.ip.TOS, 0, len(b)-packet.IPv6Len, 64, packet.ProtoICMPv6, dst, src)
}
