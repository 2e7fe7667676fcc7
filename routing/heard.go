package routing

import (
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
)

// tellTime is after what time a router with a session counts as having told everything, also without saying so: some say
// nothing, and some carry only one address family.
const tellTime = 3 * time.Second

// Heard says whether every neighbour that has an address of its own has told us everything that it has: its End-of-RIB
// markers (RFC 4724) have come for all families, or its session has been there for a while.
func (r *Router) Heard(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.config.Ports {
		p := &r.config.Ports[i]
		if p.EVPN {
			continue
		}
		s := r.speakers[p.Name]
		for j := range p.Neighbours {
			n := &p.Neighbours[j]
			if n.Range.IsValid() {
				continue
			}
			if s == nil {
				return false
			}
			peer := s.sessions[n.Address]
			if peer == nil || peer.state != Established || peer.told != toldAll && now.Sub(peer.since) < tellTime {
				return false
			}
		}
	}
	return len(r.config.Ports) > 0
}

// toldAll has a bit for each of families.
const toldAll = 1<<2 - 1

// tells notes an End-of-RIB marker. Under Router.mu.
func (peer *session) tells(eor *apiutil.Path) {
	if len(peer.speaker.port.Fabric) > 0 { // it has one family
		peer.told = toldAll
	}
	for i, f := range families {
		if f.id == eor.Family {
			peer.told |= 1 << i
		}
	}
}
