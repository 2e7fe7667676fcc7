package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// Options of an Agent.
type Options struct {
	// Name of the cluster; empty at the root, which has no parent that would need it.
	Name string
	// Labels for placement, beside those that every cluster has.
	Labels map[string]string
	// Distro is the flavour of Kubernetes, for example k8s or k3s; default k8s.
	Distro string
	// Heartbeat is how often the parent hears of this cluster without news; 1 s to 1 h, default 15 s. After three
	// without, the parent calls it disconnected.
	Heartbeat time.Duration
	// Own and Parent are the two API servers. Without Parent, the cluster is the root.
	Own    *rest.Config
	Parent *rest.Config
	// Standalone is what a site without an API server has in place of Own.
	Standalone *standalone.Site
	// Certificate is the file with certificate and key that Parent is reached with, to be renewed in time; empty, they are
	// somebody else's to renew.
	Certificate string
	// Commands runs those of Missions; nil allows none.
	Commands *command.Runner
	// Version of this program.
	Version string
	Logger  *slog.Logger
}

// DefaultHeartbeat is Options.Heartbeat when it is not set.
const DefaultHeartbeat = 15 * time.Second

// Validate reports all problems at once.
func (o Options) Validate() error {
	var problems []error
	if o.Own == nil && o.Standalone == nil {
		problems = append(problems, errors.New("no API server of the cluster itself"))
	}
	if o.Parent != nil && o.Name == "" {
		problems = append(problems, errors.New("no name: a cluster with a parent needs one"))
	}
	if o.Standalone != nil && (o.Own != nil || o.Parent == nil) {
		problems = append(problems, errors.New("a standalone site has a parent, and no API server"))
	}
	if o.Heartbeat != 0 && (o.Heartbeat < time.Second || o.Heartbeat > time.Hour) {
		problems = append(problems, fmt.Errorf("heartbeat %v: use 1s to 1h", o.Heartbeat))
	}
	return errors.Join(problems...)
}

// Agent runs one cluster's part of the tree.
type Agent struct {
	options  Options
	log      *slog.Logger
	scheme   *runtime.Scheme
	self     *identity
	state    *clusterState
	commands *commands

	missionBell bell          // own Missions
	netBells    [3]bell       // own network objects, as networkKinds lists them
	wake        chan struct{} // the heartbeat has news
	parentBack  chan struct{} // after an absence
}

