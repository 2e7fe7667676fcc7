package routing

import (
	"context"
	"net/netip"

	"github.com/osrg/gobgp/v4/api"

	"github.com/sluicegw/sluice/routing/bfd"
)

// watchRouters has the lives of those routers watched that BFD is configured for.
func (s *speaker) watchRouters() error {
	wanted := false
	for _, n := range s.neighbours {
		wanted = wanted || n.BFD != nil
	}
	if !wanted {
		s.stopWatching()
		return nil
	}
	if s.watcher == nil {
		w, err := bfd.New(bfd.Options{Ifindex: s.port.Ifindex, OnDown: s.routerDown, Logger: s.router.log.With("vpc", s.port.VPC, "port", s.port.Name)})
		if err != nil {
			return err
		}
		s.router.mu.Lock()
		s.watcher = w
		s.router.mu.Unlock()
	}
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	s.setWatched()
	return nil
}

// setWatched has the routers watched that there is a BGP session with. Before, there is nothing that BFD could end. Under Router.mu.
func (s *speaker) setWatched() {
	if s.watcher == nil {
		return
	}
	sessions := make(map[netip.Addr]bfd.Session)
	for address, peer := range s.sessions {
		if peer.state == Established && peer.neighbour.BFD != nil {
			sessions[address] = *peer.neighbour.BFD
		}
	}
	s.watcher.Set(sessions)
}

func (s *speaker) stopWatching() {
	s.router.mu.Lock()
	w := s.watcher
	s.watcher = nil
	s.router.mu.Unlock()
	if w != nil {
		w.Close()
	}
}

// routerDown ends the session with a router that BFD takes for dead. It does not wait.
func (s *speaker) routerDown(address netip.Addr, why string) {
	go func() {
		s.router.mu.Lock()
		peer := s.sessions[address]
		established := peer != nil && peer.state == Established
		if established {
			peer.failed = "BFD: " + why
		}
		s.router.mu.Unlock()
		if !established {
			return
		}
		if err := s.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: address.String(), Communication: "BFD is down"}); err != nil {
			s.router.log.Warn("end bgp session", "address", address, "error", err)
		}
	}()
}

// bfdState is the word for the session with a router of a neighbour; empty: there is none. Under Router.mu.
func (s *speaker) bfdState(n *Neighbour, router netip.Addr) string {
	if n.BFD == nil || s.watcher == nil {
		return ""
	}
	status, _ := s.watcher.Status(router)
	return max(status.State, bfd.Down).String()
}
