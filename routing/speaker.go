package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/config/oc"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/sluicegw/sluice/routing/bfd"
)

// bgpPort is where everybody listens (RFC 4271 section 8).
const bgpPort = 179

// speaker talks with the routers behind one port.
type speaker struct {
	router    *Router
	asn       uint32
	routerID  netip.Addr
	port      Port // without its neighbours
	server    *server.BgpServer
	stopped   context.CancelFunc
	exporter  exporter
	reflector reflector
	watcher   *bfd.Watcher // nil: no neighbour has BFD

	// Guarded by Router.mu.
	rib        *rib
	fabric     []fabricVPC // of port.Fabric
	neighbours map[string]*Neighbour
	problems   map[string]string // by name of the neighbour
	sessions   map[netip.Addr]*session
}

// startSpeaker listens, and calls nobody yet.
func startSpeaker(ctx context.Context, r *Router, asn uint32, routerID netip.Addr, port Port, rib *rib) (*speaker, error) {
	s := &speaker{router: r, asn: asn, routerID: routerID, port: port, rib: rib,
		neighbours: make(map[string]*Neighbour), problems: make(map[string]string), sessions: make(map[netip.Addr]*session)}
	s.port.Neighbours = nil
	s.fabric = indexFabric(port.Fabric)
	var level slog.LevelVar
	s.server = server.NewBgpServer(server.LoggerOption(slog.New(warnings{r.log.With("vpc", port.VPC, "port", port.Name).Handler()}), &level))
	go s.server.Serve()
	global := &api.Global{Asn: asn, RouterId: routerID.String(), ListenPort: bgpPort}
	if port.ListenPort != 0 {
		global.ListenPort = int32(port.ListenPort)
	}
	for _, a := range port.ListenOn {
		global.ListenAddresses = append(global.ListenAddresses, a.String())
	}
	for _, f := range port.families() { // otherwise GoBGP makes tables of all that there are, which take 10 MiB
		global.Families = append(global.Families, uint32(oc.AfiSafiType(f.String()).ToInt()))
	}
	if port.Device {
		global.BindToDevice = port.Name
	}
	if err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		s.server.Stop()
		return nil, fmt.Errorf("bgp on port %s: %w", port.Name, err)
	}
	watching, stop := context.WithCancel(context.Background())
	s.stopped = stop
	err := s.refuseAll(ctx)
	if err == nil {
		err = s.server.WatchEvent(watching, server.WatchEventMessageCallbacks{
			OnPathUpdate: func(paths []*apiutil.Path, _ time.Time) { s.pathsChanged(paths) },
			OnPathEor:    func(eor *apiutil.Path, _ time.Time) { s.endOfRIB(eor) },
			OnPeerUpdate: s.peerChanged,
		}, server.WatchUpdate(false, "", ""), server.WatchAdjInWithdraw(), server.WatchEor(false), server.WatchPeer())
	}
	if err != nil {
		s.close(false)
		return nil, fmt.Errorf("bgp on port %s: %w", port.Name, err)
	}
	go s.watchLimits(watching, limitInterval)
	return s, nil
}

// refuseAll makes GoBGP's own table hold nothing of the neighbours (we keep what they tell us), only what we announce,
// and lets nothing out but what a policy lets out.
func (s *speaker) refuseAll(ctx context.Context) error {
	own := &api.Policy{Name: ownPolicy, Statements: []*api.Statement{{
		Name: "own", Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: own}); err != nil {
		return err
	}
	for _, assignment := range []*api.PolicyAssignment{
		{Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, Policies: []*api.Policy{{Name: own.Name}}},
		{Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT},
	} {
		assignment.Name, assignment.DefaultAction = "global", api.RouteAction_ROUTE_ACTION_REJECT
		if err := s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
			return err
		}
	}
	return nil
}

// same says whether the speaker can serve a port as it is now; its addresses and neighbours may change.
func (s *speaker) same(asn uint32, routerID netip.Addr, p *Port) bool {
	a, b := s.port, *p
	a.Neighbours, b.Neighbours = nil, nil
	if len(a.Fabric) > 0 && len(b.Fabric) > 0 { // setFabric sees to it
		a.Fabric, b.Fabric = nil, nil
	}
	a.KeepsForwarding, b.KeepsForwarding = false, false // for neighbours to come
	a.Restarted, b.Restarted = false, false
	if !a.EVPN { // in the tunnels, sessions are bound to them
		a.Addresses, b.Addresses = nil, nil
	}
	return s.asn == asn && s.routerID == routerID && reflect.DeepEqual(a, b)
}

