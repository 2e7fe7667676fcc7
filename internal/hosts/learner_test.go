package hosts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
)

// bed is a learner with a clock that the test moves, and nodes that answer as the test says.
type bed struct {
	*testing.T
	*Learner
	now  int64
	sent []Question
	// answer says where a host answers from; nil or false: nobody does.
	answer func(netip.Addr) (Place, bool)
}

var red = Segment{VNI: 100, Ifindex: 3, UDP: 4789}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(vtep string, mac byte) Place { return Place{ip(vtep), [6]byte{2, 0, 0, 0, 0, mac}} }

func newBed(t *testing.T, change func(*Attachment)) *bed {
	b := &bed{T: t, now: int64(time.Hour)}
	b.Learner = New(Options{Clock: func() int64 { return b.now }, Send: func(q Question) bool {
		b.sent = append(b.sent, q)
		return true
	}})
	a := Attachment{Segment: red, VPC: "red", Covers: netip.MustParsePrefix("10.1.0.0/16").Contains, Gateway4: ip("10.1.0.1"),
		MAC: [6]byte{2, 0x51, 0xce, 0, 0, 1}, Listen: true, MaxHosts: 1000, Timeout: time.Minute}
	if change != nil {
		change(&a)
	}
	b.SetAttachments([]Attachment{a})
	return b
}

func key(a string) Key { return Key{red, ip(a)} }

func (b *bed) see(a string, p Place) {
	b.Helper()
	if !b.Saw(&Sighting{Key: key(a), Place: p}) {
		b.Fatal("no room in the inbox")
	}
	b.Work()
}

// pass lets time pass in ticks. What is asked is answered at once, by workers that see the answer.
func (b *bed) pass(d time.Duration) {
	for end := b.now + int64(d); b.now < end; {
		b.Work()
		b.reply()
		b.now += int64(tick)
	}
	b.Work()
}

func (b *bed) reply() {
	for ; len(b.sent) > 0; b.sent = b.sent[1:] {
		q := b.sent[0]
		arp, bad := packet.ParseARP(q.Frame[packet.EthernetLen:])
		if b.answer == nil || bad != packet.Fine {
			continue
		}
		a := netip.AddrFrom4(arp.TargetIP)
		p, ok := b.answer(a)
		if !ok || p.VTEP != q.VTEP {
			continue
		}
		if e := b.Table().Lookup(Key{q.Segment, a}); e != nil && e.Place == p {
			e.Saw(b.now)
		} else {
			b.Saw(&Sighting{Key: Key{q.Segment, a}, Place: p, Answer: true})
		}
	}
}

// use is traffic towards a host for some time, which comes back only where the host is.
func (b *bed) use(a string, d time.Duration) {
	for end := b.now + int64(d); b.now < end; {
		e := b.Table().Lookup(key(a))
		switch {
		case e == nil:
			b.Ask(key(a))
		case !e.Silent && e.Quiet(b.now):
			b.Ask(key(a))
		}
		b.pass(tick)
	}
}

func (b *bed) want(a string, p Place) {
	b.Helper()
	if e := b.Table().Lookup(key(a)); e == nil || e.Silent || e.Place != p {
		b.Fatalf("%s: got %+v, want %v", a, e, p)
	}
}

func (b *bed) wantNone(a string) {
	b.Helper()
	if e := b.Table().Lookup(key(a)); e != nil {
		b.Fatalf("%s: got %+v, want none", a, e)
	}
}

func TestAHostIsLearnedFromWhatItSends(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.want("10.1.0.5", at("192.168.0.1", 5))
	if h := b.Hosts("red"); len(h) != 1 || h[0].How != "learned" || h[0].State != "known" {
		t.Errorf("hosts: %+v", h)
	}
	if c := b.Counters(); c.Learned != 1 || c.Hosts != 1 || c.VTEPs != 1 || c.Waiting != 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestWhatDoesNotBelongIsNotLearned(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.VTEPs = []netip.Addr{ip("192.168.0.1")} })
	for _, c := range []struct {
		name  string
		addr  string
		place Place
		count func(Counters) uint64
	}{
		{"an address outside of the prefixes", "10.2.0.5", at("192.168.0.1", 5), func(c Counters) uint64 { return c.Outside }},
		{"a VTEP that is not listed", "10.1.0.5", at("192.168.0.2", 5), func(c Counters) uint64 { return c.Foreign }},
		{"a group's MAC", "10.1.0.5", Place{ip("192.168.0.1"), [6]byte{1}}, func(c Counters) uint64 { return c.Outside }},
		{"no MAC", "10.1.0.5", Place{VTEP: ip("192.168.0.1")}, func(c Counters) uint64 { return c.Outside }},
		{"the gateway's own MAC", "10.1.0.5", Place{ip("192.168.0.1"), [6]byte{2, 0x51, 0xce, 0, 0, 1}}, func(c Counters) uint64 { return c.Outside }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.count(b.Counters())
			b.see(c.addr, c.place)
			b.wantNone(c.addr)
			if got := c.count(b.Counters()) - before; got != 1 {
				t.Errorf("counted %d times", got)
			}
		})
	}
	b.Saw(&Sighting{Key: Key{Segment{VNI: 7}, ip("10.1.0.5")}, Place: at("192.168.0.1", 5)})
	b.Work()
	if n := b.Table().Len(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestASilentHostIsFoundByAskingAllVTEPs(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.VTEPs = []netip.Addr{ip("192.168.0.1"), ip("192.168.0.2")} })
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.2", 9), true }
	b.Ask(key("10.1.0.9"))
	b.Work()
	if len(b.sent) != 2 {
		t.Fatalf("%d questions, want one for each VTEP", len(b.sent))
	}
	b.pass(50 * time.Millisecond)
	b.want("10.1.0.9", at("192.168.0.2", 9))
	if h := b.Hosts(""); h[0].How != "resolved" {
		t.Errorf("known by %q", h[0].How)
	}
}

