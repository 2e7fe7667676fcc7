package kubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// bed is two nodes on one switch that know the way to each other's pods.
type bed struct{ nodes []*netnstest.Host }

func nodeAddrs(i int) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.168.70.%d", 10+i)), netip.MustParseAddr(fmt.Sprintf("fd70::%d", 10+i))}
}

func podPrefixes(i int) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.70.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd71:%d::/64", i))}
}

func newBed(s *netnstest.Scope, nodes int) bed {
	var b bed
	lan := s.NewSwitch("lan")
	for i := range nodes {
		node := s.NewRouter(fmt.Sprint("node", i))
		a := nodeAddrs(i)
		lan.Plug(netnstest.End{Host: node, Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(a[0], 24), netip.PrefixFrom(a[1], 64)}})
		b.nodes = append(b.nodes, node)
	}
	for i, node := range b.nodes {
		for other := range b.nodes {
			if other != i {
				for family, prefix := range podPrefixes(other) {
					node.Route(prefix, nodeAddrs(other)[family])
				}
			}
		}
	}
	return b
}

// cluster starts a cluster with all nodes, the control plane being on the first.
func (b bed) cluster(ctx context.Context, name, binary string) (*Cluster, error) {
	c, err := Open(ctx, Options{Name: name, Controllers: true, Host: b.nodes[0], Address: nodeAddrs(0)[0]})
	if err != nil {
		return nil, err
	}
	for i, host := range b.nodes {
		_, err = c.AddNode(ctx, NodeOptions{
			Host: host, Addresses: nodeAddrs(i), PodPrefixes: podPrefixes(i), Labels: map[string]string{"real": "yes"},
			Images: []Image{
				{Name: "sluice.test/wait:1", Binary: binary, Entrypoint: []string{"pod", "wait"}},
				{Name: "sluice.test/hello:1", Binary: binary, Entrypoint: []string{"pod"}},
			},
			Sandbox: "sluice.test/wait:1",
		})
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

const helloPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      nodeSelector: {real: "yes"}
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: hello}}}]
      terminationGracePeriodSeconds: 1
      containers:
      - {name: hello, image: "sluice.test/hello:1", imagePullPolicy: Never, args: [serve], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}
