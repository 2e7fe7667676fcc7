package routing

import (
	"context"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// When two routers call each other at the same moment, one of the two connections is to be closed (RFC 4271 section
// 6.8). GoBGP (4.8.0) sometimes takes its own and leaves the other open without another word: a router that has chosen that
// one waits for a KEEPALIVE until the hold time ends, 90 seconds by default. Two gateways whose tunnel comes up call each other
// just then. So a session that is not confirmed for a while is begun anew.

// confirmTime is how long a router may take between its OPEN and its KEEPALIVE. Chosen: both are sent at once, so only
// round trips count, and loss.
const confirmTime = 5 * time.Second

// watchConfirm sees to it that a session does not stay in OpenConfirm, in which it is now. Under Router.mu.
func (s *speaker) watchConfirm(peer *session) {
	since := peer.since
	time.AfterFunc(confirmTime, func() {
		s.router.mu.Lock()
		waits := s.sessions[peer.address] == peer && peer.state == OpenConfirm && peer.since.Equal(since)
		if waits {
			peer.failed = "it did not confirm the session"
			s.router.log.Warn("bgp session is begun anew", "neighbour", peer.neighbour.Name, "address", peer.address,
				"vpc", s.port.VPC, "port", s.port.Name, "why", peer.failed)
		}
		s.router.mu.Unlock()
		if waits {
			s.beginAnew(peer)
		}
	})
}

// beginAnew closes the connection of a session that is not established yet; ResetPeer does so only after that.
func (s *speaker) beginAnew(peer *session) {
	s.router.setting.Lock()
	defer s.router.setting.Unlock()
	ctx, address := context.Background(), peer.address.String()
	err := s.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: address, Communication: "the session was not confirmed"})
	if err != nil {
		s.router.log.Debug("begin a bgp session anew", "address", address, "error", err)
		return // it is gone: the neighbour or the whole speaker
	}
	// GoBGP takes one such request at a time.
	for deadline := time.Now().Add(confirmTime); s.sessionState(peer.address) != Idle && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := s.server.EnablePeer(ctx, &api.EnablePeerRequest{Address: address}); err != nil {
		s.router.log.Warn("begin a bgp session anew", "address", address, "error", err)
	}
}

func (s *speaker) sessionState(address netip.Addr) State {
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	if peer := s.sessions[address]; peer != nil {
		return peer.state
	}
	return Idle
}
