package hosts

import (
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
)

// inquiry is a row of questions for one host.
type inquiry struct {
	steps []step
	tries int
	start int64 // of the first question
	claim Place // of another VTEP, or zero
}

// step is one question: so long after the first, to all VTEPs or only to the place where the host was. The last step
// asks nothing: it gives up.
type step struct {
	after int64
	all   bool
}

func ms(n int) int64 { return int64(n) * int64(time.Millisecond) }

var (
	// findSteps look for a host. A VTEP whose neighbour entry is missing costs the first question, so the second is soon.
	findSteps = []step{{0, true}, {ms(200), true}, {ms(700), true}, {ms(1700), true}, {ms(2700), true}}
	// verifySteps are for a host that somebody sends to.
	verifySteps = []step{{0, false}, {claimWait, true}, {ms(800), true}, {ms(1700), true}, {ms(2500), true}}
	// idleSteps are for one that nobody does: no need to bother the others.
	idleSteps = []step{{0, false}, {ms(1000), false}, {ms(2000), false}, {ms(3000), false}}
)

// question is a worker's.
func (l *Learner) question(k Key) {
	r := l.records[k]
	if r != nil {
		switch {
		case r.told || r.state != known || r.inquiry != nil && !idle(r.inquiry):
		case l.now-r.entry.seenAt.Load() < quietAfter: // it was asked for before its answer was known to all
		case r.inquiry != nil: // now somebody wants it
			l.end(r)
			l.inquire(r, verifySteps)
		default:
			if r.entry.seenAt.Load() > r.verified {
				r.rounds = 0
			}
			l.inquire(r, verifySteps)
		}
		return
	}
	s := l.segments[k.Segment]
	if s == nil || !s.Covers(k.Addr) {
		return
	}
	if v := s.vpc; v.waiting >= maxWaiting {
		for old := range v.silent {
			l.forget(old)
			break
		}
		if v.waiting >= maxWaiting {
			l.counters.Busy++
			return
		}
	}
	l.inquire(l.add(s, k), findSteps)
}

func idle(i *inquiry) bool { return &i.steps[0] == &idleSteps[0] }

// inquire begins an inquiry; the first question is asked by advance.
func (l *Learner) inquire(r *record, steps []step) {
	r.inquiry, r.next = &inquiry{steps: steps}, l.now
	l.busy[r] = struct{}{}
}

// advance does what is due for a record: the next question, or what follows from the silence.
func (l *Learner) advance(r *record) {
	i := r.inquiry
	switch {
	case i == nil: // silent for long enough
		l.forget(r)
		return
	case r.state == known && i.tries > 0 && r.answeredSince(i.start):
		l.answered(r)
		return
	case i.claim != (Place{}) && i.tries > 0 && l.now >= i.start+claimWait:
		l.move(r, i.claim)
		return
	case i.tries > 0 && l.now < i.start+i.steps[i.tries].after:
		// Looked only whether it has answered: the mark of a worker comes without a message.
		r.next = min(i.start+i.steps[i.tries].after, l.now+claimWait)
		return
	case i.tries == len(i.steps)-1:
		l.unanswered(r)
		return
	}
	if !l.send(r, i.steps[i.tries].all) {
		r.next = l.now + int64(tick) // over the rate
		return
	}
	if i.tries == 0 {
		i.start = l.now
	}
	i.tries++
	r.next = min(i.start+i.steps[i.tries].after, l.now+claimWait)
}

// answeredSince says whether a known host was seen where it is, at that time or later.
func (r *record) answeredSince(t int64) bool { return t != 0 && r.entry.seenAt.Load() >= t }

// answered: the host is where it was.
func (l *Learner) answered(r *record) {
	if r.inquiry.claim != (Place{}) {
		l.counters.Conflicts++
		r.conflicts++
		r.refuse = l.now + refuseFor
		l.troubled(r)
	}
	r.verified, r.failures = l.now, 0
	r.rounds++
	l.end(r)
	r.entry.checkAt.Store(l.now + min(quietAfter<<min(r.rounds-1, 8), quietMost))
}

// unanswered: nobody has the address.
func (l *Learner) unanswered(r *record) {
	if idle(r.inquiry) {
		l.counters.Aged++
		l.forget(r)
		return
	}
	l.counters.Unanswered++
	l.silence(r)
}

// send asks for a host once; false: not now.
func (l *Learner) send(r *record, all bool) bool {
	v := r.segment.vpc
	v.tokens = min(v.tokens+min(l.now-v.filled, int64(time.Second))*askRate, askBurst*int64(time.Second))
	v.filled = l.now
	if v.tokens <= 0 {
		l.counters.Limited++
		return false
	}
	ask := func(vtep netip.Addr, to *Place) {
		frame := r.segment.frame(r.Addr, to)
		if frame == nil {
			return
		}
		v.tokens -= int64(time.Second)
		if l.o.Send(Question{Segment: r.Segment, VTEP: vtep, Frame: frame}) {
			l.counters.Questions++
		}
	}
	if !all {
		ask(r.VTEP, &r.Place)
		return true
	}
	for a := range r.segment.vteps {
		ask(a, nil)
	}
	return true
}

// frame is the question for an address: to one place, or to everybody. It is nil when we have no address to ask from.
func (s *segment) frame(target netip.Addr, to *Place) []byte {
	if target.Is4() {
		if !s.Gateway4.IsValid() {
			return nil
		}
		b := make([]byte, packet.EthernetLen+packet.ARPLen)
		dst := packet.Broadcast
		if to != nil {
			dst = to.MAC
		}
		packet.PutEthernet(b[:packet.EthernetLen], dst, s.MAC, packet.TypeARP)
		packet.PutARPRequest(b[packet.EthernetLen:], s.MAC, s.Gateway4.As4(), target.As4())
		return b
	}
	if !s.Gateway6.IsValid() {
		return nil
	}
	b := make([]byte, packet.EthernetLen+packet.IPv6Len+packet.NDSolicitLen)
	group, dst := packet.SolicitedNode(target.As16())
	if to != nil {
		group, dst = target.As16(), to.MAC
	}
	ip := b[packet.EthernetLen:]
	packet.PutEthernet(b[:packet.EthernetLen], dst, s.MAC, packet.TypeIPv6)
	packet.PutIPv6(ip[:packet.IPv6Len], 0, 0, packet.NDSolicitLen, 255, packet.ProtoICMPv6, s.Gateway6.As16(), group)
	packet.PutSolicit(ip[packet.IPv6Len:], target.As16(), s.MAC)
	packet.PutTransportChecksum(ip, packet.IPv6Len, packet.ProtoICMPv6)
	return b
}
