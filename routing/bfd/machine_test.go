package bfd

import (
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

const ms = int64(time.Millisecond)

// link is two machines that watch each other, a millisecond of way apart.
type link struct {
	t      *testing.T
	now    int64
	ends   [2]*machine
	flying []flight
	lose   func(to int, p *bfd.BFDHeader) bool
	sent   [2]int
}

type flight struct {
	at int64
	to int
	p  *bfd.BFDHeader
}

func newLink(t *testing.T, interval time.Duration, multiplier uint8) *link {
	return &link{t: t, now: 1, ends: [2]*machine{newMachine(interval, multiplier, 1-quiet), newMachine(interval, multiplier, 1-quiet)},
		lose: func(int, *bfd.BFDHeader) bool { return false }}
}

func (l *link) sender(from int) func(*bfd.BFDHeader) {
	return func(p *bfd.BFDHeader) {
		l.sent[from]++
		if !l.lose(1-from, p) {
			l.flying = append(l.flying, flight{l.now + ms, 1 - from, p})
		}
	}
}

func (l *link) goOn(d time.Duration) {
	for end := l.now + int64(d); l.now < end; l.now += ms {
		var rest []flight
		due := l.flying
		l.flying = nil
		for _, f := range due {
			if f.at <= l.now {
				l.ends[f.to].take(f.p, l.now, l.sender(f.to))
			} else {
				rest = append(rest, f)
			}
		}
		l.flying = append(rest, l.flying...)
		for i, m := range l.ends {
			if m.wake() <= l.now {
				m.due(l.now, l.sender(i))
			}
		}
	}
}

func (l *link) want(what string, a, b State, failures uint64) {
	l.t.Helper()
	if l.ends[0].state != a || l.ends[1].state != b || l.ends[0].failures != failures {
		l.t.Fatalf("%s: %v (%d failures: %s) and %v, want %v (%d failures) and %v", what, l.ends[0].state, l.ends[0].failures, l.ends[0].wentAway, l.ends[1].state, a, failures, b)
	}
}

func TestASessionComesUpAtOnceAndStaysUpWhateverTheInterval(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second} {
		for range 20 { // the jitter is another each time
			l := newLink(t, interval, 3)
			l.goOn(10 * time.Millisecond)
			l.want("after three ways", Up, Up, 0)
			l.goOn(20*time.Second + 20*interval)
			l.want("later", Up, Up, 0)
			if least := int(20 * time.Second / interval); l.sent[0] < least || l.sent[0] > (least+20)*14/10+4 {
				t.Errorf("%v: %d packets in 20 s and 20 intervals", interval, l.sent[0])
			}
		}
	}
}

func TestADeadRouterIsNoticedAfterThreeIntervals(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(5 * time.Second)
	l.lose = func(int, *bfd.BFDHeader) bool { return true }
	l.goOn(200 * time.Millisecond)
	l.want("too soon", Up, Up, 0)
	l.goOn(102 * time.Millisecond)
	l.want("it is noticed", Down, Down, 1)
	if !l.ends[0].died || l.ends[0].diag != bfd.DiagnosticControlDetectionTimeExpired {
		t.Errorf("%+v", l.ends[0])
	}
	l.goOn(10 * time.Second)
	sent := l.sent[0]
	l.goOn(10 * time.Second)
	if sent = l.sent[0] - sent; sent < 9 || sent > 14 {
		t.Errorf("%d packets in 10 s to a dead router", sent)
	}
	l.lose = func(int, *bfd.BFDHeader) bool { return false }
	l.goOn(1100 * time.Millisecond)
	l.want("it is back", Up, Up, 1)
	l.lose = func(int, *bfd.BFDHeader) bool { return true }
	l.goOn(350 * time.Millisecond)
	l.lose = func(int, *bfd.BFDHeader) bool { return false }
	l.goOn(500 * time.Millisecond)
	if l.ends[0].state == Up || l.ends[1].state == Up {
		t.Error("it is up again before BGP has ended")
	}
	l.goOn(3 * time.Second)
	l.want("it is back again", Up, Up, 2)
}