// New makes an Agent; Run runs it.
func New(o Options) (*Agent, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Standalone != nil {
		o.Own, o.Distro = o.Standalone.Config(), cmp.Or(o.Distro, DistroStandalone)
	}
	o.Distro = cmp.Or(o.Distro, "k8s")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Own, o.Parent = polite(o.Own), polite(o.Parent)
	own := map[string]string{v1alpha1.LabelHostname: o.Name, v1alpha1.LabelDistro: o.Distro}
	for key, value := range o.Labels {
		own[key] = value
	}
	a := &Agent{
		options: o, log: o.Logger, scheme: runtime.NewScheme(),
		self: &identity{name: o.Name, own: own}, commands: newCommands(o.Commands),
		wake: make(chan struct{}, 1), parentBack: make(chan struct{}, 1),
	}
	a.state = &clusterState{self: a.self, distro: o.Distro, version: o.Version}
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme, certificatesv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(a.scheme); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// polite sets how much an API server may be asked at once. The server's own fairness
// does the rest.
func polite(c *rest.Config) *rest.Config {
	if c == nil {
		return nil
	}
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = 100, 200
	c.UserAgent = "sluice-agent"
	return c
}

// Run runs the agent until ctx is done. It returns an error only when there is
// nothing to wait for; API servers that do not answer are waited for.
func (a *Agent) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer a.commands.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if a.options.Parent != nil {
		h, err := a.heartbeat()
		if err != nil {
			return err
		}
		group.Go(func() { h.run(ctx) })
		if a.options.Certificate != "" {
			group.Go(func() { a.renew(ctx) })
		}
	}
	for failures := 0; ctx.Err() == nil; {
		started := time.Now()
		err := a.ownSide(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > time.Minute {
			failures = 0
		}
		a.log.Warn("connection to this cluster's API server", "error", err)
		sleep(ctx, jitter(min(connectFirst<<min(failures, 8), connectLast)))
		failures++
	}
	return nil
}

func (a *Agent) heartbeat() (*heartbeat, error) {
	parent, err := client.New(a.options.Parent, client.Options{Scheme: a.scheme})
	if err != nil {
		return nil, fmt.Errorf("client of the parent: %w", err)
	}
	well, err := a.well()
	if err != nil {
		return nil, fmt.Errorf("client of this cluster: %w", err)
	}
	a.self.changed.listen(func(string) { a.news() })
	return &heartbeat{
		parent: parent, well: well, every: a.options.Heartbeat, self: a.self, state: a.state, wake: a.wake,
		back: func() { offer(a.parentBack) }, log: a.log,
	}, nil
}

// ownSide runs what works on this cluster's API server, and while that goes on, the
// parent's side.
func (a *Agent) ownSide(ctx context.Context) error {
	plain, err := client.New(a.options.Own, client.Options{Scheme: a.scheme})
	if err != nil {
		return err
	}
	if err := a.self.load(ctx, plain); err != nil {
		return err
	}
	child, err := labels.NewRequirement(v1alpha1.LabelCluster, selection.Exists, nil)
	if err != nil {
		return err
	}
	var own cache.Options
	if a.options.Standalone == nil { // which has no children
		ofChildren := cache.ByObject{Label: labels.NewSelector().Add(*child)}
		own.ByObject = map[client.Object]cache.ByObject{&corev1.Namespace{}: ofChildren, &rbacv1.RoleBinding{}: ofChildren}
	}
	mgr, err := ctrl.NewManager(a.options.Own, a.manager(own, a.log))
	if err != nil {
		return err
	}
	mission, err := labels.NewRequirement(v1alpha1.LabelMission, selection.Exists, nil)
	if err != nil {
		return err
	}
	objects, err := cache.New(a.options.Own, cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: a.scheme, Mapper: mgr.GetRESTMapper(),
		DefaultLabelSelector: labels.NewSelector().Add(*mission), DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return err
	}
	back, err := a.back()
	if err != nil {
		return err
	}
	for _, r := range []manager.Runnable{objects, back} {
		if err := mgr.Add(r); err != nil {
			return err
		}
	}
	parts := []interface{ setUp(ctrl.Manager) error }{
		&contents{
			client: mgr.GetClient(), fresh: mgr.GetAPIReader(), self: a.self, watches: &watches{cache: objects}, commands: a.commands,
			possible: a.possible,
		},
		&gateways{client: mgr.GetClient(), log: a.log},
		&numbers{client: mgr.GetClient(), fresh: mgr.GetAPIReader(), top: a.options.Parent == nil},
	}
	if a.options.Standalone == nil { // nobody joins where there is no API server
		parts = append(parts, &missions{client: mgr.GetClient()}, &children{client: mgr.GetClient(), self: a.self},
			&joining{client: mgr.GetClient(), fresh: mgr.GetAPIReader(), log: a.log})
	}
	for _, part := range parts {
		if err := part.setUp(mgr); err != nil {
			return err
		}
	}
	if a.options.Parent != nil {
		err := a.listenTo(ctx, mgr.GetCache())
		if err != nil {
			return err
		}
		err = mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			a.state.use(mgr.GetCache())
			defer a.state.use(nil)
			a.news()
			a.parentSide(ctx, mgr.GetClient())
			return nil
		}))
		if err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// listenTo hears of changes that the parent is told of.
func (a *Agent) listenTo(ctx context.Context, c cache.Cache) error {
	name := func(o client.Object) string { return o.GetName() }
	var others bell
	stop := others.listen(func(string) { a.news() })
	context.AfterFunc(ctx, stop)
	bells := map[client.Object]*bell{&v1alpha1.Mission{}: &a.missionBell, &v1alpha1.EdgeCluster{}: &others, &corev1.Node{}: &others}
	for i, kind := range networkKinds {
		bells[kind.empty()] = &a.netBells[i]
		if _, reported := kind.empty().(*v1alpha1.Gateway); reported {
			context.AfterFunc(ctx, a.netBells[i].listen(func(string) { a.news() }))
		}
	}
	for kind, b := range bells {
		informer, err := c.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return err
		}
		if _, err := informer.AddEventHandler(b.handler(name)); err != nil {
			return err
		}
	}
	context.AfterFunc(ctx, a.missionBell.listen(func(string) { a.news() }))
	return nil
}

// news wakes the heartbeat, which looks whether there is any.
func (a *Agent) news() { offer(a.wake) }

func offer(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}

// manager returns what both sides' managers have in common.
func (a *Agent) manager(c cache.Options, log *slog.Logger) ctrl.Options {
	c.DefaultTransform = cache.TransformStripManagedFields()
	return ctrl.Options{
		Scheme: a.scheme, Cache: c, Logger: logr.FromSlogHandler(log.Handler()),
		Metrics:                 server.Options{BindAddress: "0"},
		HealthProbeBindAddress:  "0",
		GracefulShutdownTimeout: ptr.To(5 * time.Second),
		Controller:              config.Controller{CacheSyncTimeout: 30 * time.Second, SkipNameValidation: ptr.To(true)},
	}
}

// options of a controller: how much at once, and how long to wait after errors.
func options(workers int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](200*time.Millisecond, 30*time.Second),
	}
}
