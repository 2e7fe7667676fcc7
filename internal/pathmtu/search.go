package pathmtu

import (
	"slices"
	"time"
)

// State of a peer.
type State uint8

// The states. Base, Searching, Complete and Failed are BASE, SEARCHING,
// SEARCH_COMPLETE and ERROR of RFC 8899 section 5.2; the others are where it has DISABLED.
const (
	// Idle: there is no session, or no way to the peer is known.
	Idle State = iota
	// NoAddress: the peer and we have no tunnel addresses of one family to probe between.
	NoAddress
	// Configured: an operator has set the figure.
	Configured
	// Base: does the path carry what every path should?
	Base
	// Searching for the longest packet that it carries.
	Searching
	// Complete: found, and confirmed every so often.
	Complete
	// Unanswered: the peer answers no probe of any size.
	Unanswered
	// Failed: the path carries less than we are ready to believe; the figure is the floor.
	Failed
)

// String is the word for people.
func (s State) String() string {
	return [...]string{"idle", "no tunnel address", "configured", "probing", "probing", "confirmed", "not answered", "too small"}[s]
}

// From RFC 8899 section 5.1.
const (
	maxProbes  = 3 // MAX_PROBES: so often a size must be lost
	probeTimer = int64(time.Second)
	raiseTimer = int64(600 * time.Second) // PMTU_RAISE_TIMER
)

// What we chose, with the reasons.
const (
	// confirmEvery is how often a size that was found is probed again: so long a path that became narrower can stay a black hole.
	confirmEvery = int64(30 * time.Second)
	// reorder is how much later than the last probe of a round an earlier one may arrive and not count as lost: an RTT's
	// half, and at least what a busy host needs to come round to all of them.
	reorder = int64(50 * time.Millisecond)
	// slowest is the longest that a round waits.
	slowest = int64(10 * time.Second)
	// A peer that does not answer is asked again after retryFirst, then half as often each time down to retryLast.
	retryFirst = int64(5 * time.Second)
	retryLast  = int64(60 * time.Second)
	// remembered probes are those that an answer may still come for.
	remembered = 64
	// smallest is the inner packet that any path carries: if it is not answered, size is not the reason.
	smallest = 100
	// split is in how many places an interval is probed at once.
	split = 8
)

// Sizes of outer IP packets.
const (
	base4, base6   = 1200, 1280 // RFC 8899 section 5.1.2, and the smallest MTU of IPv6
	floor4, floor6 = 576, 1280  // what every IPv4 host takes (RFC 791), and IPv6 again
)

// table are path MTUs that are found in the wild: it is only the order in which
// sizes are tried. Tunnels (GRE, IPsec, VXLAN, PPPoE, L2TP and several of them) over
// Ethernet, jumbo frames of clouds and switches.
var table = []int{700, 900, 1006, 1124, 1200, 1280, 1320, 1360, 1380, 1400, 1420, 1440, 1450, 1460, 1472, 1480, 1492, 1500,
	1600, 2048, 4352, 8000, 8500, 8950, 9000, 9216}

// search is the state machine of one peer. Times are nanoseconds of one monotonic
// clock. All sizes are of inner packets.
//
// It works in rounds: the sizes that are in question go out together, the
// longest first, and last the marker, a size that is known to be carried (or to be
// no problem). When the marker is answered and a size is not, that size was lost,
// once; when nothing is answered at all, the round says nothing about sizes.
// So a search takes round trips and not timeouts, and does not take a dead peer for a
// narrow path.
type search struct {
	state    State
	overhead int // of the outer packet around an inner one
	max      int // the longest that port and routes allow
	floor    int
	base     int

	low, high int   // the longest that was answered, the shortest that is taken for lost
	asked     []int // sizes between them that rounds ask for until they are answered or lost, the longest first
	tries     int   // rounds in a row that have lost them
	silent    int   // rounds in a row without any answer
	wait      int64
	raiseAt   int64

	round  []int // sizes in question, the longest first, and the marker; empty: no round is under way
	begun  int64
	marked int64 // when the marker was answered; 0: not yet
	best   int   // the longest of the round that was answered
	any    bool  // something of it was
	rtt    int64

	next   int64 // when something is due
	seq    uint16
	probes [remembered]probe

	figure int // what was found last; 0: nothing yet
}

// probe is one that was sent.
type probe struct {
	seq  uint16
	size int // 0: nothing
	at   int64
	now  bool // of the round under way
}

// begin starts over for a path that allows max bytes, behind so many bytes of outer headers.
func (s *search) begin(now int64, max, overhead int, six bool) {
	s.overhead, s.max = overhead, max
	s.floor, s.base = floor4, base4
	if six {
		s.floor, s.base = floor6, base6
	}
	s.floor, s.base = min(s.floor-overhead, max), min(s.base-overhead, max)
	s.wait = retryFirst
	s.probes = [remembered]probe{}
	s.enterBase(now)
}

func (s *search) enterBase(now int64) {
	s.enter(Base, now)
	s.low, s.high = 0, s.max+1
}

func (s *search) enter(state State, now int64) {
	s.state, s.tries, s.silent, s.next, s.asked, s.round = state, 0, 0, now, s.asked[:0], s.round[:0]
}

// rest stops: there is no way to the peer. What was found is kept.
func (s *search) rest() {
	s.state, s.round = Idle, s.round[:0]
}

// resume goes on with a path that has been found: it is confirmed at once.
func (s *search) resume(now int64) {
	s.low = s.figure
	s.enter(Complete, now)
}

