package routing

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// NextHop is a router behind a port. Without a port it is a gateway, known by the first of its tunnel addresses.
type NextHop struct {
	Port string
	Addr netip.Addr
	// MAC: Addr is a VTEP of the overlay behind the port, and packets go to this MAC address there. Zero: a router.
	MAC [6]byte
	// Host: MAC is that of the one host that the route leads to.
	Host bool
}

// Change is a prefix whose next hops are others now; without any it is gone.
type Change struct {
	Prefix   netip.Prefix
	NextHops []NextHop // sorted, no two alike
}

// rib is what the neighbours of one VPC have told us.
type rib struct {
	vpc          string
	maxPaths     int
	reserved     *bart.Table[string]       // what a site may not announce, and whose it is
	own          *bart.Table[string]       // of this, what gateways may not announce either
	static       map[netip.Prefix]struct{} // what the configuration gives to the site
	gateways     *gateways                 // who may announce what; nil: there are none
	destinations map[netip.Prefix]*destination
	changed      []*destination            // since the last take
	hops         []NextHop                 // of the destination taken last: most have the same, which they share
	passed       map[netip.Prefix]struct{} // somebody else has them than the last time we told: see destination.origin

	// What is announced beside what was learned: to site routers and to gateways, and what gateways know by other addresses.
	export, announce map[netip.Prefix]struct{}
	silent, spare    bool // towards site routers
	hidden           []netip.Prefix
	evpn             *VPCEVPN // how gateways are told, but for Announce and Hidden; nil: not at all
}

// destination is a prefix.
type destination struct {
	prefix  netip.Prefix
	paths   []*path
	hops    []NextHop // as they were last taken
	origin  origin
	changed bool // it is in rib.changed
}

// single is a destination with its first path, which is the only one of most: side by side, they take an allocation
// in place of three.
type single struct {
	destination
	path path
	slot [1]*path
}

// origin says who has a prefix, as the hops tell: those of one side are told to the other.
type origin uint8

const (
	nobody origin = iota
	ofSite
	ofGateways
)

func originOf(hops []NextHop) origin {
	switch {
	case len(hops) == 0 || hops[0].Host: // others know of the prefix that hosts are in
		return nobody
	case hops[0].Port == "":
		return ofGateways
	}
	return ofSite
}

// pathID tells the paths of one session to one prefix apart.
type pathID struct {
	add uint32  // add-path's, 0 without
	tag uint32  // EVPN's Ethernet tag
	rd  [8]byte // EVPN's route distinguisher
	// EVPN's kinds of route, and the MAC address of a host.
	kind RouteKind
	mac  [6]byte
}

// path is one way to a prefix.
type path struct {
	session  *session
	id       pathID
	received *Attributes
	attrs    *Attributes // after import policy; nil: refused
	verdict  Verdict
	judged   bool
	stale    bool // the session has ended since, and the router may restart (RFC 4724)
	best     bool
}

func newRIB(vpc string) *rib {
	return &rib{vpc: vpc, maxPaths: 1, reserved: new(bart.Table[string]), own: new(bart.Table[string]), static: make(map[netip.Prefix]struct{}),
		destinations: make(map[netip.Prefix]*destination), passed: make(map[netip.Prefix]struct{})}
}

// put adds a path or replaces what the session had told before.
func (r *rib) put(s *session, prefix netip.Prefix, id pathID, received *Attributes) {
	d := r.destinations[prefix]
	var p *path
	if d == nil {
		made := &single{destination: destination{prefix: prefix}}
		d, p = &made.destination, &made.path
		d.paths = made.slot[:0]
		r.destinations[prefix] = d
	} else if p = d.of(s, id); p == nil {
		p = new(path)
	}
	if p.session == nil {
		p.session, p.id = s, id
		d.paths = append(d.paths, p)
		if s.paths != nil {
			s.paths[pathKey{prefix, id}] = r
		}
		s.counts[s.speaker.counted(prefix)]++
	}
	p.received = received
	p.setStale(false)
	r.judge(prefix, p)
	r.touch(d)
}

// touch has a destination looked at by the next take.
func (r *rib) touch(d *destination) {
	if !d.changed {
		d.changed = true
		r.changed = append(r.changed, d)
	}
}

