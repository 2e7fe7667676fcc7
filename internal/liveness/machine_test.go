package liveness

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

const ms = int64(time.Millisecond)

// run lets a machine and its peer go on for a while, a millisecond at a time; answers come after rtt where the peer lives.
type run struct {
	m       machine
	now     int64
	pending map[uint16]int64 // when the answer comes
	sent    int
	changes []int64
}

func newRun() *run {
	return &run{m: machine{state: Unknown, interval: 100 * ms, multiplier: 3, next: ms}, now: ms, pending: map[uint16]int64{}}
}

func (r *run) goOn(d time.Duration, alive func(seq uint16) bool, rtt func() int64) {
	for end := r.now + int64(d); r.now < end; r.now += ms {
		for seq, at := range r.pending {
			if at <= r.now {
				delete(r.pending, seq)
				if r.m.answered(seq, at) {
					r.changes = append(r.changes, r.now)
				}
			}
		}
		if r.m.wake() > r.now {
			continue
		}
		if r.m.due(r.now, func(seq uint16) {
			r.sent++
			if alive(seq) {
				r.pending[seq] = r.now + rtt()
			}
		}) {
			r.changes = append(r.changes, r.now)
		}
	}
}

func always(uint16) bool         { return true }
func never(uint16) bool          { return false }
func fixed(d int64) func() int64 { return func() int64 { return d } }

func TestAPeerThatNeverAnswersStaysUsableAndIsAskedRarely(t *testing.T) {
	r := newRun()
	r.goOn(10*time.Second, never, nil)
	if r.m.state != Unknown || r.sent != 10 {
		t.Errorf("%v after %d probes", r.m.state, r.sent)
	}
}

func TestAPeerIsDownAfterThreeIntervalsAndUpAfterThreeAnswers(t *testing.T) {
	for _, rtt := range []int64{1 * ms, 40 * ms, 250 * ms} {
		r := newRun()
		r.goOn(5*time.Second, always, fixed(rtt))
		if r.m.state != Up || len(r.changes) != 1 {
			t.Fatalf("rtt %d ms: %v, changed at %v", rtt/ms, r.m.state, r.changes)
		}
		r.pending = map[uint16]int64{} // what is under way is lost, too
		died := r.now
		r.goOn(2*time.Second, never, nil)
		if r.m.state != Down || len(r.changes) != 2 || r.changes[1]-died > 300*ms || r.changes[1]-died < 199*ms {
			t.Fatalf("rtt %d ms: %v, %d ms after it died", rtt/ms, r.m.state, (r.changes[1]-died)/ms)
		}
		back := r.now
		r.goOn(2*time.Second, always, fixed(rtt))
		if took := r.changes[2] - back; r.m.state != Up || took < rtt+199*ms || took > rtt+301*ms {
			t.Errorf("rtt %d ms: %v, %d ms after it came back", rtt/ms, r.m.state, took/ms)
		}
	}
}

func TestLossIsNotDeath(t *testing.T) {
	r := newRun()
	r.goOn(time.Second, always, fixed(ms))
	before := r.sent
	r.goOn(20*time.Second, func(seq uint16) bool { return seq%3 == 0 }, fixed(ms)) // two of three are lost
	if r.m.state != Up || len(r.changes) != 1 {
		t.Errorf("%v, changed %d times", r.m.state, len(r.changes))
	}
	if lost, of := r.m.loss(r.now); r.sent-before < 190 || of < 60 || lost < of*6/10 || lost > of*7/10 {
		t.Errorf("%d of %d lost", lost, of)
	}
	// A peer that is down and answers now and then stays down.
	r.goOn(time.Second, never, nil)
	r.goOn(20*time.Second, func(seq uint16) bool { return seq%3 != 0 }, fixed(ms))
	if r.m.state != Down {
		t.Errorf("%v with every third answer lost", r.m.state)
	}
}

func TestWeAreHeldUpAndNobodyDies(t *testing.T) {
	r := newRun()
	r.goOn(time.Second, always, fixed(ms))
	r.now += 10 * int64(time.Second) // the process was frozen
	r.goOn(time.Second, always, fixed(ms))
	if r.m.state != Up || len(r.changes) != 1 {
		t.Errorf("%v, changed at %v", r.m.state, r.changes)
	}
}

func TestRoundTripsAreMeasured(t *testing.T) {
	r := newRun()
	n := int64(0)
	r.goOn(30*time.Second, always, func() int64 { n++; return 10*ms + n%2*4*ms }) // 10 and 14 ms by turns
	m := &r.m
	if m.least != 10*ms || m.rtt < 11*ms || m.rtt > 13*ms || m.jitter < 3500*int64(time.Microsecond) || m.jitter > 4*ms {
		t.Errorf("min %v rtt %v jitter %v", time.Duration(m.least), time.Duration(m.rtt), time.Duration(m.jitter))
	}
}

func TestOldSecondAndForgedAnswersSayNothing(t *testing.T) {
	m := machine{state: Unknown, interval: 100 * ms, multiplier: 3, next: 1}
	m.due(1, func(uint16) {})
	for name, c := range map[string]struct {
		seq uint16
		at  int64
	}{"never asked": {m.seq + 1, 2}, "long ago": {m.seq - window, 2}, "before the question": {m.seq, 0}} {
		if m.answered(c.seq, c.at) || m.state != Unknown {
			t.Errorf("%s was taken", name)
		}
	}
	if !m.answered(m.seq, 2) || m.answered(m.seq, 3) || m.heard != 2 {
		t.Error("the true answer once")
	}
}

// thousand is a prober of a thousand peers that all answer at once.
func thousand(now *int64) (*Prober, *int) {
	replies, sent := make(chan relay.EchoReply, 2048), new(int)
	p := New(Options{Clock: func() int64 { return *now }, Replies: replies, ID: 1, OnChange: func() {},
		Send: func(peer uint32, b []byte, _ wireguard.Endpoint) bool {
			*sent++
			replies <- relay.EchoReply{Peer: peer, Seq: uint16(b[26])<<8 | uint16(b[27]), Len: len(b), At: *now}
			return true
		}})
	var peers []Peer
	for i := range uint32(1000) {
		peers = append(peers, Peer{ID: i, Local: netip.MustParseAddr("100.64.0.1"), Remote: netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)}),
			Interval: 100 * time.Millisecond, Multiplier: 3})
	}
	p.SetPeers(peers)
	return p, sent
}

func TestAThousandPeersAreProbedEvenly(t *testing.T) {
	now := int64(1)
	p, sent := thousand(&now)
	most, before := 0, 0
	for end := now + 3*int64(time.Second); now < end; {
		now += int64(p.Work())
		most, before = max(most, *sent-before), *sent
	}
	if *sent < 28000 || *sent > 31000 || most > 200 {
		t.Errorf("%d probes in 3 s, up to %d at once", *sent, most)
	}
	for i := range uint32(1000) {
		if s := p.Status(i); s.State != Up || p.Dead(i) {
			t.Fatalf("peer %d: %+v", i, s)
		}
	}
}

// BenchmarkThousandPeers is a second's work of the prober for a thousand peers at the default interval, on the virtual
// clock: what it takes of a core is ns/op over 1e9. What workers and wake-ups cost comes on top.
func BenchmarkThousandPeers(b *testing.B) {
	now := int64(1)
	p, _ := thousand(&now)
	for b.Loop() {
		for end := now + int64(time.Second); now < end; {
			now += int64(p.Work())
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/1e7, "%core")
}
