package wireguard

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// remac makes the macs right again after a change to a handshake message, as
// anybody can who knows the receiver's public key.
func remac(msg []byte, to PublicKey) {
	var g device.CookieGenerator
	g.Init(device.NoisePublicKey(to))
	clear(msg[len(msg)-16:])
	g.AddMacs(msg)
}

// hand gives n a handshake message and returns what its engine answers with.
func (n *node) hand(t *testing.T, msg []byte, from netip.AddrPort) []sent {
	t.Helper()
	if !n.d.Receive(msg, Endpoint{Remote: from}) {
		t.Fatalf("%d bytes not taken", len(msg))
	}
	before := len(n.w.log)
	n.work()
	n.w.queue = nil
	return n.w.log[before:]
}

// initiation returns a's first initiation, which does not arrive.
func (n *node) firstInitiation(p *Peer) []byte {
	n.say(p, "x")
	n.work()
	n.w.queue = nil
	return n.w.log[len(n.w.log)-1].data
}

func TestEveryFlippedBitOfAnInitiationIsRefused(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	msg := a.firstInitiation(toB)
	for bit := range len(msg) * 8 {
		for _, macs := range []bool{false, true} {
			m := bytes.Clone(msg)
			m[bit/8] ^= 1 << (bit % 8)
			inMac2 := bit >= (len(msg)-16)*8
			inMac1 := !inMac2 && bit >= (len(msg)-32)*8
			inSender := bit >= 4*8 && bit < 8*8
			if macs {
				if inMac1 || inMac2 || inSender {
					continue // repaired; the sender's index is not authenticated, here or anywhere
				}
				remac(m, b.key.PublicKey())
			} else if inMac2 {
				continue // not looked at without load
			}
			want := b.d.Counters()
			switch {
			case bit < 4*8:
				want.Malformed++
			case !macs:
				want.BadMAC1++
			default:
				want.Invalid++
			}
			b.d.Receive(m, Endpoint{Remote: a.addr})
			b.work()
			if got := b.d.Counters(); got != want {
				// The top bit of the ephemeral key is not part of the point
				// (RFC 7748, section 5), but it is hashed.
				t.Fatalf("bit %d, macs repaired %v: %+v, want %+v", bit, macs, got, want)
			}
		}
	}
	if out := b.hand(t, msg, a.addr); len(out) != 1 {
		t.Errorf("the message itself: %d answers", len(out))
	}
}

func TestEveryFlippedBitOfAResponseIsRefusedAndTheTrueOneStillWorks(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	out := b.hand(t, a.firstInitiation(toB), a.addr)
	msg := out[0].data
	for bit := range len(msg) * 8 {
		for _, macs := range []bool{false, true} {
			m := bytes.Clone(msg)
			m[bit/8] ^= 1 << (bit % 8)
			if bit >= (len(msg)-32)*8 && (macs || bit >= (len(msg)-16)*8) || macs && bit >= 4*8 && bit < 8*8 {
				continue
			}
			want := a.d.Counters()
			switch {
			case bit < 4*8:
				want.Malformed++
			case !macs:
				want.BadMAC1++
			default:
				want.Invalid++
			}
			if macs {
				remac(m, a.key.PublicKey())
			}
			a.d.Receive(m, Endpoint{Remote: b.addr})
			a.work()
			if got := a.d.Counters(); got != want {
				t.Fatalf("bit %d, macs repaired %v: %+v, want %+v", bit, macs, got, want)
			}
		}
	}
	a.hand(t, msg, b.addr)
	if r := a.say(toB, "x"); r != OK {
		t.Errorf("after the true response: %v", r)
	}
	// Once more, it answers nothing.
	before := a.d.Counters().Invalid
	a.hand(t, msg, b.addr)
	if got := a.d.Counters().Invalid; got != before+1 {
		t.Error("a response was accepted twice")
	}
}

