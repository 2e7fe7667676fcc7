package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"text/template"

	"github.com/sluicegw/sluice/internal/testenv"
)

// Files of a node. Its folders are the usual ones, in memory (see boot).

var containerdConfig = template.Must(template.New("containerd.toml").Parse(`version = 2
[grpc]
  address = "{{.Socket}}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Sandbox}}"
  # A machine may lack CAP_SYS_RESOURCE, without which nobody may lower a score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{{.Runc}}"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.Plugins}}"
    conf_dir = "{{.CNI}}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
`))

func (n *Node) startContainerd(ctx context.Context) error {
	containerd, err := testenv.LookTool("containerd")
	if err != nil {
		return err
	}
	runc, err := testenv.LookTool("runc")
	if err != nil {
		return err
	}
	plugins, err := pluginDir()
	if err != nil {
		return err
	}
	var config bytes.Buffer
	err = containerdConfig.Execute(&config, map[string]string{
		"Socket": n.path("containerd.sock"), "Sandbox": n.o.Sandbox, "Runc": runc, "Plugins": plugins, "CNI": n.path("cni"),
	})
	if err != nil {
		return err
	}
	network, err := json.Marshal(n.network())
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"containerd.toml": config.Bytes(), "cni/10-bridge.conflist": network} {
		if err := os.WriteFile(n.path(name), text, 0o644); err != nil {
			return err
		}
	}
	return n.start(ctx, "containerd", []string{containerd, "--config", n.path("containerd.toml")}, func(ctx context.Context) error {
		conn, err := net.Dial("unix", n.path("containerd.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// network is the pods' network on this node: a bridge, addresses from the node's
// prefixes, no translation.
func (n *Node) network() any {
	type m map[string]any
	var ranges [][]m
	var routes []m
	for _, prefix := range n.o.PodPrefixes {
		ranges = append(ranges, []m{{"subnet": prefix.String()}})
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if prefix.Addr().Is6() {
			everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		routes = append(routes, m{"dst": everywhere.String()})
	}
	return m{"cniVersion": "0.4.0", "name": "pods", "plugins": []m{{
		"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": n.o.PodMTU,
		"ipam": m{"type": "host-local", "ranges": ranges, "routes": routes},
	}}}
}

var kubeletConfig = template.Must(template.New("kubelet.yaml").Parse(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: "{{.Address}}"
containerRuntimeEndpoint: unix://{{.Socket}}
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: {{.CA}}}, webhook: {enabled: true}}
authorization: {mode: Webhook}
# Everything of the node's pods is below one cgroup, which can be removed.
cgroupDriver: cgroupfs
cgroupRoot: {{.Cgroup}}
cgroupsPerQOS: true
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: {{.Resolv}}
clusterDomain: cluster.local
# The machine's disk and memory are not the node's to be worried about.
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
`))

func (n *Node) startKubelet(ctx context.Context) error {
	kubeconfig := n.path("kubelet.kubeconfig")
	if err := n.c.writeKubeconfig(kubeconfig, n.c.InsideURL(), "system:node:"+n.o.Name, []string{"system:nodes"}); err != nil {
		return err
	}
	var config bytes.Buffer
	err := kubeletConfig.Execute(&config, map[string]string{
		"Address": n.o.Addresses[0].String(), "Socket": n.path("containerd.sock"), "CA": n.path("ca.crt"),
		"Cgroup": n.cgroup(), "Resolv": n.path("resolv.conf"),
	})
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"kubelet.yaml": config.Bytes(), "ca.crt": n.c.CA(),
		"resolv.conf": nil, // there are no names to resolve
	} {
		if err := os.WriteFile(n.path(name), text, 0o644); err != nil {
			return err
		}
	}
	var addresses []string
	for _, a := range n.o.Addresses {
		addresses = append(addresses, a.String())
	}
	args := []string{
		n.c.box, "kubelet", "--config", n.path("kubelet.yaml"), "--kubeconfig", kubeconfig,
		"--hostname-override", n.o.Name, "--node-ip", strings.Join(addresses, ","),
	}
	for name, value := range n.o.Labels {
		args = append(args, "--node-labels", name+"="+value)
	}
	return n.start(ctx, "kubelet", args, func(ctx context.Context) error { return n.c.nodeReady(ctx, n.o.Name) })
}

// startProxy gives the pods Services. The limits on connections are the
// machine's, not to be touched.
func (n *Node) startProxy(ctx context.Context) error {
	kubeconfig := n.path("kube-proxy.kubeconfig")
	if err := n.c.writeKubeconfig(kubeconfig, n.c.InsideURL(), "system:kube-proxy", nil); err != nil {
		return err
	}
	health := netip.AddrPortFrom(loopback, 10256)
	return n.start(ctx, "kube-proxy", []string{
		n.c.box, "kube-proxy", "--kubeconfig", kubeconfig, "--hostname-override", n.o.Name,
		"--proxy-mode", "nftables", "--cluster-cidr", n.o.PodPrefixes[0].String(),
		"--healthz-bind-address", health.String(), "--metrics-bind-address", "",
		"--conntrack-max-per-core", "0", "--conntrack-min", "0",
		"--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s",
	}, func(ctx context.Context) error {
		conn, err := dialFrom(n.o.Host)(ctx, "tcp", health.String())
		if err != nil {
			return fmt.Errorf("its health is not known: %w", err)
		}
		return conn.Close()
	})
}
