package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
)

var _ api.Backend = (*Gateway)(nil)

// Status implements api.Backend.
func (g *Gateway) Status(ctx context.Context, _ *sluicev1.StatusRequest) (*sluicev1.StatusResponse, error) {
	v := g.view.Load()
	now := time.Now()
	s := &sluicev1.StatusResponse{
		Site:       v.cfg.Site,
		Gateway:    v.cfg.Gateway,
		Version:    g.options.Version,
		Started:    timestamppb.New(g.started),
		Uptime:     durationpb.New(now.Sub(g.started)),
		Config:     g.configRevision(),
		Workers:    uint32(len(g.umems)),
		PublicKey:  g.device.PublicKey().String(),
		ListenPort: uint32(v.cfg.WireGuard.ListenPort),
		VpcCount:   uint32(len(v.cfg.VPCs)),
	}
	for i := range v.plan.snapshot.VPCs {
		s.RouteCount += uint32(v.plan.snapshot.VPCs[i].Routes.Len())
	}
	for _, p := range v.ports {
		s.Ports = append(s.Ports, g.portStatus(v, p))
	}
	for i := range v.peers {
		s.Peers = append(s.Peers, g.peerStatus(&v.peers[i]))
	}
	switch {
	case g.stopping.Load():
		s.Health = sluicev1.Health_HEALTH_STOPPING
	case !g.ready.Load():
		s.Health = sluicev1.Health_HEALTH_STARTING
	}
	s.Tun, s.Drain = v.tun.status(), proto.CloneOf(g.drained.Load())
	s.Limits = g.limits(v)
	s.HostProblems = g.learner.Problems()
	s.BgpProblems = bgpProblems(g.bgp.router.Status(ctx, false))
	s.ClusterProblems = clusterProblems(g.clusterStatus())
	api.Assess(s, now)
	return s, nil
}

func (g *Gateway) configRevision() *sluicev1.ConfigRevision {
	r := proto.CloneOf(g.view.Load().revision)
	if refused := g.refused.Load(); refused != nil {
		r.LastError, r.LastErrorTime = refused.why, timestamppb.New(refused.at)
	}
	return r
}

func (g *Gateway) portStatus(v *view, p portView) *sluicev1.Port {
	s := &sluicev1.Port{Name: p.cfg.Name, Problem: p.problem}
	if link := v.links.LinkByName(p.cfg.Name); link != nil {
		s.Ifindex, s.Mtu, s.LinkUp, s.Driver = link.Ifindex, uint32(link.MTU), link.Up, link.Driver
		s.Mac = config.MAC(link.MAC).String()
		for _, a := range link.Addrs {
			s.Addresses = append(s.Addresses, a.String())
		}
	}
	if p.port == nil {
		return s
	}
	if link, err := netlink.LinkByIndex(int(p.port.ifindex)); err != nil {
		s.Problem = err.Error()
	} else if stats := link.Attrs().Statistics; stats != nil {
		s.RxPackets, s.RxBytes, s.TxPackets, s.TxBytes = stats.RxPackets, stats.RxBytes, stats.TxPackets, stats.TxBytes
	}
	s.XdpMode = p.port.attachment.Mode().String()
	s.Queues = uint32(len(p.port.sockets))
	g.portsMu.RLock()
	defer g.portsMu.RUnlock()
	if p.port.closed {
		return s
	}
	s.ZeroCopy = p.port.zeroCopy()
	for _, socket := range p.port.sockets {
		stats, err := socket.Stats()
		if err != nil {
			s.Problem = err.Error()
			continue
		}
		s.RxDropped += stats.RxNoFrame + stats.RxRingFull
	}
	return s
}

// Peers implements api.Backend.
func (g *Gateway) Peers(_ context.Context, r *sluicev1.PeersRequest) (*sluicev1.PeersResponse, error) {
	v := g.view.Load()
	response := &sluicev1.PeersResponse{}
	for i := range v.peers {
		if r.GetName() == "" || r.GetName() == v.peers[i].cfg.Name {
			response.Peers = append(response.Peers, g.peerStatus(&v.peers[i]))
		}
	}
	if r.GetName() != "" && len(response.Peers) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no peer %s", r.GetName()))
	}
	slices.SortFunc(response.Peers, func(a, b *sluicev1.Peer) int { return strings.Compare(a.GetName(), b.GetName()) })
	return response, nil
}

