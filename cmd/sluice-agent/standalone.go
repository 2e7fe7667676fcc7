package main

import (
	"cmp"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// runStandalone runs the agent of a site without an API server, and that of its
// gateway if there is one: both work on the folder, which one process has.
func runStandalone(ctx context.Context, c agent.Config, o agent.Options) error {
	var gateway *gatewayagent.Config
	if c.Gateway != "" {
		read, err := gatewayagent.ReadConfig(c.Gateway)
		switch {
		case err != nil:
			return err
		case read.Kubeconfig != "":
			return fmt.Errorf("%s: kubeconfig: a standalone site has no API server", c.Gateway)
		case read.Cluster != c.Name:
			return fmt.Errorf("%s: cluster: %q is not this site, which is %q", c.Gateway, read.Cluster, c.Name)
		}
		gateway = &read
	}
	site, err := standalone.Open(standalone.Options{Dir: cmp.Or(c.Folder, agent.DefaultFolder), Logger: o.Logger})
	if err != nil {
		return err
	}
	defer site.Close()
	o.Standalone = site
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.Run(ctx) })
	if gateway != nil {
		group.Go(func() error {
			site.WaitWhole(ctx) // with half of the objects the gateway would lose the other half
			return gatewayagent.Run(ctx, gatewayagent.Options{Config: *gateway, Own: site.Config(), Logger: o.Logger})
		})
	}
	return group.Wait()
}
