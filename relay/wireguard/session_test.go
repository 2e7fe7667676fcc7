package wireguard

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

func TestFirstPacketMakesASessionAndDataGoesBothWays(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	before := a.d.Epoch()
	w.connect(a, toB)
	if a.d.Epoch() == before {
		t.Error("epoch did not grow with the new session")
	}
	for _, c := range []struct {
		n, other *node
		p        *Peer
	}{{a, b, toB}, {b, a, toA}} {
		if r := c.n.say(c.p, "hello"); r != OK {
			t.Fatalf("seal: %v", r)
		}
		w.settle()
		if got := c.other.heard(); !slices.Equal(got, []string{"hello"}) {
			t.Fatalf("heard %q", got)
		}
	}
	if n := w.count(a, device.MessageInitiationType); n != 1 {
		t.Errorf("%d initiations, want 1", n)
	}
}

func TestResponderSendsOnlyAfterConfirmation(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.lose = func(s sent) bool { return s.kind() == device.MessageTransportType }
	w.connect(a, toB)
	if _, r := b.seal(toA, []byte("x")); r != NoSession {
		t.Fatalf("responder sealed before it was confirmed: %v", r)
	}
	w.lose = nil
	a.say(toB, "first")
	w.settle()
	if _, r := b.seal(toA, []byte("x")); r != OK {
		t.Fatalf("responder after confirmation: %v", r)
	}
}

func TestPresharedKey(t *testing.T) {
	right, wrong := must(NewPresharedKey()), must(NewPresharedKey())
	for _, c := range []struct {
		name string
		a, b PresharedKey
		want bool
	}{
		{"the same on both sides", right, right, true},
		{"different", right, wrong, false},
		{"only at the initiator", right, PresharedKey{}, false},
		{"only at the responder", PresharedKey{}, right, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("192.0.2.1:1"), w.add("192.0.2.2:2")
			toB := a.peer(b, PeerConfig{PresharedKey: c.a})
			b.peer(a, PeerConfig{PresharedKey: c.b})
			a.say(toB, "knock")
			w.settle()
			if got := toB.current.Load() != nil; got != c.want {
				t.Errorf("session: %v, want %v", got, c.want)
			}
		})
	}
}

func TestRekeyAfter120SecondsLosesNothing(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	first := toB.current.Load()
	a.heard()
	// Both send all the time, for several sessions.
	var want int
	for w.since() < 500*time.Second {
		if a.say(toB, "a") != OK || b.say(toA, "b") != OK {
			t.Fatalf("at %v: cannot seal", w.since())
		}
		want++
		w.pass(100 * time.Millisecond)
	}
	if n := len(b.heard()); n != want {
		t.Errorf("b heard %d of %d", n, want)
	}
	if n := len(a.heard()); n != want {
		t.Errorf("a heard %d of %d", n, want)
	}
	if toB.current.Load() == first {
		t.Error("the session was not replaced")
	}
	var at []time.Duration
	for _, s := range w.log {
		if s.kind() == device.MessageInitiationType {
			if s.from != a.addr {
				t.Errorf("the responder initiated at %v", s.at)
			}
			at = append(at, s.at)
		}
	}
	if len(at) != 5 {
		t.Fatalf("initiations at %v, want 5", at)
	}
	for i := 1; i < len(at); i++ {
		if gap := at[i] - at[i-1]; gap < 120*time.Second || gap > 121*time.Second {
			t.Errorf("gap %v between initiations, want 120s", gap)
		}
	}
}

func TestSimultaneousInitiationGivesSessionsBothWays(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	for round := range 4 {
		// Both begin before either hears of the other.
		if round == 0 {
			a.say(toB, "x")
			b.say(toA, "x")
		} else {
			w.pass(10 * time.Second)
			toB.ask()
			toA.ask()
		}
		a.work()
		b.work()
		if toB.initiation == nil || toA.initiation == nil {
			t.Fatal("both should have begun")
		}
		// What they send meanwhile with what they have must arrive.
		want := []string{}
		if round > 0 {
			a.say(toB, "during")
			b.say(toA, "during")
			want = append(want, "during")
		}
		a.heard()
		b.heard()
		w.settle()
		a.say(toB, "after")
		b.say(toA, "after")
		w.settle()
		want = append(want, "after")
		if got := a.heard(); !slices.Equal(got, want) {
			t.Errorf("round %d: a heard %q, want %q", round, got, want)
		}
		if got := b.heard(); !slices.Equal(got, want) {
			t.Errorf("round %d: b heard %q, want %q", round, got, want)
		}
	}
}

