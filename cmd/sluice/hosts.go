package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newHosts() *cobra.Command {
	var c client
	var vpc string
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "List which node holds which host of the overlays",
		Long: `List the hosts of the overlays: those that the configuration places, and those
that the site's fabric tells of (evpn), and those that were found out from what
they sent (learned) or by asking (resolved).`,
		GroupID: groupRead,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.dial().Hosts(cmd.Context(), &sluicev1.HostsRequest{Vpc: vpc})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return hostTable(r.GetHosts()).write(w) })
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&vpc, "vpc", "", "only this VPC")
	return cmd
}

func hostTable(hosts []*sluicev1.Host) *table {
	t := newTable("VPC", "ADDRESS", "ATTACHMENT", "VTEP", "MAC", "STATE", "HOW", ">SINCE", ">SEEN", ">MOVES", ">CONFLICTS")
	for _, h := range hosts {
		since, seen, source := "", "", ""
		if h.GetSince() != nil {
			since, seen = api.Age(h.GetSince().AsDuration()), api.Age(h.GetSeen().AsDuration())
		}
		state := api.Word(h.GetState())
		if h.GetHeld() {
			state += ", held"
		}
		if h.GetSource() != sluicev1.HostSource_HOST_SOURCE_UNSPECIFIED {
			source = api.Word(h.GetSource())
		}
		t.add(h.GetVpc(), h.GetAddress(), h.GetAttachment(), dash(h.GetVtep()), dash(h.GetMac()), state, dash(source),
			dash(since), dash(seen), fmt.Sprint(h.GetMoves()), fmt.Sprint(h.GetConflicts()))
	}
	return t
}