// resting says whether nothing is in question until the next timer.
func (s *search) resting() bool {
	return !s.under() && s.tries == 0 && s.silent == 0 && (s.state == Complete || s.state == Unanswered || s.state == Failed)
}

// under says whether a round is under way.
func (s *search) under() bool { return len(s.round) > 0 }

// advance does what is due. It calls send for every probe.
func (s *search) advance(now int64, send func(seq uint16, size int)) {
	if s.under() {
		if !s.over(now) {
			return
		}
		s.finish(now)
	}
	if now >= s.next && s.state >= Base {
		s.start(now, send)
	}
}

// over says whether the round under way is, and when to look again if not.
func (s *search) over(now int64) bool {
	end := s.begun + s.timer()
	if s.best == s.round[0] {
		return true
	}
	if s.marked != 0 {
		end = min(end, s.marked+max(reorder, s.rtt/2))
	}
	s.next = end
	return now >= end
}

// timer is how long a round waits for its first answer: PROBE_TIMER, or more on a path that is known to be slow.
func (s *search) timer() int64 { return max(probeTimer, min(s.rtt+s.rtt/2, slowest)) }

// start begins a round.
func (s *search) start(now int64, send func(seq uint16, size int)) {
	switch s.state {
	case Unanswered, Failed:
		s.enterBase(now)
	case Complete:
		if s.low < s.max && now >= s.raiseAt {
			s.enterSearch(now, s.max+1)
		}
	}
	marker := min(smallest, s.max)
	switch s.state {
	case Base:
		s.round = append(s.round, s.base, s.floor)
	case Searching:
		for _, size := range s.asked {
			if size > s.low {
				s.round = append(s.round, size)
			}
		}
		marker = s.low
	case Complete:
		s.round = append(s.round, s.low)
	}
	s.round = append(s.round, marker)
	s.round = slices.Compact(s.round)
	s.begun, s.marked, s.best, s.any = now, 0, 0, false
	for i := range s.probes {
		s.probes[i].now = false
	}
	s.next = now + s.timer()
	for _, size := range s.round {
		s.seq++
		s.probes[s.seq%remembered] = probe{seq: s.seq, size: size, at: now, now: true}
		send(s.seq, size)
	}
}

// enterSearch begins a search of what is longer than low and shorter than high
// with what the table knows.
func (s *search) enterSearch(now int64, high int) {
	s.enter(Searching, now)
	s.high = high
	s.asked = append(s.asked, high-1)
	for _, outer := range slices.Backward(table) {
		if size := outer - s.overhead; size < high-1 {
			s.asked = append(s.asked, size)
		}
	}
	s.settle(now)
}

// answered takes an answer that came at a time.
func (s *search) answered(seq uint16, at int64) {
	p := &s.probes[seq%remembered]
	if p.size == 0 || p.seq != seq || s.state < Base {
		return
	}
	size := p.size
	p.size = 0
	if size > s.low && size >= s.floor && (s.state == Base || s.state == Searching) {
		s.low, s.high = size, max(s.high, size+1) // also one that was given up
	}
	s.rtt = max(at-p.at, 0)
	if !p.now || !s.under() {
		return
	}
	s.any, s.best = true, max(s.best, size)
	if size == s.round[len(s.round)-1] {
		s.marked = at
	}
}

// finish draws the conclusions of a round.
func (s *search) finish(now int64) {
	asked := s.round[0]
	s.round = s.round[:0]
	s.next = now
	if !s.any {
		if s.silent++; s.silent < maxProbes {
			return
		}
		if s.state == Base {
			s.giveUp(now)
		} else {
			s.enterBase(now)
		}
		return
	}
	s.silent, s.wait = 0, retryFirst
	lost := s.best < asked
	if lost {
		s.tries++
	}
	switch s.state {
	case Base:
		switch {
		case s.low >= s.base, s.low >= s.floor && s.tries >= maxProbes:
			s.enterSearch(now, s.max+1)
		case s.tries >= maxProbes:
			s.enter(Failed, now)
			s.figure, s.next = s.floor, now+retryLast
		}
	case Searching:
		if !lost || s.tries >= maxProbes {
			s.narrow()
		}
		s.settle(now)
	case Complete:
		switch {
		case !lost:
			s.tries, s.next = 0, now+confirmEvery
		case s.tries >= maxProbes: // a black hole
			s.enterBase(now)
		}
	}
}

// narrow takes what a whole row of rounds has lost for not carried, and looks
// closer at what is left between.
func (s *search) narrow() {
	for _, size := range slices.Backward(s.asked) {
		if size > s.low {
			s.high = size
			break
		}
	}
	s.tries, s.asked = 0, s.asked[:0]
	gap := s.high - s.low
	n := min(split, gap-1)
	for i := n; i > 0; i-- {
		s.asked = append(s.asked, s.low+gap*i/(n+1))
	}
}

// settle ends the search when there is nothing between low and high.
func (s *search) settle(now int64) {
	if s.high-s.low > 1 {
		return
	}
	s.enter(Complete, now)
	s.figure = s.low
	s.next, s.raiseAt = now+confirmEvery, now+raiseTimer
}

// giveUp waits with a peer that does not answer. What was found before stays.
func (s *search) giveUp(now int64) {
	s.enter(Unanswered, now)
	s.next = now + s.wait
	s.wait = min(2*s.wait, retryLast)
}
