package main

import (
	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sluicegw/sluice/internal/logging"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
)

// defaultGatewayConfig is where packages put the file.
const defaultGatewayConfig = "/etc/sluice/gateway-agent.yaml"

func newGateway() *cobra.Command {
	var file, format, level string
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Configure the gateway on this machine from Gateway, VPC and Subnet objects",
		Long: `Configure the gateway that runs on this machine from the Gateway, VPC and Subnet
objects in its cluster's API server, over its socket and without a restart, until
SIGTERM or SIGINT. docs/network-objects.md has the configuration file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logging.New(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			o := gatewayagent.Options{Logger: logger}
			if o.Config, err = gatewayagent.ReadConfig(file); err != nil {
				return err
			}
			if o.Own, err = ownAPIServer(o.Config.Kubeconfig); err != nil {
				return err
			}
			ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
			klog.SetSlogLogger(logger)
			return gatewayagent.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultGatewayConfig, "configuration file")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}
