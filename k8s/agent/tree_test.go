package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/join"
	"github.com/sluicegw/sluice/k8s/manifests"
)

// heartbeat of the agents here: three of them, and a second, until somebody is disconnected.
const heartbeat = time.Second

// agentUser is who agents are in their own cluster: not an administrator.
const agentUser = "agent"

func TestMain(m *testing.M) {
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	klog.SetSlogLogger(logger)
	if file := os.Getenv(runAsAgent); file != "" {
		os.Exit(agentProcess(file, logger))
	}
	transport.CertCallbackRefreshDuration = time.Second // certificates live for seconds here
	code := m.Run()
	if err := pool.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// servers are API servers that tests of this package share: each test calls them by
// names of its own, and leaves no Mission behind.
type servers struct {
	mu   sync.Mutex
	open []*server
}

var pool servers

type server struct {
	*kubetest.Cluster
	admin  client.Client
	config *rest.Config // of the agent
}

// take returns n API servers that know Sluice.
func (p *servers) take(t *testing.T, n int) []*server {
	t.Helper()
	kubetest.Require(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	missing := max(n-len(p.open), 0)
	found := make([]*server, missing)
	problems := make([]error, missing)
	var group sync.WaitGroup
	for i := range found {
		group.Go(func() { found[i], problems[i] = newServer(fmt.Sprintf("pool-%d", len(p.open)+i)) })
	}
	group.Wait()
	for _, s := range found {
		if s != nil {
			p.open = append(p.open, s)
		}
	}
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	return p.open[:n]
}

func (p *servers) close() (err error) {
	for _, s := range p.open {
		err = errors.Join(err, s.Close())
	}
	return err
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, rbacv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

func newServer(name string) (_ *server, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := kubetest.Open(ctx, kubetest.Options{Name: name})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	s := &server{Cluster: c}
	admin, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	admin.QPS = -1
	if s.admin, err = client.New(admin, client.Options{Scheme: newScheme()}); err != nil {
		return nil, err
	}
	file, err := c.KubeconfigFor(agentUser)
	if err != nil {
		return nil, err
	}
	if s.config, err = clientcmd.BuildConfigFromFlags("", file); err != nil {
		return nil, err
	}
	return s, s.prepare(ctx)
}

// prepare does what a person does with `sluice agent manifests | kubectl apply`, and
// lets the agent bring Deployments, Jobs, ConfigMaps and Widgets, but no Secrets.
func (s *server) prepare(ctx context.Context) error {
	objects, err := manifests.Objects()
	if err != nil {
		return err
	}
	for _, u := range objects {
		if err := s.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("admin")); err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	user := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: agentUser}}
	brings := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "test-content"}}
	verbs := []string{"get", "list", "watch", "create", "patch", "delete"}
	brings.Rules = []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: verbs},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: verbs},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs},
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"vpcs"}, Verbs: verbs},
		{APIGroups: []string{"example.com"}, Resources: []string{"*"}, Verbs: verbs},
	}
	bind := func(name, namespace, role string) client.Object {
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
		if namespace != "" {
			ref.Kind = "Role"
			return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, RoleRef: ref, Subjects: user}
		}
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: ref, Subjects: user}
	}
	for _, o := range []client.Object{
		brings, bind("test-content", "", "test-content"), bind("test-agent", "", "sluice:agent"),
		bind("test-agent", v1alpha1.SystemNamespace, "sluice:agent"), bind("test-agent", join.NamespaceInvitations, "sluice:agent"),
	} {
		if err := s.admin.Create(ctx, o); err != nil {
			return err
		}
	}
	for { // a definition is served a moment after it is there
		if err := s.admin.List(ctx, &v1alpha1.MissionList{}); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// site is a cluster of a tree.
type site struct {
	*server
	t        *testing.T
	name     string
	parent   *site
	labels   map[string]string
	commands *command.Runner
	dial     func(context.Context, string, string) (net.Conn, error) // to the parent; nil: nothing special
	stop     func()                                                  // nil while no agent runs
}

// root makes the top of a tree.
func root(t *testing.T, s *server) *site {
	a := &site{server: s, t: t}
	t.Cleanup(a.pause)
	t.Cleanup(a.clean) // before that
	a.start()
	return a
}

// child joins a cluster to the tree, the way that an administrator of the parent
// does it, and runs its agent.
func (p *site) child(s *server, name string, labels map[string]string, more ...func(*site)) *site {
	p.t.Helper()
	c := &site{server: s, t: p.t, name: name, parent: p, labels: labels}
	for _, f := range more {
		f(c)
	}
	p.t.Cleanup(c.pause)
	p.t.Cleanup(c.clean)
	c.join(p)
	c.start()
	return c
}

func (c *site) join(p *site) {
	c.t.Helper()
	c.parent = p
	if err := p.admin.Create(c.t.Context(), &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: c.name}}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *site) meta() metav1.ObjectMeta { return metav1.ObjectMeta{Name: c.name} }

