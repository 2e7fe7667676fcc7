package wireguard

import (
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

func at(s string) Endpoint { return Endpoint{Remote: netip.MustParseAddrPort(s)} }

// from opens a message at n as if it had come from there.
func (n *node) from(t *testing.T, e Endpoint, msg []byte) {
	t.Helper()
	pkts := []Packet{{Buf: msg}}
	n.batch.Locate = AllFrom(e)
	n.batch.Open(pkts, n.d.Clock())
	if pkts[0].Result != OK {
		t.Fatalf("opened: %v", pkts[0].Result)
	}
}

func TestAPeerWithPathsIsNotMovedByItsMessages(t *testing.T) {
	w, a, b, toB, toA := pair(t)
	first, second, port := at("192.0.2.1:1"), at("[2001:db8::1]:1"), at("192.0.2.1:1")
	port.Ifindex = 7
	toA.SetPaths([]Endpoint{first, second, port})
	w.connect(a, toB)
	say := func(from string) {
		msg, _ := a.seal(toB, []byte("x"))
		e := at(from)
		e.Local = b.addr.Addr()
		b.from(t, e, msg)
	}
	for _, from := range []string{"192.0.2.1:1", "[2001:db8::1]:1"} {
		say(from)
		if got := toA.Endpoint(); got.Remote != first.Remote || toA.Stray().Remote.IsValid() {
			t.Errorf("a message from %s: it is at %v, stray %v", from, got.Remote, toA.Stray().Remote)
		}
	}
	say("203.0.113.5:4711")
	if got := toA.Stray(); got.Remote.String() != "203.0.113.5:4711" || got.Local != b.addr.Addr() || toA.Endpoint().Remote != first.Remote {
		t.Errorf("a message from elsewhere: it is at %v, stray %v", toA.Endpoint().Remote, got.Remote)
	}
	toA.Use(second)
	if r := b.say(toA, "y"); r != OK || w.log[len(w.log)-1].to != second.Remote {
		t.Errorf("sent %v to %v", r, w.log[len(w.log)-1].to)
	}
	toA.SetPaths([]Endpoint{second, port}) // what is in use stays
	if toA.Endpoint() != second {
		t.Errorf("a change of the other paths moved it to %v", toA.Endpoint())
	}
	toA.SetPaths([]Endpoint{port})
	if toA.Endpoint() != port {
		t.Errorf("the path in use is gone, and it is at %v", toA.Endpoint())
	}
	toA.SetPaths(nil)
	say("203.0.113.9:1")
	if got := toA.Endpoint().Remote.String(); got != "203.0.113.9:1" {
		t.Errorf("without paths it is at %v", got)
	}
}

func TestTheAnswerGoesBackWhereTheQuestionCameFrom(t *testing.T) {
	_, _, _, _, toA := pair(t)
	through := func(s string, ifindex uint32) Endpoint { e := at(s); e.Ifindex = ifindex; return e }
	check := func(name string, from, want Endpoint, usual bool) {
		t.Helper()
		if to, u := toA.AnswerTo(from); to != want || u != usual {
			t.Errorf("%s: to %+v, usual %v", name, to, u)
		}
	}
	toA.Use(at("192.0.2.1:1"))
	check("where it is", through("192.0.2.1:1", 3), at("192.0.2.1:1"), true)
	check("elsewhere", through("192.0.2.9:1", 3), at("192.0.2.9:1"), false)
	toA.SetPaths([]Endpoint{through("192.0.2.1:1", 3), through("192.0.2.1:1", 4), at("[2001:db8::1]:1")})
	check("the path in use", through("192.0.2.1:1", 3), through("192.0.2.1:1", 3), true)
	check("the same place through another interface", through("192.0.2.1:1", 4), through("192.0.2.1:1", 4), false)
	check("a path of any interface", through("[2001:db8::1]:1", 9), at("[2001:db8::1]:1"), false)
	check("no path", through("203.0.113.9:1", 4), at("203.0.113.9:1"), false)
	toA.spread.Store(&FlowPorts{1000, 64})
	check("from a port of the flow's", through("192.0.2.1:1010", 4), through("192.0.2.1:1", 4), false)
}

// The first path leads nowhere. The handshake does not wait for anybody to find out.
func TestAHandshakeFindsThePathThatWorks(t *testing.T) {
	for _, answering := range []bool{false, true} {
		w, a, b, toB, toA := pair(t)
		nowhere := at("198.51.100.9:9")
		initiator, to, responder := a, toB, b
		if answering { // it is the responder that has paths
			toA.SetPaths([]Endpoint{nowhere, at(a.addr.String())})
		} else {
			toB.SetPaths([]Endpoint{nowhere, at(b.addr.String())})
		}
		if r := initiator.say(to, "x"); r != NoSession {
			t.Fatalf("sealed: %v", r)
		}
		w.settle()
		if initiator.say(to, "x") != OK {
			t.Fatal("no session after the first handshake")
		}
		w.settle()
		if got := responder.heard(); len(got) != 1 {
			t.Errorf("heard %q", got)
		}
		p := toB
		if answering {
			p = toA
		}
		if p.Endpoint().Remote == nowhere.Remote {
			t.Error("it still sends to where nobody is")
		}
		initiations := 0
		for _, s := range w.log {
			if s.kind() == device.MessageInitiationType {
				initiations++
			}
		}
		if want := map[bool]int{false: 2, true: 1}[answering]; initiations != want {
			t.Errorf("%d initiations, want %d", initiations, want)
		}
		// With a session the path is somebody else's choice.
		p.Use(nowhere)
		w.pass(150 * time.Second)
		if p.Endpoint() != nowhere {
			t.Error("a handshake has changed the path of a peer with a session")
		}
	}
}
