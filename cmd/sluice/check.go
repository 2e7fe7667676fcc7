package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/config"
)

func newCheck() *cobra.Command {
	var printed, asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Validate a configuration file and report every problem",
		Long: `Validate a configuration file and report every problem at once, and warn of what
is allowed but should be meant (encryption: none). "-" reads standard input. Neither the machine nor a running gateway is asked anything.`,
		GroupID: groupLocal,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFile(cmd, args[0])
			if err != nil {
				return err
			}
			c, err := config.Parse(data, args[0])
			if asJSON {
				return writeCheckJSON(cmd.OutOrStdout(), c, err)
			}
			if err != nil {
				return err
			}
			for _, warning := range c.Warnings() {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", args[0], warning)
			}
			if printed {
				text, err := c.Marshal()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: gateway %s at site %s, %s, %s, %s\n", args[0], c.Gateway, c.Site,
				count(len(c.Ports), "port"), count(len(c.VPCs), "VPC"), count(len(c.Peers), "peer"))
			return err
		},
	}
	cmd.Flags().BoolVar(&printed, "print", false, "print the configuration with all defaults")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the problems as JSON")
	cmd.MarkFlagsMutuallyExclusive("print", "json")
	return cmd
}

// readFile reads a file, or standard input for "-".
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name)
}

// problem is a problem of a configuration in JSON.
type problem struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

func writeCheckJSON(w io.Writer, c *config.Config, err error) error {
	result := struct {
		OK       bool      `json:"ok"`
		Problems []problem `json:"problems"`
		Warnings []string  `json:"warnings"`
	}{err == nil, []problem{}, []string{}}
	if err == nil {
		result.Warnings = append(result.Warnings, c.Warnings()...)
	}
	var found *config.Error
	if errors.As(err, &found) {
		for _, p := range found.Problems {
			result.Problems = append(result.Problems, problem(p))
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if failed := e.Encode(result); failed != nil {
		return failed
	}
	if err != nil {
		return errReported
	}
	return nil
}

// count returns "1 port", "2 ports".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