func TestOneWayIsNotEnough(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.lose = func(to int, _ *bfd.BFDHeader) bool { return to == 1 }
	l.goOn(10 * time.Second)
	if l.ends[0].state == Up || l.ends[1].state == Up {
		t.Fatalf("%v and %v", l.ends[0].state, l.ends[1].state)
	}
	l.lose = func(int, *bfd.BFDHeader) bool { return false }
	l.goOn(2 * time.Second)
	l.want("both ways", Up, Up, 0)
	l.lose = func(to int, _ *bfd.BFDHeader) bool { return to == 1 }
	l.goOn(400 * time.Millisecond)
	l.want("it does not hear us", Down, Down, 1)
	if l.ends[0].diag != bfd.DiagnosticNeighborSignaledSessionDown {
		t.Errorf("%v", l.ends[0].diag)
	}
}

// FRR ends its session and begins another whenever BGP comes up, and has another discriminator then.
func TestARouterThatBeginsItsSessionAnewHasNotFailed(t *testing.T) {
	for range 20 {
		l := newLink(t, 100*time.Millisecond, 3)
		l.goOn(3*time.Second + time.Duration(l.ends[0].mine%100)*time.Millisecond)
		l.ends[1] = newMachine(100*time.Millisecond, 3, 1-quiet)
		l.goOn(20 * time.Millisecond)
		l.want("at once", Up, Up, 0)
		l.goOn(5 * time.Second)
		l.want("later", Up, Up, 0)
	}
}

// FRR 10 sends this when it ends a session to begin another, a second later.
func TestARouterThatSaysThatWeSignalledWhatWeDidNotHasNotFailed(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(3 * time.Second)
	frr := l.ends[1]
	frr.state, frr.diag, frr.next = Down, bfd.DiagnosticNeighborSignaledSessionDown, 0
	l.goOn(2 * time.Millisecond)
	if m := l.ends[0]; m.state != Down || m.failures != 0 {
		t.Fatalf("%+v", m)
	}
	l.ends[1] = newMachine(100*time.Millisecond, 3, 1-quiet)
	l.goOn(1100 * time.Millisecond)
	l.want("the next session", Up, Up, 0)
}

func TestARouterThatIsShutDownHasNotFailed(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(3 * time.Second)
	l.ends[1].state, l.ends[1].next = AdminDown, 0
	l.goOn(5 * time.Second)
	l.want("it is shut down", Down, AdminDown, 0)
	l.ends[1].state = Down
	l.goOn(1100 * time.Millisecond)
	l.want("and back", Up, Up, 0)
}

// A router goes on sending once a second until it has heard that we know of its shorter interval.
func TestARouterThatIsSlowUntilWeConfirmIsAlive(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	router, down := &bfd.BFDHeader{Version: 1, State: bfd.StateDown, DetectTimeMultiplier: 3, MyDiscriminator: 7, DesiredMinTxInterval: 1e6, RequiredMinRxInterval: 100000}, false
	m := l.ends[0]
	confirmed := false
	send := func(p *bfd.BFDHeader) {
		router.YourDiscriminator = p.MyDiscriminator
		confirmed = confirmed || p.Final
	}
	for second := range 5 {
		switch second {
		case 1:
			router.State = bfd.StateInit
		case 2: // the first confirmation is lost
			router.State, router.Poll, router.DesiredMinTxInterval = bfd.StateUp, true, 100000
		}
		m.take(router, l.now, send)
		for range 990 {
			l.now += ms
			m.due(l.now, send)
		}
		down = down || m.failures > 0
	}
	if down || m.state != Up || !confirmed {
		t.Fatalf("%+v", m)
	}
	// Now it sends in short intervals, and is held to them.
	router.Poll = false
	m.take(router, l.now, send)
	l.now += 301 * ms
	for range 4 {
		m.due(l.now-4*ms, send)
	}
	m.due(l.now, send)
	if m.state != Down {
		t.Errorf("%+v", m)
	}
}

func TestWeAreHeldUpAndTheRouterIsNotDead(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(3 * time.Second)
	m := l.ends[0]
	// What came meanwhile waits to be read, but the timer is looked at first.
	l.now += 500 * ms
	m.due(l.now, l.sender(0))
	if m.state != Up {
		t.Fatalf("%+v", m)
	}
	// Nothing has come: then it is dead.
	l.now = m.deadline()
	if m.due(l.now, l.sender(0)); m.state != Down {
		t.Fatalf("%+v", m)
	}
}

