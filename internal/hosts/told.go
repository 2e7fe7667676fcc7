package hosts

import "net/netip"

// A fabric's control plane (EVPN) may tell where hosts are. What it tells wins over whatever is seen or answered: such a
// host is neither asked nor aged, nobody can claim its address, and it counts for MaxHosts without being bound by it
// (the control plane has a limit of its own). When it is told no more the host is found out like any other.

// Told is the place of a host; without a VTEP it is no longer told.
type Told struct {
	Addr netip.Addr
	Place
}

// Tell takes in what a control plane says of hosts in a segment. What it says of addresses that the attachment does not
// cover is kept until it does.
func (l *Learner) Tell(s Segment, changes []Told) {
	l.mu.Lock()
	l.now = l.o.Clock()
	for _, c := range changes {
		k := Key{s, c.Addr}
		if c.VTEP.IsValid() {
			l.told[k] = c.Place
			l.place(k, c.Place)
			continue
		}
		delete(l.told, k)
		if r := l.records[k]; r != nil && r.told {
			l.forget(r)
		}
	}
	changed := l.publish()
	l.mu.Unlock()
	if changed && l.o.OnChange != nil {
		l.o.OnChange()
	}
}

// Unsay forgets all that was told of a segment.
func (l *Learner) Unsay(s Segment) {
	l.mu.Lock()
	var gone []Told
	for k := range l.told {
		if k.Segment == s {
			gone = append(gone, Told{Addr: k.Addr})
		}
	}
	l.mu.Unlock()
	l.Tell(s, gone)
}

// place puts a host where it is told to be. Under mu.
func (l *Learner) place(k Key, p Place) {
	s := l.segments[k.Segment]
	if s == nil || !s.Covers(k.Addr) {
		return
	}
	r := l.records[k]
	if r != nil && r.told && r.Place == p {
		return
	}
	v := l.vtepAt(s, p.VTEP)
	if v == nil {
		l.counters.Foreign++
		return
	}
	if r == nil {
		r = l.add(s, k)
	} else if r.state == known && r.Place != p {
		r.moves++
		l.counters.Moves++
	}
	r.told, r.held, r.failures = true, 0, 0
	l.settle(r, p, v, false)
}

// placeAll does that for everything that was told, after attachments have changed. Under mu.
func (l *Learner) placeAll() {
	for k, p := range l.told {
		l.place(k, p)
	}
}
