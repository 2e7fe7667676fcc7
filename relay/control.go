package relay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Control code talks to peers inside their tunnels: it gives packets to a
// worker's mailbox, which sends them to the peer that they name, whatever the
// default VPC's routes say; and what peers send to our tunnel addresses is
// answered straight back to them, or handed to whoever waits for it. All of it
// is the default VPC's plain format, so that any WireGuard implementation can be
// at the other end, and there need not be a default VPC.

// PeerPacket is an inner IP packet for a peer.
type PeerPacket struct {
	Peer   uint32 // index in Snapshot.Peers
	Packet []byte // owned: the relay's from now on
	// Probe: the packet is to find something out. It may be as long as the port
	// allows, whatever is known of the path; it is not padded; and it never waits
	// for a session or neighbour, because later it would be of no use.
	Probe bool
	// Over is the way to take, of a probe: a path of the peer that may not be in use. Remote
	// invalid: the way that everything takes.
	Over wireguard.Endpoint
}

// SendToPeer sends an inner packet to a peer, as whatever its source address
// says. It never blocks; false means that the mailbox was full and the packet is
// lost, as any packet may be.
func (r *Relay) SendToPeer(p PeerPacket) bool {
	w := r.workers[int(r.next.Add(1))%len(r.workers)]
	if !w.mailbox.postPacket(p) {
		return false
	}
	w.waker.wake()
	return true
}

// EchoReply is a peer's answer to an echo request.
type EchoReply struct {
	Peer uint32 // who sent it
	Seq  uint16
	Len  int   // of the IP packet; of its first fragment, if the peer has cut it
	At   int64 // when the turn that received it began, by wireguard.Device.Clock
	// Notice is what the peer says of itself, if the request was a packet.Probe.
	Notice packet.Notice
	// From is where it came from, through which interface. Remote is invalid when nobody knows.
	From wireguard.Endpoint
}

type echoListener struct {
	id uint16
	to chan<- EchoReply
}

// ListenEcho has the answers to echo requests with an identifier that come to our
// tunnel addresses handed to a channel. Workers never wait for it: what finds it
// full is lost and counted (EchoLost). stop ends it; a few may come after that.
func (r *Relay) ListenEcho(id uint16, to chan<- EchoReply) (stop func(), err error) {
	if cap(to) == 0 {
		return nil, errors.New("listen for echo replies: the channel has no buffer")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	listeners := *r.echoes.Load()
	if slices.ContainsFunc(listeners, func(l echoListener) bool { return l.id == id }) {
		return nil, fmt.Errorf("listen for echo replies: somebody has identifier %d already", id)
	}
	listeners = append(slices.Clone(listeners), echoListener{id, to})
	r.echoes.Store(&listeners)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(*r.echoes.Load()), func(l echoListener) bool { return l.id == id })
		r.echoes.Store(&left)
	}, nil
}

// control starts a packet of control code on its way.
func (w *worker) control(f *frame, p *PeerPacket) {
	w.made++
	from := fromControl
	if p.Probe {
		from = fromProbe
	}
	if !w.posted(f, from, p.Packet) {
		return
	}
	if f.ip.Parse(f.data()) != packet.Fine || f.ip.Len != len(p.Packet) {
		w.drop(f, BadInnerIP)
		return
	}
	if p.Over.Remote.IsValid() {
		w.toPeerOver(f, p.Peer, p.Over)
		return
	}
	w.toPeer(f, p.Peer)
}