func TestSimultaneousRekeyUnderDelayLosesNothing(t *testing.T) {
	// Every datagram takes 300 ms, both sides send every 100 ms and both
	// begin new sessions at the same moment, again and again.
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	a.heard()
	b.heard()
	var late []sent
	w.lose = func(s sent) bool { late = append(late, s); return true }
	want := 0
	for i := range 600 {
		if i < 570 {
			if i%100 == 0 {
				toB.ask()
				toA.ask()
			}
			if a.say(toB, "a") != OK || b.say(toA, "b") != OK {
				t.Fatal("cannot seal")
			}
			want++
		}
		for len(late) > 0 && late[0].at <= w.since()-300*time.Millisecond {
			w.queue = append(w.queue, late[0])
			late = late[1:]
		}
		w.pass(100 * time.Millisecond)
	}
	if n := w.count(b, device.MessageInitiationType); n < 5 {
		t.Errorf("b began %d times, the test wants more", n)
	}
	if x, y := len(a.heard()), len(b.heard()); x != want || y != want {
		t.Errorf("heard %d and %d of %d", x, y, want)
	}
}

func TestRemovedPeerStopsAtOnce(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	msg, _ := b.seal(toA, []byte("x"))
	s := toB.current.Load()
	if !a.d.RemovePeer(toB.PublicKey()) {
		t.Fatal("no such peer")
	}
	if _, r := a.seal(toB, []byte("x")); r != NoPeer {
		t.Errorf("seal: %v, want no peer", r)
	}
	if _, r := a.open(msg, b.addr); r != BadIndex {
		t.Errorf("open: %v, want bad index", r)
	}
	assertKilled(t, s)
	if a.d.RemovePeer(toB.PublicKey()) {
		t.Error("removed twice")
	}
	if a.d.index.used != 0 {
		t.Errorf("%d indexes still used", a.d.index.used)
	}
}

func assertKilled(t *testing.T, s *session) {
	t.Helper()
	if s.live {
		t.Error("session is alive")
	}
	for name, k := range map[string]any{"send": &s.send, "receive": &s.receive} {
		if !k.(interface{ IsZero() bool }).IsZero() {
			t.Errorf("%s key is not zeroed", name)
		}
	}
}

func TestOtherPeersAreNotTouchedByChanges(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	c := w.add("192.0.2.3:3")
	w.connect(a, toB)
	s := toB.current.Load()
	toC := a.peer(c, PeerConfig{})
	c.peer(a, PeerConfig{})
	w.connect(a, toC)
	a.peer(b, PeerConfig{ID: 7, PersistentKeepalive: time.Minute})
	a.d.RemovePeer(toC.PublicKey())
	if toB.current.Load() != s || toB.ID() != 7 {
		t.Error("changes have cost b its session, or did not arrive")
	}
	a.say(toB, "still here")
	w.settle()
	if got := b.heard(); !slices.Contains(got, "still here") {
		t.Errorf("b heard %q", got)
	}
}

func TestNewPresharedKeyMakesANewSession(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	inFlight, _ := b.seal(toA, []byte("old"))
	psk := must(NewPresharedKey())
	a.peer(b, PeerConfig{PresharedKey: psk})
	first := toB.config.PresharedKey
	a.peer(b, PeerConfig{PresharedKey: psk}) // no change
	if !first.IsZero() || !toB.config.PresharedKey.Equal(psk) || psk.IsZero() {
		t.Error("want the replaced copy zeroed, and the new one and the caller's not")
	}
	if _, r := a.seal(toB, []byte("x")); r != NoSession {
		t.Errorf("seal with the old session: %v", r)
	}
	if _, r := a.open(inFlight, b.addr); r != OK {
		t.Errorf("message under way: %v", r)
	}
	b.peer(a, PeerConfig{PresharedKey: psk})
	w.settle()
	if r := a.say(toB, "x"); r != OK {
		t.Errorf("after the handshake: %v", r)
	}
}

