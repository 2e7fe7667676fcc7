package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newCluster() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Say which gateway is active for which VPC, here and at other sites",
		Long: `Say which gateway of this site is active for which VPC, which others could take
over (READY), which could not and why (NOTREADY), and which are not heard of
(DOWN); and which gateway of other sites is believed to be active.`,
		GroupID: groupRead,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.dial().Cluster(cmd.Context(), &sluicev1.ClusterRequest{})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return writeCluster(w, r) })
		},
	}
	c.flags(cmd)
	cmd.AddCommand(newMove())
	return cmd
}

func newMove() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "move VPC",
		Short: "Hand a VPC over to another gateway of the site",
		Long: `Hand a VPC over to another gateway of the site that is READY. Ask the gateway that
is active. Nothing is lost on the way; with failback: automatic it comes back
after the hold-down, if this gateway has the higher priority.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := c.dial().MoveVPC(cmd.Context(), &sluicev1.MoveVPCRequest{Vpc: args[0]})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "VPC %s is handed over; see sluice cluster\n", args[0])
				return err
			})
		},
	}
	c.flags(cmd)
	return cmd
}

func writeCluster(w io.Writer, r *sluicev1.ClusterResponse) error {
	if !r.GetEnabled() && len(r.GetRemote()) == 0 {
		_, err := fmt.Fprintln(w, "no cluster is configured, and none of another site is heard of")
		return err
	}
	if r.GetEnabled() {
		if _, err := fmt.Fprintf(w, "lease %s, fail-back %s, witnesses: %s\n\n", r.GetLease().AsDuration(), r.GetFailback(), dash(strings.Join(r.GetWitnesses(), ", "))); err != nil {
			return err
		}
		if err := clusterTable(r).write(w); err != nil {
			return err
		}
	}
	if len(r.GetRemote()) == 0 {
		return nil
	}
	if r.GetEnabled() {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	t := newTable("CLUSTER", "VPC", "ACTIVE", ">EPOCH", "HANDED OVER BY")
	for _, v := range r.GetRemote() {
		t.add(v.GetCluster(), v.GetVpc(), dash(v.GetActive()), fmt.Sprint(v.GetEpoch()), dash(v.GetBefore()))
	}
	return t.write(w)
}

// clusterTable has a line for every gateway of the site in every VPC.
func clusterTable(r *sluicev1.ClusterResponse) *table {
	t := newTable("VPC", "GATEWAY", "STATE", "ROLE", ">PRIORITY", ">SINCE", ">LOST", "WHY")
	for i, v := range r.GetVpcs() {
		t.add(v.GetVpc(), "this one", v.GetState(), v.GetRole(), fmt.Sprint(v.GetPriority()), durationText(v.GetSince()), fmt.Sprint(v.GetLosses()), dash(strings.Join(v.GetReasons(), "; ")))
		for _, m := range r.GetMembers() {
			if i >= len(m.GetVpcs()) {
				continue
			}
			mv, role, why := m.GetVpcs()[i], "standby", ""
			switch {
			case !m.GetLive() && m.GetHeard() == nil:
				role, why = "", "never heard"
			case !m.GetLive():
				role, why = "", "heard "+durationText(m.GetHeard())+" ago"
			case mv.GetActive():
				role = "active"
			}
			t.add(v.GetVpc(), m.GetName(), mv.GetState(), dash(role), fmt.Sprint(mv.GetPriority()), "-", "-", dash(why))
		}
	}
	return t
}
