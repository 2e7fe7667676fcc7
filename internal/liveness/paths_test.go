package liveness

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// way is a peer's half of the data plane.
type way struct {
	place  wireguard.Endpoint
	stray  wireguard.Endpoint
	places []wireguard.Endpoint // that were used
}

func (w *way) Place() *wireguard.Endpoint { e := w.place; return &e }
func (w *way) Stray() wireguard.Endpoint  { return w.stray }
func (w *way) Use(e wireguard.Endpoint) {
	w.place = e
	w.places = append(w.places, e)
}

// net is a prober, and a network in which paths have a round trip and may lose everything.
type network struct {
	t     *testing.T
	now   int64
	p     *Prober
	way   way
	peer  Peer
	rtt   map[netip.AddrPort]int64
	dead  map[netip.AddrPort]bool
	lose  map[netip.AddrPort]int // one of so many
	sent  map[netip.AddrPort]map[uint16]int
	wire  []relay.EchoReply
	count int
	event int

	replies chan relay.EchoReply
}

func place(s string) wireguard.Endpoint {
	return wireguard.Endpoint{Remote: netip.MustParseAddrPort(s)}
}

var (
	fibre = place("192.0.2.1:1")
	radio = place("[2001:db8::1]:1")
)

func newNetwork(t *testing.T) *network {
	n := &network{t: t, now: 1, rtt: map[netip.AddrPort]int64{fibre.Remote: 5 * ms, radio.Remote: 30 * ms},
		dead: map[netip.AddrPort]bool{}, lose: map[netip.AddrPort]int{}, sent: map[netip.AddrPort]map[uint16]int{}}
	replies := make(chan relay.EchoReply, 64)
	n.p = New(Options{Clock: func() int64 { return n.now }, Replies: replies, ID: 1, Standby: 2, OnChange: func() { n.event++ },
		Send: func(_ uint32, b []byte, over wireguard.Endpoint) bool {
			id, seq := uint16(b[24])<<8|uint16(b[25]), uint16(b[26])<<8|uint16(b[27])
			if n.sent[over.Remote] == nil {
				n.sent[over.Remote] = map[uint16]int{}
			}
			n.sent[over.Remote][id]++
			n.count++
			if rtt, known := n.rtt[over.Remote]; known && !n.dead[over.Remote] && (n.lose[over.Remote] == 0 || n.count%n.lose[over.Remote] != 0) {
				n.wire = append(n.wire, relay.EchoReply{Peer: 1, Seq: seq, Len: len(b), At: n.now + rtt, From: over})
			}
			return true
		}})
	n.way.place = fibre
	n.peer = Peer{ID: 1, Name: "peer", Local: netip.MustParseAddr("100.64.0.1"), Remote: netip.MustParseAddr("100.64.0.2"),
		Interval: 100 * time.Millisecond, Multiplier: 3, Hold: 10 * time.Second, Way: &n.way,
		Paths: []Path{{Name: "fibre", Endpoint: fibre, Priority: 10}, {Name: "radio", Endpoint: radio, Priority: 10}}}
	n.p.SetPeers([]Peer{n.peer})
	n.replies = replies
	return n
}

// goOn lets time pass, a millisecond at a time.
func (n *network) goOn(d time.Duration) {
	next := n.now
	for end := n.now + int64(d); n.now < end; n.now += ms {
		woken := n.now >= next
		n.wire = slices.DeleteFunc(n.wire, func(r relay.EchoReply) bool {
			if r.At > n.now {
				return false
			}
			n.replies <- r
			woken = true
			return true
		})
		if woken {
			next = n.now + int64(n.p.Work())
		}
	}
}

func (n *network) uses(e wireguard.Endpoint) {
	n.t.Helper()
	if n.way.place != e {
		n.t.Errorf("at %d ms %v is used, not %v", n.now/ms, n.way.place.Remote, e.Remote)
	}
}

func TestTheFasterOfTwoPathsIsTakenAfterAWhile(t *testing.T) {
	n := newNetwork(t)
	n.way.place = radio
	n.p.SetPeers([]Peer{n.peer})
	n.goOn(9 * time.Second)
	n.uses(radio)
	n.goOn(3 * time.Second)
	n.uses(fibre)
	n.goOn(time.Minute)
	if len(n.way.places) != 1 {
		t.Errorf("it went to and fro: %v", n.way.places)
	}
	if n.sent[radio.Remote][1] == 0 || n.sent[radio.Remote][2] == 0 || n.sent[fibre.Remote][1] == 0 || n.sent[fibre.Remote][2] == 0 {
		t.Errorf("probes of the path in use and of others have identifiers of their own: %v", n.sent)
	}
}

func TestPathsOfTheSameSpeedAreNotExchanged(t *testing.T) {
	n := newNetwork(t)
	n.rtt[radio.Remote] = n.rtt[fibre.Remote] - ms/2
	n.goOn(5 * time.Minute)
	if len(n.way.places) != 0 {
		t.Errorf("%v", n.way.places)
	}
}

