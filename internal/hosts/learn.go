package hosts

// sighting judges what a worker has seen.
func (l *Learner) sighting(s *Sighting) {
	l.counters.Sightings++
	seg := l.segments[s.Segment]
	if seg == nil || !seg.Covers(s.Addr) || s.MAC[0]&1 != 0 || s.MAC == ([6]byte{}) || s.MAC == seg.MAC {
		l.counters.Outside++
		return
	}
	v := l.vtepAt(seg, s.VTEP)
	if v == nil {
		l.counters.Foreign++
		return
	}
	r := l.records[s.Key]
	if !seg.Listen && (!s.Answer || r == nil || r.inquiry == nil) {
		l.counters.Unasked++
		return
	}
	switch {
	case r != nil && r.told:
		if r.Place != s.Place {
			l.counters.Overruled++
		}
	case r == nil:
		if l.room(v) {
			l.counters.Learned++
			l.settle(l.add(seg, s.Key), s.Place, v, s.Answer)
		}
	case r.state != known:
		if l.room(v) {
			if r.failures = 0; s.Answer {
				l.counters.Resolved++
			} else {
				l.counters.Learned++
			}
			l.settle(r, s.Place, v, s.Answer)
		}
	case r.Place != s.Place:
		l.claim(r, s.Place)
	}
}

// claim is another place that says it has the host. The host is asked where it was; if that stays silent, it moves.
func (l *Learner) claim(r *record, p Place) {
	if i := r.inquiry; i != nil && i.claim == (Place{}) && r.answeredSince(i.start) {
		l.answered(r) // which says nothing about this claim
	}
	switch i := r.inquiry; {
	case l.now < r.refuse:
		l.counters.Refused++
	case l.now < r.held:
		l.counters.Held++
	case i == nil:
		l.inquire(r, verifySteps)
		r.inquiry.claim = p
	default:
		i.claim = p
		if i.tries > 0 {
			r.next = min(r.next, i.start+claimWait)
		}
	}
}

// move puts a host where it has been claimed to be.
func (l *Learner) move(r *record, p Place) {
	v := l.vtepAt(r.segment, p.VTEP)
	if v == nil { // given up by a change of the configuration meanwhile
		l.end(r)
		return
	}
	l.counters.Moves++
	r.moves++
	if l.now-r.window > flapWindow {
		r.window, r.inWindow = l.now, 0
	}
	if r.inWindow++; r.inWindow >= flapMoves {
		r.held, r.window = l.now+flapHold, 0
		l.troubled(r)
		l.o.Logger.Warn("host moves too often and stays where it is for now", "vpc", r.segment.VPC, "address", r.Addr, "vtep", p.VTEP, "from", r.VTEP)
	}
	l.settle(r, p, v, false)
}

// troubled remembers a record for Problems.
func (l *Learner) troubled(r *record) {
	if len(l.trouble) < maxWaiting {
		l.trouble[r] = l.now + troubleFor
	}
}

// sweep looks at the age of a part of the hosts, so that each has its turn once in sweepEvery.
func (l *Learner) sweep() {
	if l.sweptAt == 0 || len(l.all) == 0 {
		l.sweptAt = l.now
		return
	}
	n := int64(len(l.all)) * min(l.now-l.sweptAt, sweepEvery) / sweepEvery
	if n == 0 {
		return
	}
	l.sweptAt = l.now
	for ; n > 0; n-- {
		if l.cursor++; l.cursor >= len(l.all) {
			l.cursor = 0
			l.sweepVTEPs()
		}
		r := l.all[l.cursor]
		if r.state == known && !r.told && r.inquiry == nil && l.now-r.entry.seenAt.Load() >= int64(r.segment.Timeout) {
			l.inquire(r, idleSteps)
		}
	}
}

// sweepVTEPs forgets learned VTEPs that have been without hosts for long, and old trouble.
func (l *Learner) sweepVTEPs() {
	for _, s := range l.segments {
		for _, v := range s.vteps {
			if !v.kept && len(v.records) == 0 && l.now-v.emptied >= vtepFor {
				s.dropVTEP(v)
			}
		}
	}
	for r, until := range l.trouble {
		if l.now >= until {
			delete(l.trouble, r)
		}
	}
}
