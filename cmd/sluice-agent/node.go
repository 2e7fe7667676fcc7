package main

import (
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sluicegw/sluice/internal/logging"
	"github.com/sluicegw/sluice/k8s/node"
)

// defaultNodeConfig is where the DaemonSet puts the file.
const defaultNodeConfig = "/etc/sluice/node.yaml"

func newNode() *cobra.Command {
	var file, format, level string
	var cleanup bool
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Bring the pods of this Kubernetes node to their cluster's gateway",
		Long: `Bring what the pods of this Kubernetes node send to other clusters to the gateway,
until SIGTERM or SIGINT: with VXLAN, a routing table and a rule of its own, and without
translation of their addresses. What was set up stays and goes on forwarding, unless
--cleanup is given. docs/nodes.md has the configuration file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logging.New(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			o, err := nodeOptions(file, logger)
			if err != nil {
				return err
			}
			o.Cleanup = cleanup
			ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
			klog.SetSlogLogger(logger)
			return node.Run(cmd.Context(), o)
		},
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", defaultNodeConfig, "configuration file")
	cmd.Flags().BoolVar(&cleanup, "cleanup", false, "remove everything when stopped")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.AddCommand(&cobra.Command{
		Use:   "cleanup",
		Short: "Remove what was set up on this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := node.ReadConfig(file)
			if err != nil {
				return err
			}
			changes, err := node.Cleanup(c)
			for _, change := range changes {
				fmt.Fprintln(cmd.OutOrStdout(), change)
			}
			return err
		},
	})
	return cmd
}

// nodeOptions reads the configuration and the files that it names.
func nodeOptions(file string, logger *slog.Logger) (o node.Options, err error) {
	o.Logger = logger
	if o.Config, err = node.ReadConfig(file); err != nil {
		return o, err
	}
	o.Own, err = ownAPIServer(o.Config.Kubeconfig)
	return o, err
}
