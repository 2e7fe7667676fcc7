package cluster

import (
	"bytes"
	"slices"
	"time"
)

// Role of a member in a VPC.
type Role uint8

// The roles.
const (
	Standby   Role = iota
	Candidate      // stands for election
	Holder         // active: a majority has granted it the VPC
	Left           // was active and has handed over; forwards what still comes
)

// String is the role's word.
func (r Role) String() string { return [...]string{"standby", "candidate", "active", "leaving"}[r] }

const (
	// steady is how many leases long a standby must have been ready before it says so:
	// one that comes and goes is not handed a VPC.
	steady = 3
	// settle is how long a member that has handed over goes on as before once its
	// successor is active: routers and peers turn to that meanwhile. Chosen: far longer
	// than a BGP update takes.
	settle = time.Second
	// rounds of reports that a vote may answer.
	rounds = 1024
)

// Config of a member.
type Config struct {
	Self               ID
	Members, Witnesses []ID // the others; all of them vote
	// Interval between reports.
	Interval time.Duration
	// Lease is how long a grant holds.
	Lease time.Duration
	// HoldDown is how long a member must have been ready before it wants a VPC back, and
	// how long one that was told to move a VPC away does not take it again.
	HoldDown time.Duration
	// Failback: a member wants the VPCs back that it has the highest priority for.
	Failback bool
	VPCs     []VPC
}

// VPC that a member can be active for.
type VPC struct {
	VNI      uint32
	Priority uint16 // higher is preferred
	// Shared: every gateway that is ready carries it, and the others only hear of that.
	Shared bool
}

func (c *Config) voters() int { return 1 + len(c.Members) + len(c.Witnesses) }

// Machine is a member. It is a voter, too.
type Machine struct {
	c     Config
	wall  func() uint64
	begun int64
	voter *Voter

	vpcs     []*vpc
	members  []*member
	voterIDs []ID // of grants, by index; the first is ours
	draining bool
	resigned bool // for good

	start, seq uint64
	sent       [rounds]sending // by seq%rounds
	next       int64           // when to report
	dirty      bool            // there is something to say before that
}

// sending is when a report was sent.
type sending struct {
	seq uint64
	at  int64
}

// vpc is what a member knows of a VPC.
type vpc struct {
	VPC
	role       Role
	ready      bool
	since      int64 // ready or not ready since then
	epoch      uint64
	first      uint64  // the first report that asks with this epoch
	grants     []int64 // by voter: granted until then
	known      uint64  // the highest epoch that anybody has spoken of
	asked      int64   // candidate: since when
	pause      int64   // stands for no election before
	seen       bool    // somebody else was active since this member began
	vacant     int64   // since when nobody else is known to be active; 0: somebody is
	offered    bool    // shared: whether it was eligible at the last look
	away       int64   // was told to move it; does not want it back before
	move       bool    // hand over as soon as somebody can take it
	left       int64   // when it was handed over
	settled    int64   // when the successor was first heard to be active; 0: not yet
	losses     uint64  // times that the lease was lost
	activeFrom int64
}

// member is another member, as far as it was heard.
type member struct {
	id    ID
	order order
	heard int64 // 0: never
	lease time.Duration
	vpcs  map[uint32]Entry
}

// New makes a member that begins now. start is when this run of the process
// began, later than all before of the same gateway. wall is the time of day in milliseconds: epochs begin
// there, so that they go on rising when all of a cluster was down.
func New(c Config, start uint64, wall func() uint64, now int64) *Machine {
	m := &Machine{c: c, wall: wall, begun: now, start: start, next: now, voter: NewVoter(now)}
	m.voterIDs = slices.Concat([]ID{c.Self}, c.Members, c.Witnesses)
	for _, id := range c.Members {
		m.members = append(m.members, &member{id: id, vpcs: make(map[uint32]Entry)})
	}
	m.SetVPCs(c.VPCs, now)
	return m
}

// SameVoters says whether a configuration has the voters and times of the member's. If it
// has not, a new Machine must be made, which begins without any lease.
func (m *Machine) SameVoters(c *Config) bool {
	return c.Self == m.c.Self && slices.Equal(c.Members, m.c.Members) && slices.Equal(c.Witnesses, m.c.Witnesses) &&
		c.Lease == m.c.Lease && c.Interval == m.c.Interval
}

// SetPolicy takes in what may change while leases are held.
func (m *Machine) SetPolicy(holdDown time.Duration, failback bool) {
	m.c.HoldDown, m.c.Failback = holdDown, failback
}

// SetVPCs replaces the VPCs; what is known of those that stay is kept.
func (m *Machine) SetVPCs(list []VPC, now int64) {
	before := m.vpcs
	m.vpcs = nil
	for _, c := range list {
		v := &vpc{since: now, vacant: now, grants: make([]int64, len(m.voterIDs))}
		if at := slices.IndexFunc(before, func(v *vpc) bool { return v.VNI == c.VNI }); at >= 0 {
			v = before[at]
		}
		if v.Shared != c.Shared { // what was granted ends by itself
			v.role, v.offered = Standby, false
		}
		v.VPC = c
		m.vpcs = append(m.vpcs, v)
	}
	m.dirty = true
}

