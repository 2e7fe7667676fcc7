package main

import (
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sluicegw/sluice/internal/logging"
	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/join"
	"github.com/sluicegw/sluice/k8s/manifests"
)

// defaultConfig is where packages put the file.
const defaultConfig = "/etc/sluice/agent.yaml"

func newRun() *cobra.Command {
	var file, format, level string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a cluster's agent: Missions from the parent, reports to it",
		Long: `Run the agent of a Kubernetes cluster, or of a site without one (flavour:
standalone), until SIGTERM or SIGINT. It dials the parent's API server, brings
Missions into this cluster and reports what became of them. At the root of the
tree, which has no parent, it only gathers reports.
docs/missions.md has the configuration file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logging.New(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			c, err := agent.ReadConfig(file)
			if err != nil {
				return err
			}
			o, err := agentOptions(c, file, logger)
			if err != nil {
				return err
			}
			ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
			klog.SetSlogLogger(logger)
			if c.Flavour == agent.FlavourStandalone {
				return runStandalone(cmd.Context(), c, o)
			}
			a, err := agent.New(o)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// agentOptions reads the files that the agent's configuration names; file is its own.
func agentOptions(c agent.Config, file string, logger *slog.Logger) (o agent.Options, err error) {
	o = agent.Options{
		Name: c.Name, Labels: c.Labels, Distro: c.Distro, Heartbeat: c.Heartbeat.Duration, Version: buildVersion(), Logger: logger,
	}
	if c.Flavour != agent.FlavourStandalone {
		if o.Own, err = ownAPIServer(c.Kubeconfig); err != nil {
			return agent.Options{}, err
		}
	}
	if c.Commands != nil {
		if o.Commands, err = command.New(*c.Commands, logger); err != nil {
			return agent.Options{}, fmt.Errorf("%s: commands: %w", file, err)
		}
	}
	if c.Parent != nil {
		if o.Parent, err = readKubeconfig(c.Parent.Kubeconfig); err != nil {
			return agent.Options{}, err
		}
		if join.Renews(o.Parent) {
			o.Certificate = o.Parent.CertFile
		}
	}
	return o, nil
}

// ownAPIServer is how this cluster's API server is reached; without a kubeconfig, as a pod of it.
func ownAPIServer(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return readKubeconfig(kubeconfig)
	}
	c, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("this cluster's API server (kubeconfig is not set): %w", err)
	}
	return c, nil
}

func readKubeconfig(file string) (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	return c, nil
}

func newManifests() *cobra.Command {
	return &cobra.Command{
		Use:   "manifests",
		Short: "Print what a cluster needs: kinds and permissions, for kubectl apply",
		Long: `Print what a cluster needs before an agent runs in it: the definitions of
Sluice's kinds, and the roles of the agent and of children.

  sluice agent manifests | kubectl apply --server-side -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := manifests.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
