package gatewayagent_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/gateway"
	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
	"github.com/sluicegw/sluice/k8s/join"
	"github.com/sluicegw/sluice/k8s/manifests"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// runAs makes this test program a gateway, a process of its own in its own namespace.
const runAs = "SLUICE_TEST_GATEWAY"

// Who the gateways' agents and those of the clusters are: no administrators.
const (
	agentUser   = "gateway-agent"
	clusterUser = "cluster-agent"
)

func TestMain(m *testing.M) {
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	klog.SetSlogLogger(logger)
	if path := os.Getenv(runAs); path != "" {
		if err := runGateway(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
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

// cluster is an API server, and a site with one node, one pod and a gateway; at the root,
// which has no name, there is no site.
type cluster struct {
	*kubetest.Cluster
	t      *testing.T
	name   string
	number int
	admin  client.Client
	dir    string
	pod    *netnstest.Host
	host   *netnstest.Host // of the gateway

	process *netnstest.Cmd // the gateway
}

func (c *cluster) podAddr() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("10.%d.0.10", c.number))
}

func newScheme(t *testing.T) *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// newClusters builds pod - node = gateway ~ gateway = node - pod, with an API server
// for each side, and one for the root of the tree above them. VPC red is VNI 100 at the nodes.
func newClusters(t *testing.T) (root *cluster, both [2]*cluster) {
	t.Helper()
	testenv.RequireRoot(t)
	kubetest.Require(t)
	scope := netnstest.New(t)
	wan := scope.NewSwitch("wan")
	root = &cluster{t: t, dir: t.TempDir()}
	for i, name := range []string{"north", "south"} {
		c := &cluster{t: t, name: name, number: i + 1, dir: t.TempDir(), host: scope.NewHost("gw" + name)}
		both[i] = c
		lan := scope.NewSwitch("lan" + name)
		inner := netip.MustParseAddr(fmt.Sprintf("172.20.%d.1", c.number))
		lan.Plug(netnstest.End{Host: c.host, Name: "lan0", Addrs: []netip.Prefix{netip.PrefixFrom(inner, 24)}})
		wan.Plug(netnstest.End{Host: c.host, Name: "wan0", Addrs: netnstest.Prefixes(fmt.Sprintf("198.51.100.%d/24", c.number))})
		node := scope.NewVXLANNode(netnstest.NodeOptions{
			Name: "node" + name, Switch: lan, VTEP: netip.MustParsePrefix(fmt.Sprintf("172.20.%d.2/24", c.number)),
			Remotes: []netip.Addr{inner}, Segments: []netnstest.Segment{{Name: "red", VNI: 100}},
		})
		c.pod = node.NewPod(netnstest.PodOptions{
			Name: "pod" + name, Segment: "red", MTU: 1400, Addrs: []netip.Prefix{netip.PrefixFrom(c.podAddr(), 24)},
			Gateways: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", c.number))},
		})
		c.startGateway()
	}
	var group sync.WaitGroup
	all := []*cluster{root, both[0], both[1]}
	problems := make([]error, len(all))
	for i, c := range all {
		group.Go(func() { problems[i] = c.startAPIServer() })
	}
	group.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	root.startClusterAgent(nil)
	for _, c := range both {
		c.startAgent()
		if err := root.admin.Create(t.Context(), &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: c.name}}); err != nil {
			t.Fatal(err)
		}
		c.startClusterAgent(root)
	}
	return root, both
}