func (m *Machine) vpc(vni uint32) *vpc {
	for _, v := range m.vpcs {
		if v.VNI == vni {
			return v
		}
	}
	return nil
}

// SetReady says whether this gateway could carry a VPC.
func (m *Machine) SetReady(vni uint32, ready bool, now int64) {
	if v := m.vpc(vni); v != nil && v.ready != ready {
		v.ready, v.since, m.dirty = ready, now, true
	}
}

// Drain has all VPCs handed over, and none taken, until it is called with false.
func (m *Machine) Drain(on bool) {
	if m.draining != on && !m.resigned {
		m.draining, m.dirty = on, true
	}
}

// Move has a VPC handed over that this member is active for. It says what is against it.
func (m *Machine) Move(vni uint32, now int64) error {
	v := m.vpc(vni)
	switch {
	case v == nil || v.role != Holder:
		return ErrNotActive
	case m.successor(v, now) == nil:
		return ErrNobodyReady
	}
	v.move, v.away, m.dirty = true, now+int64(m.c.HoldDown), true
	return nil
}

// eligible says whether the member would take a VPC: it is ready, and has been for a
// while if it was not when it began.
func (m *Machine) eligible(v *vpc, now int64) bool {
	return v.ready && !m.draining &&
		(v.role == Holder || now-v.since >= steady*int64(m.c.Lease))
}

// leaseEnd is until when a majority of the voters' grants holds; 0: there is none.
func (m *Machine) leaseEnd(v *vpc) int64 {
	if v.role != Candidate && v.role != Holder {
		return 0
	}
	until := slices.Sorted(slices.Values(v.grants))
	return until[len(until)-1-m.c.voters()/2]
}

func (m *Machine) holds(v *vpc, now int64) bool { return m.leaseEnd(v) > now }

// live are the other members that were heard within a lease.
func (m *Machine) live(o *member, now int64) bool {
	return o.heard != 0 && now-o.heard < int64(m.c.Lease)
}

// outranks says whether another member is preferred to this one.
func (m *Machine) outranks(o *member, e Entry, v *vpc) bool {
	if e.Priority != v.Priority {
		return e.Priority > v.Priority
	}
	return bytes.Compare(o.id[:], m.c.Self[:]) < 0
}

// successor is a live member that is ready for a VPC.
func (m *Machine) successor(v *vpc, now int64) *member {
	for _, o := range m.members {
		if m.live(o, now) && o.vpcs[v.VNI].Flags&Ready != 0 {
			return o
		}
	}
	return nil
}

// Receive takes a message of another voter. The answer, if there is one, goes back to it.
func (m *Machine) Receive(from ID, msg *Message, now int64) (answer *Message) {
	if msg.Kind == Vote {
		m.vote(from, msg)
		return nil
	}
	at := slices.IndexFunc(m.members, func(o *member) bool { return o.id == from })
	if at < 0 {
		return nil
	}
	o := m.members[at]
	if msg.Kind != Report || !o.order.fresh(msg, now) {
		return nil
	}
	o.heard, o.lease = now, msg.Lease
	yield := false
	for _, e := range msg.Entries {
		o.vpcs[e.VNI] = e
		v := m.vpc(e.VNI)
		if v == nil {
			continue
		}
		v.known = max(v.known, e.Epoch)
		if v.role == Candidate && e.Flags&Asks != 0 && (e.Flags&Active != 0 || e.Flags&Ready != 0 && m.outranks(o, e, v)) {
			m.standDown(v, now)
			yield = true
		}
	}
	if yield {
		m.self(now) // our own voter is free now to grant it to the one that asks
		m.dirty = true
	}
	return m.voter.Report(from, msg, now)
}

// vote takes in what a voter has granted.
func (m *Machine) vote(from ID, msg *Message) {
	at := slices.Index(m.voterIDs, from)
	sent := m.sent[msg.Seq%rounds]
	if at < 0 || msg.Start != m.start || sent.seq != msg.Seq || msg.Seq == 0 {
		return
	}
	for _, e := range msg.Entries {
		v := m.vpc(e.VNI)
		if v == nil {
			continue
		}
		v.known = max(v.known, e.Epoch)
		if e.Flags&Asks == 0 || (v.role != Candidate && v.role != Holder) || e.Epoch != v.epoch || msg.Seq < v.first {
			continue
		}
		// The voter counts from when it had the report, we from when we sent it, and a
		// tenth less: its clock may be that much slower or faster than ours.
		v.grants[at] = max(v.grants[at], sent.at+int64(m.c.Lease)*9/10)
	}
}