func TestNobodysAddressIsSilentForAWhileAndThenForgotten(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.VTEPs = []netip.Addr{ip("192.168.0.1")} })
	b.Ask(key("10.1.0.9"))
	b.pass(3 * time.Second)
	if e := b.Table().Lookup(key("10.1.0.9")); e == nil || !e.Silent {
		t.Fatalf("got %+v, want a silent entry", e)
	}
	if c := b.Counters(); c.Unanswered != 1 || c.Questions != 4 || c.Waiting != 1 {
		t.Errorf("counters: %+v", c)
	}
	b.see("10.1.0.9", at("192.168.0.1", 9)) // it is born
	b.want("10.1.0.9", at("192.168.0.1", 9))
	b.Ask(key("10.1.0.10"))
	b.pass(8 * time.Second)
	b.wantNone("10.1.0.10")
	if c := b.Counters(); c.Waiting != 0 || c.Hosts != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestAHostThatMovesAndSpeaksIsFollowed(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.pass(time.Second)
	b.see("10.1.0.5", at("192.168.0.2", 5))
	b.want("10.1.0.5", at("192.168.0.1", 5)) // it is asked first
	b.pass(400 * time.Millisecond)
	b.want("10.1.0.5", at("192.168.0.2", 5))
	if h := b.Hosts("")[0]; h.Moves != 1 {
		t.Errorf("%+v", h)
	}
}

func TestAHostThatMovesWithoutAWordIsFoundWithinTwoSeconds(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.VTEPs = []netip.Addr{ip("192.168.0.1"), ip("192.168.0.2")} })
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.2", 6), true }
	b.use("10.1.0.5", 1500*time.Millisecond)
	b.want("10.1.0.5", at("192.168.0.2", 6))
}

func TestAHostThatIsAliveKeepsItsAddress(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.1", 5), true }
	for range 20 {
		b.see("10.1.0.5", at("192.168.0.66", 6))
		b.pass(100 * time.Millisecond)
	}
	b.want("10.1.0.5", at("192.168.0.1", 5))
	c := b.Counters()
	if c.Moves != 0 || c.Conflicts == 0 || c.Refused == 0 {
		t.Errorf("counters: %+v", c)
	}
	if c.Questions > 5 {
		t.Errorf("%d questions for 20 claims", c.Questions)
	}
	if p := b.Problems(); len(p) != 1 || !strings.Contains(p[0], "10.1.0.5 answers at 192.168.0.1") {
		t.Errorf("problems: %q", p)
	}
}

func TestAnAddressThatFlapsIsHeldAndReported(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	for i := range 10 { // no place ever answers
		b.see("10.1.0.5", at(fmt.Sprintf("192.168.0.%d", 1+(i+1)%2), 5))
		b.pass(500 * time.Millisecond)
	}
	if c := b.Counters(); c.Moves != flapMoves || c.Held == 0 {
		t.Errorf("counters: %+v", c)
	}
	if p := b.Problems(); len(p) != 1 || !strings.Contains(p[0], "moves between nodes too often") {
		t.Errorf("problems: %q", p)
	}
	if h := b.Hosts("")[0]; !h.Held {
		t.Errorf("%+v", h)
	}
}

func TestAnOldHostIsAskedAndStaysOrGoes(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.Timeout = 10 * time.Second })
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.see("10.1.0.6", at("192.168.0.1", 6))
	b.answer = func(a netip.Addr) (Place, bool) { return at("192.168.0.1", 5), a == ip("10.1.0.5") }
	b.pass(30 * time.Second)
	b.want("10.1.0.5", at("192.168.0.1", 5))
	b.wantNone("10.1.0.6")
	c := b.Counters()
	if c.Aged != 1 || c.Hosts != 1 {
		t.Errorf("counters: %+v", c)
	}
	if c.Questions < 4 || c.Questions > 7 { // three for the one, one in ten seconds for the other
		t.Errorf("%d questions", c.Questions)
	}
}

