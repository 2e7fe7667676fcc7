package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/xdp"
)

func newCleanup() *cobra.Command {
	var file, dir, socket string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Detach what a gateway that has ended left forwarding",
		Long: `Detach what a gateway that has ended left forwarding: with peers of encryption none the XDP
program stays attached, so that traffic with them goes on while the gateway restarts. A
gateway that runs is left alone.`,
		GroupID: groupLocal,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" || socket == "" {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				c, err := config.Parse(data, file)
				if err != nil {
					return err
				}
				if dir == "" {
					dir = c.Direct.PinDir
				}
				if socket == "" {
					socket = c.API.Socket
				}
			}
			if runs(cmd.Context(), socket) {
				return fmt.Errorf("clean up %s: a gateway runs and answers at %s: stop it first", dir, socket)
			}
			if err := xdp.RemovePins(dir); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "nothing is left in %s\n", dir)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file of the gateway")
	cmd.Flags().StringVar(&dir, "pin-dir", "", "clean this up instead of the configuration's direct.pinDir")
	cmd.Flags().StringVar(&socket, "socket", "", "where a gateway would answer, instead of the configuration's api.socket")
	return cmd
}

// runs says whether a gateway answers at a socket.
func runs(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := api.Dial(socket).Status(ctx, &sluicev1.StatusRequest{})
	return err == nil
}
