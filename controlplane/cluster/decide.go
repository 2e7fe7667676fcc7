package cluster

import (
	"errors"
	"time"
)

// What Move says.
var (
	ErrNotActive   = errors.New("this gateway is not active for the VPC")
	ErrNobodyReady = errors.New("no other member is READY for the VPC")
)

// Tick does what is due: whoever drives the machine calls it after everything that it
// tells it, and at Wake. It returns the reports to send to all members, witnesses and
// the gateways of other sites.
func (m *Machine) Tick(now int64) (reports []*Message) {
	for _, v := range m.vpcs {
		m.decide(v, now)
	}
	if now < m.next && !m.dirty {
		return nil
	}
	reports = m.self(now)
	for _, v := range m.vpcs { // our own vote may be all that was missing
		m.decide(v, now)
	}
	m.next = now + int64(m.c.Interval)
	for _, v := range m.vpcs {
		if v.role == Candidate { // a voter may be about to be free
			m.next = now + int64(m.c.Interval)/10
		}
	}
	return reports
}

// Wake is when Tick has something to do next, if nothing happens before.
func (m *Machine) Wake(now int64) int64 {
	if m.dirty {
		return now
	}
	wake := min(m.next, now+int64(m.c.Interval)/4) // it may be time to stand, or to have settled
	for _, o := range m.members {
		if m.live(o, now) {
			wake = min(wake, o.heard+int64(m.c.Lease)) // then it has fallen silent
			if doubt := o.heard + m.doubt(); doubt > now {
				wake = min(wake, doubt)
			}
		}
	}
	for _, v := range m.vpcs {
		if v.role == Holder {
			wake = min(wake, m.leaseEnd(v))
		}
	}
	return wake
}

// self makes the reports, and votes on them.
func (m *Machine) self(now int64) (reports []*Message) {
	m.dirty = false
	for i := 0; i == 0 || i < len(m.vpcs); i += MaxEntries {
		m.seq++
		m.sent[m.seq%rounds] = sending{m.seq, now}
		r := &Message{Kind: Report, Lease: m.c.Lease, Start: m.start, Seq: m.seq}
		for _, v := range m.vpcs[i:min(i+MaxEntries, len(m.vpcs))] {
			r.Entries = append(r.Entries, m.entry(v, now))
		}
		reports = append(reports, r)
		if vote := m.voter.Report(m.c.Self, r, now); vote != nil {
			m.vote(m.c.Self, vote)
		}
	}
	return reports
}

func (m *Machine) entry(v *vpc, now int64) Entry {
	e := Entry{VNI: v.VNI, Priority: v.Priority, Epoch: v.epoch}
	if m.eligible(v, now) {
		e.Flags |= Ready
	}
	if v.Shared {
		e.Flags |= Shared
		return e
	}
	switch v.role {
	case Candidate, Holder:
		e.Flags |= Asks
		if v.first == 0 {
			v.first = m.seq
		}
		if v.role == Holder {
			e.Flags |= Active
		}
	case Left:
		e.Flags |= Leaving
	default:
		if m.wants(v, now) {
			e.Flags |= Wants
		}
	}
	return e
}

// decide is the state machine of a VPC.
func (m *Machine) decide(v *vpc, now int64) {
	if v.Shared {
		if eligible := m.eligible(v, now); eligible != v.offered {
			v.offered, m.dirty = eligible, true
		}
		return
	}
	active := m.active(v, now)
	if active {
		v.vacant, v.seen = 0, true
	} else if v.vacant == 0 {
		v.vacant = now
	}
	switch v.role {
	case Holder:
		switch {
		case !m.holds(v, now):
			v.losses++
			m.standDown(v, now)
		case m.handOver(v, now):
			m.standDown(v, now)
			v.role, v.left, v.settled, v.move = Left, now, 0, false
		}
	case Candidate:
		switch {
		case m.holds(v, now):
			v.role, v.activeFrom, m.dirty = Holder, now, true
		case active || !m.eligible(v, now):
			m.standDown(v, now)
		case now-v.asked >= int64(m.c.Lease):
			m.standDown(v, now)
			// Two that ask at the same time do not ask at the same time again.
			v.pause = now + int64(m.c.Interval)*int64(1+m.rank(v, now))
		}
	case Left:
		if active && v.settled == 0 {
			v.settled = now
		}
		switch {
		case v.settled != 0 && now-v.settled >= int64(settle), now-v.left >= int64(Grace):
			v.role, m.dirty = Standby, true
		case !active && now-v.left >= 2*int64(m.c.Lease) && m.eligible(v, now):
			m.stand(v, now) // nobody took it
		}
	default:
		if m.mayStand(v, active, now) {
			m.stand(v, now)
		}
	}
}

// active says whether another live member is active for a VPC.
func (m *Machine) active(v *vpc, now int64) bool {
	for _, o := range m.members {
		if m.live(o, now) && o.vpcs[v.VNI].Flags&Active != 0 {
			return true
		}
	}
	return false
}

