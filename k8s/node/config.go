package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/sluicegw/sluice/k8s/join"
)

// What is taken when the configuration does not say. The priority is before the main table (32766) and before the rules of network
// plugins that have any (the AWS VPC plugin's begin at 512), and after the local table (0). No known plugin has the table.
const (
	defaultTable    = 8451
	defaultPriority = 300
	defaultUDPPort  = 4789 // IANA: vxlan
)

// minMTU is what IPv6 needs (RFC 8200 section 5).
const minMTU = 1280

// Config is the configuration file.
type Config struct {
	// Cluster is the name of the cluster: the one that its agent has joined with.
	Cluster string `yaml:"cluster"`
	// Gateway is the name of the cluster's Gateway object.
	Gateway string `yaml:"gateway"`
	// Node is the name of this node; default: the environment variable NODE_NAME.
	Node string `yaml:"node"`
	// Kubeconfig of the cluster's API server; default: the ServiceAccount of the pod that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// Table is the number of the routing table. Nobody else may use it. Default 8451.
	Table int `yaml:"table"`
	// Priority of the rule that leads there. Default 300.
	Priority int `yaml:"priority"`
	// UDPPort of the overlay, as the gateway's attachment has it. Default 4789.
	UDPPort uint16 `yaml:"udpPort"`
	// MTU is the largest packet to other clusters, in bytes; default: what the link to the gateway carries.
	MTU int `yaml:"mtu"`
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
	c.Table, c.Priority, c.UDPPort = cmp.Or(c.Table, defaultTable), cmp.Or(c.Priority, defaultPriority), cmp.Or(c.UDPPort, defaultUDPPort)
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
	if c.Node == "" {
		problems = append(problems, errors.New("node: missing, and NODE_NAME is not set"))
	}
	if c.Table < 1 || c.Table > 1<<31-1 || c.Table >= 253 && c.Table <= 255 {
		problems = append(problems, fmt.Errorf("table: %d is not 1 to 2147483647 without 253 to 255, which are the system's", c.Table))
	}
	if c.Priority < 1 || c.Priority > 32765 {
		problems = append(problems, fmt.Errorf("priority: %d is not 1 to 32765, before the main table", c.Priority))
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > 65535) {
		problems = append(problems, fmt.Errorf("mtu: %d is not %d to 65535", c.MTU, minMTU))
	}
	return errors.Join(problems...)
}