`

func TestRealNodes(t *testing.T) {
	RequireNodes(t)
	binary := testenv.Sluice(t, t.TempDir())
	before := footprint(t, "")
	var dir string
	t.Run("run pods", func(t *testing.T) { realNodes(t, binary, &dir) })
	if err := leftSince(before, footprint(t, dir)); err != nil {
		t.Error(err)
	}
}

func leftSince(before, after map[string]bool) error {
	var left []error
	for _, thing := range slices.Sorted(maps.Keys(after)) {
		if !before[thing] {
			left = append(left, errors.New("left: "+thing))
		}
	}
	return errors.Join(left...)
}

func realNodes(t *testing.T, binary string, dir *string) {
	c, err := newBed(netnstest.New(t), 2).cluster(t.Context(), "real", binary)
	if err != nil {
		t.Fatal(err)
	}
	*dir = filepath.Base(c.dir.path)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.lastLogs())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, c, helloPods, "apply", "-f", "-")
	if out, err := c.Kubectl(t.Context(), "", "rollout", "status", "deployment/hello", "--timeout=60s"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, kubectl(t, c, "", "describe", "pods"))
	}
	var pods []string // by node
	var addrs [][]string
	for i := range 2 {
		node := fmt.Sprint("real-", i)
		out := strings.Fields(kubectl(t, c, "", "get", "pods", "-l", "app=hello", "--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[*].metadata.name} {.items[*].status.podIPs[*].ip}"))
		if len(out) != 3 {
			t.Fatalf("on node %s: %q, want one pod with an address of each family", node, out)
		}
		pods, addrs = append(pods, out[0]), append(addrs, out[1:])
	}
	for i, name := range pods {
		for family, addr := range addrs[i] {
			if prefix := podPrefixes(i)[family]; !prefix.Contains(netip.MustParseAddr(addr)) {
				t.Errorf("address %s is not in %s", addr, prefix)
			}
			t.Run(fmt.Sprintf("the pod at %s is reached from the other node's, by kubectl exec", addr), func(t *testing.T) {
				eventually(t, func(ctx context.Context) error {
					out, err := c.Kubectl(ctx, "", "exec", pods[1-i], "--", "/bin/sluice", "pod", "get", net.JoinHostPort(addr, "8080"))
					if err == nil && !strings.HasPrefix(out, name+" at ") {
						err = fmt.Errorf("answer %q, want one of %s", out, name)
					}
					return err
				})
			})
		}
	}
	t.Run("a pod reaches a service", func(t *testing.T) {
		service := kubectl(t, c, "", "get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
		answered := map[string]bool{}
		eventually(t, func(ctx context.Context) error {
			out, err := c.Kubectl(ctx, "", "exec", pods[0], "--", "/bin/sluice", "pod", "get", service+":80")
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(out, " ")
			answered[name] = true
			if !answered[pods[0]] || !answered[pods[1]] {
				return fmt.Errorf("only %v have answered, want both of %v", answered, pods)
			}
			return nil
		})
	})
	t.Run("a killed container comes back", func(t *testing.T) {
		// Of the pod's only process; nobody may signal an init from within.
		for _, pid := range pidsIn(t, c.nodes[0].cgroup()) {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(text, []byte("serve")) {
				if process, err := os.FindProcess(pid); err == nil {
					process.Kill()
				}
				break
			}
		}
		eventually(t, func(ctx context.Context) error {
			out, err := c.Kubectl(ctx, "", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
			if err == nil && !strings.Contains(out, "1") {
				err = fmt.Errorf("restarts: %s", out)
			}
			return err
		})
		kubectl(t, c, "", "rollout", "status", "deployment/hello", "--timeout=30s")
	})
}

// pidsIn lists the processes below a cgroup.
func pidsIn(t *testing.T, cgroup string) []int {
	t.Helper()
	seen := map[int]bool{}
	for _, dir := range cgroupDirs(cgroup) {
		filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil // just removed
			}
			for _, word := range strings.Fields(string(text)) {
				var pid int
				fmt.Sscan(word, &pid)
				seen[pid] = true
			}
			return nil
		})
	}
	if len(seen) == 0 {
		t.Fatalf("no process in cgroup %s", cgroup)
	}
	return slices.Collect(maps.Keys(seen))
}

// footprint is what a node could leave traces in: folders that all nodes would use if they had no namespaces, and
// whatever names a cluster's folder. Others may run clusters at the same time.
func footprint(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	patterns := []string{
		"/opt/containerd", "/usr/libexec/kubernetes", "/sys/fs/cgroup/*/k8s.io/*", "/sys/fs/cgroup/*/kubepods*", "/run/netns/cni-*", "/run/containerd/*",
		"/var/lib/cni/*", "/var/lib/kubelet/*", "/var/lib/containerd/*", "/var/log/pods/*", "/var/log/containers/*",
	}
	if dir != "" {
		patterns = append(patterns, filepath.Join(os.TempDir(), dir), "/sys/fs/cgroup/*/"+dir, "/sys/fs/cgroup/"+dir)
	}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			found[path] = true
		}
	}
	if dir == "" {
		return found
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found["mount "+line] = true
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(dir)) { // no error: it still runs
			found[fmt.Sprintf("process %s: %q", file, text)] = true
		}
	}
	return found
}

// TestAKilledProcessTakesItsNodesAlong runs itself as a process that starts a node with pods and is killed.
func TestAKilledProcessTakesItsNodesAlong(t *testing.T) {
	RequireNodes(t)
	const variable = "SLUICE_KUBETEST_NODE_VICTIM"
	if binary := os.Getenv(variable); binary != "" {
		c, err := newBed(netnstest.New(t), 1).cluster(t.Context(), "victim", binary)
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, c, helloPods, "apply", "-f", "-")
		kubectl(t, c, "", "rollout", "status", "deployment/hello", "--timeout=60s")
		fmt.Println("up", c.nodes[0].cgroup())
		time.Sleep(time.Hour)
	}
	binary := testenv.Sluice(t, t.TempDir())
	before := footprint(t, "")
	victim := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), variable+"="+binary)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var up, cgroup string
	if _, err := fmt.Fscan(out, &up, &cgroup); err != nil || up != "up" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("the victim did not tell of its cluster: %v: %s %s%s", err, up, cgroup, rest)
	}
	pids := pidsIn(t, cgroup)
	victim.Process.Kill()
	victim.Wait()
	if len(pids) < 4 {
		t.Errorf("%d processes in the pods' cgroups, want at least 4: the test has lost its point", len(pids))
	}
	eventually(t, func(context.Context) error {
		if err := errors.Join(netnstest.Sweep(), Sweep()); err != nil {
			return err
		}
		return leftSince(before, footprint(t, strings.Split(cgroup, "/")[1]))
	})
}