// startGateway runs a gateway that has neither VPCs nor peers.
func (c *cluster) startGateway() {
	c.t.Helper()
	c.newKey()
	text := fmt.Sprintf("site: %[1]s\ngateway: %[1]s-1\nports: [{name: lan0}, {name: wan0}]\nwireguard: {keyFile: %[2]s/wg.key}\napi: {socket: %[2]s/sock}\n", c.name, c.dir)
	for _, name := range []string{"local.yaml", "sluice.yaml"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Cleanup(func() {
		if text, err := os.ReadFile(filepath.Join(c.dir, "log")); c.t.Failed() && err == nil {
			c.t.Logf("gateway %s:\n%s", c.name, text)
		}
	})
	c.runGateway()
}

func (c *cluster) newKey() {
	c.t.Helper()
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := key.WriteFile(filepath.Join(c.dir, "wg.key")); err != nil {
		c.t.Fatal(err)
	}
}

// runGateway starts the gateway's process.
func (c *cluster) runGateway() {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := c.host.Command(context.Background(), self)
	cmd.Env = append(os.Environ(), runAs+"="+filepath.Join(c.dir, "sluice.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.process = cmd
}

// changeKey gives the gateway another key, with a new start.
func (c *cluster) changeKey() {
	c.t.Helper()
	if err := c.process.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.process.Wait(); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.dir, "wg.key")); err != nil {
		c.t.Fatal(err)
	}
	c.newKey()
	c.runGateway()
}

func (c *cluster) startAPIServer() (err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	if c.Cluster, err = kubetest.Open(ctx, kubetest.Options{Name: cmp.Or(c.name, "root")}); err != nil {
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
	if c.admin, err = client.New(config, client.Options{Scheme: newScheme(c.t)}); err != nil {
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
		err := errors.Join(c.admin.List(ctx, &v1alpha1.MissionList{}), c.admin.List(ctx, &v1alpha1.GatewayList{}), c.admin.List(ctx, &v1alpha1.VPCList{}), c.admin.List(ctx, &v1alpha1.SubnetList{}))
		if err == nil {
			break
		} else if ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	// Missions may bring network objects, beside what the agents need themselves.
	brings := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "test-content"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"gateways", "vpcs", "subnets"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"},
	}}}
	if err := c.admin.Create(ctx, brings); err != nil {
		return err
	}
	bind := func(user, namespace, role string) client.Object {
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
		subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}
		named := metav1.ObjectMeta{GenerateName: "test-", Namespace: namespace}
		if namespace != "" {
			ref.Kind = "Role"
			return &rbacv1.RoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: subjects}
		}
		return &rbacv1.ClusterRoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: subjects}
	}
	for _, o := range []client.Object{
		bind(agentUser, "", "sluice:gateway"), bind(clusterUser, "", "sluice:agent"), bind(clusterUser, "", "test-content"),
		bind(clusterUser, v1alpha1.SystemNamespace, "sluice:agent"), bind(clusterUser, join.NamespaceInvitations, "sluice:agent"),
	} {
		if err := c.admin.Create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// startClusterAgent runs the cluster's agent, towards its parent as that cluster and
// nobody else.
func (c *cluster) startClusterAgent(parent *cluster) {
	c.t.Helper()
	o := agent.Options{Name: c.name, Heartbeat: time.Second, Version: "test", Logger: c.logger()}
	config := func(of *cluster, user string, groups ...string) *rest.Config {
		file, err := of.KubeconfigFor(user, groups...)
		if err != nil {
			c.t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			c.t.Fatal(err)
		}
		return config
	}
	o.Own = config(c, clusterUser)
	if parent != nil {
		o.Parent = config(parent, v1alpha1.ClusterUser(c.name), v1alpha1.GroupClusters)
	}
	a, err := agent.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.run(a.Run)
}

func (c *cluster) logger() *slog.Logger {
	if os.Getenv("SLUICE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("cluster", c.name)
}

// run runs a part of the cluster until the test ends.
func (c *cluster) run(f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	c.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
}

// startAgent runs `sluice-agent gateway`, from a configuration file as people write it.
func (c *cluster) startAgent() {
	c.t.Helper()
	kubeconfig, err := c.KubeconfigFor(agentUser)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.dir, "agent.yaml")
	text := fmt.Sprintf("cluster: %[1]s\ngateway: gw-%[1]s\nendpoint: %[1]s-1\nkubeconfig: %[2]s\nfile: %[3]s/local.yaml\nattachment: {type: vxlan, port: lan0, vteps: [172.20.%[4]d.2]}\n",
		c.name, kubeconfig, c.dir, c.number)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	config, err := gatewayagent.ReadConfig(file)
	if err != nil {
		c.t.Fatal(err)
	}
	own, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		c.t.Fatal(err)
	}
	c.run(func(ctx context.Context) error {
		return gatewayagent.Run(ctx, gatewayagent.Options{Config: config, Own: own, Logger: c.logger()})
	})
}

