package kubetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicegw/sluice/internal/child"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// NodeTools are the programs that a node needs beside kubebox. The CNI plugins
// are looked for where Debian and others have them.
var NodeTools = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft"}

var pluginDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// plugins that the nodes' network is made with.
var plugins = []string{"bridge", "host-local", "loopback"}

// RequireNodes ends the test unless this machine can run nodes.
func RequireNodes(t testenv.TB) {
	t.Helper()
	Require(t)
	testenv.RequireNamespaces(t)
	if err := Nodes(); err != nil {
		testenv.Missing(t, "%v", err)
	}
}

// Nodes reports why this machine cannot run nodes; nil if it can.
func Nodes() error {
	for _, tool := range NodeTools {
		if _, err := testenv.LookTool(tool); err != nil {
			return fmt.Errorf("nodes need %s (internal/testenv/setup.sh kube installs it)", tool)
		}
	}
	_, err := pluginDir()
	return err
}

func pluginDir() (string, error) {
	for _, dir := range pluginDirs {
		missing := false
		for _, plugin := range plugins {
			_, err := os.Stat(filepath.Join(dir, plugin))
			missing = missing || err != nil
		}
		if !missing {
			return dir, nil
		}
	}
	return "", fmt.Errorf("nodes need the CNI plugins %s in one of %s (internal/testenv/setup.sh kube installs them)",
		strings.Join(plugins, ", "), strings.Join(pluginDirs, ", "))
}

// NodeOptions describe a node.
type NodeOptions struct {
	// Name; default the cluster's name and a number.
	Name string
	// Host is the network namespace that the node is; default that of the cluster. It has to forward, and to reach the
	// cluster's Address.
	Host *netnstest.Host
	// Addresses of the node, an IPv4 one first; a second may be IPv6.
	Addresses []netip.Addr
	// PodPrefixes are where its pods get their addresses from, one of each family that they are to have.
	PodPrefixes []netip.Prefix
	// PodMTU of the pods' links; default 1500.
	PodMTU int
	// Labels of the node.
	Labels map[string]string
	// Images that pods may use, with imagePullPolicy Never or IfNotPresent; there is no registry.
	Images []Image
	// Sandbox is the name of the image, one of Images, that holds a pod's namespaces: it has to wait to be killed.
	Sandbox string
}

// Node is a real node: containerd and runc, a kubelet, kube-proxy with nftables,
// and the bridge CNI plugin, in a network namespace of the test's, and in PID and
// mount namespaces of its own. It keeps all it has in memory, writes to nothing
// of the machine but its cgroups, which Close removes, and its logs.
type Node struct {
	o    NodeOptions
	c    *Cluster
	init *nodeInit
	dir  string
}

// AddNode starts a node and returns when it is ready. It needs root, and a
// cluster with a Host.
func (c *Cluster) AddNode(ctx context.Context, o NodeOptions) (_ *Node, err error) {
	o.Name = cmp.Or(o.Name, fmt.Sprintf("%s-%d", c.o.Name, len(c.nodes)))
	o.PodMTU = cmp.Or(o.PodMTU, 1500)
	if o.Host == nil {
		o.Host = c.o.Host
	}
	if o.Host == nil || len(o.Addresses) == 0 || len(o.PodPrefixes) == 0 {
		return nil, fmt.Errorf("start node %s: it needs a host, an address and prefixes for its pods", o.Name)
	}
	if err := Nodes(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	n := &Node{o: o, c: c, dir: c.path("node-" + o.Name)}
	if err := os.MkdirAll(n.path("cni"), 0o755); err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start node %s: %w", o.Name, err), n.Close())
		}
	}()
	for _, step := range []func(context.Context) error{n.boot, n.startContainerd, n.importImages, n.startKubelet, n.startProxy} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Name of the node.
func (n *Node) Name() string { return n.o.Name }

func (n *Node) path(name string) string { return filepath.Join(n.dir, name) }

// kernelSettings are those of the kernel that a kubelet sets, and what it sets them
// to. They are of the machine, not of a namespace: the node sees them as set already.
var kernelSettings = map[string]string{
	"/proc/sys/vm/overcommit_memory":      "1\n",
	"/proc/sys/vm/panic_on_oom":           "0\n",
	"/proc/sys/kernel/panic":              "10\n",
	"/proc/sys/kernel/panic_on_oops":      "1\n",
	"/proc/sys/kernel/keys/root_maxkeys":  "1000000\n",
	"/proc/sys/kernel/keys/root_maxbytes": "25000000\n",
}

// boot makes the namespaces, and folders that are the node's own. Settings of
// the kernel that are not of a namespace are out of its reach.
func (n *Node) boot(context.Context) error {
	if err := makeCgroups(n.cgroup()); err != nil {
		return err
	}
	var err error
	if n.init, err = startInit(n.o.Host, n.c.box, n.path("init.log")); err != nil {
		return err
	}
	return n.init.ask(initRequest{Setup: &initSetup{
		Private:  []string{"/run", "/var/lib", "/var/log"},
		Keep:     []string{n.dir},
		ReadOnly: []string{"/proc/sys/kernel", "/proc/sys/vm"},
		Folders:  []string{"/run/netns", "/run/lock", "/var/log/pods", "/var/log/containers"},
		Files:    kernelSettings,
	}})
}

// start starts a program in the node, and waits until ready says so.
func (n *Node) start(ctx context.Context, name string, args []string, ready func(context.Context) error) error {
	path := os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin"
	log := n.path(name + ".log")
	if err := n.init.ask(initRequest{Start: &initStart{Name: name, Args: args, Env: []string{"PATH=" + path}, Log: log}}); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w\n%s", name, ctx.Err(), err, lastLog(log))
		case a := <-n.init.ended:
			return fmt.Errorf("%s ended: %s\n%s", a.Ended, a.Exit, lastLog(n.path(a.Ended+".log")))
		case <-time.After(pollEvery):
		}
	}
}

// Close ends the node and everything in it, at once, and removes its cgroups.
// It may be called twice.
func (n *Node) Close() error {
	if n.init != nil {
		n.init.close()
		n.init = nil
	}
	return removeCgroups(n.cgroup())
}

// cgroup is the parent of all its pods' cgroups.
func (n *Node) cgroup() string {
	return "/" + filepath.Base(n.c.dir.path) + "/" + n.o.Name
}

func (n *Node) ctr(ctx context.Context, args ...string) error {
	_, err := child.Command(ctx, "ctr", append([]string{"--address", n.path("containerd.sock"), "--namespace", "k8s.io"}, args...)...).Output()
	return err
}

func (n *Node) importImages(ctx context.Context) error {
	archive := n.path("images.tar")
	if err := writeImages(archive, n.o.Images); err != nil {
		return err
	}
	if err := n.ctr(ctx, "images", "import", archive); err != nil {
		return err
	}
	return os.Remove(archive)
}
