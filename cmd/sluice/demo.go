package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/internal/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Two sites in network namespaces, traffic crossing, a table of checks",
		Long: `Build two sites and a WAN of network namespaces, run two gateways at each, send
traffic across, drain one gateway and kill another, and check what happens. Needs root. Nothing outside the namespaces
is touched, and everything is removed at the end. Fails if any check fails.`,
		GroupID: groupLocal,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.JSON, "json", "", "write the checks to this `file`, as JSON")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "leave everything running after the checks, until interrupted")
	cmd.Flags().BoolVar(&o.IPv6, "ipv6", false, "IPv6 on the outside: between nodes and gateways, and on the WAN")
	cmd.Flags().BoolVar(&o.Clean, "clean", false, "remove what an earlier demo left, and do nothing else")
	cmd.Flags().BoolVar(&o.RequireOVS, "require-ovs", false, "fail when Open vSwitch cannot run, instead of using VXLAN at both sites")
	cmd.Flags().BoolVar(&o.RequireRouters, "require-routers", false, "fail when FRR or BIRD are missing, instead of doing without routers and second gateways")
	return cmd
}
