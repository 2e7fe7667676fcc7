package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/routing"
)

// BGP implements api.Backend.
func (g *Gateway) BGP(ctx context.Context, r *sluicev1.BGPRequest) (*sluicev1.BGPResponse, error) {
	cfg := g.view.Load().cfg
	b := &cfg.BGP
	out := &sluicev1.BGPResponse{Asn: b.ASN}
	if out.Asn == 0 {
		out.Asn = b.EVPN.ASN
	}
	if !b.RouterID.IsZero() {
		out.RouterId = b.RouterID.String()
	}
	wanted := func(name string) bool { return r.GetNeighbour() == "" || r.GetNeighbour() == name }
	if !slices.ContainsFunc(b.Neighbours, func(n config.BGPNeighbour) bool { return wanted(n.Name) }) &&
		!slices.ContainsFunc(cfg.Peers, func(p config.Peer) bool { return p.BGP.Enabled && wanted(p.Name) }) && r.GetNeighbour() != "" {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no BGP neighbour %s", r.GetNeighbour()))
	}
	status := g.bgp.router.Status(ctx, true)
	for i := range status.Neighbours {
		if n := &status.Neighbours[i]; wanted(n.Name) {
			out.Neighbours = append(out.Neighbours, neighbourMessage(n, time.Now()))
		}
	}
	if !r.GetRoutes() {
		return out, nil
	}
	for _, route := range g.bgp.router.Routes() {
		if wanted(route.Neighbour) {
			out.Received = append(out.Received, routeMessage(&route))
		}
	}
	for _, route := range g.bgp.router.Announced() {
		if wanted(route.Neighbour) {
			out.Announced = append(out.Announced, routeMessage(&route))
		}
	}
	return out, nil
}

// neighbourAddress is the router's address, or the range that a neighbour is.
func neighbourAddress(n *routing.NeighbourStatus) string {
	if n.Address.IsValid() {
		return n.Address.String()
	}
	return n.Range.String()
}

func neighbourMessage(n *routing.NeighbourStatus, now time.Time) *sluicev1.BGPNeighbour {
	out := &sluicev1.BGPNeighbour{
		Name: n.Name, Vpc: n.VPC, Port: n.Port, Address: neighbourAddress(n), Asn: n.ASN, Internal: n.Internal, State: n.State.String(),
		LastError: n.LastError, Problem: n.Problem, Ended: n.Ended, Received: uint64(n.Received), Accepted: uint64(n.Accepted),
		Best: uint64(n.Best), Stale: uint64(n.Stale), Refused: make(map[string]uint64), Announced: n.Advertised,
		UpdatesIn: n.UpdatesIn, UpdatesOut: n.UpdatesOut, Bfd: n.BFD,
	}
	if n.RouterID.IsValid() {
		out.RouterId = n.RouterID.String()
	}
	if !n.Since.IsZero() {
		out.Since = durationpb.New(now.Sub(n.Since))
	}
	if n.Hold > 0 {
		out.HoldTime = durationpb.New(n.Hold)
	}
	for reason, count := range n.Refused {
		out.Refused[reason] = uint64(count)
	}
	return out
}

var routeKinds = map[routing.RouteKind]sluicev1.BGPRouteKind{
	routing.PrefixRoute: sluicev1.BGPRouteKind_BGP_ROUTE_KIND_PREFIX,
	routing.HostRoute:   sluicev1.BGPRouteKind_BGP_ROUTE_KIND_HOST,
	routing.VTEPRoute:   sluicev1.BGPRouteKind_BGP_ROUTE_KIND_VTEP,
}

func routeMessage(r *routing.Route) *sluicev1.BGPRoute {
	out := &sluicev1.BGPRoute{
		Vpc: r.VPC, Prefix: r.Prefix.String(), Neighbour: r.Neighbour, Address: r.Address.String(),
		AsPath: r.Attributes.Path, LocalPref: r.Attributes.LocalPref, Med: r.Attributes.MED, Best: r.Best, Stale: r.Stale,
		Verdict: r.Verdict.String(),
	}
	if r.Attributes.NextHop.IsValid() {
		out.NextHop = r.Attributes.NextHop.String()
	}
	if e := r.Attributes.EVPN; e != nil {
		out.Vni, out.Kind, out.Sequence = e.VNI, routeKinds[e.Kind], e.Sequence
		if e.MAC != [6]byte{} {
			out.Mac = config.MAC(e.MAC).String()
		}
		for _, t := range e.Targets {
			out.RouteTargets = append(out.RouteTargets, config.VPNID(t).String())
		}
	}
	for _, c := range r.Attributes.Communities {
		out.Communities = append(out.Communities, c.String())
	}
	return out
}

// bgpProblems says in words what is wrong. A range that nobody has called from is as it should be, and a router of one
// that has gone.
func bgpProblems(s routing.Status) (problems []string) {
	for _, p := range s.Problems {
		problems = append(problems, p.Text)
	}
	for i := range s.Neighbours {
		n := &s.Neighbours[i]
		who := fmt.Sprintf("bgp neighbour %s (%s)", n.Name, neighbourAddress(n))
		switch {
		case n.Problem != "":
			problems = append(problems, who+": "+n.Problem)
		case n.State == routing.Established || n.Range.IsValid():
		case n.LastError != "":
			problems = append(problems, fmt.Sprintf("%s: no session: %s", who, n.LastError))
		case n.VPC == "" && !n.Fabric:
			problems = append(problems, fmt.Sprintf("peer %s: no BGP session; check that it has bgp.enabled for us, and the AS number of the gateways", n.Name))
		default:
			problems = append(problems, who+": no session; check that the router runs and has our address, AS number and password")
		}
		if problem := fabricProblem(n); problem != "" {
			problems = append(problems, problem)
		}
		if problem := evpnProblem(n); problem != "" {
			problems = append(problems, problem)
		}
		if over := n.Refused[routing.Overlaps.String()]; over > 0 {
			problems = append(problems, fmt.Sprintf("%s: announces %d prefixes that overlap what others have; see sluice bgp --routes", who, over))
		}
	}
	return problems
}
