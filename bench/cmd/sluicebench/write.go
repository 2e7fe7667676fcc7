package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/bench/gate"
	"github.com/sluicegw/sluice/bench/report"
)

const (
	resultsFolder = "bench/results"
	outFolder     = "bench/out" // of trial runs; not committed
	baselineFile  = "bench/gate/baseline.json"
)

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "report FILE.json", Short: "Write Markdown and plots of results again", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := report.Read(args[0])
			if err != nil {
				return err
			}
			_, err = report.Write(filepath.Dir(args[0]), r)
			return err
		},
	}
}

func readmeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "readme", Short: "Put the newest results into README.md, between its markers", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			newest, err := report.Newest(resultsFolder)
			if err != nil {
				return err
			}
			r, err := report.Read(newest)
			if err != nil {
				return err
			}
			text, err := os.ReadFile("README.md")
			if err != nil {
				return err
			}
			next, err := report.Readme(string(text), r)
			if err != nil {
				return fmt.Errorf("README.md: %w", err)
			}
			return os.WriteFile("README.md", []byte(next), 0o644)
		},
	}
}

func gateCommand() *cobra.Command {
	var update bool
	c := &cobra.Command{
		Use: "gate", Short: "Fail if the relay got slower, allocates or calls the kernel more than the baseline allows", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			baseline, err := gate.Committed()
			if err != nil {
				return err
			}
			if !update {
				return gate.Check(cmd.Context(), baseline, cmd.OutOrStdout())
			}
			if baseline, err = gate.Measure(cmd.Context(), baseline); err != nil {
				return err
			}
			text, err := json.MarshalIndent(baseline, "", "  ")
			if err != nil {
				return err
			}
			return os.WriteFile(baselineFile, append(text, '\n'), 0o644)
		},
	}
	c.Flags().BoolVar(&update, "update", false, "measure a new baseline instead (on a quiet machine)")
	return c
}
