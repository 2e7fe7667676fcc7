package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/join"
)

// Config is the agent's configuration file.
type Config struct {
	// Name of this cluster; at the root it may be left out.
	Name string `json:"name"`
	// Flavour of the site: kubernetes (default), or standalone, which has no API server: what the parent says is in Folder.
	Flavour string `json:"flavour"`
	// Folder of a standalone site; default /var/lib/sluice/agent.
	Folder string `json:"folder"`
	// Gateway is the configuration file of `sluice agent gateway`, for the gateway on a standalone site's machine: the agent
	// does that program's work too. Left out, the site has none. Elsewhere run that program.
	Gateway string `json:"gateway"`
	// Kubeconfig of this cluster's API server; default: the ServiceAccount of the pod that the agent runs in.
	Kubeconfig string `json:"kubeconfig"`
	// Parent is the cluster above; none at the root.
	Parent *ParentConfig `json:"parent"`
	// Labels for the placement of Missions. The cluster has kubernetes.io/hostname (its name) and sluice.dev/distro too.
	Labels map[string]string `json:"labels"`
	// Distro is the flavour of Kubernetes; default k8s.
	Distro string `json:"distro"`
	// Heartbeat is how often the parent hears of this cluster without news; default 15s. After three without, the
	// parent calls it disconnected.
	Heartbeat metav1.Duration `json:"heartbeat"`
	// Commands allows Missions to run some; without it, none is run.
	Commands *command.Config `json:"commands"`
}

// ParentConfig is how the parent is reached.
type ParentConfig struct {
	// Kubeconfig of the parent's API server; `sluice join` writes it.
	Kubeconfig string `json:"kubeconfig"`
}

// ReadConfig reads a configuration file, and reports all that is wrong with it.
func ReadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	var problems []error
	switch {
	case c.Name == "" && c.Parent != nil:
		problems = append(problems, errors.New("name: missing (a cluster with a parent needs one)"))
	case c.Name != "":
		if err := join.CheckName(c.Name); err != nil {
			problems = append(problems, fmt.Errorf("name: %w", err))
		}
	}
	problems = append(problems, c.checkFlavour()...)
	if c.Parent != nil && c.Parent.Kubeconfig == "" {
		problems = append(problems, errors.New("parent.kubeconfig: missing"))
	}
	for key, value := range c.Labels {
		for _, text := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
			problems = append(problems, fmt.Errorf("labels: %s: %q: %s", key, value, text))
		}
	}
	for _, text := range validation.IsValidLabelValue(c.Distro) {
		problems = append(problems, fmt.Errorf("distro %q: %s", c.Distro, strings.TrimSpace(text)))
	}
	if d := c.Heartbeat.Duration; d != 0 && (d < time.Second || d > time.Hour) {
		problems = append(problems, fmt.Errorf("heartbeat %v: use 1s to 1h", d))
	}
	if c.Commands != nil {
		if err := c.Commands.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("commands: %w", err))
		}
	}
	return errors.Join(problems...)
}

// Flavours of a site.
const (
	FlavourKubernetes = "kubernetes"
	FlavourStandalone = "standalone"
)

// DefaultFolder is Config.Folder when it is not set.
const DefaultFolder = "/var/lib/sluice/agent"

func (c Config) checkFlavour() (problems []error) {
	switch c.Flavour {
	case "", FlavourKubernetes:
		for field, value := range map[string]string{"folder": c.Folder, "gateway": c.Gateway} {
			if value != "" {
				problems = append(problems, fmt.Errorf("%s: only a site with flavour: standalone has one", field))
			}
		}
	case FlavourStandalone:
		if c.Kubeconfig != "" {
			problems = append(problems, errors.New("kubeconfig: a standalone site has no API server"))
		}
		if c.Parent == nil {
			problems = append(problems, errors.New("parent: missing (a standalone site lives on what its parent says)"))
		}
		for field, value := range map[string]string{"folder": c.Folder, "gateway": c.Gateway} {
			if value != "" && !filepath.IsAbs(value) {
				problems = append(problems, fmt.Errorf("%s %q: use a full path", field, value))
			}
		}
	default:
		problems = append(problems, fmt.Errorf("flavour %q: use %s or %s", c.Flavour, FlavourKubernetes, FlavourStandalone))
	}
	return problems
}
