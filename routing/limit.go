package routing

import (
	"context"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// GoBGP's own limit of prefixes counts all that it has for every update that comes: with 100,000 routes a flap of one
// takes it 40 ms, and a load of all of them seconds. So we count what we take, and tell GoBGP of the limit when it is
// passed: it counts once, ends the session with the notification that is meant for that (RFC 4486), and keeps it down.

// limitInterval is how often the count is asked of GoBGP, too: it keeps back what we never see, as routes that went
// through our own AS. Chosen: in that time a router can send what fits in memory, and a count takes it 40 ms.
const limitInterval = time.Minute

// counted is which of a session's counts a path is in: as MaxPrefixes is, one for each address family.
func (s *speaker) counted(prefix netip.Prefix) int {
	return int(truth(!s.port.EVPN && len(s.port.Fabric) == 0 && prefix.Addr().Is6()))
}

// full says whether a session may not have another path to such a prefix. Under Router.mu.
func (peer *session) full(prefix netip.Prefix) bool {
	most := peer.neighbour.MaxPrefixes
	return most > 0 && peer.counts[peer.speaker.counted(prefix)] >= int(most)
}

// limit ends a session whose router has announced more than it may. It does not wait, as it is called by GoBGP's own
// goroutines. Under Router.mu.
func (s *speaker) limit(peer *session) {
	if peer.limited {
		return
	}
	peer.limited = true
	peer.lastError = "it announced more prefixes than maxPrefixes allows"
	if peer.neighbour.Range.IsValid() { // GoBGP forgets the session, and the router may call again
		s.refuse(peer.address, "maximum number of prefixes reached")
		return
	}
	p := s.peer(peer.neighbour)
	for _, a := range p.AfiSafis {
		a.PrefixLimits = &api.PrefixLimit{Family: a.Config.Family, MaxPrefixes: peer.neighbour.MaxPrefixes}
	}
	go func() {
		s.router.setting.Lock() // what is configured now is what p says
		defer s.router.setting.Unlock()
		s.router.mu.Lock()
		there := s.sessions[peer.address] == peer && peer.limited
		s.router.mu.Unlock()
		if !there {
			return
		}
		if _, err := s.server.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: p}); err != nil {
			s.router.log.Warn("end a bgp session with too many prefixes", "address", peer.address, "error", err)
		}
	}()
}

// watchLimits asks GoBGP what it has, until ctx ends.
func (s *speaker) watchLimits(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.checkLimits(ctx)
		}
	}
}

func (s *speaker) checkLimits(ctx context.Context) {
	var limited []string
	s.router.mu.Lock()
	for address, peer := range s.sessions {
		if peer.state == Established && peer.neighbour.MaxPrefixes > 0 {
			limited = append(limited, address.String())
		}
	}
	s.router.mu.Unlock()
	for _, address := range limited {
		err := s.server.ListPeer(ctx, &api.ListPeerRequest{Address: address}, func(p *api.Peer) {
			for _, a := range p.GetAfiSafis() {
				s.router.mu.Lock()
				peer := s.sessions[netip.MustParseAddr(address)]
				if peer != nil && a.GetState().GetReceived() > uint64(peer.neighbour.MaxPrefixes) {
					s.limit(peer)
				}
				s.router.mu.Unlock()
			}
		})
		if err != nil && ctx.Err() == nil {
			s.router.log.Debug("count the prefixes of a bgp neighbour", "address", address, "error", err)
		}
	}
}