func TestSetPrivateKeyRenewsSessions(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	old := a.d.private
	inFlight, _ := b.seal(toA, []byte("old"))
	key := must(NewPrivateKey())
	if err := a.d.SetPrivateKey(key); err != nil {
		t.Fatal(err)
	}
	if *old.key() != ([32]byte{}) {
		t.Error("the old private key is not zeroed")
	}
	if a.d.PublicKey() != key.PublicKey() {
		t.Error("public key is the old one")
	}
	if _, r := a.open(inFlight, b.addr); r != OK {
		t.Errorf("message under way: %v", r)
	}
	b.d.RemovePeer(a.key.PublicKey())
	a.key = key
	toA = b.peer(a, PeerConfig{})
	w.settle()
	if r := a.say(toB, "new"); r != OK {
		t.Fatalf("after the change: %v", r)
	}
	w.settle()
	if got := b.heard(); !slices.Contains(got, "new") {
		t.Errorf("b heard %q", got)
	}
	if r := b.say(toA, "back"); r != OK {
		t.Errorf("b to a: %v", r)
	}
	if err := a.d.SetPrivateKey(b.key); err == nil {
		t.Error("the key of a peer was accepted as ours")
	}
}

func TestRoamingFollowsAuthenticMessagesOnly(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.connect(a, toB)
	msg, _ := a.seal(toB, []byte("x"))
	forged := append([]byte(nil), msg...)
	forged[len(forged)-1] ^= 1
	elsewhere := Endpoint{Remote: netip.MustParseAddrPort("[2001:db8::9]:9"), Local: b.addr.Addr()}
	try := func(m []byte, want Result, moved bool) {
		t.Helper()
		pkts := []Packet{{Buf: append([]byte(nil), m...)}}
		b.batch.Locate = AllFrom(elsewhere)
		b.batch.Open(pkts, b.d.Clock())
		if pkts[0].Result != want {
			t.Fatalf("result %v, want %v", pkts[0].Result, want)
		}
		if got := toA.Endpoint() == elsewhere; got != moved {
			t.Errorf("%v: moved is %v, want %v", want, got, moved)
		}
	}
	try(forged, BadAuth, false)
	try(msg, OK, true)
	// A replay from yet another place does not move it back.
	elsewhere.Remote = netip.MustParseAddrPort("198.51.100.66:6")
	try(msg, Replay, false)
	// Nor does a reload of the configuration with the same endpoint.
	at := toA.Endpoint()
	b.peer(a, PeerConfig{})
	if toA.Endpoint() != at {
		t.Error("an unchanged configuration moved the peer back")
	}
	b.peer(a, PeerConfig{Endpoint: Endpoint{Remote: netip.MustParseAddrPort("203.0.113.1:1")}})
	if toA.Endpoint().Remote.String() != "203.0.113.1:1" {
		t.Error("a changed endpoint in the configuration was ignored")
	}
}

func TestRequestDuringAnOvertakenInitiationIsNotForgotten(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	w.lose = func(s sent) bool { return s.from == a.addr && s.kind() == device.MessageInitiationType }
	a.say(toB, "x")
	w.settle()
	w.pass(time.Second)
	w.connect(b, toA) // b's handshake comes first
	w.lose = nil
	if toB.current.Load() == nil || toB.initiation == nil {
		t.Fatal("want a session, and the initiation still waiting")
	}
	toB.stopSending()
	if r := a.say(toB, "x"); r != NoSession {
		t.Fatalf("seal: %v", r)
	}
	w.pass(15 * time.Second)
	if r := a.say(toB, "x"); r != OK {
		t.Errorf("15s later: %v", r)
	}
}

func TestRequestIsNotForgottenWhenThePeerShowsItsPlaceAndDies(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("192.0.2.1:1"), w.add("192.0.2.2:2")
	toB := must(a.d.SetPeer(PeerConfig{PublicKey: b.key.PublicKey()})) // no endpoint
	toA := b.peer(a, PeerConfig{})
	a.say(toB, "x")
	w.settle()
	// b's initiation arrives, our response does not.
	w.lose = func(s sent) bool { return s.from == a.addr }
	b.say(toA, "x")
	w.settle()
	b.d.dropInitiation(toA)
	w.lose = nil
	w.pass(6 * time.Second)
	if r := a.say(toB, "x"); r != OK {
		t.Errorf("after the peer's place was known: %v", r)
	}
}
