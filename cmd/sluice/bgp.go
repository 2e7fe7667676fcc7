package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newBGP() *cobra.Command {
	var c client
	var routes bool
	cmd := &cobra.Command{
		Use:   "bgp [NEIGHBOUR]",
		Short: "List the routers and gateways that we speak BGP with, and the routes between us",
		Long: `List the routers and peers that we speak BGP with: the state of each session, how
many routes it has told us and how many of them are in use. With --routes, each route
in both directions and what became of it: the rule of the policy that let it in,
or why it was refused. A route in use is marked with an asterisk.`,
		GroupID: groupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &sluicev1.BGPRequest{Routes: routes}
			if len(args) > 0 {
				request.Neighbour = args[0]
			}
			r, err := c.dial().BGP(cmd.Context(), request)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return writeBGP(w, r, routes) })
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&routes, "routes", false, "the routes too")
	return cmd
}

func writeBGP(w io.Writer, r *sluicev1.BGPResponse, routes bool) error {
	if r.GetAsn() == 0 {
		_, err := fmt.Fprintln(w, "no BGP is configured")
		return err
	}
	if _, err := fmt.Fprintf(w, "AS %d, router id %s\n\n", r.GetAsn(), r.GetRouterId()); err != nil {
		return err
	}
	if err := neighbourTable(r.GetNeighbours()).write(w); err != nil || !routes {
		return err
	}
	for _, direction := range []struct {
		title  string
		routes []*sluicev1.BGPRoute
	}{{"received", r.GetReceived()}, {"announced", r.GetAnnounced()}} {
		if _, err := fmt.Fprintf(w, "\n%s:\n", direction.title); err != nil {
			return err
		}
		if err := bgpRouteTable(direction.routes).write(w); err != nil {
			return err
		}
	}
	return nil
}

func neighbourTable(neighbours []*sluicev1.BGPNeighbour) *table {
	t := newTable("NEIGHBOUR", "VPC", "PORT", "ADDRESS", ">AS", "STATE", ">SINCE", "BFD", ">RECEIVED", ">IN USE", ">ANNOUNCED", "REFUSED", ">ENDED", "LAST ERROR")
	for _, n := range neighbours {
		var refused []string
		for _, reason := range slices.Sorted(maps.Keys(n.GetRefused())) {
			refused = append(refused, fmt.Sprintf("%s %d", reason, n.GetRefused()[reason]))
		}
		last := n.GetProblem()
		if last == "" {
			last = n.GetLastError()
		}
		since, asn := "", ""
		if n.GetSince() != nil {
			since = api.Age(n.GetSince().AsDuration())
		}
		if n.GetAsn() != 0 {
			asn = fmt.Sprint(n.GetAsn())
		}
		t.add(n.GetName(), dash(n.GetVpc()), n.GetPort(), n.GetAddress(), dash(asn), n.GetState(), dash(since), dash(n.GetBfd()),
			fmt.Sprint(n.GetReceived()), fmt.Sprint(n.GetBest()), fmt.Sprint(n.GetAnnounced()), dash(strings.Join(refused, ", ")), fmt.Sprint(n.GetEnded()), dash(last))
	}
	return t
}

func bgpRouteTable(routes []*sluicev1.BGPRoute) *table {
	t := newTable("", "VPC", "PREFIX", "NEIGHBOUR", "NEXT HOP", ">PREF", ">MED", "AS PATH", "COMMUNITIES", "VERDICT")
	for _, r := range routes {
		mark := ""
		if r.GetBest() {
			mark = "*"
		}
		verdict := r.GetVerdict()
		if r.GetStale() {
			verdict += ", stale"
		}
		communities := slices.Clone(r.GetCommunities())
		for _, target := range r.GetRouteTargets() {
			communities = append(communities, "rt:"+target)
		}
		if len(r.GetRouteTargets()) > 0 {
			communities = append(communities, fmt.Sprint("vni:", r.GetVni()))
		}
		if r.GetMac() != "" {
			communities = append(communities, "mac:"+r.GetMac())
		}
		if r.GetSequence() != 0 {
			communities = append(communities, fmt.Sprint("moves:", r.GetSequence()))
		}
		prefix := r.GetPrefix()
		switch r.GetKind() {
		case sluicev1.BGPRouteKind_BGP_ROUTE_KIND_HOST, sluicev1.BGPRouteKind_BGP_ROUTE_KIND_VTEP:
			prefix += " " + api.Word(r.GetKind())
		}
		path := strings.Trim(fmt.Sprint(r.GetAsPath()), "[]")
		t.add(mark, dash(r.GetVpc()), prefix, r.GetNeighbour(), dash(r.GetNextHop()), fmt.Sprint(r.GetLocalPref()), fmt.Sprint(r.GetMed()),
			dash(path), dash(strings.Join(communities, " ")), verdict)
	}
	return t
}
