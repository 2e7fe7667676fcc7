package relay

import (
	"errors"
	"fmt"
	"net"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// A trace sends one packet through a worker that is made for it and thrown away
// afterwards: the code of the live workers over their state, neighbours and
// hosts, with ports in memory. Stages note what they find out in w.trace, which
// live workers do not have. Nothing that is live is touched: no session (what
// would be sealed stays plain), no neighbour is asked for, nothing is learned,
// no live counter counts.
//
// To note something in a stage:
//
//	if w.trace != nil {
//		w.trace.note("lookup", "route %v", r.Prefix)
//	}

// TraceStep is what one stage found out.
type TraceStep struct {
	Stage string // classify, decap, lookup, ...
	Text  string
}

// Trace is the way of a packet, and of the answer or ICMP error it provoked.
type Trace struct {
	Steps []TraceStep
	// Verdicts, in the order they were given: of the packet, then of what the
	// relay made because of it. Empty: it waits, for what the last step says.
	Verdicts []Verdict
	// Sent are the frames as they would leave; what would be sealed is plain
	// inside of the WireGuard message.
	Sent []TracedFrame
}

// TracedFrame is a frame that would leave through a port.
type TracedFrame struct {
	Ifindex uint32
	Data    []byte
}

// TraceInput is the packet to trace.
type TraceInput struct {
	// Ifindex is the port that Frame comes in through; 0: Inner comes from a peer.
	Ifindex uint32
	Frame   []byte
	// Inner is an IP packet of the VPC VNI as it comes out of the tunnel of the
	// peer with this number.
	Inner []byte
	VNI   uint32
	Peer  uint32
}

// trace is what the stages of a tracing worker note into.
type trace struct {
	Trace
	snapshot *Snapshot // for names
}

func (t *trace) note(stage, format string, args ...any) {
	t.Steps = append(t.Steps, TraceStep{stage, fmt.Sprintf(format, args...)})
}

// traceFrames is how much memory a trace takes.
const traceFrames = 64

// Trace follows a packet over the state in force.
func (r *Relay) Trace(in TraceInput) (Trace, error) {
	current := r.state.Load()
	if current.snapshot == nil {
		return Trace{}, errors.New("trace: there is no forwarding state yet")
	}
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	defer key.Zero()
	// A device of its own, never run: the live one would see the packet.
	device, err := wireguard.New(wireguard.Options{PrivateKey: key, Send: func(wireguard.Datagram) {}})
	if err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	live := r.workers[0]
	umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: traceFrames, FrameSize: live.umem.FrameSize()})
	if err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	var own Relay
	own.init(current, r.mtus.Load())
	o := Options{Device: device, Neighbours: quietSource{live.source}, Hosts: live.learner, UMEMs: []*afxdp.UMEM{umem}}.withDefaults()
	w, err := newWorker(0, o, &own)
	if err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	t := &trace{snapshot: current.snapshot}
	w.trace = t
	queues := make([]PortQueue, len(current.ports))
	for i := range current.ports {
		queues[i] = PortQueue{Ifindex: current.ports[i].ifindex, Queue: &traceQueue{umem: umem, ifindex: current.ports[i].ifindex, trace: t}}
	}
	err = w.setQueues(queues)
	if err == nil {
		err = w.traceIn(in)
	}
	if err == nil && len(t.Verdicts) == 0 {
		t.note("park", "it waits; nothing is asked for by a trace")
	}
	w.trace = nil // what is parked is no news any more
	w.emptyPark()
	if err = errors.Join(err, w.setQueues(nil), w.waker.close()); err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	return t.Trace, nil
}

// traceIn gives the packet to the worker.
func (w *worker) traceIn(in TraceInput) error {
	if in.Ifindex != 0 {
		slot := w.slotOf(in.Ifindex)
		if slot < 0 {
			return fmt.Errorf("ifindex %d is no port", in.Ifindex)
		}
		if !w.queues[slot].Queue.(*traceQueue).inject(in.Frame) {
			return fmt.Errorf("a frame of %d bytes does not fit into a packet buffer", len(in.Frame))
		}
		w.trace.note("receive", "%d bytes on port %s", len(in.Frame), w.trace.port(in.Ifindex))
		w.turn()
		return nil
	}
	return w.traceFromPeer(in)
}