// rank is how many live members are ready and preferred to this one. One that has just
// handed the VPC over is not.
func (m *Machine) rank(v *vpc, now int64) (n int) {
	for _, o := range m.members {
		if e, ok := o.vpcs[v.VNI]; ok && m.live(o, now) && e.Flags&(Ready|Leaving) == Ready && m.outranks(o, e, v) {
			n++
		}
	}
	return n
}

// mayStand says whether it is time to stand for election. Those who are preferred go
// first, and after a start all are given time to be heard.
func (m *Machine) mayStand(v *vpc, active bool, now int64) bool {
	return !active && m.eligible(v, now) && now >= v.pause && now-m.begun >= int64(m.c.Lease) && !m.mixed(now) &&
		now-v.vacant >= int64(m.rank(v, now))*2*int64(m.c.Lease) && !m.headStart(v, now)
}

// headStart says whether a member that is preferred, and started when we did, is given time to
// become ready: a site whose power comes back should not begin with the wrong one.
func (m *Machine) headStart(v *vpc, now int64) bool {
	if v.seen || now-v.since >= 2*steady*int64(m.c.Lease) {
		return false
	}
	for _, o := range m.members {
		if e, ok := o.vpcs[v.VNI]; ok && m.live(o, now) && e.Flags&Ready == 0 && m.outranks(o, e, v) {
			return true
		}
	}
	return false
}

// mixed says whether a live member has another lease: then what was granted to it may
// last longer than we think.
func (m *Machine) mixed(now int64) bool {
	for _, o := range m.members {
		if m.live(o, now) && o.lease != m.c.Lease {
			return true
		}
	}
	return false
}

func (m *Machine) stand(v *vpc, now int64) {
	v.role, v.asked, v.first, m.dirty = Candidate, now, 0, true
	v.epoch = max(v.known+1, v.epoch+1, m.wall())
	v.known = v.epoch
	clear(v.grants)
}

// standDown gives up what was granted: the next report does not ask for it.
func (m *Machine) standDown(v *vpc, now int64) {
	v.role, m.dirty = Standby, true
	clear(v.grants)
	v.vacant = now
}

// handOver says whether the holder is to give a VPC up, and somebody is there to take it.
func (m *Machine) handOver(v *vpc, now int64) bool {
	if m.successor(v, now) == nil {
		return false
	}
	if v.move || m.draining || !v.ready {
		return true
	}
	for _, o := range m.members {
		if e := o.vpcs[v.VNI]; m.live(o, now) && e.Flags&(Wants|Ready) == Wants|Ready && e.Priority > v.Priority {
			return true
		}
	}
	return false
}

// wants says whether the standby asks the active member to hand over.
func (m *Machine) wants(v *vpc, now int64) bool {
	if !m.c.Failback || !m.eligible(v, now) || now-v.since < int64(m.c.HoldDown) || now < v.away {
		return false
	}
	for _, o := range m.members {
		if e := o.vpcs[v.VNI]; m.live(o, now) && e.Flags&Active != 0 && e.Priority < v.Priority {
			return true
		}
	}
	return false
}

// Resign gives up everything, whoever may take it, and returns the reports that say so:
// the process ends.
func (m *Machine) Resign(now int64) []*Message {
	m.draining, m.resigned = true, true
	for _, v := range m.vpcs {
		if v.role == Holder || v.role == Candidate {
			m.standDown(v, now)
			v.role, v.left = Left, now
		}
	}
	return m.self(now)
}

// Status of a member in a VPC.
type Status struct {
	VNI    uint32
	Role   Role
	Shared bool
	Active bool // now: a lease may have ended that Tick has not looked at yet
	Ready  bool // would take over
	Epoch  uint64
	Heir   bool // another member could take over
	// Prepares: a standby that may have to take over in a moment.
	Prepares bool
	Since    time.Duration // how long it is active
	Losses   uint64
}

// Status returns what is true now, of each VPC.
func (m *Machine) Status(now int64) []Status {
	out := make([]Status, len(m.vpcs))
	for i, v := range m.vpcs {
		out[i] = Status{VNI: v.VNI, Role: v.role, Shared: v.Shared, Active: v.role == Holder && m.holds(v, now), Ready: m.eligible(v, now), Epoch: v.epoch, Heir: m.successor(v, now) != nil, Prepares: m.prepares(v, now), Losses: v.losses}
		if out[i].Active {
			out[i].Since = time.Duration(now - v.activeFrom)
		}
	}
	return out
}

// MemberStatus is what was heard of another member.
type MemberStatus struct {
	ID    ID
	Live  bool
	Heard time.Duration // how long ago; negative: never
	VPCs  map[uint32]Entry
}

// Members returns what was heard of the others. The maps are the machine's.
func (m *Machine) Members(now int64) []MemberStatus {
	out := make([]MemberStatus, len(m.members))
	for i, o := range m.members {
		out[i] = MemberStatus{ID: o.id, Live: m.live(o, now), Heard: -1, VPCs: o.vpcs}
		if o.heard != 0 {
			out[i].Heard = time.Duration(now - o.heard)
		}
	}
	return out
}