func TestResponseWithAKeyOfLowOrderDoesNotEndTheHandshake(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	msg := b.hand(t, a.firstInitiation(toB), a.addr)[0].data
	forged := bytes.Clone(msg)
	clear(forged[responseNoise : responseNoise+keySize])
	remac(forged, a.key.PublicKey())
	a.hand(t, forged, b.addr)
	if c := a.d.Counters(); c.Invalid != 1 {
		t.Errorf("%+v, want it counted as invalid", c)
	}
	a.hand(t, msg, b.addr)
	if r := a.say(toB, "x"); r != OK {
		t.Errorf("after the true response: %v", r)
	}
}

func TestInitiationWithAKeyOfLowOrderIsRefused(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	msg := a.firstInitiation(toB)
	clear(msg[initiationNoise : initiationNoise+keySize])
	remac(msg, b.key.PublicKey())
	if out := b.hand(t, msg, a.addr); len(out) != 0 || b.d.Counters().Invalid != 1 {
		t.Errorf("%d answers, %+v", len(out), b.d.Counters())
	}
}

func TestHandshakeMessagesOfAnyOtherLengthAreRefused(t *testing.T) {
	_, _, b, _, _ := pair(t)
	want := uint64(0)
	for kind := range byte(6) {
		for n := range 200 {
			msg := make([]byte, n)
			if n > 0 {
				msg[0] = kind
			}
			if n >= 4 && handshakeSize(msg) == n {
				continue
			}
			want++
			if b.d.Receive(msg, Endpoint{}) {
				t.Errorf("type %d with %d bytes was taken", kind, n)
			}
		}
	}
	if got := b.d.Counters().Malformed; got != want {
		t.Errorf("%d malformed, want %d", got, want)
	}
}

func TestInitiationIsAcceptedOnce(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	msg := a.firstInitiation(toB)
	if out := b.hand(t, msg, a.addr); len(out) != 1 {
		t.Fatalf("%d answers", len(out))
	}
	w.ns.Add(int64(time.Minute))
	elsewhere := netip.MustParseAddrPort("198.51.100.9:9")
	if out := b.hand(t, msg, elsewhere); len(out) != 0 || b.d.Counters().ReplayedInitiations != 1 {
		t.Errorf("replay: %d answers, %+v", len(out), b.d.Counters())
	}
	if toA.Endpoint().Remote != a.addr {
		t.Error("the replay moved the peer")
	}
}

func TestOlderInitiationIsRefused(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	old := a.firstInitiation(toB)
	w.lose = func(sent) bool { return true }
	w.pass(6 * time.Second)
	newer := w.log[len(w.log)-1].data
	if bytes.Equal(old, newer) {
		t.Fatal("no second initiation")
	}
	if out := b.hand(t, newer, a.addr); len(out) != 1 {
		t.Fatalf("newer: %d answers", len(out))
	}
	w.ns.Add(int64(time.Second))
	if out := b.hand(t, old, a.addr); len(out) != 0 || b.d.Counters().ReplayedInitiations != 1 {
		t.Errorf("older: %d answers, %+v", len(out), b.d.Counters())
	}
}

func TestInitiationsOfOnePeerComeAtMost50TimesASecond(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	flood := func(step time.Duration) (accepted int) {
		for range 10 {
			w.ns.Add(int64(step))
			toB.sentLast = 0
			a.d.step(func(now int64) { a.d.initiate(toB, now) })
			w.queue = nil
			accepted += len(b.hand(t, w.log[len(w.log)-1].data, a.addr))
		}
		return accepted
	}
	// The time stamp has a grain of 2^24 ns, so the limit is seen above that.
	if n := flood(17 * time.Millisecond); n > 5 {
		t.Errorf("%d of 10 initiations accepted 17ms apart", n)
	}
	if n := flood(40 * time.Millisecond); n != 10 {
		t.Errorf("%d of 10 initiations accepted 40ms apart", n)
	}
}

