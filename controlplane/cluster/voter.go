package cluster

import "time"

// maxVNIs is how many VPCs of a cluster a voter and a fence keep in mind: a member that
// invents more is refused.
const maxVNIs = 4096

// Voter grants the leases of one cluster. It never takes one back before its time, but for its holder.
type Voter struct {
	begun   int64
	grants  map[uint32]*grant // by VNI
	members map[ID]*order
}

// grant is what was granted last.
type grant struct {
	holder  ID
	until   int64  // free from then on
	highest uint64 // epoch of all that were granted
}

// NewVoter makes a voter that begins to listen now. It may have granted what it does
// not know of any more: for as long as that can last it grants nothing.
func NewVoter(now int64) *Voter {
	return &Voter{begun: now, grants: make(map[uint32]*grant), members: make(map[ID]*order)}
}

// Report takes a member's report and returns the vote on what it asks for; nil: it asks
// for nothing, or the report is an old one.
func (v *Voter) Report(from ID, m *Message, now int64) *Message {
	known := v.members[from]
	if known == nil {
		known = new(order)
		v.members[from] = known
	}
	if m.Kind != Report || !known.fresh(m, now) {
		return nil
	}
	vote := &Message{Kind: Vote, Lease: m.Lease, Start: m.Start, Seq: m.Seq}
	for _, e := range m.Entries {
		g := v.grants[e.VNI]
		if g == nil {
			if len(v.grants) >= maxVNIs {
				continue
			}
			g = &grant{until: now}
			v.grants[e.VNI] = g
		}
		if e.Flags&Asks == 0 {
			if g.holder == from {
				g.until = min(g.until, now)
			}
			continue
		}
		answer := Entry{VNI: e.VNI, Epoch: e.Epoch}
		if v.mayHave(g, from, e.Epoch, m.Lease, now) {
			answer.Flags = Asks
			g.holder, g.highest, g.until = from, e.Epoch, max(g.until, now+int64(m.Lease))
		} else {
			answer.Epoch = g.highest
		}
		vote.Entries = append(vote.Entries, answer)
	}
	if len(vote.Entries) == 0 {
		return nil
	}
	return vote
}

// mayHave decides whether a member is granted a VPC, anew or further on.
func (v *Voter) mayHave(g *grant, from ID, epoch uint64, lease time.Duration, now int64) bool {
	switch {
	case now < v.begun+int64(lease):
		return false
	case g.holder == from:
		return epoch >= g.highest
	default:
		return now >= g.until && epoch > g.highest
	}
}

// Forget drops members that are none any more. What they hold stays theirs until its time is over.
func (v *Voter) Forget(isMember func(ID) bool) {
	for id := range v.members {
		if !isMember(id) {
			delete(v.members, id)
		}
	}
}