// traceFromPeer starts where the tunnel is off: what is sealed for us nobody but
// a peer can make.
func (w *worker) traceFromPeer(in TraceInput) error {
	if int(in.Peer) >= len(w.state.peers) || !w.state.peers[in.Peer].exists() {
		return fmt.Errorf("there is no peer %d", in.Peer)
	}
	var base [1]uint64
	if w.umem.Alloc(base[:]) == 0 {
		return errors.New("no packet buffer")
	}
	chunk, f := w.umem.Frame(base[0]), &w.frames[0]
	if len(in.Inner) == 0 || len(in.Inner) > len(chunk)-afxdp.KernelHeadroom-maxSealing {
		w.umem.Free(base[0])
		return fmt.Errorf("an inner packet of %d bytes does not fit into a packet buffer", len(in.Inner))
	}
	f.reset(chunk, base[0], afxdp.KernelHeadroom, copy(chunk[afxdp.KernelHeadroom:], in.Inner), -1)
	f.origin, f.peer, f.vpc = fromPeer, in.Peer, w.state.vniVPC.find(uint64(in.VNI))
	w.begin()
	w.trace.note("receive", "%d bytes from peer %s", len(in.Inner), w.trace.snapshot.Peers[in.Peer].Name)
	if v := parseInner(f, etherTypeOf(in.Inner[0]>>4)); v != pending {
		w.drop(f, v)
		return nil
	}
	f.end = f.off + f.ip.Len
	if in.VNI == 0 && w.state.inward.hasDst(f.ip.Version, f.data()) {
		w.tunnelled(f)
	} else {
		w.inner(f)
	}
	w.routeAll()
	w.sealAll()
	w.flush()
	return nil
}

// traceSeal takes the place of Seal: it asks what the session is, and leaves
// session, nonces and the packet alone.
func (w *worker) traceSeal() {
	for i := range w.sealPackets {
		p := &w.sealPackets[i]
		name := w.trace.snapshot.Peers[w.sealing[i].peer].Name
		if status := p.Peer.Status(); !status.Session {
			w.trace.note("seal", "there is no session with peer %s: the packet would wait for a handshake", name)
		} else {
			w.trace.note("seal", "the session with peer %s is %d s old", name, int(status.SessionAge.Seconds()))
		}
		size := len(p.Buf) - wireguard.HeaderSize
		padded := (size + wireguard.MaxPadding) &^ wireguard.MaxPadding
		if p.MaxLen > 0 {
			padded = max(size, min(padded, p.MaxLen))
		}
		p.Buf = p.Buf[:padded+wireguard.Overhead]
		p.Result = wireguard.OK
	}
}

// verdict notes what a packet met.
func (t *trace) verdict(v Verdict) {
	t.Verdicts = append(t.Verdicts, v)
	t.note("verdict", "%s: %s", v, v.Explain())
}

// host notes where a host is, and how that is known.
func (t *trace) host(e *hosts.Entry) {
	how := "as was found out"
	if e.Told {
		how = "as the fabric tells by EVPN"
	}
	t.note("deliver", "host %v is behind VTEP %v with MAC address %v, %s", e.Addr, e.VTEP, net.HardwareAddr(e.MAC[:]), how)
}

// sent notes the verdicts of what is sent from a queue.
func (t *trace) sent(q *queue) {
	for _, v := range q.verdicts[:q.txLen] {
		if v != pending {
			t.verdict(v)
		}
	}
}

func (t *trace) port(ifindex uint32) string {
	for i := range t.snapshot.Ports {
		if p := &t.snapshot.Ports[i]; p.Ifindex == ifindex {
			return p.Name
		}
	}
	return fmt.Sprintf("ifindex %d", ifindex)
}

// hop names a next hop.
func (t *trace) hop(h fib.NextHop) string {
	if h.Kind == fib.Remote {
		return "peer " + t.snapshot.Peers[h.ID].Name
	}
	d := &t.snapshot.Deliveries[h.ID]
	for i := range t.snapshot.VPCs {
		if vpc := &t.snapshot.VPCs[i]; vpc.VNI == d.VNI {
			a := vpc.Attachments[d.Attachment]
			text := fmt.Sprintf("%v attachment on port %s", a.Kind, t.port(a.Ifindex))
			if d.VTEP.IsValid() {
				text += fmt.Sprintf(", VTEP %v", d.VTEP)
			}
			return text
		}
	}
	return h.String()
}

// found notes what the VPC's table said.
func (t *trace) found(f *frame, r *fib.Route, hop fib.NextHop) {
	vpc := t.snapshot.VPCs[f.vpc].Name
	switch dst := f.ip.Dst(f.data()); {
	case r == nil:
		t.note("lookup", "VPC %s has no route to %v", vpc, dst)
	case len(r.NextHops) > 1:
		t.note("lookup", "VPC %s: %v takes the route %v; of its %d next hops this flow goes to %s", vpc, dst, r.Prefix, len(r.NextHops), t.hop(hop))
	default:
		t.note("lookup", "VPC %s: %v takes the route %v to %s", vpc, dst, r.Prefix, t.hop(hop))
	}
}