// drop removes a path.
func (r *rib) drop(s *session, prefix netip.Prefix, id pathID) {
	d := r.destinations[prefix]
	if d == nil {
		return
	}
	p := d.of(s, id)
	if p == nil {
		return
	}
	s.verdicts[p.verdict.Reason]--
	p.setBest(false)
	p.setStale(false)
	d.paths = slices.DeleteFunc(d.paths, func(q *path) bool { return q == p })
	delete(s.paths, pathKey{prefix, id})
	s.counts[s.speaker.counted(prefix)]--
	r.touch(d)
}

// setBest and setStale keep count for Status, which must not look at every path.
func (p *path) setBest(best bool) {
	if p.best != best {
		p.best = best
		p.session.best += int(truth(best))*2 - 1
	}
}

func (p *path) setStale(stale bool) {
	if p.stale != stale {
		p.stale = stale
		p.session.stale += int(truth(stale))*2 - 1
	}
}

func (d *destination) of(s *session, id pathID) *path {
	for _, p := range d.paths {
		if p.session == s && p.id == id {
			return p
		}
	}
	return nil
}

// judge applies the rules of import to a path.
func (r *rib) judge(prefix netip.Prefix, p *path) {
	if p.judged {
		p.session.verdicts[p.verdict.Reason]--
	}
	p.judged = true
	p.attrs, p.verdict = r.verdict(prefix, p)
	p.session.verdicts[p.verdict.Reason]++
}

func (r *rib) verdict(prefix netip.Prefix, p *path) (*Attributes, Verdict) {
	if !unicast(prefix) {
		return nil, Verdict{Reason: NotUnicast}
	}
	if p.session.speaker.port.EVPN {
		return r.gatewayVerdict(prefix, p)
	}
	if len(p.session.speaker.port.Fabric) > 0 {
		return r.fabricVerdict(prefix, p)
	}
	if whose, overlaps := r.overlap(prefix); overlaps {
		return nil, Verdict{Reason: Overlaps, Whose: whose}
	}
	if _, ok := r.static[prefix]; ok {
		return nil, Verdict{Reason: Configured}
	}
	if p.received == nil || noRouter(p.received.NextHop) || slices.Contains(p.session.speaker.port.Addresses, p.received.NextHop) {
		return nil, Verdict{Reason: BadNextHop}
	}
	rule, v := p.session.neighbour.Import.decide(prefix, p.received)
	if rule == nil {
		return nil, v
	}
	return p.session.seen.changed(rule, p.received, p.session.asn), v
}

// overlap returns whose prefix overlaps p.
func (r *rib) overlap(p netip.Prefix) (string, bool) {
	if !r.reserved.OverlapsPrefix(p) {
		return "", false
	}
	if whose, ok := r.reserved.LookupPrefix(p); ok {
		return whose, true
	}
	for _, whose := range r.reserved.Subnets(p) {
		return whose, true
	}
	return "", true
}

// judgeAll judges every path again that select says so of.
func (r *rib) judgeAll(selected func(*path) bool) {
	for prefix, d := range r.destinations {
		for _, p := range d.paths {
			if selected(p) {
				r.judge(prefix, p)
				r.touch(d)
			}
		}
	}
}

// take returns what has changed since the last take.
func (r *rib) take() []Change {
	changes := make([]Change, 0, len(r.changed))
	for _, d := range r.changed {
		d.changed = false
		hops := d.choose(r.maxPaths)
		if slices.Equal(hops, r.hops) {
			hops = r.hops
		}
		r.hops = hops
		if !slices.Equal(hops, d.hops) {
			d.hops = hops
			changes = append(changes, Change{d.prefix, hops})
			if now := originOf(hops); now != d.origin {
				if r.tells(now) || r.tells(d.origin) {
					r.passed[d.prefix] = struct{}{}
				}
				d.origin = now
			}
		}
		if len(d.paths) == 0 {
			delete(r.destinations, d.prefix)
		}
	}
	r.changed = nil // a whole table is not to stay
	return changes
}

// tells says whether somebody may have to be told that a side has a prefix, or has it no more.
func (r *rib) tells(side origin) bool { return side == ofGateways || side == ofSite && r.evpn != nil }

func compareHops(a, b NextHop) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), a.Addr.Compare(b.Addr), bytes.Compare(a.MAC[:], b.MAC[:]))
}