// options are those of the site's agent; towards the parent it is nobody but itself.
func (c *site) options() agent.Options {
	c.t.Helper()
	o := agent.Options{Name: c.name, Labels: c.labels, Heartbeat: heartbeat, Own: c.config, Commands: c.commands, Version: "test"}
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("cluster", c.name)
	}
	if c.parent != nil {
		file, err := c.parent.KubeconfigFor(v1alpha1.ClusterUser(c.name), v1alpha1.GroupClusters)
		if err != nil {
			c.t.Fatal(err)
		}
		if o.Parent, err = clientcmd.BuildConfigFromFlags("", file); err != nil {
			c.t.Fatal(err)
		}
		o.Parent.Dial = c.dial
	}
	return o
}

func (c *site) start() {
	c.t.Helper()
	a, err := agent.New(c.options())
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("agent of %q: %v", c.name, err)
		}
	}
}

// pause ends the agent; start runs another.
func (c *site) pause() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// clean removes what a test left behind.
func (c *site) clean() {
	ctx := context.Background()
	var list v1alpha1.MissionList
	if err := c.admin.List(ctx, &list); err != nil {
		c.t.Errorf("clean up: %v", err)
	}
	for i := range list.Items {
		m := &list.Items[i]
		if err := c.admin.Delete(ctx, m); client.IgnoreNotFound(err) != nil {
			c.t.Errorf("clean up: %v", err)
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		if err := c.admin.Patch(ctx, m, patch); client.IgnoreNotFound(err) != nil {
			c.t.Errorf("clean up: %v", err)
		}
	}
	c.cleanNetwork(ctx)
	all := []client.Object{&appsv1.Deployment{}, &batchv1.Job{}, &corev1.ConfigMap{}, &corev1.Secret{}}
	for _, kind := range all {
		for _, ns := range []string{"default", v1alpha1.SystemNamespace} {
			if err := c.admin.DeleteAllOf(ctx, kind, client.InNamespace(ns), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
				c.t.Errorf("clean up: %v", err)
			}
		}
	}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	var clusters v1alpha1.EdgeClusterList
	if err := c.admin.List(ctx, &clusters); err != nil {
		c.t.Errorf("clean up: %v", err)
	}
	for i := range clusters.Items {
		e := &clusters.Items[i]
		if err := errors.Join(client.IgnoreNotFound(c.admin.Delete(ctx, e)), client.IgnoreNotFound(c.admin.Patch(ctx, e, patch))); err != nil {
			c.t.Errorf("clean up: %v", err)
		}
		for _, kind := range []client.Object{&v1alpha1.MissionReport{}, &v1alpha1.ClusterReport{}} {
			if err := c.admin.DeleteAllOf(ctx, kind, client.InNamespace(v1alpha1.ClusterNamespace(e.Name))); err != nil {
				c.t.Errorf("clean up: %v", err)
			}
		}
		if err := c.vacate(ctx, v1alpha1.ClusterNamespace(e.Name)); err != nil {
			c.t.Errorf("clean up: %v", err)
		}
	}
}

// vacate does what a controller manager does with a namespace that is deleted.
func (c *site) vacate(ctx context.Context, name string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := c.admin.Delete(ctx, ns); apierrors.IsNotFound(err) {
			return nil
		}
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		if err == nil {
			ns.Spec.Finalizers = nil
			err = c.admin.SubResource("finalize").Update(ctx, ns)
		}
		if err != nil && !apierrors.IsNotFound(err) && time.Now().After(end) {
			return err
		}
	}
}

// soon polls until check is content; the release plan's time limits are halved by
// whoever calls.
func soon(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("after %v still not: %s: %v", limit, what, err)
}

// stays watches that check goes on being content.
func stays(t *testing.T, how time.Duration, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(how); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// all joins checks.
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

// mission reads a Mission of the site.
func (c *site) mission(name string) (*v1alpha1.Mission, error) {
	var m v1alpha1.Mission
	err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: name}, &m)
	return &m, err
}