func TestAFailedPathIsLeftBeforeThreeIntervalsAreOver(t *testing.T) {
	for _, rtt := range []int64{1 * ms, 40 * ms, 250 * ms} {
		n := newNetwork(t)
		n.rtt[fibre.Remote], n.rtt[radio.Remote] = rtt, rtt
		n.goOn(5 * time.Second)
		n.uses(fibre)
		n.dead[fibre.Remote] = true
		died := n.now
		for n.way.place == fibre && n.now < died+int64(time.Second) {
			n.goOn(time.Millisecond)
		}
		if took := n.now - died; n.way.place != radio || took > rtt+260*ms {
			t.Errorf("rtt %d ms: left after %d ms", rtt/ms, took/ms)
		}
		if n.p.Dead(1) || n.p.Status(1).State != Up {
			t.Error("the peer is dead")
		}
		n.goOn(time.Second)
		if s := n.p.Paths(1); s[0].State != Down || s[0].Used || s[1].State != Up || !s[1].Used {
			t.Errorf("%+v", s)
		}
		// It comes back, and is taken up again: it is listed first, but only after a while because that was so by measurement alone.
		n.dead[fibre.Remote] = false
		n.goOn(5 * time.Second)
		n.uses(radio)
	}
}

func TestThePreferredPathIsTakenAgainWhenItHasWorkedForAWhile(t *testing.T) {
	n := newNetwork(t)
	n.peer.Paths[1].Priority = 20
	n.rtt[radio.Remote] = ms // faster, but not preferred
	n.p.SetPeers([]Peer{n.peer})
	n.goOn(30 * time.Second)
	n.uses(fibre)
	n.dead[fibre.Remote] = true
	n.goOn(time.Second)
	n.uses(radio)
	for range 10 { // it flaps: each time it is up for five seconds
		n.dead[fibre.Remote] = false
		n.goOn(5 * time.Second)
		n.dead[fibre.Remote] = true
		n.goOn(time.Second)
	}
	if len(n.way.places) != 1 {
		t.Errorf("it went to and fro: %v", n.way.places)
	}
	n.dead[fibre.Remote] = false
	n.goOn(30 * time.Second)
	n.uses(fibre)
}

func TestALossyPathIsLeftForOneThatIsNot(t *testing.T) {
	n := newNetwork(t)
	n.peer.Paths[1].Priority = 20
	n.p.SetPeers([]Peer{n.peer})
	n.goOn(5 * time.Second)
	n.lose[fibre.Remote] = 5
	n.goOn(40 * time.Second)
	n.uses(radio)
	if s := n.p.Paths(1); !s[0].Lossy || s[1].Lossy || s[0].Lost == 0 {
		t.Errorf("%+v", s)
	}
	n.lose[fibre.Remote] = 0
	n.goOn(40 * time.Second)
	n.uses(fibre)
}

func TestAPeerIsDeadWhenAllOfItsPathsAre(t *testing.T) {
	n := newNetwork(t)
	n.goOn(5 * time.Second)
	n.dead[fibre.Remote], n.dead[radio.Remote] = true, true
	before := n.event
	n.goOn(time.Second)
	if !n.p.Dead(1) || n.event != before+1 {
		t.Errorf("%v after %d events", n.p.Status(1).State, n.event-before)
	}
	n.dead[radio.Remote] = false
	n.goOn(time.Second)
	n.uses(radio)
	if n.p.Dead(1) || n.event != before+2 {
		t.Errorf("%v after %d events", n.p.Status(1).State, n.event-before)
	}
}

func TestAPathWhosePortIsDownIsLeftAtOnce(t *testing.T) {
	n := newNetwork(t)
	n.goOn(5 * time.Second)
	n.peer.Paths = slices.Clone(n.peer.Paths)
	n.peer.Paths[0].Down = true
	n.p.SetPeers([]Peer{n.peer})
	n.uses(radio)
	sent := n.sent[fibre.Remote][1] + n.sent[fibre.Remote][2]
	n.goOn(2 * time.Second)
	if got := n.sent[fibre.Remote][1] + n.sent[fibre.Remote][2]; got != sent {
		t.Errorf("%d probes were sent into a dead port", got-sent)
	}
}

func TestAPeerThatHasMovedIsFoundWhereItWasHeard(t *testing.T) {
	n := newNetwork(t)
	n.goOn(5 * time.Second)
	hotel := place("203.0.113.9:40000")
	n.dead[fibre.Remote], n.dead[radio.Remote] = true, true
	n.rtt[hotel.Remote] = 10 * ms
	n.goOn(time.Second)
	n.way.stray = hotel
	n.goOn(2 * time.Second)
	n.uses(hotel)
	if n.p.Dead(1) {
		t.Error("it is dead")
	}
	n.p.SetPeers([]Peer{n.peer}) // a reload does not forget it
	n.uses(hotel)
	n.dead[radio.Remote] = false
	n.goOn(15 * time.Second)
	n.uses(radio)
}

// Who knows a peer by where its messages come from must not take it for dead when it comes by another path.
func TestAPeerThatMovesIsGivenTime(t *testing.T) {
	n := newNetwork(t)
	n.peer.Paths = nil
	old := place("192.0.2.1:1")
	n.rtt[netip.AddrPort{}] = 5 * ms // probes go where everything goes
	n.p.SetPeers([]Peer{n.peer})
	n.way.place = old
	n.goOn(2 * time.Second)
	n.dead[netip.AddrPort{}] = true
	n.goOn(190 * time.Millisecond)
	n.way.place = place("192.0.2.7:1")
	n.dead[netip.AddrPort{}] = false
	for range 1000 {
		n.goOn(time.Millisecond)
		if n.p.Dead(1) {
			t.Fatal("it was taken for dead")
		}
	}
	n.dead[netip.AddrPort{}] = true
	n.goOn(400 * time.Millisecond)
	if !n.p.Dead(1) {
		t.Error("it is dead and nobody notices")
	}
}
