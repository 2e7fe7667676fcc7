package hosts

import "net/netip"

// segment is an attachment and its VTEPs.
type segment struct {
	Attachment
	vpc   *vpc
	vteps map[netip.Addr]*vtep
	fixed bool // nobody else may become one
}

// vtep is one endpoint and the hosts it holds.
type vtep struct {
	segment *segment
	addr    netip.Addr
	records map[*record]struct{}
	emptied int64 // when its last host went
	kept    bool  // by the configuration
}

// vpc is what the attachments of a VPC share: its limits.
type vpc struct {
	max     int
	known   int
	waiting int                  // asking or silent
	silent  map[*record]struct{} // of these
	vteps   map[*vtep]struct{}
	biggest *vtep // as of sizedAt
	sizedAt int64
	tokens  int64 // questions that may be sent, in billionths
	filled  int64
}

type state uint8

const (
	asking state = iota // nothing is known yet
	known
	silent
)

// record is a key that somebody has seen or asked for.
type record struct {
	Key
	Place
	segment *segment
	state   state
	vtep    *vtep  // that holds it, while known
	entry   *Entry // published, unless asking
	index   int    // in Learner.all
	since   int64  // it is known in this place
	answer  bool   // known by an answer and not by what it sent
	told    bool   // known by the control plane: nothing else counts

	moves     uint64
	window    int64 // begin of the window that inWindow counts moves in
	inWindow  int
	held      int64 // no moves before this
	conflicts uint64
	refuse    int64 // no claims before this

	inquiry  *inquiry // under way
	next     int64    // something is due, for a record in Learner.busy
	failures int      // inquiries in a row without an answer
	verified int64    // when the last inquiry was answered
	rounds   int      // such in a row, without a word from the host between
}

// add makes a record for a key of the segment.
func (l *Learner) add(s *segment, k Key) *record {
	r := &record{Key: k, segment: s, index: len(l.all)}
	l.records[k] = r
	l.all = append(l.all, r)
	s.vpc.waiting++
	return r
}

// forget removes a record and its entry.
func (l *Learner) forget(r *record) {
	l.leave(r)
	r.segment.vpc.waiting--
	delete(l.records, r.Key)
	delete(l.busy, r)
	delete(l.trouble, r)
	last := l.all[len(l.all)-1]
	l.all[r.index], last.index = last, r.index
	l.all = l.all[:len(l.all)-1]
	l.set(r, nil)
}

// leave takes a record out of its state, into asking.
func (l *Learner) leave(r *record) {
	v := r.segment.vpc
	switch r.state {
	case known:
		v.known--
		v.waiting++
		delete(r.vtep.records, r)
		if len(r.vtep.records) == 0 {
			r.vtep.emptied = l.now
		}
		r.vtep = nil
	case silent:
		delete(v.silent, r)
	}
	r.state = asking
}

// settle puts a record into a place.
func (l *Learner) settle(r *record, p Place, to *vtep, answer bool) {
	l.leave(r)
	r.segment.vpc.waiting--
	r.segment.vpc.known++
	r.state, r.Place, r.vtep, r.since, r.answer = known, p, to, l.now, answer
	to.records[r] = struct{}{}
	l.end(r)
	e := &Entry{Key: r.Key, Place: p, Told: r.told}
	e.Saw(l.now)
	l.set(r, e)
}

// silence says that nobody answers for the address.
func (l *Learner) silence(r *record) {
	l.leave(r)
	l.end(r)
	r.state, r.Place = silent, Place{}
	r.segment.vpc.silent[r] = struct{}{}
	r.next = l.now + min(silentFor<<min(r.failures, 8), silentMost)
	r.failures++
	l.busy[r] = struct{}{}
	l.set(r, &Entry{Key: r.Key, Silent: true})
}

// end ends the inquiry.
func (l *Learner) end(r *record) {
	r.inquiry = nil
	delete(l.busy, r)
}

// set notes what is to be published.
func (l *Learner) set(r *record, e *Entry) {
	r.entry = e
	l.changes[r.Key] = e
}

// vtepAt returns the VTEP of that address, nil when it may not be one.
func (l *Learner) vtepAt(s *segment, a netip.Addr) *vtep {
	if v := s.vteps[a]; v != nil || s.fixed || len(s.vteps) >= maxVTEPs {
		return v
	}
	return s.addVTEP(a, false)
}

func (s *segment) addVTEP(a netip.Addr, kept bool) *vtep {
	v := &vtep{segment: s, addr: a, records: make(map[*record]struct{}), kept: kept}
	s.vteps[a] = v
	s.vpc.vteps[v] = struct{}{}
	return v
}

func (s *segment) dropVTEP(v *vtep) {
	delete(s.vteps, v.addr)
	delete(s.vpc.vteps, v)
	if s.vpc.biggest == v {
		s.vpc.biggest, s.vpc.sizedAt = nil, 0
	}
}

// room says whether one more host may become known behind v. In a full VPC the VTEP that holds most gives up a host, the
// longest unseen of a few, for one that holds less.
func (l *Learner) room(v *vtep) bool {
	c := v.segment.vpc
	if c.known < c.max {
		return true
	}
	if c.biggest == nil || l.now-c.sizedAt >= int64(idleTick) {
		c.biggest, c.sizedAt = v, l.now
		for o := range c.vteps {
			if len(o.records) > len(c.biggest.records) {
				c.biggest = o
			}
		}
	}
	if len(c.biggest.records) <= len(v.records)+1 {
		l.counters.Full++
		return false
	}
	var oldest *record
	const sample = 32
	looked := 0
	for r := range c.biggest.records {
		if r.told {
			continue
		}
		if oldest == nil || r.entry.seenAt.Load() < oldest.entry.seenAt.Load() {
			oldest = r
		}
		if looked++; looked == sample {
			break
		}
	}
	if oldest == nil {
		l.counters.Full++
		return false
	}
	l.forget(oldest)
	l.counters.Evicted++
	return true
}
