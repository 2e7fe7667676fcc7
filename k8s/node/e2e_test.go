package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/internal/gateway"
	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
	"github.com/sluicegw/sluice/k8s/manifests"
	"github.com/sluicegw/sluice/k8s/node"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// These make this test program a gateway or a node's agent, a process of its own in its own namespace.
const (
	runGatewayAs = "SLUICE_TEST_GATEWAY"
	runNodeAs    = "SLUICE_TEST_NODE"
)

// Who the agents are: no administrators.
const (
	gatewayUser = "test-gateway"
	nodeUser    = "test-node"
)

func TestMain(m *testing.M) {
	logger := slog.New(slog.DiscardHandler)
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	klog.SetSlogLogger(logger)
	var err error
	switch {
	case os.Getenv(runGatewayAs) != "":
		err = runGateway(os.Getenv(runGatewayAs))
	case os.Getenv(runNodeAs) != "":
		err = runNode(os.Getenv(runNodeAs))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runGateway(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	g, err := gateway.New(gateway.Options{ConfigPath: path, Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// runNode is `sluice-agent node --cleanup`.
func runNode(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := node.ReadConfig(path)
	if err != nil {
		return err
	}
	own, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	return node.Run(ctx, node.Options{Config: c, Own: own, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Cleanup: true})
}

// cluster is an API server on the LAN of a site, with two gateways and two nodes of one pod each. The nodes have routes
// to each other's pods and masquerade what leaves them, as network plugins do.
type cluster struct {
	*kubetest.Cluster
	t      *testing.T
	scope  *netnstest.Scope
	name   string
	number int
	dir    string
	lan    *netnstest.Switch
	api    *netnstest.Host
	admin  client.Client
	nodes  [2]*machine
}

// machine is a node.
type machine struct {
	host   *netnstest.Host
	name   string
	pod    *netnstest.Host
	addr4  netip.Addr // of the pod
	addr6  netip.Addr
	agent  *netnstest.Cmd
	before string
}

func newCluster(t *testing.T, scope *netnstest.Scope, wan *netnstest.Switch, name string, number int) *cluster {
	c := &cluster{t: t, scope: scope, name: name, number: number, dir: t.TempDir(), lan: scope.NewSwitch("lan" + name), api: scope.NewHost("api" + name)}
	c.lan.Plug(netnstest.End{Host: c.api, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.100/24", number))})
	for i := range c.nodes {
		c.nodes[i] = c.newMachine(i + 1)
	}
	for g := range 2 {
		c.startGateway(wan, g+1)
	}
	return c
}

func (c *cluster) newMachine(i int) *machine {
	n := c.number
	m := &machine{
		name: fmt.Sprintf("%s-%d", c.name, i), host: c.scope.NewRouter(fmt.Sprintf("node%s%d", c.name, i)), pod: c.scope.NewHost(fmt.Sprintf("pod%s%d", c.name, i)),
		addr4: netip.MustParseAddr(fmt.Sprintf("10.%d.%d.10", n, i)), addr6: netip.MustParseAddr(fmt.Sprintf("fd00:%d:%d::10", n, i)),
	}
	other := 3 - i
	c.lan.Plug(netnstest.End{Host: m.host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.%d/24", n, 10+i), fmt.Sprintf("fd20:%d::%d/64", n, 10+i))})
	bridge := m.host.NewBridge("cni0")
	bridge.AddAddr(netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.1/24", n, i)))
	bridge.AddAddr(netip.MustParsePrefix(fmt.Sprintf("fd00:%d:%d::1/64", n, i)))
	c.scope.Connect(
		netnstest.End{Host: m.pod, Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(m.addr4, 24), netip.PrefixFrom(m.addr6, 64)}},
		netnstest.End{Host: m.host, Name: "veth1", Bridge: bridge},
	)
	m.pod.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", n, i)))
	m.pod.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("fd00:%d:%d::1", n, i)))
	m.host.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("172.20.%d.254", n)))
	m.host.Route(netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", n, other)), netip.MustParseAddr(fmt.Sprintf("172.20.%d.%d", n, 10+other)))
	m.host.Route(netip.MustParsePrefix(fmt.Sprintf("fd00:%d:%d::/64", n, other)), netip.MustParseAddr(fmt.Sprintf("fd20:%d::%d", n, 10+other)))
	m.host.Sysctl("net.ipv4.conf.all.rp_filter", "1")
	rules := ""
	for _, f := range []struct{ family, pods, all, group string }{
		{"ip", fmt.Sprintf("10.%d.%d.0/24", n, i), fmt.Sprintf("10.%d.0.0/16", n), "224.0.0.0/4"},
		{"ip6", fmt.Sprintf("fd00:%d:%d::/64", n, i), fmt.Sprintf("fd00:%d::/32", n), "ff00::/8"},
	} {
		// Of bridge (ipMasq) and flannel: what leaves the pods, and what comes to them from others.
		rules += fmt.Sprintf("add table %[1]s cni; add chain %[1]s cni masq { type nat hook postrouting priority srcnat; };"+
			"add rule %[1]s cni masq %[1]s saddr %[2]s %[1]s daddr %[3]s accept; add rule %[1]s cni masq %[1]s saddr %[2]s %[1]s daddr != %[4]s masquerade;"+
			"add rule %[1]s cni masq %[1]s saddr != %[3]s %[1]s daddr %[2]s masquerade;", f.family, f.pods, f.all, f.group)
	}
	m.run(c.t, "nft", rules)
	return m
}

func (m *machine) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := m.host.Command(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s %q: %v: %s", m.name, name, args, err, out)
	}
	return string(out)
}

func (m *machine) everything(t *testing.T) string {
	t.Helper()
	return m.run(t, "sh", "-c", "ip link; ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; nft list ruleset")
}

// startGateway runs a gateway that has neither VPCs nor peers.
func (c *cluster) startGateway(wan *netnstest.Switch, g int) {
	c.t.Helper()
	host, dir := c.scope.NewHost(fmt.Sprintf("gw%s%d", c.name, g)), filepath.Join(c.dir, fmt.Sprint(g))
	c.lan.Plug(netnstest.End{Host: host, Name: "lan0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.%d/24", c.number, g))})
	wan.Plug(netnstest.End{Host: host, Name: "wan0", Addrs: netnstest.Prefixes(c.wanAddr(g) + "/24")})
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), key.WriteFile(filepath.Join(dir, "wg.key"))); err != nil {
		c.t.Fatal(err)
	}
	text := fmt.Sprintf("site: %[1]s\ngateway: %[1]s-%[3]d\nports: [{name: lan0}, {name: wan0}]\nwireguard: {keyFile: %[2]s/wg.key}\napi: {socket: %[2]s/sock}\n", c.name, dir, g)
	for _, name := range []string{"local.yaml", "sluice.yaml"} {
		c.write(filepath.Join(dir, name), text)
	}
	c.start(host, runGatewayAs, filepath.Join(dir, "sluice.yaml"))
}

func (c *cluster) wanAddr(g int) string { return fmt.Sprintf("198.51.100.%d", 10*c.number+g) }

func (c *cluster) write(path, text string) {
	c.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// start runs this program in a host, under wrapper if there is one.
func (c *cluster) start(host *netnstest.Host, as, config string, wrapper ...string) *netnstest.Cmd {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := os.Create(config + ".log")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		log.Close()
		if text, err := os.ReadFile(log.Name()); c.t.Failed() && err == nil {
			c.t.Logf("%s:\n%s", host.Name(), text)
		}
	})
	args := append(wrapper, self)
	cmd := host.Command(context.Background(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), as+"="+config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

func (c *cluster) startAPIServer() (err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	if c.Cluster, err = kubetest.Open(ctx, kubetest.Options{Name: c.name, Host: c.api, Address: netip.MustParseAddr(fmt.Sprintf("172.20.%d.100", c.number))}); err != nil {
		return err
	}
	c.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			c.t.Error(err)
		}
	})
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), rbacv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	if c.admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	objects, err := manifests.Objects()
	if err != nil {
		return err
	}
	for _, u := range objects {
		if err := c.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("admin")); err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	for { // a definition is served a moment after it is there
		err := errors.Join(c.admin.List(ctx, &v1alpha1.GatewayList{}), c.admin.List(ctx, &v1alpha1.VPCList{}), c.admin.List(ctx, &v1alpha1.SubnetList{}))
		if err == nil {
			break
		} else if ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	for role, user := range map[string]string{"sluice:gateway": gatewayUser, "sluice:node": nodeUser} {
		if err := c.admin.Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
		}); err != nil {
			return err
		}
	}
	for i, m := range c.nodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}
		n.Spec.PodCIDRs = []string{fmt.Sprintf("10.%d.%d.0/24", c.number, i+1), fmt.Sprintf("fd00:%d:%d::/64", c.number, i+1)}
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
		if err := c.admin.Create(ctx, n); err != nil {
			return err
		}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.20.%d.%d", c.number, 11+i)}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if err := c.admin.Status().Update(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// startAgents runs `sluice-agent gateway` for each gateway.
