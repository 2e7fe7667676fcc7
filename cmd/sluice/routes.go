package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newVPCs() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:     "vpcs",
		Short:   "List the routing domains, where they are attached and what they carried",
		GroupID: groupRead,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.dial().VPCs(cmd.Context(), &sluicev1.VPCsRequest{})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return vpcTable(r.GetVpcs()).write(w) })
		},
	}
	c.flags(cmd)
	return cmd
}

func vpcTable(vpcs []*sluicev1.VPC) *table {
	t := newTable("VPC", ">VNI", ">LOCAL ROUTES", ">REMOTE ROUTES", ">TO PEERS", ">TO SITE", ">DROPPED", "PEERS", "GATEWAY ADDRESSES", "ATTACHMENTS")
	for _, v := range vpcs {
		var attachments []string
		for _, a := range v.GetAttachments() {
			text := a.GetType() + " " + a.GetPort()
			if a.GetUdpPort() != 0 {
				text += fmt.Sprintf(":%d", a.GetUdpPort())
			}
			attachments = append(attachments, text)
		}
		t.add(v.GetName(), fmt.Sprint(v.GetVni()), fmt.Sprint(v.GetLocalRoutes()), fmt.Sprint(v.GetRemoteRoutes()),
			traffic(v.GetToPeersPackets(), v.GetToPeersBytes()), traffic(v.GetToSitePackets(), v.GetToSiteBytes()), fmt.Sprint(v.GetDropped()),
			dash(strings.Join(v.GetPeers(), " ")), dash(strings.Join(v.GetGatewayAddresses(), " ")), dash(strings.Join(attachments, ", ")))
	}
	return t
}

func newRoutes() *cobra.Command {
	var c client
	var vpc string
	cmd := &cobra.Command{
		Use:   "routes [ADDRESS]",
		Short: "List the routes, or the one that an address takes",
		Long: `List the routes of every VPC, or of one. With an address, only the route that it
takes in that VPC. TO counts what was sent to the route; FROM what came from it, for
remote routes.`,
		GroupID: groupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &sluicev1.RoutesRequest{Vpc: vpc}
			if len(args) > 0 {
				request.Address = args[0]
				if vpc == "" {
					request.Vpc = "default"
				}
			}
			r, err := c.dial().Routes(cmd.Context(), request)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return routeTable(r.GetRoutes()).write(w) })
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&vpc, "vpc", "", "only this VPC; with an address the default VPC, unless named here")
	return cmd
}

// routeTable has a line for every next hop.
func routeTable(routes []*sluicev1.Route) *table {
	t := newTable("VPC", "PREFIX", "KIND", "NEXT HOP", "ADDRESS", ">VNI", "USABLE", ">TO", ">FROM")
	for _, r := range routes {
		vpc, prefix, kind := r.GetVpc(), r.GetPrefix(), api.Word(r.GetKind())
		to, from := traffic(r.GetToPackets(), r.GetToBytes()), traffic(r.GetFromPackets(), r.GetFromBytes())
		for _, h := range r.GetNextHops() {
			hop := "peer " + h.GetPeer()
			if r.GetKind() == sluicev1.RouteKind_ROUTE_KIND_LOCAL {
				hop = h.GetAttachment()
			}
			address := h.GetAddress()
			if h.GetMac() != "" {
				address += " " + h.GetMac()
			}
			t.add(vpc, prefix, kind, hop, dash(address), fmt.Sprint(h.GetVni()), yesNo(h.GetUsable()), to, from)
			vpc, prefix, kind, to, from = "", "", "", "", "" // more ways to the same
		}
	}
	return t
}
