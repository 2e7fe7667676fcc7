// Command sluice-agent is Sluice's part in a Kubernetes cluster: it runs the
// cluster's agent, and lets clusters join a tree. It is a program of its own so that
// the gateway need not carry the Kubernetes client; `sluice agent`, `sluice invite`
// and `sluice join` call it.
//
// Exit status: 0 done, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile: -ldflags "-X main.version=...".
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func execute(ctx context.Context, args []string) int {
	started := false // the arguments were understood, and the command runs
	root := &cobra.Command{
		Use:              "sluice-agent",
		Short:            "Sluice in a Kubernetes cluster: Missions, reports, joining",
		SilenceErrors:    true,
		SilenceUsage:     true,
		Version:          buildVersion(),
		PersistentPreRun: func(*cobra.Command, []string) { started = true },
	}
	root.SetHelpCommand(&cobra.Command{Hidden: true}) // --help is enough
	root.AddCommand(newRun(), newGateway(), newNode(), newManifests(), newInvite(), newJoin())
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case !started:
		fmt.Fprintf(os.Stderr, "sluice-agent: %s (see `%s --help`)\n", strings.Join(strings.Fields(err.Error()), " "), cmd.CommandPath())
		return 2
	}
	fmt.Fprintf(os.Stderr, "sluice-agent: %v\n", err)
	return 1
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