func (c *cluster) startAgents() {
	c.t.Helper()
	kubeconfig, err := c.KubeconfigFor(gatewayUser)
	if err != nil {
		c.t.Fatal(err)
	}
	own, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		c.t.Fatal(err)
	}
	for g := 1; g <= 2; g++ {
		file := filepath.Join(c.dir, fmt.Sprint(g), "agent.yaml")
		c.write(file, fmt.Sprintf("cluster: %[1]s\ngateway: gw-%[1]s\nendpoint: %[1]s-%[4]d\nkubeconfig: %[2]s\nfile: %[3]s/%[4]d/local.yaml\nattachment: {type: vxlan, port: lan0}\n", c.name, kubeconfig, c.dir, g))
		config, err := gatewayagent.ReadConfig(file)
		if err != nil {
			c.t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- gatewayagent.Run(ctx, gatewayagent.Options{Config: config, Own: own}) }()
		c.t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				c.t.Error(err)
			}
		})
	}
}

// startNodes runs `sluice-agent node` on each node, with no other capability than the DaemonSet's.
func (c *cluster) startNodes() {
	c.t.Helper()
	kubeconfig, err := c.InsideKubeconfigFor(nodeUser)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range c.nodes {
		soon(c.t, "its links are up", func() error {
			if m.before = m.everything(c.t); strings.Contains(strings.ReplaceAll(m.before, "LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN", ""), "state UNKNOWN") {
				return errors.New(m.before)
			}
			return nil
		})
		file := filepath.Join(c.dir, m.name+".yaml")
		c.write(file, fmt.Sprintf("cluster: %[1]s\ngateway: gw-%[1]s\nnode: %[2]s\nkubeconfig: %[3]s\n", c.name, m.name, kubeconfig))
		const only = "-all,+net_admin"
		m.agent = c.start(m.host, runNodeAs, file, "setpriv", "--bounding-set", only, "--inh-caps", only, "--no-new-privs")
	}
}