func TestUnknownPeerIsRefused(t *testing.T) {
	w, _, b, _, _ := pair(t)
	c := w.add("192.0.2.3:3")
	toB := c.peer(b, PeerConfig{})
	if out := b.hand(t, c.firstInitiation(toB), c.addr); len(out) != 0 || b.d.Counters().UnknownPeer != 1 {
		t.Errorf("%d answers, %+v", len(out), b.d.Counters())
	}
	if b.d.index.used != 0 {
		t.Error("an index was spent on it")
	}
}

func TestHandshakeWithAnotherResponderFails(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	c := w.add("192.0.2.3:3")
	c.peer(a, PeerConfig{})
	msg := a.firstInitiation(toB)
	c.hand(t, msg, a.addr)
	if got := c.d.Counters().BadMAC1; got != 1 {
		t.Errorf("mac1 for b accepted by c")
	}
	remac(msg, c.key.PublicKey())
	c.hand(t, msg, a.addr)
	if got := c.d.Counters().Invalid; got != 1 {
		t.Errorf("initiation to b accepted by c")
	}
}

func TestFullQueueIsCounted(t *testing.T) {
	w := newWorld(t)
	a := w.add("192.0.2.1:1", func(o *Options) { o.HandshakeQueue = 8 })
	msg := make([]byte, device.MessageInitiationSize)
	msg[0] = device.MessageInitiationType
	for i := range 10 {
		if got := a.d.Receive(msg, Endpoint{}); got != (i < 8) {
			t.Errorf("message %d taken: %v", i, got)
		}
	}
	if got := a.d.Counters().QueueFull; got != 2 {
		t.Errorf("%d counted as queue full, want 2", got)
	}
	a.work()
	if got := a.d.Counters(); got.BadMAC1 != 8 {
		t.Errorf("%+v", got)
	}
}

func TestManyWaitingMessagesMeanLoadForASecond(t *testing.T) {
	w := newWorld(t)
	a := w.add("192.0.2.1:1", func(o *Options) { o.HandshakeQueue = 64 })
	msg := make([]byte, device.MessageInitiationSize)
	msg[0] = device.MessageInitiationType
	remac(msg, a.key.PublicKey())
	from := Endpoint{Remote: netip.MustParseAddrPort("198.51.100.1:1")}
	for range 20 {
		a.d.Receive(msg, from)
	}
	a.work()
	c := a.d.Counters()
	if c.CookieReplies != 20 || c.Invalid != 0 {
		t.Errorf("%+v, want 20 cookies: the last few because it was just now", c)
	}
	if n := len(w.log); n != 20 || len(w.log[0].data) != device.MessageCookieReplySize || w.log[0].to != from.Remote {
		t.Errorf("%d datagrams, the first with %d bytes to %v", n, len(w.log[0].data), w.log[0].to)
	}
	w.ns.Add(loadHold)
	a.d.Receive(msg, from)
	a.work()
	if got := a.d.Counters().Invalid; got != 1 {
		t.Errorf("%+v, want the message looked at a second later", a.d.Counters())
	}
}

// load puts a node under load for a long time.
func (n *node) load() { n.d.loadUntil = n.d.Clock() + int64(time.Hour) }

func TestCookieUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // cookies run on the machine's clock
		w, a, b, toB, _ := pair(t)
		b.d.limiter.Init()
		defer b.d.limiter.Close()
		b.load()
		a.say(toB, "x")
		w.settle()
		if c, d := b.d.Counters(), a.d.Counters(); c.CookieReplies != 1 || c.Initiations != 0 || d.Cookies != 1 {
			t.Fatalf("b %+v, a %+v", c, d)
		}
		w.pass(6 * time.Second)
		if c := b.d.Counters(); c.Initiations != 1 || toB.current.Load() == nil {
			t.Fatalf("the initiation with a cookie: %+v", c)
		}
		// The cookie is good for that address only.
		w.pass(6 * time.Second)
		msg := a.lastInitiation(toB)
		if out := b.hand(t, msg, netip.MustParseAddrPort("192.0.2.1:999")); len(out) != 1 || out[0].kind() != device.MessageCookieReplyType {
			t.Errorf("cookie of another port was accepted")
		}
		// And for two minutes.
		time.Sleep(121 * time.Second)
		if out := b.hand(t, msg, a.addr); len(out) != 1 || out[0].kind() != device.MessageCookieReplyType {
			t.Errorf("old cookie was accepted")
		}
	})
}

