package gatewayagent_test

import (
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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
	"github.com/sluicegw/sluice/k8s/manifests"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// runAs makes this test program a gateway, a process of its own in its own namespace.
const runAs = "SLUICE_TEST_GATEWAY"

// agentUser is who the gateways' agents are: not an administrator.
const agentUser = "gateway-agent"

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

// cluster is an API server, and a site with one node, one pod and a gateway.
type cluster struct {
	*kubetest.Cluster
	t      *testing.T
	name   string
	number int
	admin  client.Client
	dir    string
	pod    *netnstest.Host
	host   *netnstest.Host // of the gateway
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
// for each side. VPC red is VNI 100 at the nodes.
func newClusters(t *testing.T) [2]*cluster {
	t.Helper()
	testenv.RequireRoot(t)
	kubetest.Require(t)
	scope := netnstest.New(t)
	wan := scope.NewSwitch("wan")
	var both [2]*cluster
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
	problems := make([]error, len(both))
	for i, c := range both {
		group.Go(func() { problems[i] = c.startAPIServer() })
	}
	group.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	for _, c := range both {
		c.startAgent()
	}
	return both
}

// startGateway runs a gateway that has neither VPCs nor peers.
func (c *cluster) startGateway() {
	c.t.Helper()
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := key.WriteFile(filepath.Join(c.dir, "wg.key")); err != nil {
		c.t.Fatal(err)
	}
	text := fmt.Sprintf("site: %[1]s\ngateway: %[1]s-1\nports: [{name: lan0}, {name: wan0}]\nwireguard: {keyFile: %[2]s/wg.key}\napi: {socket: %[2]s/sock}\n", c.name, c.dir)
	for _, name := range []string{"local.yaml", "sluice.yaml"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		log.Close()
		if text, err := os.ReadFile(log.Name()); c.t.Failed() && err == nil {
			c.t.Logf("gateway %s:\n%s", c.name, text)
		}
	})
	cmd := c.host.Command(context.Background(), self)
	cmd.Env = append(os.Environ(), runAs+"="+filepath.Join(c.dir, "sluice.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) startAPIServer() (err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	if c.Cluster, err = kubetest.Open(ctx, kubetest.Options{Name: c.name}); err != nil {
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
		err := errors.Join(c.admin.List(ctx, &v1alpha1.GatewayList{}), c.admin.List(ctx, &v1alpha1.VPCList{}), c.admin.List(ctx, &v1alpha1.SubnetList{}))
		if err == nil {
			break
		} else if ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return c.admin.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-gateway"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sluice:gateway"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: agentUser}},
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
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("cluster", c.name)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gatewayagent.Run(ctx, gatewayagent.Options{Config: config, Own: own, Logger: logger}) }()
	c.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
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
	for time.Since(started) < 15*time.Second {
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
		if v.Status.State != state || v.Status.VNI != vni || condition == nil || condition.Reason != reason {
			return fmt.Errorf("VPC %s: %+v", vpc, v.Status)
		}
		return nil
	}
}

