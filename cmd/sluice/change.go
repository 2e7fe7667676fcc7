package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
)

func newApply() *cobra.Command {
	var c client
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a configuration into force and keep it",
		Long: `Put a configuration into force and write it to the gateway's configuration file.
Only what changed is touched. If it has any problem, nothing is changed and the
problems are printed. "-" reads standard input.`,
		GroupID: groupChange,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFile(cmd, args[0])
			if err != nil {
				return err
			}
			r, err := c.dial().Apply(cmd.Context(), &sluicev1.ApplyRequest{Config: data, DryRun: dryRun, Name: args[0]})
			if err != nil {
				return err
			}
			err = c.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				return writeChanges(w, args[0], r.GetProblems(), r.GetChanges(), r.GetConfig(), dryRun)
			})
			return reported(err, r.GetProblems())
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only say what would change")
	return cmd
}

func newReload() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:     "reload",
		Short:   "Read the gateway's configuration file again",
		Long:    "Read the gateway's configuration file again, as SIGHUP does, and say what changed.",
		GroupID: groupChange,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.dial().Reload(cmd.Context(), &sluicev1.ReloadRequest{})
			if err != nil {
				return err
			}
			err = c.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				return writeChanges(w, r.GetConfig().GetPath(), r.GetProblems(), r.GetChanges(), r.GetConfig(), false)
			})
			return reported(err, r.GetProblems())
		},
	}
	c.flags(cmd)
	return cmd
}

// reported turns problems that were printed as JSON into the exit status.
func reported(err error, problems []*sluicev1.Problem) error {
	if err == nil && len(problems) > 0 {
		return errReported
	}
	return err
}

// writeChanges says what changed. Problems are an error, which is printed as
// that of `sluice check` is.
func writeChanges(w io.Writer, file string, problems []*sluicev1.Problem, changes []string, revision *sluicev1.ConfigRevision, dryRun bool) error {
	if len(problems) > 0 {
		e := &config.Error{Name: file}
		for _, p := range problems {
			e.Problems = append(e.Problems, config.Problem{Line: int(p.GetLine()), Column: int(p.GetColumn()), Path: p.GetPath(), Message: p.GetMessage()})
		}
		return e
	}
	for _, change := range changes {
		if _, err := fmt.Fprintln(w, change); err != nil {
			return err
		}
	}
	var err error
	switch {
	case len(changes) == 0:
		_, err = fmt.Fprintln(w, "nothing to change")
	case dryRun:
		_, err = fmt.Fprintf(w, "%s, not applied\n", count(len(changes), "change"))
	default:
		_, err = fmt.Fprintf(w, "%s, revision %d in force\n", count(len(changes), "change"), revision.GetRevision())
	}
	return err
}
