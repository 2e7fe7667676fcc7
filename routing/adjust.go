package routing

import (
	"context"
	"reflect"

	"github.com/osrg/gobgp/v4/api"
)

// What changes of a neighbour while its session goes on: policies, how many prefixes it may announce, BFD, and the timers of a
// router that has an address of its own. The hold time is agreed on when a session begins, so another one holds for the next.

// sameSession says whether two differ in nothing else.
func (n *Neighbour) sameSession(other *Neighbour) bool {
	a, b := *n, *other
	a.Import, a.Export, b.Import, b.Export = nil, nil, nil, nil
	a.NextHops, b.NextHops = nil, nil
	a.MaxPrefixes, b.MaxPrefixes = 0, 0
	a.BFD, b.BFD = nil, nil
	if n.Address.IsValid() { // GoBGP cannot say what those of a range should have now
		a.Hold, a.ConnectRetry, b.Hold, b.ConnectRetry = 0, 0, 0, 0
	}
	return reflect.DeepEqual(a, b)
}

// raises says whether a neighbour may announce another number of prefixes now, and is kept down because it announced too many.
func (s *speaker) raises(old, n *Neighbour) bool {
	if old.MaxPrefixes == n.MaxPrefixes {
		return false
	}
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	for _, peer := range s.sessions {
		if peer.neighbour == old && (peer.overLimit || peer.limited) {
			return true
		}
	}
	return false
}

// adjust puts into force what differs in two of the same session, but for policies.
func (s *speaker) adjust(ctx context.Context, old, n *Neighbour) error {
	if old.MaxPrefixes != n.MaxPrefixes && n.MaxPrefixes > 0 {
		s.router.mu.Lock()
		for _, peer := range s.sessions {
			if peer.neighbour == n && max(peer.counts[0], peer.counts[1]) > int(n.MaxPrefixes) {
				s.limit(peer)
			}
		}
		s.router.mu.Unlock()
	}
	if old.Hold == n.Hold && old.ConnectRetry == n.ConnectRetry {
		return nil
	}
	_, err := s.server.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.peer(n)})
	return err
}