// toPeer sends an inner packet of our own, which is of no VPC, to a peer.
func (w *worker) toPeer(f *frame, id uint32) {
	f.vpc, f.slot, f.peer, f.inner = -1, -1, id, f.off
	if int(id) >= len(w.state.peers) || w.state.peers[id].wireguard == nil {
		w.drop(f, NoPeer)
		return
	}
	f.flow = packet.FlowHash(f.data(), &f.ip)
	adj := w.peerAdjacency(id)
	switch {
	case adj.state == through && f.origin != fromTransit:
		f.cut = true
	case adj.state != ready && f.origin == fromKernel:
		w.notReady(f, adj)
		return
	case adj.state == unresolved && f.origin == fromControl:
		w.parkForNeighbour(f, adj.key)
		return
	case adj.state != ready:
		w.drop(f, notReadyVerdicts[adj.state])
		return
	}
	limit, most := adj.inner, adj.inner
	if f.origin >= fromProbe { // what the path of a message that we pass on takes, its ends find out
		limit, most = f.ip.Len, adj.limit-wireguard.Overhead
	}
	switch {
	case f.ip.Len <= most, f.cut && f.origin == fromTransit:
	case f.origin != fromKernel:
		w.drop(f, TooBig)
		return
	case !w.inPieces(f):
		w.tooLong(f, limit, fib.NextHop{Kind: fib.Remote, ID: id})
		return
	}
	w.collect(f, &w.state.peers[id], adj, limit)
}

// notReadyVerdicts end packets of our own, which no ICMP error would help.
var notReadyVerdicts = [...]Verdict{
	unresolved:  PeerUnresolved,
	noNeighbour: NoNeighbour,
	noPath:      NeighbourUnreachable,
	noPort:      NoPort,
	noEndpoint:  NoEndpoint,
	through:     RelayRefused, // through us and another one: too many
}

// echoRate is how many echo requests per second and worker one peer is answered:
// a hundred times what probes of its gateway need. A ping flood gets what its own packets
// cost us to open, but does not double it.
const echoRate = 1000

// toTunnelAddress takes what a peer sends to our tunnel address, the Geneve of
// VPCs apart.
func (w *worker) toTunnelAddress(f *frame) {
	b := f.data()
	m, bad := packet.ParseICMP(b[f.ip.HeaderLen:])
	if bad != packet.Fine || !f.ip.First {
		w.toHost(f)
		return
	}
	request, reply := f.ip.Proto == packet.ProtoICMP && m.Type == packet.Echo, f.ip.Proto == packet.ProtoICMP && m.Type == packet.EchoReply
	if f.ip.Version == 6 {
		request, reply = f.ip.Proto == packet.ProtoICMPv6 && m.Type == packet.Echo6, f.ip.Proto == packet.ProtoICMPv6 && m.Type == packet.EchoReply6
	}
	switch {
	case request && !f.ip.Fragment:
		w.answerPeer(f)
	case reply:
		w.echoReply(f)
	default:
		w.toHost(f)
	}
}

// answerPeer sends the answer to an echo request back to the peer that it came
// from. It may be as long as the request was, or a peer could not find out what fits.
func (w *worker) answerPeer(f *frame) {
	limit := &w.peers[f.peer].echoes
	if !limit.has(w.now, echoRate, echoRate) {
		w.drop(f, EchoLimited)
		return
	}
	limit.tokens -= second
	w.count(Answered)
	back, usual := w.wayBack(f)
	if f.ip.Version == 4 {
		echoReply4(f)
	} else {
		echoReply6(f)
	}
	if w.state.notice != 0 {
		w.giveNotice(f)
	}
	w.made++
	f.origin, f.optsLen, f.critical, f.deadline = fromProbe, 0, false, 0
	f.vpc = -1
	if f.ip.Parse(f.data()) != packet.Fine {
		w.drop(f, BadInnerIP)
		return
	}
	if !usual {
		w.toPeerOver(f, f.peer, back)
		return
	}
	w.toPeer(f, f.peer)
}

// echoReply hands the answer to an echo request of our own to who waits for it.
// A first fragment is as good as the whole: it says that the request has arrived.
func (w *worker) echoReply(f *frame) {
	m := f.data()[f.ip.HeaderLen:]
	id, seq := packet.EchoID(m)
	for _, l := range *w.echoes.Load() {
		if l.id != id {
			continue
		}
		from, _ := w.cameFrom(f)
		select {
		case l.to <- EchoReply{Peer: f.peer, Seq: seq, Len: f.ip.Len, At: w.now, Notice: packet.NoticeOf(m), From: from}:
			w.drop(f, EchoHeard)
		default:
			w.drop(f, EchoLost)
		}
		return
	}
	w.toHost(f)
}
