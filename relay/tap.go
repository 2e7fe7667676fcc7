package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
)

// Taps copy packets for captures (capture.go). A worker without one pays a
// branch on a slice that lies in its own memory; with one, it copies into a ring
// that a reader empties, and never waits for the reader.

// Stage is a place on a packet's way where it can be captured.
type Stage uint8

// The stages, in the order of a packet's way. At each a packet is seen once.
const (
	StageSiteIn  Stage = iota // received and not from a peer, as it came: Ethernet
	StageWANIn                // received, to the port of WireGuard or of direct peers, as it came: Ethernet
	StagePlain                // the inner packet: decapsulated, or opened; before TTL and headers change: raw IP
	StageSealed               // sent towards a peer: Ethernet
	StageToSite               // sent to the site: Ethernet
	StageDropped              // met a verdict that is not Good: Ethernet as it came, or raw IP once the inner packet was found
	NumStages
)

var stageNames = [NumStages]string{"site-in", "wan-in", "plain", "sealed", "to-site", "dropped"}

// String is the stage's name in commands and captures.
func (s Stage) String() string {
	if s < NumStages {
		return stageNames[s]
	}
	return "unknown"
}

// tapReceived shows a received packet, before anything has touched it, to the taps.
func (w *worker) tapReceived(f *frame) {
	if w.queues[f.slot].port == kernelPort { // no Ethernet: it is shown as an inner packet
		return
	}
	b := f.data()
	m := tapMeta{stage: StageSiteIn, ifindex: w.queues[f.slot].ifindex, inbound: true}
	if w.forPeers(b) {
		m.stage = StageWANIn
	}
	w.record(m, -1, b)
}

// forPeers says whether a received frame is UDP to a port that peers send to.
func (w *worker) forPeers(b []byte) bool {
	eth, bad := packet.ParseEthernet(b)
	if bad != packet.Fine || eth.Type != packet.TypeIPv4 && eth.Type != packet.TypeIPv6 {
		return false
	}
	var ip packet.IP
	if b = b[eth.Len:]; ip.Parse(b) != packet.Fine || ip.Proto != packet.ProtoUDP || ip.Fragment || !w.state.local.hasDst(ip.Version, b) {
		return false
	}
	udp, bad := packet.ParseUDP(b[ip.HeaderLen:ip.Len])
	return bad == packet.Fine && udp.Dst != 0 && (udp.Dst == w.state.wireguard || udp.Dst == w.state.direct)
}

// tapInner shows an inner packet.
func (w *worker) tapInner(f *frame) {
	w.record(tapMeta{stage: StagePlain, raw: true, inbound: f.origin == fromPeer}, f.vpc, f.data())
}

// tapSent shows a packet that is given to a port.
func (w *worker) tapSent(f *frame, slot int32, v Verdict) {
	m := tapMeta{stage: StageToSite, ifindex: w.queues[slot].ifindex}
	if w.sendingToPeer || v == EngineSent {
		m.stage = StageSealed
	}
	m.raw = slot == w.kernel
	w.record(m, f.vpc, f.data())
}

// tapDropped shows a packet that meets its end: the inner packet if there is one
// already, else the frame as it came. A datagram of the engine has no headers yet
// and is shown nowhere.
func (w *worker) tapDropped(f *frame, v Verdict) {
	if f.origin == fromEngine {
		return
	}
	m := tapMeta{stage: StageDropped, verdict: v, inbound: f.origin == fromPeer}
	if f.slot >= 0 && int(f.slot) < len(w.queues) {
		m.ifindex = w.queues[f.slot].ifindex
	}
	b := f.data()
	m.raw = (f.vpc >= 0 || f.origin > fromEngine || f.origin == fromKernel) && len(b) >= f.ip.Len && len(b) > 0 && b[0]>>4 == f.ip.Version
	if !m.raw {
		b = f.chunk[min(f.start, f.end):f.end]
	}
	w.record(m, f.vpc, b)
}

// tapUnsent shows a packet for which a transmit ring had no room.
func (w *worker) tapUnsent(q *queue, i int) {
	d := q.tx[i]
	at := int(d.Addr - w.umem.FrameBase(d.Addr))
	w.record(tapMeta{stage: StageDropped, verdict: TxFull, ifindex: q.ifindex}, -1, w.umem.Frame(d.Addr)[at:at+int(d.Len)])
}

// record gives a packet of a VPC (by index; -1: unknown) to every tap that wants it.
func (w *worker) record(m tapMeta, vpc int32, b []byte) {
	m.at = w.now
	m.vni = noVNI
	if vpc >= 0 {
		m.vni = w.state.vpcs[vpc].vni
	}
	for _, t := range w.taps {
		t.record(m, b)
	}
}
