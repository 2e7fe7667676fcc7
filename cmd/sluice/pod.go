package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/internal/pod"
)

// newPod is what the sample pods of `sluice up` run; nobody types it at a terminal.
func newPod() *cobra.Command {
	cmd := &cobra.Command{Use: "pod", Short: "What the sample pods of `sluice up` run", Hidden: true}
	cmd.AddCommand(&cobra.Command{
		Use:   "wait",
		Short: "Hold a pod's namespaces until told to end",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return pod.Wait(cmd.Context()) },
	})
	var port uint16
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Tell who asks who answered, over HTTP",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return pod.Serve(cmd.Context(), port) },
	}
	serve.Flags().Uint16Var(&port, "port", 8080, "port to listen on")
	var timeout time.Duration
	get := &cobra.Command{
		Use:   "get ADDRESS:PORT",
		Short: "Ask such a server",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return pod.Get(cmd.Context(), args[0], timeout, cmd.OutOrStdout())
		},
	}
	get.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	cmd.AddCommand(serve, get)
	return cmd
}