func (g *Gateway) peerStatus(p *peerView) *sluicev1.Peer {
	s := &sluicev1.Peer{Name: p.cfg.Name, ConfiguredEndpoint: p.cfg.Endpoint.String(), Problem: p.problem}
	for _, a := range p.cfg.TunnelAddresses {
		s.TunnelAddresses = append(s.TunnelAddresses, a.String())
	}
	for _, vpc := range p.cfg.VPCs {
		out := &sluicev1.PeerVPC{Vpc: vpc.Name, Vni: vpc.VNI}
		for _, prefix := range vpc.Prefixes {
			out.AllowedPrefixes = append(out.AllowedPrefixes, prefix.String())
		}
		s.Vpcs = append(s.Vpcs, out)
	}
	if p.wireguard == nil {
		g.directStatus(p, s)
		return s
	}
	status := p.wireguard.Status()
	s.PublicKey, s.HasPresharedKey, s.PersistentKeepalive = p.cfg.PublicKey.String(), status.PresharedKey, durationpb.New(status.PersistentKeepalive)
	s.RxBytes, s.RxPackets, s.TxBytes, s.TxPackets = status.RxBytes, status.RxPackets, status.TxBytes, status.TxPackets
	s.Endpoint = g.view.Load().endpointText(status.Endpoint)
	if !status.LastHandshake.IsZero() {
		s.LastHandshake = timestamppb.New(status.LastHandshake)
	}
	switch {
	case status.Session:
		s.State, s.SessionAge = sluicev1.PeerState_PEER_STATE_UP, durationpb.New(status.SessionAge)
	case status.Handshaking:
		s.State = sluicev1.PeerState_PEER_STATE_CONNECTING
	case !status.LastHandshake.IsZero():
		s.State = sluicev1.PeerState_PEER_STATE_EXPIRED
	default:
		s.State = sluicev1.PeerState_PEER_STATE_IDLE
	}
	g.livenessStatus(s, p.id)
	g.pathsStatus(s, p)
	g.relayStatus(s, p)
	g.pathStatus(s, p.id)
	return s
}

// VPCs implements api.Backend.
func (g *Gateway) VPCs(context.Context, *sluicev1.VPCsRequest) (*sluicev1.VPCsResponse, error) {
	v := g.view.Load()
	response := &sluicev1.VPCsResponse{}
	counted, forwarded := g.relay.Counters().VPCs, g.forwarded()
	for _, vpc := range v.cfg.VPCs {
		out := &sluicev1.VPC{Name: vpc.Name, Vni: vpc.VNI, GatewayMac: vpc.GatewayMAC.String()}
		c := vpcCounters(counted, vpc.VNI)
		forwarded.addTo(&c)
		out.ToPeersPackets, out.ToPeersBytes, out.ToSitePackets, out.ToSiteBytes, out.Dropped = c.ToPeers, c.ToPeersBytes, c.ToSite, c.ToSiteBytes, c.Dropped
		for _, a := range vpc.GatewayAddresses {
			out.GatewayAddresses = append(out.GatewayAddresses, a.String())
		}
		for _, a := range vpc.Attachments {
			out.Attachments = append(out.Attachments, &sluicev1.Attachment{
				Type: string(a.Type), Port: a.Port, UdpPort: uint32(a.UDPPort), Entries: uint32(len(a.Hosts) + len(a.Prefixes)),
			})
		}
		if compiled := v.vpc(vpc.Name); compiled != nil {
			for route := range compiled.Routes.All() {
				if route.NextHops[0].Kind == fib.Local {
					out.LocalRoutes++
				} else {
					out.RemoteRoutes++
				}
			}
		}
		for _, p := range v.cfg.Peers {
			if slices.ContainsFunc(p.VPCs, func(c config.PeerVPC) bool { return c.Name == vpc.Name }) {
				out.Peers = append(out.Peers, p.Name)
			}
		}
		response.Vpcs = append(response.Vpcs, out)
	}
	slices.SortFunc(response.Vpcs, func(a, b *sluicev1.VPC) int { return int(a.GetVni()) - int(b.GetVni()) })
	return response, nil
}

func (v *view) vpc(name string) *relay.VPC {
	for i := range v.plan.snapshot.VPCs {
		if v.plan.snapshot.VPCs[i].Name == name {
			return &v.plan.snapshot.VPCs[i]
		}
	}
	return nil
}

// Routes implements api.Backend.
func (g *Gateway) Routes(_ context.Context, r *sluicev1.RoutesRequest) (*sluicev1.RoutesResponse, error) {
	v := g.view.Load()
	if r.GetVpc() != "" && v.vpc(r.GetVpc()) == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no VPC %s", r.GetVpc()))
	}
	if r.GetAddress() != "" {
		return g.routeTo(v, r)
	}
	response := &sluicev1.RoutesResponse{}
	neighbours, counted := g.kernel.Table(), v.routeCounters(g)
	for i := range v.plan.snapshot.VPCs {
		vpc := &v.plan.snapshot.VPCs[i]
		if r.GetVpc() != "" && r.GetVpc() != vpc.Name {
			continue
		}
		for route := range vpc.Routes.All() {
			response.Routes = append(response.Routes, v.route(vpc, route, neighbours, counted))
		}
	}
	return response, nil
}

