package wireguard

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/device"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// handSealed makes a transport message for s with any counter, as only a peer
// with the keys could. s is the receiver's session.
func handSealed(s *session, counter uint64, data []byte) []byte {
	msg := make([]byte, HeaderSize, Overhead+len(data))
	binary.LittleEndian.PutUint32(msg, device.MessageTransportType)
	binary.LittleEndian.PutUint32(msg[4:], s.localIndex)
	binary.LittleEndian.PutUint64(msg[8:], counter)
	msg = append(msg, data...)
	ops := []aead.Op{{Key: &s.receive, Nonce: counter, Data: msg[HeaderSize:]}}
	aead.Generic().Seal(ops)
	return msg[:len(msg)+aead.Overhead]
}

func TestReplayWindow(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	s := toA.current.Load()
	for _, c := range []struct {
		name    string
		counter uint64
		want    Result
	}{
		{"far ahead", 100000, OK},
		{"the same again", 100000, Replay},
		{"one back", 99999, OK},
		{"one back again", 99999, Replay},
		{"at the end of the window", 100000 - windowSize, OK},
		{"at the end of the window again", 100000 - windowSize, Replay},
		{"behind the window", 100000 - windowSize - 1, Replay},
		{"zero", 0, Replay},
		{"one ahead", 100001, OK},
		{"what was inside is behind now", 100001 - windowSize - 1, Replay},
		{"a jump over more than the window", 200000, OK},
		{"before the jump", 100002, Replay},
		{"the window is clean behind a jump", 200000 - windowSize, OK},
	} {
		if _, r := b.open(handSealed(s, c.counter, []byte("x")), a.addr); r != c.want {
			t.Errorf("%s (%d): %v, want %v", c.name, c.counter, r, c.want)
		}
	}
}

func TestReorderWithinTheWindowAndInOneBatch(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	s := toA.current.Load()
	pkts := make([]Packet, 0, 200)
	for i := range 100 {
		msg := handSealed(s, uint64(1000-i), []byte("x"))
		pkts = append(pkts, Packet{Buf: msg}, Packet{Buf: bytes.Clone(msg)})
	}
	b.batch.Open(pkts, b.d.Clock())
	for i, p := range pkts {
		if want := []Result{OK, Replay}[i%2]; p.Result != want {
			t.Fatalf("packet %d: %v, want %v", i, p.Result, want)
		}
	}
}

func TestForgedMessageDoesNotMoveTheReplayWindow(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	s := toA.current.Load()
	forged := handSealed(s, 1<<40, []byte("x"))
	forged[HeaderSize] ^= 1
	if _, r := b.open(forged, a.addr); r != BadAuth {
		t.Fatalf("forged: %v", r)
	}
	if _, r := b.open(handSealed(s, 5, []byte("x")), a.addr); r != OK {
		t.Errorf("after the forged one: %v", r)
	}
}

func TestEveryFlippedBitOfATransportMessageIsRefused(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	msg, _ := a.seal(toB, []byte("sixteen  bytes  and a bit more"))
	before := toA.Status()
	for bit := range len(msg) * 8 {
		m := bytes.Clone(msg)
		m[bit/8] ^= 1 << (bit % 8)
		want := BadAuth
		switch {
		case bit < 4*8:
			want = Malformed
		case bit < 8*8:
			want = BadIndex
		case bit >= 8*8 && bit < 16*8 && binary.LittleEndian.Uint64(m[8:]) >= rejectAfterMessages:
			t.Fatal("a flipped bit of a small counter cannot reach the limit")
		}
		if _, r := b.open(m, a.addr); r != want {
			t.Errorf("bit %d: %v, want %v", bit, r, want)
		}
	}
	if after := toA.Status(); after.RxPackets != before.RxPackets {
		t.Error("refused messages were counted as received")
	}
	if _, r := b.open(msg, a.addr); r != OK {
		t.Errorf("the message itself: %v", r)
	}
}

func TestEveryTruncationOfATransportMessageIsRefused(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	msg, _ := a.seal(toB, make([]byte, 100))
	for n := range len(msg) {
		want := BadAuth
		if n < Overhead {
			want = Malformed
		}
		if _, r := b.open(msg[:n], a.addr); r != want {
			t.Errorf("%d bytes: %v, want %v", n, r, want)
		}
	}
	if _, r := b.open(append(bytes.Clone(msg), 0), a.addr); r != BadAuth {
		t.Errorf("one byte more: %v", r)
	}
}

func TestMessageOfAnotherSessionIsRefused(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	c := w.add("192.0.2.3:3")
	toC := a.peer(c, PeerConfig{})
	c.peer(a, PeerConfig{})
	w.connect(a, toB)
	w.connect(a, toC)
	msg, _ := a.seal(toB, []byte("for b"))
	if _, r := c.open(msg, a.addr); r != BadIndex {
		t.Errorf("at c: %v, want bad index", r)
	}
	// Even with the index of a session of c.
	binary.LittleEndian.PutUint32(msg[4:], toC.current.Load().remoteIndex)
	if _, r := c.open(msg, a.addr); r != BadAuth {
		t.Errorf("at c with its index: %v, want bad auth", r)
	}
}

