package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluicegw/sluice/k8s/join"
)

// joinTimeout is how long a cluster waits for its certificate.
const joinTimeout = 2 * time.Minute

func newInvite() *cobra.Command {
	var kubeconfig string
	i := join.Invitation{}
	cmd := &cobra.Command{
		Use:   "invite NAME",
		Short: "Let a cluster join below this one: prints a secret for sluice join",
		Long: `Let a cluster of that name join below the one that kubectl would talk to. What is
printed is a secret: whoever has it can become that cluster until it is used or
its time is over.

  sluice invite oslo >oslo.invitation     # here
  sluice join oslo oslo.invitation        # there`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			i.Name = args[0]
			config, err := adminConfig(kubeconfig)
			if err != nil {
				return err
			}
			invitation, err := join.Invite(cmd.Context(), config, i)
			if err != nil {
				return err
			}
			text, err := join.Write(invitation)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "the parent's kubeconfig (default: what kubectl uses)")
	cmd.Flags().StringVar(&i.Server, "server", "", "URL by which the cluster reaches this API server, if it is another one")
	cmd.Flags().DurationVar(&i.TTL, "ttl", 15*time.Minute, "how long the invitation is good, 10m to 24h")
	cmd.Flags().BoolVar(&i.Again, "again", false, "the cluster has joined before, and lost its key")
	return cmd
}

func newJoin() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "join NAME INVITATION",
		Short: "Join a parent cluster, with a file that sluice invite printed",
		Long: `Join a parent cluster: make a key, have it signed there, and write a kubeconfig for
the agent (parent.kubeconfig in its configuration). The agent renews the certificate.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			invitation, err := readKubeconfig(args[1])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), joinTimeout)
			defer cancel()
			kubeconfig, err := join.Join(ctx, invitation, args[0], folder)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s joined; its agent reaches the parent with %s\n", args[0], kubeconfig)
			return err
		},
	}
	cmd.Flags().StringVar(&folder, "dir", "/etc/sluice/parent", "folder for key, certificate and kubeconfig")
	return cmd
}

// adminConfig is what kubectl would use.
func adminConfig(kubeconfig string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
}