// inner notes an inner packet.
func (t *trace) inner(f *frame) {
	b, where := f.data(), "from the site"
	if f.origin == fromPeer {
		where = "from peer " + t.snapshot.Peers[f.peer].Name
	}
	t.note("inner", "%v > %v, protocol %d, %d bytes, TTL %d, %s, VPC %s", f.ip.Src(b), f.ip.Dst(b), f.ip.Proto, f.ip.Len, f.ip.TTL, where, t.snapshot.VPCs[f.vpc].Name)
}

// way notes an adjacency: where it leads, what fits.
func (t *trace) way(w *worker, stage, to string, a *adjacency) {
	switch a.state {
	case ready:
		t.note(stage, "%s: through port %s to %v; up to %d bytes fit behind the outer headers", to, t.port(w.queues[a.slot].ifindex), a.key.Dst, a.limit)
	case unresolved:
		t.note(stage, "%s: the next hop %v is not resolved; the packet would wait while it is asked for", to, a.key.Dst)
	case noNeighbour:
		t.note(stage, "%s: the next hop %v does not answer", to, a.key.Dst)
	case noPath:
		t.note(stage, "%s: the kernel has no route to %v", to, a.key.Dst)
	case noPort:
		t.note(stage, "%s: %v is reached through an interface that is no port", to, a.key.Dst)
	case through:
		t.note(stage, "%s: through the tunnel of peer %s; up to %d bytes fit behind the headers in there", to, t.snapshot.Peers[a.slot].Name, a.limit)
	case noEndpoint:
		t.note(stage, "%s: its address is not known", to)
	}
}

// quietSource is the live neighbour table, which nobody asks anything.
type quietSource struct{ live neigh.Source }

func (s quietSource) Table() *neigh.Table { return s.live.Table() }
func (quietSource) Resolve(neigh.Key)     {}

// traceQueue is a port in memory.
type traceQueue struct {
	umem     *afxdp.UMEM
	ifindex  uint32
	trace    *trace
	received []afxdp.Desc
}

func (q *traceQueue) inject(b []byte) bool {
	var base [1]uint64
	if len(b) == 0 || len(b) > q.umem.FrameSize()-afxdp.KernelHeadroom-maxSealing || q.umem.Alloc(base[:]) == 0 {
		return false
	}
	copy(q.umem.Frame(base[0])[afxdp.KernelHeadroom:], b)
	q.received = append(q.received, afxdp.Desc{Addr: base[0] + afxdp.KernelHeadroom, Len: uint32(len(b))})
	return true
}

func (q *traceQueue) Receive(dst []afxdp.Desc) int {
	n := copy(dst, q.received)
	q.received = q.received[n:]
	return n
}

func (q *traceQueue) Send(src []afxdp.Desc) int {
	for _, d := range src {
		at := d.Addr - q.umem.FrameBase(d.Addr)
		data := append([]byte(nil), q.umem.Frame(d.Addr)[at:at+uint64(d.Len)]...)
		q.trace.Sent = append(q.trace.Sent, TracedFrame{q.ifindex, data})
		q.trace.note("send", "%d bytes out of port %s", len(data), q.trace.port(q.ifindex))
		q.umem.Free(d.Addr)
	}
	return len(src)
}

func (*traceQueue) Fill() int    { return 0 }
func (*traceQueue) Kick() error  { return nil }
func (*traceQueue) Reclaim() int { return 0 }
func (*traceQueue) FD() int      { return -1 }
func (*traceQueue) Close() error { return nil }

// encap notes the format between gateways.
func (t *trace) encap(f *frame, p *peerState, limit int) {
	vpc := &t.snapshot.VPCs[f.vpc]
	if vpc.VNI == 0 {
		t.note("encap", "as it is, because VPC %s is the default one; the inner packet may have %d bytes, it has %d", vpc.Name, limit, f.ip.Len)
		return
	}
	t.note("encap", "in Geneve with VNI %d, as the peer calls VPC %s; the inner packet may have %d bytes, it has %d",
		p.remoteVNI(vpc.VNI), vpc.Name, limit-p.tunnel.len-f.optsLen, f.ip.Len)
}

// rule notes what the access list says; the default is behind its last rule.
func (t *trace) rule(f *frame, rule int32, a *acl) {
	vpc := &t.snapshot.VPCs[f.vpc]
	if int(rule) < len(vpc.ACL.Rules) {
		t.note("acl", "VPC %s: rule %s matches: %v", vpc.Name, vpc.ACL.Rules[rule].ID, a.actions[rule])
		return
	}
	t.note("acl", "VPC %s: no rule matches, the default is %v", vpc.Name, a.actions[rule])
}

// encapDirect notes the format towards a direct peer.
func (t *trace) encapDirect(f *frame, p *peerState, limit int) {
	vpc := &t.snapshot.VPCs[f.vpc]
	t.note("encap", "in the clear, in Geneve with VNI %d, as the peer calls VPC %s; the inner packet may have %d bytes, it has %d",
		p.remoteVNI(vpc.VNI), vpc.Name, limit, f.ip.Len)
}