// lastInitiation makes an initiation and returns it instead of sending.
func (n *node) lastInitiation(p *Peer) []byte {
	p.sentLast = 0
	n.d.step(func(now int64) { n.d.initiate(p, now) })
	n.w.queue = nil
	return n.w.log[len(n.w.log)-1].data
}

func TestRateLimitPerSourceUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, toB, _ := pair(t)
		b.d.limiter.Init()
		defer b.d.limiter.Close()
		b.load()
		a.say(toB, "x")
		w.settle() // a has its cookie now
		for range 20 {
			w.ns.Add(int64(100 * time.Millisecond))
			b.hand(t, a.lastInitiation(toB), a.addr)
		}
		c := b.d.Counters()
		if c.Initiations != 4 || c.RateLimited != 16 {
			t.Errorf("%+v, want the library's burst of 4 accepted of 20", c)
		}
		time.Sleep(time.Second)
		w.ns.Add(int64(time.Second))
		b.hand(t, a.lastInitiation(toB), a.addr)
		if got := b.d.Counters().Initiations; got != 5 {
			t.Errorf("%d accepted, want one more a second later", got)
		}
	})
}

func TestSourcesForTheRateLimit(t *testing.T) {
	for _, c := range []struct{ name, from, want string }{
		{"IPv4 is an address", "192.0.2.7:1", "192.0.2.7"},
		{"IPv4 in IPv6 is IPv4", "[::ffff:192.0.2.7]:1", "192.0.2.7"},
		{"IPv6 is a /64", "[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::"},
		{"a zone does not matter", "[fe80::1%eth0]:1", "fe80::"},
	} {
		if got := rateKey(netip.MustParseAddrPort(c.from)).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestForgedCookieIsRefused(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	msg := a.firstInitiation(toB)
	b.load()
	reply := b.hand(t, msg, a.addr)[0].data
	for bit := 4 * 8; bit < len(reply)*8; bit++ {
		m := bytes.Clone(reply)
		m[bit/8] ^= 1 << (bit % 8)
		before := a.d.Counters()
		before.Invalid++
		a.hand(t, m, b.addr)
		if got := a.d.Counters(); got != before {
			t.Fatalf("bit %d: %+v, want %+v", bit, got, before)
		}
	}
	a.hand(t, reply, b.addr)
	if a.d.Counters().Cookies != 1 {
		t.Error("the true cookie was refused")
	}
}

func TestIndexTableGrowsAndKeepsSessionsApart(t *testing.T) {
	var table indexTable
	table.init()
	var all []*session
	for range 5000 {
		s := &session{}
		if !table.add(s) {
			t.Fatal("full")
		}
		all = append(all, s)
	}
	for i, s := range all {
		if table.lookup(s.localIndex) != s {
			t.Fatalf("session %d is lost", i)
		}
		if table.lookup(s.localIndex^0x80000000) == s {
			t.Fatal("the high bits do not count")
		}
	}
	for _, s := range all {
		table.remove(s)
		table.remove(s) // harmless
	}
	if table.used != 0 {
		t.Errorf("%d used after all were removed", table.used)
	}
}

func TestSenderIndexIsTheReceiverIndexOfTheAnswer(t *testing.T) {
	_, a, b, toB, _ := pair(t)
	msg := a.firstInitiation(toB)
	out := b.hand(t, msg, a.addr)[0].data
	if binary.LittleEndian.Uint32(out[8:]) != binary.LittleEndian.Uint32(msg[4:]) {
		t.Error("the response is for another index")
	}
}
