package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
)

// decap takes an overlay packet of an attachment apart. f is the UDP payload;
// outer is the offset of the outer IP header, which answers to ARP and ND need.
func (w *worker) decap(f *frame, o overlay, outer int) {
	var vni uint32
	header, etherType := packet.VXLANLen, uint16(packet.TypeEthernet)
	if o.kind == VXLAN {
		var bad packet.Problem
		if vni, bad = packet.ParseVXLAN(f.data()); bad != packet.Fine {
			w.drop(f, BadVXLAN)
			return
		}
	} else {
		g, verdict := parseGeneve(f)
		if verdict != pending {
			w.drop(f, verdict)
			return
		}
		vni, header, etherType = g.VNI, g.Len, g.Type
	}
	port := int(w.queues[f.slot].port)
	key := attachmentKey(port, o.udp, vni)
	switch f.vpc = w.state.attached.find(key); {
	case f.vpc < 0:
		w.drop(f, UnknownVNI)
		return
	case o.guard && !w.trusts(key, f.chunk[outer:]):
		w.drop(f, UnknownVTEP)
		return
	}
	f.off += header
	ethernet, frame := etherType == packet.TypeEthernet, f.off
	etherType, alive := w.stripEthernet(f, etherType)
	if !alive {
		return
	}
	if etherType == packet.TypeARP && ethernet {
		w.arp(f, o, outer)
		return
	}
	if verdict := parseInner(f, etherType); verdict != pending {
		w.drop(f, verdict)
		return
	}
	ip := &f.ip
	f.end = f.off + ip.Len
	if !w.congestion(f) {
		return
	}
	if ip.Proto == packet.ProtoICMPv6 && ip.Version == 6 && ethernet && neighbourDiscovery(f) {
		w.discovery(f, o, outer, frame)
		return
	}
	if w.looks && o.learn && ethernet {
		w.see(f, o, outer, frame)
	}
	w.inner(f)
}

// parseGeneve reads the Geneve header at the front of f and notes its options.
func parseGeneve(f *frame) (packet.Geneve, Verdict) {
	g, bad := packet.ParseGeneve(f.data())
	switch {
	case bad != packet.Fine:
		return g, BadGeneve
	case g.Control():
		return g, GeneveControl
	}
	f.options, f.optsLen, f.critical = f.off+packet.GeneveLen, g.Len-packet.GeneveLen, g.Critical()
	return g, pending
}

// stripEthernet takes an inner Ethernet header off, if there is one, and
// returns the EtherType of what is inside. False: the packet has met its end.
func (w *worker) stripEthernet(f *frame, etherType uint16) (uint16, bool) {
	if etherType != packet.TypeEthernet {
		return etherType, true
	}
	eth, bad := packet.ParseEthernet(f.data())
	if bad != packet.Fine {
		w.drop(f, BadInnerFrame)
		return 0, false
	}
	if eth.VLAN != 0 || eth.Type < 0x0600 { // a length: 802.3, not Ethernet II
		w.drop(f, InnerNotIP)
		return 0, false
	}
	f.off += eth.Len
	return eth.Type, true
}

// parseInner reads the inner IP header into f.ip and holds it against the EtherType.
func parseInner(f *frame, etherType uint16) Verdict {
	var bad packet.Problem
	switch etherType {
	case packet.TypeIPv4:
		bad = f.ip.Parse4(f.data())
	case packet.TypeIPv6:
		bad = f.ip.Parse6(f.data())
	default:
		return InnerNotIP
	}
	switch bad {
	case packet.Fine:
		return pending
	case packet.BadChecksum:
		return InnerChecksum
	}
	return BadInnerIP
}

// ECN codepoints (RFC 3168), the two low bits of TOS or traffic class.
const (
	ecnMask = 3
	notECT  = 0
	ecnECT1 = 1
	ecnECT0 = 2
	ecnCE   = 3
)

// congestion carries a congestion mark from the header that was taken off to
// the inner packet, as figure 4 of RFC 6040 says: a mark that the inner packet
// cannot carry means that the packet is lost, never that the mark is, and ECT(1)
// outside (which L4S marks, and PCN) overrides ECT(0) inside. Going the
// other way, the inner DSCP and ECN are copied to every header we put around
// (the RFC's normal mode). It says whether the packet lives.
func (w *worker) congestion(f *frame) bool {
	if outer := f.tos & ecnMask; outer == notECT || outer == ecnECT0 {
		return true // most packets, and inlined
	}
	return w.carryMark(f)
}

// carryMark is congestion where the outer header has ECT(1) or CE.
func (w *worker) carryMark(f *frame) bool {
	outer, inner := f.tos&ecnMask, f.ip.TOS&ecnMask
	switch {
	case outer == inner:
		return true
	case outer == ecnECT1 && inner != ecnECT0:
		return true
	case inner == notECT:
		w.drop(f, CongestionLost)
		return false
	}
	f.ip.TOS = f.ip.TOS&^ecnMask | outer
	packet.SetTOS(f.data(), f.ip.TOS)
	return true
}
