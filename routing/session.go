package routing

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// session is one router that we talk with, or did. Guarded by Router.mu.
type session struct {
	speaker   *speaker
	neighbour *Neighbour // as configured now
	address   netip.Addr
	asn       uint32
	id        netip.Addr // the router's BGP identifier
	internal  bool       // same AS as ours
	state     State
	since     time.Time        // of the state
	lastError string           // why the last session ended
	failed    string           // why we are about to end it
	overLimit bool             // it had announced more prefixes than it may
	ended     uint64           // established sessions that have ended
	told      uint8            // families that it has told everything of, bits as in families
	limited   bool             // and is being ended for that
	paths     map[pathKey]*rib // of EVPN, the table that each is in; nil: all are in the speaker's
	counts    [2]int           // of its paths, by speaker.counted
	verdicts  [reasonCount]int // how many of its routes have each
	best      int              // how many of its routes are in use
	stale     int              // how many it told before its session ended
	seen      seen
}

type pathKey struct {
	prefix netip.Prefix
	id     pathID
}

// State of a session (RFC 4271 section 8.2.2).
type State uint8

// The states.
const (
	Idle State = iota
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

func (s State) String() string {
	names := [...]string{"idle", "connect", "active", "open sent", "open confirm", "established"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// stateOf: ours count like GoBGP's, which are the RFC's.
func stateOf(s bgp.FSMState) State { return State(s) }

// session returns the session with the router at an address, new if need be; nil if it belongs to no neighbour (any more).
func (s *speaker) session(address netip.Addr) *session {
	if have := s.sessions[address]; have != nil {
		return have
	}
	n := s.neighbourOf(address)
	if n == nil {
		return nil
	}
	made := &session{speaker: s, neighbour: n, address: address, asn: n.ASN, since: time.Now()}
	if s.port.EVPN || len(s.port.Fabric) > 0 {
		made.paths = make(map[pathKey]*rib)
	}
	s.sessions[address] = made
	return made
}

// neighbourOf finds whom an address belongs to: the neighbour of this address, or the smallest range.
func (s *speaker) neighbourOf(address netip.Addr) *Neighbour {
	var found *Neighbour
	for _, n := range s.neighbours {
		switch {
		case n.Address == address:
			return n
		case n.Range.IsValid() && n.Range.Contains(address.WithZone("")) && (found == nil || found.Range.Bits() < n.Range.Bits()):
			found = n
		}
	}
	return found
}

// peerChanged takes in a session's state.
func (s *speaker) peerChanged(ev *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
	address := ev.Peer.State.NeighborAddress.Unmap()
	if ev.Type != apiutil.PEER_EVENT_STATE && ev.Type != apiutil.PEER_EVENT_INIT || !address.IsValid() {
		return
	}
	r := s.router
	r.mu.Lock()
	defer r.mu.Unlock()
	peer := s.session(address)
	if peer == nil {
		return
	}
	state := stateOf(ev.Peer.State.SessionState)
	peer.overLimit = ev.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT
	if state == peer.state {
		return
	}
	was := peer.state
	peer.state, peer.since, peer.limited = state, at, false
	if text := disconnectText(&ev.Peer.State); text != "" && state == Idle {
		peer.lastError = cmp.Or(peer.failed, text)
		peer.failed = ""
	}
	s.setWatched()
	log := r.log.With("neighbour", peer.neighbour.Name, "address", address, "vpc", s.port.VPC, "port", s.port.Name)
	switch {
	case state == OpenConfirm:
		s.watchConfirm(peer)
	case state == Established:
		peer.asn, peer.id = ev.Peer.State.PeerASN, ev.Peer.State.RouterID
		peer.internal, peer.seen = peer.asn == s.asn, seen{}
		log.Info("bgp session established", "asn", peer.asn, "router_id", peer.id)
		if !peer.neighbour.allows(peer.asn) {
			log.Warn("bgp session refused: its AS number is not allowed", "asn", peer.asn)
			peer.lastError = "its AS number is not allowed"
			s.refuse(address, "AS number not allowed")
		}
	case was == Established:
		peer.ended++
		peer.told = 0
		log.Warn("bgp session ended", "why", peer.lastError)
		// GoBGP has taken back before what it does not keep for a router that restarts.
		peer.each(func(table *rib, d *destination, p *path) {
			if !p.stale {
				p.setStale(true)
				table.touch(d)
			}
		})
		r.wake()
	}
}

// allows says whether a router of a range may have an AS number.
func (n *Neighbour) allows(asn uint32) bool {
	if len(n.ASNs) == 0 {
		return n.ASN == 0 || n.ASN == asn
	}
	for _, r := range n.ASNs {
		if asn >= r.First && asn <= r.Last {
			return true
		}
	}
	return false
}

// pathsChanged takes in what a router has announced and withdrawn.
func (s *speaker) pathsChanged(paths []*apiutil.Path) {
	r := s.router
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range paths {
		s.pathChanged(p)
	}
	r.wake()
}

func (s *speaker) pathChanged(p *apiutil.Path) {
	key, ok := keyOf(p.Nlri, p.RemoteID)
	if !ok || s.port.EVPN && key.id.kind != PrefixRoute {
		return
	}
	peer := s.session(p.PeerAddress.Unmap())
	if peer == nil || !peer.neighbour.allows(p.PeerASN) {
		return
	}
	before := peer.tableOf(key)
	if p.Withdrawal {
		if before != nil {
			before.drop(peer, key.prefix, key.id)
		}
		return
	}
	if before == nil && peer.full(key.prefix) {
		s.limit(peer)
		return
	}
	peer.asn, peer.id, peer.internal = p.PeerASN, p.PeerID, p.PeerASN == s.asn
	attrs := peer.seen.read(p.Attrs, p.Nlri, peer.internal)
	table := s.tableOf(key, attrs)
	if before != nil && before != table {
		before.drop(peer, key.prefix, key.id)
	}
	table.put(peer, key.prefix, key.id, attrs)
}

// tableOf returns the table that a path of the session is in; nil if there is no such path.
func (peer *session) tableOf(key pathKey) *rib {
	if peer.paths != nil {
		return peer.paths[key]
	}
	if d := peer.speaker.rib.destinations[key.prefix]; d != nil && d.of(peer, key.id) != nil {
		return peer.speaker.rib
	}
	return nil
}

// each calls f for every path of the session, which f may drop.
func (peer *session) each(f func(*rib, *destination, *path)) {
	if peer.paths != nil {
		for key, table := range peer.paths {
			d := table.destinations[key.prefix]
			f(table, d, d.of(peer, key.id))
		}
		return
	}
	if peer.counts == [2]int{} {
		return
	}
	table := peer.speaker.rib
	for _, d := range table.destinations {
		for i := len(d.paths) - 1; i >= 0; i-- {
			if p := d.paths[i]; p.session == peer {
				f(table, d, p)
			}
		}
	}
}

// tableOf returns the table that a route belongs to.
func (s *speaker) tableOf(key pathKey, a *Attributes) *rib {
	switch {
	case s.port.EVPN:
		return s.router.tableOf(a)
	case len(s.port.Fabric) > 0:
		return s.fabricTable(key, a)
	}
	return s.rib
}

// forget removes a session with all that it told us.
func (s *speaker) forget(peer *session) {
	peer.each(func(table *rib, d *destination, p *path) { table.drop(peer, d.prefix, p.id) })
	delete(s.sessions, peer.address)
	s.router.wake()
}
