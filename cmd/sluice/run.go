package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/gateway"
	"github.com/sluicegw/sluice/internal/logging"
)

// defaultConfig is where the systemd unit and the packages put the file.
const defaultConfig = "/etc/sluice/sluice.yaml"

func newRun() *cobra.Command {
	var file, socket, format, level string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run the gateway until SIGTERM or SIGINT, which detach everything, unless there are
peers with encryption none: then the XDP program goes on forwarding (see cleanup).
SIGHUP reads the configuration file again; only what changed is touched.`,
		GroupID: groupLocal,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			hangup := make(chan os.Signal, 1) // before New, which a SIGHUP would otherwise end half-way
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			g, err := gateway.New(gateway.Options{ConfigPath: file, Socket: socket, Version: buildVersion(), Logger: logger})
			if err != nil {
				return err
			}
			return runGateway(cmd.Context(), g, hangup, logger)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().StringVar(&socket, "socket", "", "listen here instead of the configuration's api.socket")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// runGateway runs the gateway until ctx is done, and reloads it on SIGHUP.
func runGateway(ctx context.Context, g *gateway.Gateway, hangup <-chan os.Signal, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		defer cancel()
		return g.Run(ctx)
	})
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangup:
				// A file with problems is no error here: the gateway logs them.
				if _, err := g.Reload(ctx, &sluicev1.ReloadRequest{}); err != nil {
					logger.Error("reload configuration", "error", err)
				}
			}
		}
	})
	return group.Wait()
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	logger, err := logging.New(w, format, level)
	if err != nil {
		return nil, usageError{err}
	}
	return logger, nil
}