func TestAHostThatOnlyListensIsAskedLessAndLess(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.1", 5), true }
	b.use("10.1.0.5", 60*time.Second)
	b.want("10.1.0.5", at("192.168.0.1", 5))
	if c := b.Counters(); c.Questions < 5 || c.Questions > 10 || c.Unanswered != 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestAFullTableIsSharedBetweenVTEPs(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.MaxHosts = 100 })
	for i := range 200 { // a node that lies
		b.see(fmt.Sprintf("10.1.1.%d", i), at("192.168.0.66", 5))
	}
	if c := b.Counters(); c.Hosts != 100 || c.Full != 100 {
		t.Fatalf("counters: %+v", c)
	}
	for i := range 60 {
		b.see(fmt.Sprintf("10.1.2.%d", i), at("192.168.0.1", 5))
		b.pass(tick)
	}
	c := b.Counters()
	if c.Hosts != 100 || c.Evicted != 50 || c.Waiting != 0 {
		t.Errorf("counters: %+v", c)
	}
	if b.Table().Len() != 100 {
		t.Errorf("%d entries", b.Table().Len())
	}
	if p := b.Problems(); len(p) != 1 || !strings.Contains(p[0], "raise maxHosts") {
		t.Errorf("problems: %q", p)
	}
}

func TestAScanOccupiesABoundedPartAndABoundedRate(t *testing.T) {
	b := newBed(t, func(a *Attachment) {
		for i := range 10 {
			a.VTEPs = append(a.VTEPs, ip(fmt.Sprintf("192.168.0.%d", i+1)))
		}
	})
	start := b.now
	for i := range 10000 {
		b.Ask(key(fmt.Sprintf("10.1.%d.%d", i/250, i%250)))
		if i%1000 == 999 {
			b.pass(time.Second)
		}
	}
	c := b.Counters()
	if c.Waiting > maxWaiting || c.Busy == 0 || c.Limited == 0 {
		t.Errorf("counters: %+v", c)
	}
	if seconds := (b.now - start) / 1e9; int64(c.Questions) > askBurst+(seconds+1)*askRate+10 {
		t.Errorf("%d questions in %d s", c.Questions, seconds)
	}
	b.see("10.1.200.1", at("192.168.0.1", 1)) // who speaks is known nevertheless
	b.want("10.1.200.1", at("192.168.0.1", 1))
}

func TestAnAttachmentThatOnlyAsksBelievesOnlyAnswers(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.Listen, a.VTEPs = false, []netip.Addr{ip("192.168.0.1")} })
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.Saw(&Sighting{Key: key("10.1.0.5"), Place: at("192.168.0.1", 5), Answer: true}) // to a question that nobody asked
	b.Work()
	b.wantNone("10.1.0.5")
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.1", 7), true }
	b.Ask(key("10.1.0.5"))
	b.pass(100 * time.Millisecond)
	b.want("10.1.0.5", at("192.168.0.1", 7))
	if c := b.Counters(); c.Unasked != 2 {
		t.Errorf("counters: %+v", c)
	}
}

func TestANewConfigurationKeepsWhatStillBelongs(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.see("10.1.9.5", at("192.168.0.2", 6))
	b.see("10.1.0.7", at("192.168.0.3", 7))
	a := Attachment{Segment: red, VPC: "red", Covers: netip.MustParsePrefix("10.1.0.0/24").Contains, Listen: true, MaxHosts: 10,
		Timeout: time.Minute, VTEPs: []netip.Addr{ip("192.168.0.1"), ip("192.168.0.2")}}
	b.SetAttachments([]Attachment{a})
	b.want("10.1.0.5", at("192.168.0.1", 5))
	b.wantNone("10.1.9.5") // not covered any more
	b.wantNone("10.1.0.7") // behind a VTEP that is not listed
	if got := fmt.Sprint(b.VTEPs(red)); got != "[192.168.0.1 192.168.0.2]" {
		t.Errorf("VTEPs: %s", got)
	}
	b.SetAttachments(nil)
	if b.Table().Len() != 0 || len(b.all) != 0 || len(b.vpcs) != 0 {
		t.Errorf("something is left: %+v", b.Counters())
	}
}

func TestAClaimIsJudgedByWhatTheHostSaysAfterIt(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.VTEPs = []netip.Addr{ip("192.168.0.1"), ip("192.168.0.2")} })
	alive := true
	b.answer = func(netip.Addr) (Place, bool) { return at("192.168.0.1", 5), alive }
	b.see("10.1.0.5", at("192.168.0.1", 5))
	b.pass(time.Second)
	b.Ask(key("10.1.0.5")) // a worker that sends to it wants to know
	b.pass(2 * tick)       // the host has answered
	alive = false
	b.see("10.1.0.5", at("192.168.0.2", 5)) // and moves; its announcement is not repeated
	b.pass(500 * time.Millisecond)
	b.want("10.1.0.5", at("192.168.0.2", 5))
	if c := b.Counters(); c.Conflicts != 0 || c.Moves != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestAHostThatWasJustSeenIsNotAskedFor(t *testing.T) {
	b := newBed(t, nil)
	b.Saw(&Sighting{Key: key("10.1.0.5"), Place: at("192.168.0.1", 5)})
	b.Ask(key("10.1.0.5")) // by a worker that does not know yet
	b.pass(time.Second)
	if c := b.Counters(); c.Questions != 0 {
		t.Errorf("%d questions", c.Questions)
	}
}