func TestPacketsOfOthersChangeNothing(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(3 * time.Second)
	m := l.ends[0]
	for name, p := range map[string]bfd.BFDHeader{
		"another version":                 {Version: 0, State: bfd.StateDown, DetectTimeMultiplier: 3, MyDiscriminator: 9},
		"no multiplier":                   {Version: 1, State: bfd.StateDown, MyDiscriminator: 9},
		"no discriminator":                {Version: 1, State: bfd.StateDown, DetectTimeMultiplier: 3, YourDiscriminator: m.mine},
		"another session of ours":         {Version: 1, State: bfd.StateDown, DetectTimeMultiplier: 3, MyDiscriminator: m.yours, YourDiscriminator: m.mine + 1},
		"another session of the router's": {Version: 1, State: bfd.StateDown, DetectTimeMultiplier: 3, MyDiscriminator: m.yours + 1, YourDiscriminator: m.mine},
		"up, and does not know us":        {Version: 1, State: bfd.StateUp, DetectTimeMultiplier: 3, MyDiscriminator: m.yours},
	} {
		before := *m
		if m.take(&p, l.now, l.sender(0)) || *m != before {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestWeLeaveAndTheRouterHasNoFailure(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.goOn(3 * time.Second)
	l.ends[0].leave(l.sender(0))
	l.goOn(3 * time.Millisecond)
	if r := l.ends[1]; r.state != Down || r.failures != 0 {
		t.Errorf("%+v", r)
	}
}

func TestASessionIsQuietAtFirst(t *testing.T) {
	l := newLink(t, 100*time.Millisecond, 3)
	l.ends[0] = newMachine(100*time.Millisecond, 3, l.now)
	l.goOn(200 * time.Millisecond)
	if l.sent[0] != 0 {
		t.Errorf("%d packets", l.sent[0])
	}
	l.goOn(1100 * time.Millisecond)
	l.want("then", Up, Up, 0)
}

func TestARouterThatWantsNoPacketsGetsNone(t *testing.T) {
	m := newMachine(100*time.Millisecond, 3, 1-quiet)
	sent := 0
	send := func(*bfd.BFDHeader) { sent++ }
	m.take(&bfd.BFDHeader{Version: 1, State: bfd.StateDown, DetectTimeMultiplier: 3, MyDiscriminator: 9, DesiredMinTxInterval: 1e6}, 1, send)
	for now := int64(1); now < 2000*ms; now += ms {
		m.due(now, send)
	}
	if sent != 0 {
		t.Errorf("%d packets", sent)
	}
}

// FuzzTake: whatever comes, a session is up only with somebody whose discriminator we know, its timers lead somewhere, and
// what we answer is a packet that we would take.
func FuzzTake(f *testing.F) {
	f.Add([]byte("\x20\x40\x03\x18\x00\x00\x00\x07\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x01\x86\xa0\x00\x00\x00\x00"), uint16(100))
	f.Add([]byte("\x20\xe0\x03\x18\x00\x00\x00\x07\x00\x00\x00\x01\x00\x01\x86\xa0\x00\x01\x86\xa0\x00\x00\x00\x00"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, wait uint16) {
		m, now := newMachine(100*time.Millisecond, 3, 1-quiet), int64(1)
		m.mine = 1
		send := func(p *bfd.BFDHeader) {
			out, err := p.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := parse(out, maxHops, new(bfd.BFDHeader)); err != nil {
				t.Fatal(err)
			}
		}
		for ; len(b) >= 24; b = b[24:] {
			var p bfd.BFDHeader
			packet := append([]byte(nil), b[:24]...)
			packet[3] = 24
			if parse(packet, maxHops, &p) == nil {
				m.take(&p, now, send)
			}
			if m.state == Up && m.yours == 0 || m.silence() < int64(m.count)*m.interval {
				t.Fatalf("%+v", m)
			}
			now += int64(wait) * ms
			m.due(now, send)
			if m.wake() <= now && m.state != Up {
				t.Fatalf("at %d it wants to be woken at %d: %+v", now, m.wake(), m)
			}
		}
	})
}
