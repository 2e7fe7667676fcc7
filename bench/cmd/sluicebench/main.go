// Sluicebench measures Sluice against its peers, writes reports, and is the regression
// gate of CI.
//
//	go run ./bench/cmd/sluicebench run [--quick] [--only memory,flood,tcp,latency,rates,scale,recovery] [--nic SIX] [--force]
//	go run ./bench/cmd/sluicebench report bench/results/2026-11-21-....json
//	go run ./bench/cmd/sluicebench readme
//	go run ./bench/cmd/sluicebench gate [--update]
//
// It runs in the root of the repository. All but memory, report, readme and gate need root: they build
// network namespaces, and remove them at the end, also after an interrupt.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "sluicebench", Short: "Measure Sluice against its peers", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(runCommand(), reportCommand(), readmeCommand(), gateCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sluicebench:", err)
		stop()
		os.Exit(1)
	}
}
