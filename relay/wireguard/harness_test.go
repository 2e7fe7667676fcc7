package wireguard

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// world is some gateways on a network in memory, with a clock that only moves
// when it is told to. No goroutine runs: the test makes the engines' steps.
type world struct {
	t     testing.TB
	ns    atomic.Int64
	start time.Time
	nodes []*node
	queue []sent
	// lose tells whether a datagram is lost; nil: none.
	lose func(sent) bool
	log  []sent // every datagram, also lost ones
}

type sent struct {
	at       time.Duration // since the start
	from, to netip.AddrPort
	data     []byte
}

// kind is the message type.
func (s sent) kind() uint32 { return binary.LittleEndian.Uint32(s.data) }

// node is one gateway.
type node struct {
	w     *world
	d     *Device
	key   PrivateKey
	addr  netip.AddrPort
	batch *Batch
	got   [][]byte // what was opened, without keepalives
	last  []Result // of the last messages that were opened
}

func newWorld(t testing.TB) *world {
	return &world{t: t, start: time.Now()}
}

func (w *world) now() time.Time { return w.start.Add(time.Duration(w.ns.Load())) }

func (w *world) since() time.Duration { return time.Duration(w.ns.Load()) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) add(addr string, change ...func(*Options)) *node {
	n := &node{w: w, key: must(NewPrivateKey()), addr: netip.MustParseAddrPort(addr)}
	o := Options{PrivateKey: n.key, Now: w.now, Send: n.send}
	for _, f := range change {
		f(&o)
	}
	d, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	n.d, n.batch = d, d.NewBatch()
	w.nodes = append(w.nodes, n)
	return n
}

// pair is two gateways that know each other.
func pair(t testing.TB) (w *world, a, b *node, toB, toA *Peer) {
	w = newWorld(t)
	a, b = w.add("192.0.2.1:1"), w.add("192.0.2.2:2")
	toB = a.peer(b, PeerConfig{})
	toA = b.peer(a, PeerConfig{})
	return w, a, b, toB, toA
}

// peer makes other a peer of n.
func (n *node) peer(other *node, c PeerConfig) *Peer {
	c.PublicKey = other.key.PublicKey()
	if !c.Endpoint.Remote.IsValid() {
		c.Endpoint.Remote = other.addr
	}
	p, err := n.d.SetPeer(c)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return p
}

func (n *node) send(dg Datagram) {
	n.w.put(sent{n.w.since(), n.addr, dg.Remote, dg.Data})
}

func (w *world) put(s sent) {
	w.log = append(w.log, s)
	if w.lose == nil || !w.lose(s) {
		w.queue = append(w.queue, s)
	}
}

// plain makes a Packet with the given plaintext for Seal.
func plain(p *Peer, data []byte) Packet {
	buf := make([]byte, HeaderSize, Overhead+len(data)+MaxPadding)
	return Packet{Buf: append(buf, data...), Peer: p}
}

// seal seals and does not send.
func (n *node) seal(p *Peer, data []byte) ([]byte, Result) {
	pkts := []Packet{plain(p, data)}
	n.batch.Seal(pkts, n.d.Clock())
	return pkts[0].Buf, pkts[0].Result
}

// open opens a copy of a message.
func (n *node) open(msg []byte, from netip.AddrPort) (data []byte, r Result) {
	pkts := []Packet{{Buf: append([]byte(nil), msg...)}}
	n.batch.Locate = AllFrom(Endpoint{Remote: from})
	n.batch.Open(pkts, n.d.Clock())
	return pkts[0].Buf, pkts[0].Result
}

// say seals and sends.
func (n *node) say(p *Peer, data string) Result {
	msg, r := n.seal(p, []byte(data))
	if r == OK {
		n.send(Datagram{p.Endpoint(), msg})
	}
	return r
}

// heard returns and forgets what n has opened.
func (n *node) heard() []string {
	var out []string
	for _, b := range n.got {
		for len(b) > 0 && b[len(b)-1] == 0 { // padding
			b = b[:len(b)-1]
		}
		out = append(out, string(b))
	}
	n.got = nil
	return out
}

// work makes the engine's steps that are due without a tick.
func (n *node) work() (did bool) {
	for {
		select {
		case m := <-n.d.inbox:
			n.d.step(func(now int64) { n.d.handle(&m, now) })
		case <-n.d.wake:
			n.d.step(n.d.answerRequests)
		default:
			return did
		}
		did = true
	}
}

// settle delivers until nothing moves any more.
func (w *world) settle() {
	for {
		moved := false
		for _, n := range w.nodes {
			moved = n.work() || moved
		}
		queue := w.queue
		w.queue = nil
		for _, s := range queue {
			moved = true
			w.deliver(s)
		}
		if !moved {
			return
		}
	}
}

func (w *world) deliver(s sent) {
	for _, n := range w.nodes {
		if n.addr != s.to {
			continue
		}
		if s.kind() != device.MessageTransportType {
			if !n.d.Receive(s.data, Endpoint{Remote: s.from, Local: s.to.Addr()}) {
				w.t.Fatalf("handshake message of %d bytes not taken", len(s.data))
			}
			continue
		}
		data, r := n.open(s.data, s.from)
		n.last = append(n.last, r)
		if r == OK {
			n.got = append(n.got, data)
		}
	}
}

// pass lets time pass, tick by tick.
func (w *world) pass(d time.Duration) {
	for end := w.since() + d; w.since() < end; {
		w.ns.Add(int64(min(tickEvery, end-w.since())))
		for _, n := range w.nodes {
			n.d.step(n.d.tick)
		}
		w.settle()
	}
}

// connect makes a session from a to b by sending something.
func (w *world) connect(a *node, p *Peer) {
	w.t.Helper()
	if r := a.say(p, "knock"); r != NoSession {
		w.t.Fatalf("first packet: %v, want no session", r)
	}
	w.settle()
	if p.current.Load() == nil {
		w.t.Fatal("no session after the handshake")
	}
}

// count counts datagrams of a kind in the log, from one address.
func (w *world) count(from *node, kind uint32) (n int) {
	for _, s := range w.log {
		if s.kind() == kind && s.from == from.addr {
			n++
		}
	}
	return n
}