func (c *cluster) make(o client.Object, text string) {
	c.t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		c.t.Fatal(err)
	}
	if err := c.admin.Create(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

// gatewayOf is the Gateway of a cluster, for the one that it is written into; keys are given in another one.
func (c *cluster) gatewayOf(active int, keys []string) string {
	text := fmt.Sprintf("metadata: {name: gw-%[1]s}\nspec:\n  cluster: %[1]s\n  exposeType: PublicIP\n  endpoints:\n", c.name)
	for g := 1; g <= 2; g++ {
		priority := 200
		if g == active {
			priority = 100
		}
		text += fmt.Sprintf("  - {name: %s-%d, address: %s, vtep: 172.20.%d.%d, priority: %d", c.name, g, c.wanAddr(g), c.number, g, priority)
		if keys != nil {
			text += ", publicKey: " + keys[g-1]
		}
		text += "}\n"
	}
	return text
}

func (c *cluster) keys() (keys []string, err error) {
	var g v1alpha1.Gateway
	if err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: "gw-" + c.name}, &g); err != nil {
		return nil, err
	}
	if len(g.Status.Endpoints) != len(g.Spec.Endpoints) {
		return nil, fmt.Errorf("who has said its key: %+v", g.Status.Endpoints)
	}
	for _, e := range g.Status.Endpoints { // by name, as in spec
		keys = append(keys, e.PublicKey)
	}
	return keys, nil
}