func TestPadding(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	for _, c := range []struct {
		name               string
		size, limit, total int
	}{
		{"a keepalive has none", 0, 0, 0},
		{"up to 16", 1, 0, 16},
		{"16 stays", 16, 0, 16},
		{"17 to 32", 17, 0, 32},
		{"up to the limit", 1415, 1420, 1420},
		{"not at the limit", 1420, 1420, 1420},
		{"not over the limit", 1430, 1420, 1430},
		{"a far limit does not matter", 33, 1420, 48},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkt := plain(toB, bytes.Repeat([]byte{7}, c.size))
			pkt.MaxLen = c.limit
			whole := pkt.Buf[:cap(pkt.Buf)]
			for i := HeaderSize + c.size; i < len(whole); i++ {
				whole[i] = 0xee // what was in the frame before must not leak
			}
			pkts := []Packet{pkt}
			a.batch.Seal(pkts, a.d.Clock())
			if got := len(pkts[0].Buf) - Overhead; pkts[0].Result != OK || got != c.total {
				t.Fatalf("%v, padded to %d, want %d", pkts[0].Result, got, c.total)
			}
			data, r := b.open(pkts[0].Buf, a.addr)
			want := append(bytes.Repeat([]byte{7}, c.size), make([]byte, c.total-c.size)...)
			if c.total == 0 && r == Keepalive {
				return
			}
			if r != OK || !bytes.Equal(data, want) {
				t.Errorf("%v, %x, want %x", r, data, want)
			}
		})
	}
}

func TestSealStaysInPlace(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	frame := make([]byte, 2048)
	for i := range frame {
		frame[i] = 0xcc
	}
	buf := frame[100-HeaderSize : 140 : 140+MaxPadding+aead.Overhead]
	pkts := []Packet{{Buf: buf, Peer: toB}}
	a.batch.Seal(pkts, a.d.Clock())
	if &pkts[0].Buf[0] != &buf[0] {
		t.Fatal("the message is in other memory")
	}
	end := 100 - HeaderSize + len(pkts[0].Buf)
	for i, c := range frame {
		if (i < 100-HeaderSize || i >= end) && c != 0xcc {
			t.Fatalf("byte %d outside the message was written", i)
		}
	}
	in := []Packet{{Buf: pkts[0].Buf}}
	b.batch.Open(in, b.d.Clock())
	if in[0].Result != OK || &in[0].Buf[0] != &frame[100] {
		t.Errorf("%v; plaintext is not where it was", in[0].Result)
	}
}

func TestEveryPacketOfAMixedBatchHasItsOwnResult(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	c, e := w.add("192.0.2.3:3"), w.add("192.0.2.4:4")
	toC := a.peer(c, PeerConfig{})
	toAfromC := c.peer(a, PeerConfig{})
	toE := a.peer(e, PeerConfig{}) // no session
	gone := a.peer(w.add("192.0.2.5:5"), PeerConfig{})
	a.d.RemovePeer(gone.PublicKey())
	w.connect(a, toB)
	w.connect(a, toC)

	long := func(p *Peer) Packet { return plain(p, []byte("0123456789")) }
	tight := long(toB)
	tight.Buf = tight.Buf[: HeaderSize+10 : HeaderSize+16+aead.Overhead-1]
	pkts := []Packet{
		long(toB), long(toC), long(toE), long(nil), long(toB), {Buf: make([]byte, 15), Peer: toB},
		tight, long(gone), long(toC), plain(toB, nil), long(toE),
	}
	want := []Result{OK, OK, NoSession, NoPeer, OK, NoRoom, NoRoom, NoPeer, OK, OK, NoSession}
	before := [2]PeerStatus{toB.Status(), toC.Status()}
	a.batch.Seal(pkts, a.d.Clock())
	for i, p := range pkts {
		if p.Result != want[i] {
			t.Errorf("seal %d: %v, want %v", i, p.Result, want[i])
		}
	}
	if s := toB.Status(); s.TxPackets-before[0].TxPackets != 3 || s.TxBytes-before[0].TxBytes != 48+48+32 {
		t.Errorf("counted %d packets, %d bytes to b", s.TxPackets-before[0].TxPackets, s.TxBytes-before[0].TxBytes)
	}
	if string(pkts[2].Buf[HeaderSize:]) != "0123456789" {
		t.Error("a packet without session was touched")
	}

	fromB, _ := b.seal(toA, []byte("b"))
	fromC, _ := c.seal(toAfromC, []byte("c"))
	keepalive, _ := b.seal(toA, nil)
	broken := bytes.Clone(fromC)
	broken[20] ^= 1
	unknown := bytes.Clone(fromC)
	unknown[5] ^= 1
	in := []Packet{}
	for _, m := range [][]byte{fromC, fromB, nil, broken, keepalive, unknown, fromB, make([]byte, 31), fromC} {
		in = append(in, Packet{Buf: bytes.Clone(m)})
	}
	a.batch.Locate = AllFrom(Endpoint{Remote: b.addr})
	a.batch.Open(in, a.d.Clock())
	want = []Result{OK, OK, Malformed, BadAuth, Keepalive, BadIndex, Replay, Malformed, Replay}
	peers := []*Peer{toC, toB, nil, nil, toB, nil, toB, nil, toC}
	for i, p := range in {
		if p.Result != want[i] || p.Peer != peers[i] {
			t.Errorf("open %d: %v from %v, want %v from %v", i, p.Result, p.Peer, want[i], peers[i])
		}
	}
}

