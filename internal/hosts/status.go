package hosts

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Counters are totals since New, but for the last three.
type Counters struct {
	Sightings  uint64 // told by workers
	Outside    uint64 // of these: for an address that the attachment does not hold, or with an impossible MAC
	Foreign    uint64 // from what may not be a VTEP of the attachment
	Unasked    uint64 // on an attachment that only asks, and not an answer
	Full       uint64 // no room for more hosts
	Refused    uint64 // claims too soon after one that was refuted
	Held       uint64 // claims of a host that moves too often
	Overruled  uint64 // claims of a host that the control plane says is elsewhere
	Lost       uint64 // told faster than they could be looked at
	Learned    uint64 // hosts that became known by what they sent
	Resolved   uint64 // hosts that became known by an answer
	Moves      uint64
	Conflicts  uint64 // claims that the host refuted
	Evicted    uint64 // hosts forgotten for want of room
	Aged       uint64 // hosts forgotten because nobody needed them and they did not answer
	Unanswered uint64 // hosts that somebody wanted and nobody has
	Questions  uint64 // sent, each to one VTEP
	Limited    uint64 // times a question had to wait for its rate
	Busy       uint64 // questions refused because too many were under way

	Hosts, Waiting, VTEPs int // now
}

// Counters reads them.
func (l *Learner) Counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counters
	for _, v := range l.vpcs {
		c.Hosts += v.known
		c.Waiting += v.waiting
		c.VTEPs += len(v.vteps)
	}
	return c
}

// Host is a record as people see it.
type Host struct {
	Key
	Place
	VPC       string
	State     string        // "known", "asking", "silent"
	How       string        // "learned" from what it sent, "resolved" by asking, or "evpn", as told; empty when not known
	Since     time.Duration // it is known in this place
	Seen      time.Duration // since it last sent something
	Moves     uint64
	Conflicts uint64 // claims of other places that it refuted
	Held      bool   // it moved too often and stays where it is
}

// Hosts lists what is known of a VPC, or of all when name is empty, in order.
func (l *Learner) Hosts(vpc string) []Host {
	l.mu.Lock()
	now := l.o.Clock()
	var out []Host
	for _, r := range l.all {
		if vpc != "" && vpc != r.segment.VPC {
			continue
		}
		h := Host{Key: r.Key, Place: r.Place, VPC: r.segment.VPC, State: [...]string{asking: "asking", known: "known", silent: "silent"}[r.state],
			Moves: r.moves, Conflicts: r.conflicts, Held: now < r.held}
		if r.state == known {
			h.Since, h.Seen = time.Duration(now-r.since), time.Duration(max(now-r.entry.seenAt.Load(), 0))
			switch {
			case r.told:
				h.How = "evpn"
			case r.answer:
				h.How = "resolved"
			default:
				h.How = "learned"
			}
		}
		out = append(out, h)
	}
	l.mu.Unlock()
	slices.SortFunc(out, func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), a.Addr.Compare(b.Addr), cmp.Compare(a.Ifindex, b.Ifindex))
	})
	return out
}

// VTEPs lists those of a segment.
func (l *Learner) VTEPs(s Segment) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []netip.Addr
	if seg := l.segments[s]; seg != nil {
		for a := range seg.vteps {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Problems says in words which hosts do not stay where they are.
func (l *Learner) Problems() []string {
	l.mu.Lock()
	now := l.o.Clock()
	var out []string
	full := make(map[string]bool)
	for r, until := range l.trouble {
		switch {
		case now >= until:
		case now < r.held:
			out = append(out, fmt.Sprintf("vpc %s: %s moves between nodes too often (%d times) and is held at %s; look for two hosts with this address", r.segment.VPC, r.Addr, r.moves, r.VTEP))
		case r.conflicts > 0:
			out = append(out, fmt.Sprintf("vpc %s: %s answers at %s, but another host claims it (%d times); look for two hosts with this address", r.segment.VPC, r.Addr, r.VTEP, r.conflicts))
		}
	}
	for _, s := range l.segments {
		if s.vpc.known >= s.vpc.max && !full[s.VPC] {
			full[s.VPC] = true
			out = append(out, fmt.Sprintf("vpc %s: %d hosts are known and no more may be; raise maxHosts", s.VPC, s.vpc.known))
		}
	}
	l.mu.Unlock()
	slices.Sort(out)
	return out
}
