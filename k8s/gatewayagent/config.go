package gatewayagent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/join"
)

// Config is the configuration file.
type Config struct {
	// Cluster is the name of the cluster: the one that its agent has joined with.
	Cluster string `yaml:"cluster"`
	// Gateway is the name of the cluster's Gateway object.
	Gateway string `yaml:"gateway"`
	// Node is the name of the Node that this runs on, for a Gateway that selects nodes; default: what the variable
	// NODE_NAME of the environment says. Empty, it is none.
	Node string `yaml:"node"`
	// Endpoint is which of its endpoints this machine is; default: the name of the node.
	Endpoint string `yaml:"endpoint"`
	// Kubeconfig of the cluster's API server; default: the ServiceAccount of the pod that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// File is the gateway's own part of its configuration: ports, keys, and VPCs and peers that are no objects. It is not
	// the file that the gateway reads: that one is written when it changes.
	File string `yaml:"file"`
	// Attachment is how the cluster's nodes reach the gateway in every VPC, as in the gateway's configuration, without
	// prefixes; left out, no subnet is at home here.
	Attachment *config.Attachment `yaml:"attachment"`
}

// ReadConfig reads a configuration file, and reports all that is wrong with it.
func ReadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c.Node = cmp.Or(c.Node, os.Getenv("NODE_NAME"))
	c.Endpoint = cmp.Or(c.Endpoint, c.Node)
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	var problems []error
	if c.Cluster == "" {
		problems = append(problems, errors.New("cluster: missing"))
	} else if err := join.CheckName(c.Cluster); err != nil {
		problems = append(problems, fmt.Errorf("cluster: %w", err))
	}
	if c.Gateway == "" {
		problems = append(problems, errors.New("gateway: missing (the name of the Gateway object)"))
	}
	if c.Endpoint == "" {
		problems = append(problems, errors.New("endpoint: missing (the name of this machine in the Gateway object)"))
	}
	if !filepath.IsAbs(c.File) {
		problems = append(problems, fmt.Errorf("file: %q is not an absolute path", c.File))
	}
	if a := c.Attachment; a != nil && len(a.Prefixes)+len(a.Hosts)+len(a.Subnets) > 0 {
		problems = append(problems, errors.New("attachment: leave out prefixes, hosts and subnets: they come from Subnet objects"))
	}
	return errors.Join(problems...)
}

// readFile reads the gateway's own part.
func (c Config) readFile() (*config.Config, error) {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, err
	}
	return config.Parse(text, c.File)
}