// Pods of two clusters talk, and cease to, by nothing but objects.
func TestObjectsReachTheDataPlane(t *testing.T) {
	both := newClusters(t)
	north, south := both[0], both[1]
	for _, c := range both {
		c.make(&v1alpha1.Gateway{}, fmt.Sprintf(
			"metadata: {name: gw-%[1]s}\nspec: {cluster: %[1]s, exposeType: PublicIP, endpoints: [{name: %[1]s-1, address: 198.51.100.%[2]d}]}\n", c.name, c.number))
	}
	keys := map[string]string{}
	for _, c := range both {
		soon(t, "the gateway has written its key into its Gateway", func() error {
			var g v1alpha1.Gateway
			if err := c.get(&g, "gw-"+c.name); err != nil {
				return err
			}
			keys[c.name] = g.Spec.Endpoints[0].PublicKey
			if keys[c.name] == "" || len(g.Status.ActiveMembers) != 1 || g.Status.ActiveMembers[0].PublicKey != keys[c.name] {
				return fmt.Errorf("key %q, status %+v", keys[c.name], g.Status)
			}
			return nil
		})
	}
	for i, c := range both {
		other := both[1-i]
		c.make(&v1alpha1.Gateway{}, fmt.Sprintf(
			"metadata: {name: gw-%[1]s}\nspec: {cluster: %[1]s, exposeType: PublicIP, endpoints: [{name: %[1]s-1, address: 198.51.100.%[2]d, publicKey: %[3]s}]}\n",
			other.name, other.number, keys[other.name]))
	}
	ping := func(ctx context.Context) error {
		return netnstest.Ping(ctx, north.pod, south.podAddr(), netnstest.PingOptions{Count: 1, Timeout: 100 * time.Millisecond})
	}
	if ping(t.Context()) == nil {
		t.Fatal("the pods reach each other before there is a VPC")
	}
	subnet := func(c *cluster, of *cluster) {
		c.make(&v1alpha1.Subnet{}, fmt.Sprintf("metadata: {name: red-%[1]s}\nspec: {vpc: red, cluster: %[1]s, prefix: 10.%[2]d.0.0/24}\n", of.name, of.number))
	}
	written := time.Now()
	for _, c := range both {
		c.make(&v1alpha1.VPC{}, "metadata: {name: red}\nspec: {vni: 100}\n")
		for _, of := range both {
			subnet(c, of)
		}
	}
	soon(t, "a ping crosses", func() error { return ping(t.Context()) })
	t.Logf("the first ping crossed %v after the first write", time.Since(written))
	if took := time.Since(written); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}

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
		revision := func() uint64 {
			status, err := api.Dial(filepath.Join(north.dir, "sock")).Status(t.Context(), &sluicev1.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return status.GetConfig().GetRevision()
		}
		var before, after v1alpha1.Subnet
		was := revision()
		if err := north.get(&before, "red-south"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Second) // it looks every 5 s
		if err := north.get(&after, "red-south"); err != nil {
			t.Fatal(err)
		}
		if before.ResourceVersion != after.ResourceVersion || revision() != was {
			t.Errorf("Subnet from %s to %s, configuration from %d to %d", before.ResourceVersion, after.ResourceVersion, was, revision())
		}
	})
	t.Run("without the API server the gateway goes on", func(t *testing.T) {
		if err := north.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			soon(t, "a ping crosses", func() error { return ping(t.Context()) })
		}
		if err := north.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a second VPC with the number shows, and heals", func(t *testing.T) {
		time.Sleep(time.Second) // Kubernetes tells ages by the second
		north.make(&v1alpha1.VPC{}, "metadata: {name: blue}\nspec: {vni: 100}\n")
		north.make(&v1alpha1.VPC{}, "metadata: {name: green}\n")
		soon(t, "blue is a duplicate", north.state("blue", v1alpha1.DuplicateVNI, 0, "DuplicateVNI"))
		soon(t, "green has the first free number", north.state("green", v1alpha1.VPCReady, 1, "Ready"))
		if err := ping(t.Context()); err != nil {
			t.Errorf("the older VPC suffers: %v", err)
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"vni":101}}`))
		if err := north.admin.Patch(t.Context(), &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "blue"}}, patch); err != nil {
			t.Fatal(err)
		}
		soon(t, "blue is well", north.state("blue", v1alpha1.VPCReady, 101, "Ready"))
	})
	t.Run("a Subnet that is gone is not reached", func(t *testing.T) {
		written := time.Now()
		if err := north.admin.Delete(t.Context(), &v1alpha1.Subnet{ObjectMeta: metav1.ObjectMeta{Name: "red-south"}}); err != nil {
			t.Fatal(err)
		}
		soon(t, "no ping crosses", func() error {
			if ping(t.Context()) == nil {
				return errors.New("one did")
			}
			return nil
		})
		t.Logf("it stopped %v after the write", time.Since(written))
		for range 5 {
			if ping(t.Context()) == nil {
				t.Fatal("a ping crossed again")
			}
		}
		subnet(north, south)
		soon(t, "a ping crosses", func() error { return ping(t.Context()) })
	})
	t.Run("no private key has reached an API server", func(t *testing.T) {
		for _, c := range both {
			key, err := os.ReadFile(filepath.Join(c.dir, "wg.key"))
			if err != nil {
				t.Fatal(err)
			}
			for _, server := range both {
				var gateways v1alpha1.GatewayList
				if err := server.admin.List(t.Context(), &gateways); err != nil {
					t.Fatal(err)
				}
				text, err := yaml.Marshal(gateways)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), strings.TrimSpace(string(key))) {
					t.Errorf("that of %s is at %s", c.name, server.name)
				}
			}
		}
	})
}
