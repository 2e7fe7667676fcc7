package bfd

import (
	"math/rand/v2"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

// State of a session (RFC 5880 section 6.2).
type State uint8

// The states.
const (
	AdminDown = State(bfd.StateAdminDown)
	Down      = State(bfd.StateDown)
	Init      = State(bfd.StateInit)
	Up        = State(bfd.StateUp)
)

// String is the state's word.
func (s State) String() string { return [...]string{"admin down", "down", "init", "up"}[s&3] }

// quiet is how long a session is silent and deaf at first: when BGP comes up, FRR 8 ends the BFD session that it has, to
// begin one with its own address, and where that was up already it ends BGP, too.
const quiet = int64(200 * time.Millisecond)

// slow is how far apart packets are, at least, while the session is not up (RFC 5880 section 6.8.3).
const slow = int64(time.Second)

// machine is one session. Times are in nanoseconds.
type machine struct {
	interval   int64 // of our packets, and the least that we let the router's be apart
	multiplier uint8

	opens    int64 // it is quiet before
	state    State
	diag     bfd.DiagnosticType
	mine     uint32 // our discriminator
	yours    uint32 // the router's; 0: not known
	polling  bool   // the router is to confirm our interval
	next     int64  // when to send; 0: at once
	heard    int64  // when the router's last packet came
	theirs   int64  // its DesiredMinTxInterval, as agreed
	wants    int64  // its RequiredMinRxInterval; 0: it wants no packets
	count    uint8  // its multiplier
	wentAway string // why the session went down last
	failures uint64
	died     bool // it has failed since whoever drives the machine has looked
	cameUp   bool // it has come up since then
}

func newMachine(interval time.Duration, multiplier uint8, now int64) *machine {
	return &machine{opens: now + quiet, next: now + quiet, interval: int64(interval), multiplier: multiplier, state: Down, mine: 1 + rand.Uint32N(1<<32-1), wants: 1, count: multiplier, theirs: slow}
}

// desired is our DesiredMinTxInterval.
func (m *machine) desired() int64 {
	if m.state != Up {
		return max(m.interval, slow)
	}
	return m.interval
}

// silence is how long the router may say nothing (RFC 5880 section 6.8.4).
func (m *machine) silence() int64 { return int64(m.count) * max(m.interval, m.theirs) }

// due sends what is due, and takes the router for dead that has said nothing for too long.
func (m *machine) due(now int64, send func(*bfd.BFDHeader)) {
	if m.yours != 0 {
		if late := now - m.deadline(); late > m.interval/2 && m.state == Up {
			// We were held up ourselves: what the router sent meanwhile may wait to be read.
			m.heard = now - m.silence() + m.interval
		} else if late >= 0 {
			m.yours = 0
			m.fall(bfd.DiagnosticControlDetectionTimeExpired, "nothing was heard from it", now)
		}
	}
	if now < m.next {
		return
	}
	m.schedule(now)
	if m.wants != 0 {
		send(m.packet(m.polling, false))
	}
}

func (m *machine) deadline() int64 { return m.heard + m.silence() }

// schedule is when the next packet is due: 75 to 100 % of the interval from now, at most 90 % where one that is lost
// is enough (RFC 5880 section 6.8.7).
func (m *machine) schedule(now int64) {
	interval := max(m.desired(), m.wants)
	most := interval / 4
	if m.multiplier == 1 {
		most = interval * 15 / 100
	}
	m.next = now + interval*3/4 + rand.Int64N(most+1)
}

// wake is when due has something to do next.
func (m *machine) wake() int64 {
	if m.yours != 0 {
		return min(m.next, m.deadline())
	}
	return m.next
}

func (m *machine) packet(poll, final bool) *bfd.BFDHeader {
	return &bfd.BFDHeader{
		Version: 1, Diagnostic: m.diag, State: bfd.StateType(m.state), Poll: poll && !final, Final: final,
		DetectTimeMultiplier: m.multiplier, MyDiscriminator: m.mine, YourDiscriminator: m.yours,
		DesiredMinTxInterval: uint32(m.desired() / 1000), RequiredMinRxInterval: uint32(m.interval / 1000),
	}
}

// enter changes the state, and says so at once.
func (m *machine) enter(s State) {
	if m.state == s {
		return
	}
	m.state, m.next = s, 0
	m.polling = s == Up // our interval is another now (RFC 5880 section 6.8.3)
	if s == Up {
		m.diag, m.cameUp = bfd.DiagnosticNoDiagnostic, true
	}
}

// fall takes the session down; one that was up has failed, and stays down for a while: BGP ends, and were it up again by then FRR
// would, when BGP is back, take the end of this session for a failure of its own.
func (m *machine) fall(diag bfd.DiagnosticType, why string, now int64) {
	if m.state == Up {
		m.opens = now + slow
		m.failures++
		m.died, m.wentAway = true, why
	}
	m.diag, m.theirs = diag, slow
	m.enter(Down)
}

// leave says that the session ends by our will (RFC 5880 section 6.8.16).
func (m *machine) leave(send func(*bfd.BFDHeader)) {
	if m.yours != 0 {
		m.state, m.diag = AdminDown, bfd.DiagnosticAdministrativelyDown
		send(m.packet(false, false))
	}
}

// take takes in a packet (RFC 5880 section 6.8.6), and may answer it. It says whether it was for this session.
func (m *machine) take(p *bfd.BFDHeader, now int64, send func(*bfd.BFDHeader)) bool {
	state := State(p.State)
	switch {
	case now < m.opens, p.Version != 1 || p.DetectTimeMultiplier == 0 || p.MyDiscriminator == 0:
		return false
	case p.YourDiscriminator == 0 && state != Down && state != AdminDown, p.YourDiscriminator != 0 && p.YourDiscriminator != m.mine:
		return false
	}
	if m.yours != 0 && p.MyDiscriminator != m.yours {
		if p.YourDiscriminator != 0 {
			return false
		}
		// The router has begun its session anew and we have heard it all the time: that is no failure. What is under way
		// of the session before has our discriminator, and is refused above.
		m.diag, m.theirs = bfd.DiagnosticNoDiagnostic, slow
		m.enter(Down)
	}
	m.yours, m.heard, m.count = p.MyDiscriminator, now, p.DetectTimeMultiplier
	if theirs := int64(p.DesiredMinTxInterval) * 1000; theirs > m.theirs || !p.Poll && !p.Final {
		// Until we have confirmed that it sends more often, it may not yet.
		m.theirs = theirs
	}
	if wants := int64(p.RequiredMinRxInterval) * 1000; wants != m.wants {
		m.wants, m.next = wants, min(m.next, now+max(m.desired(), wants))
	}
	if p.Final {
		m.polling = false
	}
	switch {
	case state == AdminDown, m.state == Up && state == Down && p.Diagnostic == bfd.DiagnosticNeighborSignaledSessionDown:
		// By somebody's will, which is no failure (RFC 5882 section 3.2). FRR 10 puts it like the second, that we had
		// signalled it, which we had not: so it ends a session to begin another, just after BGP has come up.
		if m.state != Down {
			m.diag, m.theirs = bfd.DiagnosticNeighborSignaledSessionDown, slow
			m.enter(Down)
		}
	case m.state == Down && state == Down:
		m.enter(Init)
	case m.state == Down && state == Init, m.state == Init && state >= Init:
		m.enter(Up)
	case m.state == Up && state == Down:
		m.fall(bfd.DiagnosticNeighborSignaledSessionDown, "it says that it does not hear us", now)
	}
	if p.Poll {
		send(m.packet(false, true))
	}
	return true
}