func TestLongBatchesAreDoneInRounds(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	pkts := make([]Packet, 3*BatchSize+5)
	for i := range pkts {
		pkts[i] = plain(toB, []byte{byte(i), 1})
	}
	a.batch.Seal(pkts, a.d.Clock())
	b.batch.Open(pkts, b.d.Clock())
	for i, p := range pkts {
		if p.Result != OK || p.Buf[0] != byte(i) {
			t.Fatalf("packet %d: %v", i, p.Result)
		}
	}
}

func TestManyPeersInOneBatch(t *testing.T) {
	w := newWorld(t)
	hub := w.add("192.0.2.1:1")
	var pkts []Packet
	for i := range BatchSize {
		n := w.add("192.0.2.2:" + string(rune('1'+i/10)) + string(rune('0'+i%10)))
		p := hub.peer(n, PeerConfig{ID: uint32(i)})
		n.peer(hub, PeerConfig{})
		w.connect(hub, p)
		pkts = append(pkts, plain(p, []byte{byte(i), 1}))
	}
	hub.batch.Seal(pkts, hub.d.Clock())
	for i := range pkts {
		n := w.nodes[i+1]
		if data, r := n.open(pkts[i].Buf, hub.addr); r != OK || data[0] != byte(i) {
			t.Fatalf("peer %d: %v", i, r)
		}
	}
	if got := len(*hub.d.index.slots.Load()); got != firstSlots {
		t.Errorf("%d slots for %d sessions", got, hub.d.index.used)
	}
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	const n = BatchSize
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = make([]byte, 2048)
	}
	pkts := make([]Packet, n)
	from := Endpoint{Remote: a.addr, Local: b.addr.Addr()}
	b.batch.Locate = AllFrom(from)
	now := a.d.Clock()
	allocs := testing.AllocsPerRun(100, func() {
		for i := range pkts {
			pkts[i] = Packet{Buf: frames[i][:HeaderSize+100], Peer: toB, MaxLen: 1420}
		}
		a.batch.Seal(pkts, now)
		for i := range pkts {
			if pkts[i].Result != OK {
				t.Fatal(pkts[i].Result)
			}
		}
		b.batch.Open(pkts, now)
		for i := range pkts {
			if pkts[i].Result != OK {
				t.Fatal(pkts[i].Result)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per batch", allocs)
	}
	w.log = nil
	msg := make([]byte, device.MessageInitiationSize)
	msg[0] = device.MessageInitiationType
	if allocs := testing.AllocsPerRun(100, func() {
		if b.d.Receive(msg, from) {
			<-b.d.inbox
		}
	}); allocs != 0 {
		t.Errorf("%v allocations per handshake message", allocs)
	}
}

func TestMessagesFromAFlowPortLeaveThePeerWhereItIs(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	c := toA.config
	c.FlowPorts = FlowPorts{First: 50000, Count: 16}
	must(b.d.SetPeer(c))
	s := toA.current.Load()
	home := toA.Endpoint().Remote
	other := netip.MustParseAddr("203.0.113.77")
	for i, step := range []struct {
		name       string
		from, want netip.AddrPort
	}{
		{"from a flow port", netip.AddrPortFrom(home.Addr(), 50003), home},
		{"from the last flow port", netip.AddrPortFrom(home.Addr(), 50015), home},
		{"from the port behind", netip.AddrPortFrom(home.Addr(), 50016), netip.AddrPortFrom(home.Addr(), 50016)},
		{"from its own port", home, home},
		{"from a flow port of another address", netip.AddrPortFrom(other, 50003), netip.AddrPortFrom(other, home.Port())},
	} {
		if _, r := b.open(handSealed(s, uint64(1000+i), []byte("x")), step.from); r != OK {
			t.Fatal(step.name, r)
		}
		if got := toA.Endpoint().Remote; got != step.want {
			t.Errorf("%s: the peer is at %v, want %v", step.name, got, step.want)
		}
	}
}
