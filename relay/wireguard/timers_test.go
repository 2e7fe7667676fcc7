package wireguard

import (
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// near is a time, give or take: from is the protocol's, the ticks and the
// jitter come on top.
func near(got, from, jitter time.Duration) bool {
	return got >= from && got <= from+jitter+2*tickEvery
}

const jitterTime = time.Duration(rekeyJitter)

func (w *world) times(from *node, kind uint32) (at []time.Duration) {
	for _, s := range w.log {
		if s.kind() == kind && s.from == from.addr {
			at = append(at, s.at)
		}
	}
	return at
}

func TestUnansweredInitiationIsRepeatedFor90Seconds(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.lose = func(sent) bool { return true }
	a.say(toB, "x")
	w.settle()
	if !toB.Status().Handshaking {
		t.Error("status does not tell of the handshake")
	}
	w.pass(200 * time.Second)
	at := w.times(a, device.MessageInitiationType)
	if len(at) < 16 || len(at) > 19 {
		t.Fatalf("%d initiations in 90s, want 16 to 19", len(at))
	}
	for i := 1; i < len(at); i++ {
		if !near(at[i]-at[i-1], 5*time.Second, jitterTime) {
			t.Errorf("gap of %v between tries, want 5s and a jitter", at[i]-at[i-1])
		}
	}
	if last := at[len(at)-1]; last > 90*time.Second+jitterTime {
		t.Errorf("last try at %v, want none after 90s", last)
	}
	if toB.initiation != nil || toB.Status().Handshaking || a.d.index.used != 0 {
		t.Error("the handshake was not dropped")
	}
	// The next packet tries again.
	a.say(toB, "x")
	w.settle()
	if n := w.count(a, device.MessageInitiationType); n != len(at)+1 {
		t.Errorf("%d initiations, want one more than %d", n, len(at))
	}
}

func TestEveryTryHasANewEphemeralKeyAndIndex(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.lose = func(sent) bool { return true }
	a.say(toB, "x")
	w.pass(12 * time.Second)
	seen := map[string]bool{}
	for _, s := range w.log {
		seen[string(s.data[4:40])] = true
	}
	if len(seen) != 3 || len(w.log) != 3 {
		t.Errorf("%d different of %d initiations, want 3 of 3", len(seen), len(w.log))
	}
	if a.d.index.used != 1 {
		t.Errorf("%d indexes used, want the last one's", a.d.index.used)
	}
}

func TestReceiverWithNothingToSayAnswersAfterTenSeconds(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	w.pass(3 * time.Second)
	from := w.since()
	a.say(toB, "x")
	w.settle()
	w.log = nil
	w.pass(60 * time.Second)
	at := w.times(b, device.MessageTransportType)
	if len(at) != 1 || !near(at[0]-from, 10*time.Second, 0) {
		t.Errorf("keepalives at %v, want one 10s after %v", at, from)
	}
	// The keepalive itself must not be answered.
	if n := w.count(a, device.MessageTransportType); n != 0 {
		t.Errorf("the keepalive was answered %d times", n)
	}
}

func TestMoreDataInTheTenSecondsMakesASecondKeepalive(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	a.say(toB, "x")
	w.pass(5 * time.Second)
	a.say(toB, "y")
	w.log = nil
	from := w.since()
	w.pass(60 * time.Second)
	at := w.times(b, device.MessageTransportType)
	if len(at) != 2 || !near(at[0]-from, 5*time.Second, 0) || !near(at[1]-from, 15*time.Second, 0) {
		t.Errorf("keepalives %v after the second packet, want 5s and 15s", at)
	}
}

func TestAnswerWithDataNeedsNoKeepalive(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	a.say(toB, "x")
	w.settle()
	b.say(toA, "y")
	w.pass(9 * time.Second)
	a.say(toB, "z") // answers y before a's ten seconds are over
	w.settle()
	b.say(toA, "z")
	w.settle()
	w.log = nil
	w.pass(time.Second)
	for _, s := range w.log {
		t.Errorf("%d bytes from %v", len(s.data), s.from)
	}
}

func TestSilenceAfterDataBeginsANewHandshakeAfter15Seconds(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.connect(a, toB)
	w.pass(20 * time.Second)
	e := toB.Endpoint()
	e.Local = netip.MustParseAddr("192.0.2.1")
	toB.endpoint.Store(&e)
	w.log = nil
	w.lose = func(sent) bool { return true }
	from := w.since()
	a.say(toB, "x")
	w.pass(3 * time.Second)
	a.say(toB, "y") // does not move the timer
	w.pass(13 * time.Second)
	at := w.times(a, device.MessageInitiationType)
	if len(at) != 1 || !near(at[0]-from, 15*time.Second, jitterTime) {
		t.Fatalf("initiations at %v, want one 15s after %v", at, from)
	}
	if toB.Endpoint().Local.IsValid() {
		t.Error("the local address was kept, though it may be the cause")
	}
	if toB.current.Load() == nil {
		t.Error("the old session must go on meanwhile")
	}
}

func TestKeepalivesCountAsAnAnswer(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.connect(a, toB)
	w.log = nil
	a.say(toB, "x")
	w.pass(40 * time.Second) // b's keepalive after 10 s
	if n := w.count(a, device.MessageInitiationType); n != 0 {
		t.Errorf("%d new handshakes though b has answered", n)
	}
}

func TestPersistentKeepalive(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("192.0.2.1:1"), w.add("192.0.2.2:2")
	a.peer(b, PeerConfig{PersistentKeepalive: 25 * time.Second})
	b.peer(a, PeerConfig{})
	w.pass(100 * time.Millisecond)
	if n := w.count(a, device.MessageInitiationType); n != 1 {
		t.Fatalf("%d initiations at the start, want 1: a persistent keepalive needs no traffic", n)
	}
	w.log = nil
	w.pass(80 * time.Second)
	at := w.times(a, device.MessageTransportType)
	if len(at) != 3 {
		t.Fatalf("keepalives at %v, want 3 in 80s", at)
	}
	for i := 1; i < len(at); i++ {
		if !near(at[i]-at[i-1], 25*time.Second, 0) {
			t.Errorf("gap of %v, want 25s", at[i]-at[i-1])
		}
	}
	// Changed at run time, it counts from now.
	a.peer(b, PeerConfig{PersistentKeepalive: 5 * time.Second})
	w.log = nil
	w.pass(11 * time.Second)
	if n := w.count(a, device.MessageTransportType); n != 3 {
		t.Errorf("%d keepalives in 11s after the change, want 3", n)
	}
}

func TestAnnounceTellsThePeerAtOnceWhereWeAre(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	w.pass(20 * time.Second) // what was owed is sent
	e := toB.Endpoint()
	e.Local = netip.MustParseAddr("192.0.2.99")
	toB.endpoint.Store(&e)
	w.log = nil
	toB.Announce()
	w.pass(100 * time.Millisecond)
	if n := w.count(a, device.MessageTransportType); n != 1 {
		t.Errorf("%d messages, want 1 keepalive", n)
	}
	if local := toB.Endpoint().Local; local.IsValid() {
		t.Errorf("still sends from %v", local)
	}
	// Without a session there is nothing to say, and no handshake is worth it.
	toA.forget()
	w.log = nil
	toA.Announce()
	w.pass(10 * time.Second)
	if n := w.count(b, device.MessageInitiationType) + w.count(b, device.MessageTransportType); n != 0 {
		t.Errorf("%d messages without a session", n)
	}
}

func TestSessionExpiresAfter180Seconds(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	created := toB.current.Load().created
	w.ns.Store(created - int64(time.Second) + rejectAfterTime - 1)
	msg, r := b.seal(toA, []byte("x"))
	if r != OK {
		t.Fatalf("seal just before: %v", r)
	}
	late, _ := b.seal(toA, []byte("x"))
	if _, r := a.open(msg, b.addr); r != OK {
		t.Errorf("open just before: %v", r)
	}
	w.ns.Add(1)
	if _, r := a.open(late, b.addr); r != Expired {
		t.Errorf("open at 180s: %v, want expired", r)
	}
	if _, r := a.seal(toB, []byte("x")); r != NoSession {
		t.Errorf("seal at 180s: %v, want no session", r)
	}
	if toB.Status().Session {
		t.Error("status tells of a session that has expired")
	}
	if _, r := b.seal(toA, []byte("x")); r != NoSession {
		t.Errorf("responder seals at 180s: %v, want no session", r)
	}
	// Whoever could not send has asked for a new one.
	w.settle()
	if a.say(toB, "x") != OK || b.say(toA, "x") != OK {
		t.Error("no new session")
	}
}

func TestInitiatorThatOnlyReceivesRenewsAt165Seconds(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	w.log = nil
	// b sends keepalives, which a does not answer.
	b.peer(a, PeerConfig{PersistentKeepalive: 5 * time.Second})
	w.pass(175 * time.Second)
	at := w.times(a, device.MessageInitiationType)
	if len(at) != 1 || !near(at[0], 165*time.Second, 5*time.Second) {
		t.Errorf("initiations at %v, want one at 165s", at)
	}
	if n := w.count(b, device.MessageInitiationType); n != 0 {
		t.Errorf("the responder initiated %d times", n)
	}
}

func TestAllKeysAreZeroedAfter540SecondsWithoutANewSession(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	sa, sb := toB.current.Load(), toA.current.Load()
	w.pass(539 * time.Second)
	if !sa.live || !sb.live {
		t.Fatal("zeroed too early")
	}
	w.pass(2 * time.Second)
	assertKilled(t, sa)
	assertKilled(t, sb)
	for _, n := range []*node{a, b} {
		if n.d.index.used != 0 {
			t.Errorf("%d indexes still used", n.d.index.used)
		}
	}
}

func TestReplacedSessionsAreKilled(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	sa, sb := toB.current.Load(), toA.current.Load()
	for range 40 {
		a.say(toB, "x")
		b.say(toA, "x")
		w.pass(10 * time.Second)
	}
	assertKilled(t, sa)
	assertKilled(t, sb)
	if n := a.d.index.used; n > 2 {
		t.Errorf("%d indexes used, want current and one retired at most", n)
	}
}

func TestRekeyAfter2To60Messages(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	w.pass(6 * time.Second)
	s := toB.current.Load()
	s.nonce.Store(rekeyAfterMessages)
	a.say(toB, "x")
	w.pass(tickEvery)
	if toB.current.Load() == s {
		t.Error("initiator did not renew")
	}
	// The responder's count matters as well.
	w.pass(6 * time.Second)
	s = toA.current.Load()
	s.nonce.Store(rekeyAfterMessages)
	b.say(toA, "x")
	w.pass(tickEvery)
	if toA.current.Load() == s {
		t.Error("responder did not renew")
	}
}

func TestNoMessageIsSentBehindTheMessageLimit(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	s := toB.current.Load()
	s.nonce.Store(rejectAfterMessages - 2)
	pkts := make([]Packet, 3)
	for i := range pkts {
		pkts[i] = plain(toB, []byte("x"))
	}
	a.batch.Seal(pkts, a.d.Clock())
	for _, p := range pkts {
		if p.Result != NoSession {
			t.Errorf("three messages with two left: %v", p.Result)
		}
	}
	if n := s.nonce.Load(); n != rejectAfterMessages-2 {
		t.Errorf("refused messages moved the counter to %d", n)
	}
	for i := range uint64(2) {
		msg, r := a.seal(toB, []byte("x"))
		if r != OK {
			t.Fatalf("message %d before the limit: %v", i, r)
		}
		if _, r := b.open(msg, a.addr); r != OK {
			t.Errorf("open of message %d before the limit: %v", i, r)
		}
	}
	if _, r := a.seal(toB, []byte("x")); r != NoSession {
		t.Errorf("message at the limit: %v", r)
	}
	// A peer that goes on all the same is not listened to.
	s.nonce.Store(0)
	toA.current.Load().receive = s.send // the same key, to seal by hand below
	msg := handSealed(toA.current.Load(), rejectAfterMessages, []byte("0123456789abcdef"))
	if _, r := b.open(msg, a.addr); r != Expired {
		t.Errorf("message with the counter at the limit: %v, want expired", r)
	}
}

func TestInitiationsAreLimitedToOneIn5Seconds(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.connect(a, toB)
	// Sessions that get lost at once: a asks for a new one all the time.
	for range 300 {
		toB.stopSending()
		a.seal(toB, []byte("x"))
		w.pass(tickEvery)
	}
	at := w.times(a, device.MessageInitiationType)
	for i := 1; i < len(at); i++ {
		if at[i]-at[i-1] < 5*time.Second {
			t.Errorf("initiations %v apart", at[i]-at[i-1])
		}
	}
	if len(at) < 5 {
		t.Errorf("%d initiations in 30s, want 5 or more", len(at))
	}
}

func TestPeerWithoutEndpointHasToSpeakFirst(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("192.0.2.1:1"), w.add("192.0.2.2:2")
	toB, err := a.d.SetPeer(PeerConfig{PublicKey: b.key.PublicKey(), PersistentKeepalive: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	toA := b.peer(a, PeerConfig{})
	a.say(toB, "x")
	w.pass(10 * time.Second)
	if len(w.log) != 0 {
		t.Fatalf("%d datagrams to nowhere", len(w.log))
	}
	w.connect(b, toA)
	if r := a.say(toB, "x"); r != OK || toB.Endpoint().Remote != b.addr {
		t.Errorf("after b spoke: %v, endpoint %v", r, toB.Endpoint())
	}

	// Or it is given one, and the packet that asked long ago gets its session.
	c := w.add("192.0.2.3:3")
	toC, err := a.d.SetPeer(PeerConfig{PublicKey: c.key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	c.peer(a, PeerConfig{})
	a.say(toC, "x")
	w.settle()
	a.peer(c, PeerConfig{})
	w.settle()
	if r := a.say(toC, "x"); r != OK {
		t.Errorf("after the endpoint was set: %v", r)
	}
}
