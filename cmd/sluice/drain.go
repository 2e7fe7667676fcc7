package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
)

func newDrain() *cobra.Command {
	var c client
	var leave bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Ask everybody to send through other gateways, and wait until nothing flows",
		Long: `Ask peers and the site's routers to send through the other gateways of this site,
go on forwarding what still comes, and wait until nothing does: then the gateway
can be stopped without losing a packet. sluice undrain ends it, and so does a restart.`,
		GroupID: groupChange,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			gateway, begun := c.dial(), time.Now()
			if _, err := gateway.Drain(cmd.Context(), &sluicev1.DrainRequest{}); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			drain, err := drained(ctx, gateway, leave)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), drain, func(w io.Writer) error {
				text := "drain: everybody is asked to send elsewhere; sluice status says how far it is"
				if drain.GetPhase() == sluicev1.DrainPhase_DRAIN_PHASE_SILENT {
					text = fmt.Sprintf("drained in %s: nothing flows any more, the gateway can be stopped", api.Age(time.Since(begun)))
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&leave, "no-wait", false, "do not wait until nothing flows")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up waiting after this time; the drain goes on")
	return cmd
}

// drained waits until nothing flows, unless it is told to leave at once.
func drained(ctx context.Context, gateway sluicev1connect.GatewayServiceClient, leave bool) (*sluicev1.Drain, error) {
	var last *sluicev1.Drain
	for {
		s, err := gateway.Status(ctx, &sluicev1.StatusRequest{})
		switch {
		case ctx.Err() != nil:
			return nil, stillFlows(last)
		case err != nil:
			return nil, err
		}
		if last = s.GetDrain(); leave || last.GetPhase() == sluicev1.DrainPhase_DRAIN_PHASE_SILENT {
			return last, nil
		}
		if last == nil {
			return nil, fmt.Errorf("somebody has ended the drain")
		}
		select {
		case <-ctx.Done():
			return nil, stillFlows(last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func stillFlows(d *sluicev1.Drain) error {
	return fmt.Errorf("still %.0f packets per second; is there another gateway that announces the same prefixes, and do all peers probe this one? The drain goes on", d.GetPacketsPerSecond())
}

func newUndrain() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:     "undrain",
		Short:   "End a drain: the gateway takes traffic again",
		GroupID: groupChange,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.dial().Undrain(cmd.Context(), &sluicev1.UndrainRequest{})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "the gateway takes traffic again")
				return err
			})
		},
	}
	c.flags(cmd)
	return cmd
}
