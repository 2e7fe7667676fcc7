// Command sluice is the gateway and its command line: `sluice run` is the
// daemon, every other command asks a running one over its unix socket or works on
// files.
//
// Exit status: 0 done, 1 failed, 2 wrong usage or a configuration with problems.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/config"
)

// Exit status of the program.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the command line and returns the exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	started := false // the arguments were understood, and the command runs
	root := newRoot()
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	var problems *config.Error
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitUsage
	case errors.As(err, &problems):
		fmt.Fprintln(errs, problems)
		return exitUsage
	case !started || errors.As(err, &usage):
		text := strings.Join(strings.Fields(err.Error()), " ") // cobra's suggestions are lines
		fmt.Fprintf(errs, "sluice: %s (see `%s --help`)\n", text, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(errs, "sluice: %s\n", message(err))
	return exitFailure
}

// errReported ends a command whose configuration has problems, which it printed.
var errReported = errors.New("the configuration has problems")

// usageError is a command line that no parser of flags could refuse.
type usageError struct{ error }

// message leaves out Connect's code when the gateway said what is wrong.
func message(err error) string {
	var remote *connect.Error
	if errors.As(err, &remote) {
		return remote.Message()
	}
	return err.Error()
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "An edge gateway that joins sites over WireGuard, with XDP and AF_XDP",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion(),
	}
	root.SetVersionTemplate("sluice {{.Version}}\n")
	root.SetHelpCommand(&cobra.Command{Hidden: true}) // --help is enough
	root.AddGroup(
		&cobra.Group{ID: groupRead, Title: "Look:"},
		&cobra.Group{ID: groupChange, Title: "Change:"},
		&cobra.Group{ID: groupLocal, Title: "Run and prepare:"},
	)
	root.AddCommand(
		newStatus(), newPeers(), newVPCs(), newRoutes(), newHosts(), newBGP(), newCluster(), newACL(), newCounters(), newCapture(), newTrace(),
		newApply(), newReload(), newDrain(), newUndrain(),
		newRun(), newCleanup(), newCheck(), newKey(), newDemo(), newBench(), newVersion(), newPod(),
	)
	root.AddCommand(newKubernetes()...)
	return root
}

// Groups of commands in the help text.
const (
	groupRead   = "read"
	groupChange = "change"
	groupLocal  = "local"
)