func soon(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	var err error
	started := time.Now()
	for time.Since(started) < 15*time.Second {
		if err = check(); err == nil {
			return time.Since(started)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("still not: %s: %v", what, err)
	return 0
}

// talk has a pod send so many bytes to another, which sends them back, and wants each to see the other's own address.
func talk(from, to *netnstest.Host, src, dst netip.Addr, size int) error {
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(dst, 0).String())
		return err
	}); err != nil {
		return err
	}
	defer listener.Close()
	saw := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			saw <- err.Error()
			return
		}
		defer conn.Close()
		saw <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
		io.Copy(conn, conn) // the other end says whether all came back
	}()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: src.AsSlice()}}).Dial("tcp", listener.Addr().String())
		return err
	}); err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	sent, got := bytes.Repeat([]byte("sluice!"), size/7), &bytes.Buffer{}
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		wrote <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	_, err := io.Copy(got, conn)
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(sent, got.Bytes()) {
		return fmt.Errorf("%d bytes came back of %d, or others", got.Len(), len(sent))
	}
	if seen := <-saw; seen != src.String() {
		return fmt.Errorf("%s is seen as %s", src, seen)
	}
	return nil
}

// all has every pod of one cluster talk with every pod of the other, in both families.
func all(a, b *cluster) error {
	var problems []error
	for _, from := range a.nodes {
		for _, to := range b.nodes {
			problems = append(problems,
				talk(from.pod, to.pod, from.addr4, to.addr4, 50_000), talk(to.pod, from.pod, to.addr4, from.addr4, 50_000),
				talk(from.pod, to.pod, from.addr6, to.addr6, 50_000), talk(to.pod, from.pod, to.addr6, from.addr6, 50_000))
		}
	}
	return errors.Join(problems...)
}

