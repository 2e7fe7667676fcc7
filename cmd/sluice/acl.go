package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newACL() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "acl [VPC]",
		Short: "List the rules of access lists and how often each has matched",
		Long: `List the access lists of every VPC, or of one, in the order in which packets are
held against them: the first rule that matches decides. A rule's counters go on
through changes of the configuration that leave the rule as it is.`,
		GroupID: groupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &sluicev1.ACLRequest{}
			if len(args) > 0 {
				request.Vpc = args[0]
			}
			r, err := c.dial().ACL(cmd.Context(), request)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return aclTable(r.GetAcls()).write(w) })
		},
	}
	c.flags(cmd)
	return cmd
}

// aclTable ends each VPC's rules with its default.
func aclTable(acls []*sluicev1.ACL) *table {
	t := newTable("VPC", ">RULE", "NAME", "ACTION", "MATCH", ">PACKETS", ">BYTES")
	for _, a := range acls {
		for i, r := range a.GetRules() {
			t.add(a.GetVpc(), fmt.Sprint(i+1), dash(r.GetName()), r.GetAction(), r.GetMatch(), fmt.Sprint(r.GetPackets()), bytesText(r.GetBytes()))
		}
		t.add(a.GetVpc(), "-", "-", a.GetDefaultAction(), "everything else", fmt.Sprint(a.GetDefaultPackets()), bytesText(a.GetDefaultBytes()))
	}
	return t
}