// states wants exactly these paths of a Mission; a value that is not "" has to be the
// text of the state or its phase.
func (c *site) states(name string, want map[string]string) func() error {
	return func() error {
		m, err := c.mission(name)
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, s := range m.Status.Clusters {
			got[s.Path] = s.State
			if w, ok := want[s.Path]; !ok || w != "" && w != s.State && w != string(s.Phase) {
				return fmt.Errorf("at %q, %s of %s: %s %q, want %q", c.name, s.Path, name, s.Phase, s.State, w)
			}
			if s.Phase != v1alpha1.PhaseUnreachable && s.ObservedGeneration != m.Generation && c.parent == nil {
				return fmt.Errorf("at %q, %s of %s is of generation %d, want %d", c.name, s.Path, name, s.ObservedGeneration, m.Generation)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("at %q, states of %s: %v, want %v", c.name, name, got, want)
		}
		return nil
	}
}

// cluster wants an EdgeCluster of the site to be in this state, with these clusters
// below it (nil: whatever).
func (c *site) cluster(name string, health v1alpha1.Health, below map[string]v1alpha1.Health) func() error {
	return func() error {
		var e v1alpha1.EdgeCluster
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: name}, &e); err != nil {
			return err
		}
		if e.Status.Health != health {
			return fmt.Errorf("at %q, %s is %q (%s), want %q", c.name, name, e.Status.Health, e.Status.Message, health)
		}
		if below == nil {
			return nil
		}
		if fmt.Sprint(e.Status.SubClusters) != fmt.Sprint(below) {
			return fmt.Errorf("at %q, below %s: %v, want %v", c.name, name, e.Status.SubClusters, below)
		}
		return nil
	}
}

// has wants an object to be there; and none wants it not to be.
func (c *site) has(kind client.Object, name string) func() error {
	return func() error {
		err := c.admin.Get(c.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, kind.DeepCopyObject().(client.Object))
		if err != nil {
			return fmt.Errorf("in %q: %w", c.name, err)
		}
		return nil
	}
}

func (c *site) none(kind client.Object, name string) func() error {
	return func() error {
		err := c.admin.Get(c.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, kind.DeepCopyObject().(client.Object))
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("in %q %T %s is there (%v)", c.name, kind, name, err)
	}
}

// everywhere joins a check of several sites.
func everywhere(check func(*site) func() error, sites ...*site) func() error {
	var checks []func() error
	for _, s := range sites {
		checks = append(checks, check(s))
	}
	return all(checks...)
}

// submit creates a Mission, or updates its spec.
func (c *site) submit(name string, spec v1alpha1.MissionSpec) {
	c.t.Helper()
	soon(c.t, 10*time.Second, "submit "+name, func() error { // the status may be written between our reading and writing
		m := &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		err := c.admin.Create(c.t.Context(), m)
		if apierrors.IsAlreadyExists(err) {
			var old *v1alpha1.Mission
			if old, err = c.mission(name); err == nil {
				m.ResourceVersion = old.ResourceVersion
				err = c.admin.Update(c.t.Context(), m)
			}
		}
		return err
	})
}

func (c *site) withdraw(name string) {
	c.t.Helper()
	if err := c.admin.Delete(c.t.Context(), &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		c.t.Fatal(err)
	}
}

func toNames(names ...string) v1alpha1.Placement {
	var p v1alpha1.Placement
	for _, n := range names {
		p.Clusters = append(p.Clusters, v1alpha1.ClusterName{Name: n})
	}
	return p
}

func toLabels(labels map[string]string) v1alpha1.Placement {
	return v1alpha1.Placement{Selector: &metav1.LabelSelector{MatchLabels: labels}}
}

func deploymentYAML(name string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: "example.test/app:1"}]}
`, name, replicas)
}

func jobYAML(name string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: "example.test/app:1"}]}
`, name)
}

func configYAML(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// replicas wants a Deployment to have as many.
func (c *site) replicas(name string, want int32) func() error {
	return func() error {
		var d appsv1.Deployment
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &d); err != nil {
			return fmt.Errorf("in %q: %w", c.name, err)
		}
		if *d.Spec.Replicas != want {
			return fmt.Errorf("in %q %d replicas, want %d", c.name, *d.Spec.Replicas, want)
		}
		return nil
	}
}

// value wants a ConfigMap to have this value.
func (c *site) value(name, want string) func() error {
	return func() error {
		var m corev1.ConfigMap
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &m); err != nil {
			return fmt.Errorf("in %q: %w", c.name, err)
		}
		if m.Data["value"] != want {
			return fmt.Errorf("in %q ConfigMap %s has %q, want %q", c.name, name, m.Data["value"], want)
		}
		return nil
	}
}

// embedded makes an entry of a Mission's resources.
func embedded(object map[string]any) runtime.RawExtension {
	text, err := (&unstructured.Unstructured{Object: object}).MarshalJSON()
	if err != nil {
		panic(err)
	}
	return runtime.RawExtension{Raw: text}
}