// Pods on ordinary nodes of two clusters talk with their own addresses, by nothing but objects and `sluice node`.
func TestPodsOfOrdinaryNodesTalkAcrossClusters(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireTool(t, "nft", "ip", "bridge", "setpriv")
	kubetest.Require(t)
	scope := netnstest.New(t)
	wan := scope.NewSwitch("wan")
	north, south := newCluster(t, scope, wan, "north", 1), newCluster(t, scope, wan, "south", 2)
	both := []*cluster{north, south}
	var group sync.WaitGroup
	problems := make([]error, len(both))
	for i, c := range both {
		group.Go(func() { problems[i] = c.startAPIServer() })
	}
	group.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	for _, c := range both {
		c.startAgents()
		c.startNodes()
		c.make(&v1alpha1.Gateway{}, c.gatewayOf(1, nil))
	}
	for i, c := range both {
		other := both[1-i]
		var keys []string
		soon(t, "the gateways have written their keys", func() (err error) {
			keys, err = other.keys()
			return err
		})
		c.make(&v1alpha1.Gateway{}, other.gatewayOf(1, keys))
	}
	first := north.nodes[0]
	if err := talk(first.pod, south.nodes[0].pod, first.addr4, south.nodes[0].addr4, 100); err == nil {
		t.Fatal("the pods reach each other before there is a VPC")
	}
	written := time.Now()
	for _, c := range both {
		c.make(&v1alpha1.VPC{}, "metadata: {name: pods}\nspec: {vni: 100}\n")
		for _, of := range both {
			c.make(&v1alpha1.Subnet{}, fmt.Sprintf("metadata: {name: %[1]s-4}\nspec: {vpc: pods, cluster: %[1]s, prefix: 10.%[2]d.0.0/16}\n", of.name, of.number))
			c.make(&v1alpha1.Subnet{}, fmt.Sprintf("metadata: {name: %[1]s-6}\nspec: {vpc: pods, cluster: %[1]s, prefix: \"fd00:%[2]d::/32\"}\n", of.name, of.number))
		}
	}
	soon(t, "all pods talk, with their own addresses", func() error { return all(north, south) })
	t.Logf("all pods talk %v after the first write", time.Since(written))
	wanted := map[*machine]string{}
	for _, m := range north.nodes {
		wanted[m] = m.everything(t)
	}

	t.Run("what others delete comes back", func(t *testing.T) {
		for _, c := range []string{
			"ip route flush table 8451", "ip -6 route flush table 8451", "ip rule del priority 300", "ip -6 rule del priority 300", "ip link del sluice100",
			"nft delete table inet sluice_node", "nft flush set inet sluice_node remote4",
		} {
			words := strings.Fields(c)
			first.run(t, words[0], words[1:]...)
			soon(t, "it is repaired after "+c, func() error {
				for _, part := range []string{"rule", "table 8451", "sluice100", "sluice_node"} {
					if was, is := strings.Count(wanted[first], part), strings.Count(first.everything(t), part); was != is {
						return fmt.Errorf("%s is there %d times, was %d", part, is, was)
					}
				}
				return talk(first.pod, south.nodes[1].pod, first.addr4, south.nodes[1].addr4, 100)
			})
		}
		soon(t, "all pods talk", func() error { return all(north, south) })
	})
	t.Run("a node's own programs reach pods of other clusters", func(t *testing.T) {
		to := south.nodes[0]
		soon(t, "they do", func() error {
			return errors.Join(netnstest.Ping(t.Context(), first.host, to.addr4, netnstest.PingOptions{}), netnstest.Ping(t.Context(), first.host, to.addr6, netnstest.PingOptions{}))
		})
	})
	t.Run("pods of one cluster reach each other as before", func(t *testing.T) {
		a, b := north.nodes[0], north.nodes[1]
		if err := errors.Join(talk(a.pod, b.pod, a.addr4, b.addr4, 50_000), talk(a.pod, b.pod, a.addr6, b.addr6, 50_000)); err != nil {
			t.Error(err)
		}
	})
	t.Run("the nodes follow another gateway", func(t *testing.T) {
		switched := time.Now()
		for _, c := range both {
			var g v1alpha1.Gateway
			soon(t, "north's second gateway is preferred", func() error {
				if err := c.admin.Get(t.Context(), client.ObjectKey{Name: "gw-north"}, &g); err != nil {
					return err
				}
				g.Spec.Endpoints[0].Priority, g.Spec.Endpoints[1].Priority = 200, 100
				return c.admin.Update(t.Context(), &g)
			})
		}
		soon(t, "the nodes send to it", func() error {
			for _, m := range north.nodes {
				if out := m.run(t, "bridge", "fdb", "show", "dev", "sluice100"); !strings.Contains(out, "dst 172.20.1.2 ") {
					return fmt.Errorf("%s: %s", m.name, out)
				}
			}
			return nil
		})
		soon(t, "all pods talk", func() error { return all(north, south) })
		t.Logf("all pods talked through the other one %v after the first write", time.Since(switched))
	})
	t.Run("without the API server all goes on, and is repaired", func(t *testing.T) {
		if err := north.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		first.run(t, "ip", "link", "del", "sluice100")
		soon(t, "all pods talk", func() error { return all(north, south) })
		if err := north.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nothing is left of it", func(t *testing.T) {
		for _, c := range both {
			for _, m := range c.nodes {
				if err := m.agent.Stop(); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
				if after := m.everything(t); after != m.before {
					t.Errorf("%s: before:\n%s\nafter:\n%s", m.name, m.before, after)
				}
			}
		}
	})
}
