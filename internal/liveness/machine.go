package liveness

import (
	"math/bits"
	"time"
)

// State of a peer.
type State uint8

// The states.
const (
	Off     State = iota // not probed: switched off, or without tunnel addresses
	Unknown              // has never answered
	Up
	Down
)

// String is the state's word.
func (s State) String() string { return [...]string{"off", "unknown", "up", "down"}[s] }

const (
	// window is over how many probes loss is counted, and how many may be under way.
	window = 64
	// unknownInterval is how often a peer is asked that has never answered. Chosen:
	// soon enough for one that starts, and next to nothing for one that never will.
	unknownInterval = time.Second
)

// machine is what is known of one peer. Times are in nanoseconds.
type machine struct {
	interval   int64
	multiplier int

	state  State
	next   int64  // when to send
	heard  int64  // when the last answer came, or waiting for it began
	begun  int64  // when a probe was sent last; 0: none yet
	good   int    // answers in a row, while down
	before uint16 // the last of them

	seq  uint16
	sent [window]int64 // by seq%window; 0: answered, or none
	took int           // probes in sent so far, up to window

	rtt, least, jitter, last int64
}

// silence is how long a peer that is up may say nothing.
func (m *machine) silence() int64 { return m.interval * int64(m.multiplier) }

// due sends a probe if it is time to, and takes a peer for down that has been
// silent for too long. changed: the state is another now.
func (m *machine) due(now int64, send func(seq uint16)) (changed bool) {
	if late := now - m.next; m.begun != 0 && m.state == Up && late > m.interval {
		// We were held up ourselves, not the peer: that time counts for nothing.
		m.heard += late
	}
	if m.state == Up && now-m.heard >= m.silence() {
		m.fail()
		changed = true
	}
	if now < m.next {
		return changed
	}
	m.seq++
	m.sent[m.seq%window] = now
	m.took = min(m.took+1, window)
	m.begun = now
	m.next = now + m.interval
	if m.state == Unknown {
		m.next = now + max(m.interval, int64(unknownInterval))
	}
	send(m.seq)
	return changed
}

// fail takes a peer for down.
func (m *machine) fail() { m.state, m.good = Down, 0 }

// wake is when due has something to do next.
func (m *machine) wake() int64 {
	if m.state == Up {
		return min(m.next, m.heard+m.silence())
	}
	return m.next
}

// answered takes in an answer. An old or second answer to a probe says nothing.
func (m *machine) answered(seq uint16, at int64) (changed bool) {
	sent := m.sent[seq%window]
	if m.seq-seq >= window || sent == 0 || at < sent {
		return false
	}
	m.sent[seq%window] = 0
	m.heard = max(m.heard, at)
	m.measure(at - sent)
	switch m.state {
	case Unknown:
		m.state, m.next = Up, m.begun+m.interval
		return true
	case Down:
		if seq != m.before+1 { // one between was lost
			m.good = 0
		}
		m.before = seq
		if m.good++; m.good >= m.multiplier {
			m.state = Up
			return true
		}
	}
	return false
}

// measure takes in a round trip: smoothed as in RFC 6298, jitter as in RFC 3550
// section 6.4.1, where the difference of two transits is that of two round trips.
func (m *machine) measure(rtt int64) {
	if m.rtt == 0 {
		m.rtt, m.least = rtt, rtt
	} else {
		m.rtt += (rtt - m.rtt) / 8
		m.least = min(m.least, rtt)
		m.jitter += (max(rtt-m.last, m.last-rtt) - m.jitter) / 16
	}
	m.last = rtt
}

// loss is how many of how many probes have not been answered. Those are not
// counted that may still be.
func (m *machine) loss(now int64) (lost, of int) {
	var mask uint64
	for i := range m.took {
		at := m.sent[(m.seq-uint16(i))%window]
		switch {
		case at == 0:
			of++
		case now-at >= m.silence():
			of++
			mask |= 1 << i
		}
	}
	return bits.OnesCount64(mask), of
}
