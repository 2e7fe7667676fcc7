package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// kubernetesProgram does what needs the Kubernetes client, which would add 16 MiB and
// a tenth of a second to every other command and to the gateway.
const kubernetesProgram = "sluice-agent"

// newKubernetes returns the commands that another program does.
func newKubernetes() []*cobra.Command {
	return []*cobra.Command{
		passOn("agent", groupLocal, "Run a Kubernetes cluster's agent, or print what a cluster needs (agent run, agent manifests)"),
		passOn("node", groupLocal, "Bring the pods of a Kubernetes node to their gateway, or clean up after it (node cleanup)", "node"),
		passOn("join", groupLocal, "Join a parent cluster, with a file that sluice invite printed", "join"),
		passOn("invite", groupChange, "Let a Kubernetes cluster join below this one", "invite"),
	}
}

func passOn(name, group, short string, before ...string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, GroupID: group,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			program, err := findBeside(kubernetesProgram)
			if err != nil {
				return fmt.Errorf("sluice %s: %w (make agent builds it)", name, err)
			}
			argv := append(append([]string{kubernetesProgram}, before...), args...)
			return fmt.Errorf("run %s: %w", program, unix.Exec(program, argv, os.Environ()))
		},
	}
}

// findBeside finds a program in the folder of this one, or in the PATH.
func findBeside(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return exec.LookPath(name)
}