// make makes an object, from YAML.
func (c *cluster) make(o client.Object, text string) {
	c.t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		c.t.Fatal(err)
	}
	if err := c.admin.Create(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) get(o client.Object, name string) error {
	return c.admin.Get(c.t.Context(), client.ObjectKey{Name: name}, o)
}

func soon(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	var err error
	started := time.Now()
	for time.Since(started) < 30*time.Second {
		if err = check(); err == nil {
			return time.Since(started)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("still not: %s: %v", what, err)
	return 0
}

// state wants a VPC's state, number and condition.
func (c *cluster) state(vpc string, state v1alpha1.VPCState, vni int32, reason string) func() error {
	return func() error {
		var v v1alpha1.VPC
		if err := c.get(&v, vpc); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(v.Status.Conditions, "Ready")
		if v.Status.State != state || v.Status.VNI != vni || c.name != "" && (condition == nil || condition.Reason != reason) { // the root has no gateway
			return fmt.Errorf("VPC %s: %+v", vpc, v.Status)
		}
		return nil
	}
}

// key wants to know the key of a cluster's gateway, and that it is well there.
func (c *cluster) key(of string, want func(key string) bool) func() error {
	return func() error {
		var g v1alpha1.Gateway
		if err := c.get(&g, "gw-"+of); err != nil {
			return err
		}
		e := g.Status.Endpoints
		if len(e) != 1 || !want(e[0].PublicKey) || len(g.Status.ActiveMembers) != 1 || g.Status.ActiveMembers[0].PublicKey != e[0].PublicKey ||
			!meta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionAtHome) {
			return fmt.Errorf("at %q: Gateway of %s: %+v", c.name, of, g.Status)
		}
		return nil
	}
}

func all(checks ...func() error) func() error {
	return func() error {
		for _, check := range checks {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	}
}

func gatewayYAML(c *cluster) string {
	return fmt.Sprintf("metadata: {name: gw-%[1]s}\nspec: {cluster: %[1]s, endpoints: [{name: %[1]s-1, address: 198.51.100.%[2]d}]}\n", c.name, c.number)
}

func subnetYAML(c *cluster) string {
	return fmt.Sprintf("metadata: {name: red-%[1]s}\nspec: {vpc: red, cluster: %[1]s, prefix: 10.%[2]d.0.0/24}\n", c.name, c.number)
}

// Pods of two clusters talk, and cease to, by nothing but objects that are written at
// the root of the tree.
func TestObjectsReachTheDataPlane(t *testing.T) {
	root, both := newClusters(t)
	north, south := both[0], both[1]
	everybody := []*cluster{root, north, south}
	remove := func(c *cluster, objects ...client.Object) {
		t.Helper()
		for _, o := range objects {
			if err := c.admin.Delete(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	for _, c := range both {
		root.make(&v1alpha1.Gateway{}, gatewayYAML(c))
	}
	known := func(key string) bool { return key != "" }
	written := time.Now()
	for _, c := range everybody {
		soon(t, "the gateways' keys have gone through the tree", all(c.key("north", known), c.key("south", known)))
	}
	t.Logf("keys were everywhere %v after the first write", time.Since(written))
	ping := func(ctx context.Context) error {
		return netnstest.Ping(ctx, north.pod, south.podAddr(), netnstest.PingOptions{Count: 1, Timeout: 100 * time.Millisecond})
	}
	crosses := func() error { return ping(t.Context()) }
	silent := func() error {
		for range 5 { // one may be lost for any reason
			if ping(t.Context()) == nil {
				return errors.New("a ping crossed")
			}
		}
		return nil
	}
	if crosses() == nil {
		t.Fatal("the pods reach each other before there is a VPC")
	}
	written = time.Now()
	root.make(&v1alpha1.VPC{}, "metadata: {name: red}\nspec: {vni: 100}\n")
	for _, of := range both {
		root.make(&v1alpha1.Subnet{}, subnetYAML(of))
	}
	soon(t, "a ping crosses", crosses)
	t.Logf("the first ping crossed %v after the first write", time.Since(written))

	soon(t, "statuses say so", func() error {
		var mine, theirs v1alpha1.Subnet
		var g v1alpha1.Gateway
		if err := errors.Join(north.get(&mine, "red-north"), north.get(&theirs, "red-south"), north.get(&g, "gw-north"), north.state("red", v1alpha1.VPCReady, 100, "Ready")()); err != nil {
			return err
		}
		if mine.Status.Virtual || !theirs.Status.Virtual || theirs.Status.Gateway != "gw-south" ||
			!meta.IsStatusConditionTrue(mine.Status.Conditions, "Ready") || !meta.IsStatusConditionTrue(theirs.Status.Conditions, "Ready") {
			return fmt.Errorf("%+v, %+v", mine.Status, theirs.Status)
		}
		if n := g.Status.Connections; len(n) != 1 || n[0].Peer != "gw-south" || n[0].State != v1alpha1.Connected || n[0].LastHandshake == nil {
			return fmt.Errorf("connections %+v", n)
		}
		return nil
	})
	t.Run("nothing is written or applied without need", func(t *testing.T) {
		versions := func() string {
			status, err := api.Dial(filepath.Join(north.dir, "sock")).Status(t.Context(), &sluicev1.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var subnet v1alpha1.Subnet
			var above, away v1alpha1.Gateway
			if err := errors.Join(north.get(&subnet, "red-south"), root.get(&above, "gw-north"), south.get(&away, "gw-north")); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("configuration %d, Subnet %s, Gateway at the root %s, in the other cluster %s",
				status.GetConfig().GetRevision(), subnet.ResourceVersion, above.ResourceVersion, away.ResourceVersion)
		}
		was := versions()
		time.Sleep(7 * time.Second) // it looks every 5 s
		if now := versions(); now != was {
			t.Errorf("%s, and then %s", was, now)
		}
	})
	t.Run("without API servers the gateways go on", func(t *testing.T) {
		for _, c := range []*cluster{root, north} {
			if err := c.StopAPIServer(); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			soon(t, "a ping crosses", crosses)
		}
		for _, c := range []*cluster{root, north} {
			if err := c.StartAPIServer(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a second VPC with the number shows, and heals, in all clusters", func(t *testing.T) {
		time.Sleep(time.Second) // Kubernetes tells ages by the second
		root.make(&v1alpha1.VPC{}, "metadata: {name: blue}\nspec: {vni: 100}\n")
		root.make(&v1alpha1.VPC{}, "metadata: {name: green}\n")
		for _, c := range everybody {
			soon(t, "blue is a duplicate", c.state("blue", v1alpha1.DuplicateVNI, 0, "DuplicateVNI"))
			soon(t, "green has the first free number", c.state("green", v1alpha1.VPCReady, 1, "Ready"))
		}
		if err := ping(t.Context()); err != nil {
			t.Errorf("the older VPC suffers: %v", err)
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"vni":101}}`))
		if err := root.admin.Patch(t.Context(), &v1alpha1.VPC{ObjectMeta: named("blue")}, patch); err != nil {
			t.Fatal(err)
		}
		for _, c := range everybody {
			soon(t, "blue is well", c.state("blue", v1alpha1.VPCReady, 101, "Ready"))
		}
	})
	t.Run("a Subnet that is gone is not reached", func(t *testing.T) {
		written := time.Now()
		remove(root, &v1alpha1.Subnet{ObjectMeta: named("red-south")})
		soon(t, "no ping crosses", silent)
		t.Logf("it stopped %v after the write", time.Since(written))
		root.make(&v1alpha1.Subnet{}, subnetYAML(south))
		soon(t, "a ping crosses", crosses)
	})
	t.Run("another key goes through the tree", func(t *testing.T) {
		var before v1alpha1.Gateway
		if err := root.get(&before, "gw-south"); err != nil {
			t.Fatal(err)
		}
		south.changeKey()
		changed := time.Now()
		another := func(key string) bool { return key != "" && key != before.Status.Endpoints[0].PublicKey }
		for _, c := range everybody {
			soon(t, "the key is another", c.key("south", another))
		}
		soon(t, "a ping crosses", crosses)
		t.Logf("pings crossed again %v after the gateway's start with another key", time.Since(changed))
	})
	t.Run("a Gateway that was made in its own cluster goes up, and to the others", func(t *testing.T) {
		remove(root, &v1alpha1.Gateway{ObjectMeta: named("gw-south")})
		soon(t, "no ping crosses", silent)
		soon(t, "the copy is gone", func() error {
			if err := south.get(&v1alpha1.Gateway{}, "gw-south"); !apierrors.IsNotFound(err) {
				return fmt.Errorf("not yet: %v", err)
			}
			return nil
		})
		south.make(&v1alpha1.Gateway{}, gatewayYAML(south))
		soon(t, "a ping crosses", crosses)
		remove(south, &v1alpha1.Gateway{ObjectMeta: named("gw-south")})
		soon(t, "it is gone at the root", func() error {
			if err := root.get(&v1alpha1.Gateway{}, "gw-south"); !apierrors.IsNotFound(err) {
				return fmt.Errorf("not yet: %v", err)
			}
			return nil
		})
		soon(t, "no ping crosses", silent)
		root.make(&v1alpha1.Gateway{}, gatewayYAML(south))
		soon(t, "a ping crosses", crosses)
	})
	t.Run("a Mission brings VPC and Subnets to chosen clusters", func(t *testing.T) {
		mission := &v1alpha1.Mission{ObjectMeta: named("red")}
		manifest := func(kind, text string) string {
			return "---\napiVersion: sluice.dev/v1alpha1\nkind: " + kind + "\n" + text
		}
		mission.Spec.Manifests = manifest("VPC", "metadata: {name: red}\nspec: {vni: 100}\n") + manifest("Subnet", subnetYAML(north)) + manifest("Subnet", subnetYAML(south))
		mission.Spec.Placement.Clusters = []v1alpha1.ClusterName{{Name: "north"}, {Name: "south"}}
		if err := root.admin.Create(t.Context(), mission); err != nil {
			t.Fatal(err)
		}
		state := func(phase v1alpha1.Phase) func() error {
			return func() error {
				if err := root.get(mission, "red"); err != nil {
					return err
				}
				if s := mission.Status.Clusters; len(s) != 2 || s[0].Phase != phase || s[1].Phase != phase {
					return fmt.Errorf("%+v", s)
				}
				return nil
			}
		}
		soon(t, "copies of the parent's objects are not its to take", state(v1alpha1.PhaseFailed))
		remove(root, &v1alpha1.VPC{ObjectMeta: named("red")}, &v1alpha1.Subnet{ObjectMeta: named("red-north")}, &v1alpha1.Subnet{ObjectMeta: named("red-south")})
		soon(t, "it is ready in both", state(v1alpha1.PhaseReady))
		soon(t, "a ping crosses", crosses)
		remove(root, mission)
		soon(t, "no ping crosses", silent)
	})
	t.Run("no private key has reached an API server", func(t *testing.T) {
		for _, c := range both {
			key, err := os.ReadFile(filepath.Join(c.dir, "wg.key"))
			if err != nil {
				t.Fatal(err)
			}
			for _, server := range everybody {
				var gateways v1alpha1.GatewayList
				var clusters v1alpha1.EdgeClusterList
				if err := errors.Join(server.admin.List(t.Context(), &gateways), server.admin.List(t.Context(), &clusters)); err != nil {
					t.Fatal(err)
				}
				text, err := yaml.Marshal([]any{gateways, clusters})
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), strings.TrimSpace(string(key))) {
					t.Errorf("that of %s is at %q", c.name, server.name)
				}
			}
		}
	})
}
