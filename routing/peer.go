package routing

import (
	"context"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Defaults of sessions. The retry is ours: a router that comes back is called within seconds.
const (
	defaultHold         = 90 * time.Second
	defaultConnectRetry = 10 * time.Second
	minTTL              = 255 // RFC 5082 section 3: nothing that crossed a router has it
)

// addNeighbour tells GoBGP of a neighbour, which calls it, or waits for its calls.
func (s *speaker) addNeighbour(ctx context.Context, n *Neighbour) error {
	peer := s.peer(n)
	if n.Address.IsValid() {
		return s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: peer})
	}
	group := &api.PeerGroup{
		Conf:   &api.PeerGroupConf{PeerGroupName: n.Name, PeerAsn: peer.Conf.PeerAsn, AuthPassword: n.Password.text},
		Timers: peer.Timers, Transport: peer.Transport, AfiSafis: peer.AfiSafis, GracefulRestart: peer.GracefulRestart,
		TtlSecurity: peer.TtlSecurity,
	}
	if err := s.server.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: group}); err != nil {
		return err
	}
	return s.server.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{
		DynamicNeighbor: &api.DynamicNeighbor{Prefix: n.Range.String(), PeerGroup: n.Name},
	})
}

// peer puts a neighbour into GoBGP's words.
func (s *speaker) peer(n *Neighbour) *api.Peer {
	hold := seconds(n.Hold, defaultHold)
	p := &api.Peer{
		Conf: &api.PeerConf{PeerAsn: n.ASN, AuthPassword: n.Password.text},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: hold, KeepaliveInterval: max(hold/3, 1), ConnectRetry: seconds(n.ConnectRetry, defaultConnectRetry),
			// How long a session that failed waits, GoBGP's default of 30 s is for other networks than a site's.
			IdleHoldTimeAfterReset: seconds(n.ConnectRetry, defaultConnectRetry),
		}},
		Transport: &api.Transport{PassiveMode: n.Passive || n.Range.IsValid(), RemotePort: uint32(n.Port)},
	}
	if n.Address.IsValid() {
		p.Conf.NeighborAddress = n.Address.String()
	}
	if s.port.Device {
		p.Transport.BindInterface = s.port.Name
		if s.port.EVPN { // the peer takes packets from our tunnel address only
			p.Transport.LocalAddress = s.port.address(n.Address).String()
		}
	} else if len(s.port.ListenOn) == 1 {
		p.Transport.LocalAddress = s.port.ListenOn[0].String()
	}
	if n.TTLSecurity {
		p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: minTTL}
	}
	if n.Restart > 0 {
		// As a helper only, but where forwarding goes on when this process restarts. What we announce waits for the End-of-RIB
		// of all neighbours then (RFC 4724 section 4.1), but not for those that send none.
		p.GracefulRestart = &api.GracefulRestart{
			Enabled: true, HelperOnly: !s.port.KeepsForwarding, RestartTime: uint32(seconds(n.Restart, 0)), LonglivedEnabled: n.LongLived > 0,
			LocalRestarting: s.port.KeepsForwarding && s.port.Restarted, DeferralTime: uint32(tellTime / time.Second),
		}
	}
	for _, f := range s.port.families() {
		p.AfiSafis = append(p.AfiSafis, n.afiSafi(f))
	}
	if n.Client {
		p.RouteReflector = &api.RouteReflector{RouteReflectorClient: true}
	}
	return p
}

func (n *Neighbour) afiSafi(f bgp.Family) *api.AfiSafi {
	id := apiFamily(f)
	a := &api.AfiSafi{
		Config:            &api.AfiSafiConfig{Family: id, Enabled: true},
		AddPaths:          &api.AddPaths{Config: &api.AddPathsConfig{Receive: f != bgp.RF_EVPN}}, // there, distinguishers do it
		MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: n.Restart > 0}},
	}
	if n.LongLived > 0 {
		a.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{
			Config: &api.LongLivedGracefulRestartConfig{Enabled: true, RestartTime: uint32(seconds(n.LongLived, 0))},
		}
	}
	return a
}

func apiFamily(f bgp.Family) *api.Family {
	return &api.Family{Afi: api.Family_Afi(f.Afi()), Safi: api.Family_Safi(f.Safi())}
}

func seconds(d, otherwise time.Duration) uint64 {
	if d == 0 {
		d = otherwise
	}
	return uint64(d / time.Second)
}

// removeNeighbour ends the sessions of a neighbour.
func (s *speaker) removeNeighbour(ctx context.Context, n *Neighbour) error {
	if n.Address.IsValid() {
		return s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: n.Address.String()})
	}
	err := s.server.DeleteDynamicNeighbor(ctx, &api.DeleteDynamicNeighborRequest{Prefix: n.Range.String(), PeerGroup: n.Name})
	if err != nil {
		return err
	}
	for _, address := range s.sessionsOf(n) {
		if err := s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: address.String()}); err != nil {
			s.router.log.Debug("bgp session had ended already", "address", address, "error", err)
		}
	}
	return s.server.DeletePeerGroup(ctx, &api.DeletePeerGroupRequest{Name: n.Name})
}

func (s *speaker) sessionsOf(n *Neighbour) (addresses []netip.Addr) {
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	for address, peer := range s.sessions {
		if peer.neighbour == n {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// listed makes a callback for one path one for GoBGP's lists.
func listed(f func(*apiutil.Path)) func(bgp.NLRI, []*apiutil.Path) {
	return func(_ bgp.NLRI, paths []*apiutil.Path) {
		for _, p := range paths {
			f(p)
		}
	}
}

// disconnectText says why a session ended, as far as GoBGP knows.
func disconnectText(s *apiutil.PeerState) string {
	reasons := map[api.PeerState_DisconnectReason]string{
		api.PeerState_DISCONNECT_REASON_ADMIN_DOWN:            "shut down here",
		api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:    "nothing heard for the hold time",
		api.PeerState_DISCONNECT_REASON_NOTIFICATION_SENT:     "we ended it",
		api.PeerState_DISCONNECT_REASON_NOTIFICATION_RECEIVED: "the router ended it",
		api.PeerState_DISCONNECT_REASON_READ_FAILED:           "the connection was lost",
		api.PeerState_DISCONNECT_REASON_WRITE_FAILED:          "the connection was lost",
		api.PeerState_DISCONNECT_REASON_RESTART_TIMER_EXPIRED: "the router did not come back from its restart",
		api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:      "the router restarts",
		api.PeerState_DISCONNECT_REASON_INVALID_MSG:           "the router sent a message that is none",
		api.PeerState_DISCONNECT_REASON_HARD_RESET:            "hard reset",
		api.PeerState_DISCONNECT_REASON_BAD_PEER_AS:           "it has another AS number",
	}
	text := reasons[s.DisconnectReason]
	if s.DisconnectMessage != "" {
		if text != "" {
			text += ": "
		}
		text += s.DisconnectMessage
	}
	return text
}