func (g *Gateway) routeTo(v *view, r *sluicev1.RoutesRequest) (*sluicev1.RoutesResponse, error) {
	if r.GetVpc() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("an address alone is ambiguous: name its VPC"))
	}
	addr, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	vpc := v.vpc(r.GetVpc())
	route := vpc.Routes.Lookup(addr.Unmap())
	if route == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("VPC %s has no route to %s", vpc.Name, addr))
	}
	return &sluicev1.RoutesResponse{Routes: []*sluicev1.Route{v.route(vpc, route, g.kernel.Table(), v.routeCounters(g))}}, nil
}

func (v *view) route(vpc *relay.VPC, route *fib.Route, neighbours *neigh.Table, counted routeCounters) *sluicev1.Route {
	out := &sluicev1.Route{Vpc: vpc.Name, Prefix: route.Prefix.String(), Kind: sluicev1.RouteKind_ROUTE_KIND_LOCAL}
	c := counted.of(vpc.VNI, route)
	out.ToPackets, out.ToBytes, out.FromPackets, out.FromBytes = c.ToPackets, c.ToBytes, c.FromPackets, c.FromBytes
	for _, hop := range route.NextHops {
		if hop.Kind == fib.Remote {
			out.Kind = sluicev1.RouteKind_ROUTE_KIND_REMOTE
			out.NextHops = append(out.NextHops, v.remoteHop(vpc, hop.ID, neighbours))
			continue
		}
		out.NextHops = append(out.NextHops, v.localHop(hop.ID, neighbours))
	}
	return out
}

func (v *view) remoteHop(vpc *relay.VPC, id uint32, neighbours *neigh.Table) *sluicev1.NextHop {
	out := &sluicev1.NextHop{Vni: vpc.VNI}
	if p := v.peerByID(id); p != nil {
		out.Peer = p.cfg.Name
		if p.wireguard == nil {
			out.Address, out.Usable = p.cfg.Endpoint.String(), p.unreachable(neighbours) == ""
		} else {
			status := p.wireguard.Status()
			out.Usable = status.Session
			out.Address = v.endpointText(status.Endpoint)
		}
		for _, c := range p.cfg.VPCs {
			if c.Name == vpc.Name {
				out.Vni = c.VNI
			}
		}
	}
	return out
}

func (v *view) localHop(id uint32, neighbours *neigh.Table) *sluicev1.NextHop {
	info := v.plan.deliveries[id]
	out := &sluicev1.NextHop{Attachment: info.attachment, Usable: true} // routed: each address has a neighbour of its own
	if info.via.IsValid() {
		out.Address = info.via.String()
		e := neighbours.Lookup(neigh.Key{Dst: info.via, Ifindex: info.ifindex})
		out.Usable = e == nil || e.State == neigh.Resolved
	}
	if info.vtep.IsValid() {
		out.Address, out.Mac, out.Vni = info.vtep.String(), info.mac.String(), info.vni
		// What was never asked for is not known to be unusable.
		e := neighbours.Lookup(neigh.Key{Dst: info.vtep, Ifindex: info.ifindex})
		out.Usable = e == nil || e.State == neigh.Resolved
	}
	return out
}

// Apply implements api.Backend.
func (g *Gateway) Apply(ctx context.Context, r *sluicev1.ApplyRequest) (*sluicev1.ApplyResponse, error) {
	problems, changes, err := g.change(ctx, r.GetConfig(), r.GetName(), change{dryRun: r.GetDryRun(), write: true})
	if err != nil {
		return nil, err
	}
	return &sluicev1.ApplyResponse{Problems: problemMessages(problems), Changes: changes, Config: g.configRevision()}, nil
}

// Reload implements api.Backend.
func (g *Gateway) Reload(ctx context.Context, _ *sluicev1.ReloadRequest) (*sluicev1.ReloadResponse, error) {
	problems, changes, err := g.reload(ctx)
	if err != nil {
		return nil, err
	}
	return &sluicev1.ReloadResponse{Problems: problemMessages(problems), Changes: changes, Config: g.configRevision()}, nil
}

func problemMessages(problems []config.Problem) []*sluicev1.Problem {
	var out []*sluicev1.Problem
	for _, p := range problems {
		out = append(out, &sluicev1.Problem{Line: uint32(p.Line), Column: uint32(p.Column), Path: p.Path, Message: p.Message})
	}
	return out
}