// setNeighbours makes the sessions those of the configuration: what is the same as before is not touched. What cannot be
// done is a problem of the neighbour.
func (s *speaker) setNeighbours(ctx context.Context, want []Neighbour) error {
	wanted := make(map[string]*Neighbour, len(want))
	for i := range want {
		wanted[want[i].Name] = &want[i]
	}
	var errs []error
	for name, old := range s.neighbours {
		n := wanted[name]
		if n != nil && s.problems[name] == "" && old.sameSession(n) && !s.raises(old, n) {
			continue
		}
		if s.problems[name] == "" {
			if err := s.removeNeighbour(ctx, old); err != nil {
				errs = append(errs, fmt.Errorf("neighbour %s: %w", name, err))
			}
		}
		s.router.mu.Lock()
		for _, peer := range s.sessions {
			if peer.neighbour == old {
				s.forget(peer)
			}
		}
		delete(s.neighbours, name)
		delete(s.problems, name)
		s.router.mu.Unlock()
	}
	if err := s.exporter.setPolicies(ctx, s, want); err != nil {
		errs = append(errs, err)
	}
	if err := s.reflector.set(ctx, s, want); err != nil {
		errs = append(errs, err)
	}
	for name, n := range wanted {
		old := s.neighbours[name]
		s.router.mu.Lock()
		s.neighbours[name] = n
		for _, peer := range s.sessions {
			if peer.neighbour == old && old != nil {
				peer.neighbour = n
			}
		}
		if old != nil && !reflect.DeepEqual(old.Import, n.Import) {
			s.router.judge(func(p *path) bool { return p.session.neighbour == n })
		}
		s.router.mu.Unlock()
		if old != nil {
			if err := s.adjust(ctx, old, n); err != nil {
				errs = append(errs, fmt.Errorf("neighbour %s: %w", name, err))
			}
			continue
		}
		if err := s.addNeighbour(ctx, n); err != nil {
			s.router.mu.Lock()
			s.problems[name] = err.Error()
			s.router.mu.Unlock()
			errs = append(errs, fmt.Errorf("neighbour %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, s.watchRouters())...)
}

// refuse ends a session that must not be, or cannot. It does not wait, as it is called by GoBGP's own goroutines.
func (s *speaker) refuse(address netip.Addr, why string) {
	go func() {
		request := &api.ResetPeerRequest{Address: address.String(), Communication: why}
		if err := s.server.ResetPeer(context.Background(), request); err != nil {
			s.router.log.Warn("end bgp session", "address", address, "error", err)
		}
	}()
}

// endOfRIB: after a restart, the router has told everything (RFC 4724 section 4.2). GoBGP drops what it did not tell
// again without an event, so what it has is compared with what we have.
func (s *speaker) endOfRIB(eor *apiutil.Path) {
	address := eor.PeerAddress.Unmap()
	s.router.mu.Lock()
	peer := s.sessions[address]
	if peer != nil {
		peer.tells(eor)
	}
	stale := peer != nil && peer.stale > 0
	s.router.mu.Unlock()
	if !stale {
		return
	}
	told := make(map[pathKey]bool)
	for _, f := range s.port.families() {
		err := s.server.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: address.String(), Family: f},
			listed(func(p *apiutil.Path) {
				if key, ok := keyOf(p.Nlri, p.RemoteID); ok && !p.Withdrawal {
					told[key] = !p.Stale
				}
			}))
		if err != nil {
			s.router.log.Warn("read routes after a restart", "address", address, "error", err)
			return
		}
	}
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	peer.each(func(table *rib, d *destination, p *path) {
		fresh, there := told[pathKey{d.prefix, p.id}]
		switch {
		case !there:
			table.drop(peer, d.prefix, p.id)
		case fresh:
			p.setStale(false)
			table.touch(d)
		}
	})
	s.router.wake()
}

// close ends all sessions, and forgets what they told us. Silently, it closes connections without a word, so that routers
// that were asked to go on do so; others it tells nevertheless.
func (s *speaker) close(silently bool) {
	s.stopped()
	s.stopWatching()
	if !silently {
		s.server.Stop()
	} else if err := s.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: true}); err != nil {
		s.router.log.Warn("leave bgp sessions to routers that go on", "port", s.port.Name, "error", err)
	}
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	for _, peer := range s.sessions {
		s.forget(peer)
	}
}
