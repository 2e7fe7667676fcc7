package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

const (
	settle      = 50 * time.Millisecond // changes within are one
	lookEvery   = 30 * time.Second      // how often the kernel is looked at when nothing was heard
	retryFirst  = 200 * time.Millisecond
	retryLast   = 30 * time.Second
	syncTimeout = 30 * time.Second
)

// Options of Run.
type Options struct {
	Config Config
	// Own is the cluster's API server.
	Own    *rest.Config
	Logger *slog.Logger
	// Cleanup removes everything when ctx is done.
	Cleanup bool
}

// Run runs until ctx is done, in the network namespace that it is called in; it must not be called on a thread of
// another one. An API server that does not answer is waited for, and nothing is changed before it has answered once.
func Run(ctx context.Context, o Options) (err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	kernel, err := OpenKernel(o.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kernel.Close()) }()
	watch, err := OpenWatch(o.Config)
	if err != nil {
		return err
	}
	a := &agent{config: o.Config, kernel: kernel, log: o.Logger, bell: make(chan struct{}, 1)}
	inner, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch.Run(inner, a.wake)
	}()
	defer func() {
		stop()
		<-watched
	}()
	a.follow(ctx, o.Own)
	if o.Cleanup {
		changes, err := kernel.Remove()
		a.tell(changes)
		return err
	}
	return nil
}

// agent is one run. follow's goroutine owns everything but bell.
type agent struct {
	config Config
	kernel *Kernel
	log    *slog.Logger
	bell   chan struct{}
	told   []string // problems
}

// wake may be called from any goroutine.
func (a *agent) wake() {
	select {
	case a.bell <- struct{}{}:
	default: // it has been rung
	}
}

// follow does what the objects say until ctx is done.
func (a *agent) follow(ctx context.Context, own *rest.Config) {
	for failures := 0; ctx.Err() == nil; failures++ {
		started := time.Now()
		err := a.session(ctx, own)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > time.Minute {
			failures = 0
		}
		a.log.Warn("connection to this cluster's API server", "error", err)
		wait(ctx, jitter(min(retryFirst<<min(failures, 10), retryLast)))
	}
}

// session reads objects from one cache. When the API server is away later on, the cache goes on with what it has.
func (a *agent) session(ctx context.Context, own *rest.Config) error {
	ctx, stop := context.WithCancel(ctx)
	objects, err := openCache(own)
	if err != nil {
		stop()
		return err
	}
	ended := make(chan error, 1)
	started := false
	defer func() {
		stop()
		if started {
			<-ended
		}
	}()
	syncing, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	go func() { ended <- objects.Start(ctx) }()
	started = true
	for _, kind := range []client.Object{&v1alpha1.Gateway{}, &v1alpha1.VPC{}, &v1alpha1.Subnet{}, &corev1.Node{}} {
		informer, err := objects.GetInformer(syncing, kind)
		if err != nil {
			return err
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { a.wake() }, UpdateFunc: func(any, any) { a.wake() }, DeleteFunc: func(any) { a.wake() },
		}); err != nil {
			return err
		}
	}
	if !objects.WaitForCacheSync(syncing) {
		return errors.New("its objects could not be listed")
	}
	a.log.Info("the objects of this cluster are known")
	failures := 0
	for {
		next := jitter(lookEvery)
		if err := a.bring(ctx, objects); err != nil {
			a.log.Error("bring the kernel to what it should be", "error", err)
			next = jitter(min(retryFirst<<min(failures, 10), retryLast))
			failures++
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.bell:
			wait(ctx, settle)
		case <-time.After(next):
		}
	}
}

func openCache(own *rest.Config) (cache.Cache, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	own = rest.CopyConfig(own)
	own.UserAgent = "sluice-agent-node"
	return cache.New(own, cache.Options{Scheme: scheme, DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
		&corev1.Node{}: {Transform: trim},
	}})
}

// trim keeps of a Node what a Plan is made of: a cluster has many, and they list all images and conditions.
func trim(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	kept := &corev1.Node{TypeMeta: n.TypeMeta}
	kept.Name, kept.UID, kept.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	kept.Spec.PodCIDRs, kept.Status.Addresses = n.Spec.PodCIDRs, n.Status.Addresses
	return kept, nil
}

// bring plans and applies once.
func (a *agent) bring(ctx context.Context, from client.Reader) error {
	var gateways v1alpha1.GatewayList
	var vpcs v1alpha1.VPCList
	var subnets v1alpha1.SubnetList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&gateways, &vpcs, &subnets, &nodes} {
		if err := from.List(ctx, list); err != nil {
			return err
		}
	}
	objects := Objects{Gateways: gateways.Items, VPCs: vpcs.Items, Subnets: subnets.Items}
	for i := range nodes.Items {
		objects.Nodes = append(objects.Nodes, network.PodNodeOf(&nodes.Items[i]))
	}
	host, err := a.kernel.Addresses()
	if err != nil {
		return err
	}
	state := Plan(a.config, objects, host)
	if !slices.Equal(state.Problems, a.told) {
		for _, problem := range state.Problems {
			a.log.Warn("not all can be done", "problem", problem)
		}
		if len(state.Problems) == 0 {
			a.log.Info("nothing is in the way any more")
		}
		a.told = state.Problems
	}
	changes, err := a.kernel.Apply(state)
	a.tell(changes)
	return err
}

func (a *agent) tell(changes []string) {
	for _, change := range changes {
		a.log.Info("changed", "change", change)
	}
}

// Cleanup removes what a Run with this configuration has left.
func Cleanup(c Config) (changes []string, err error) {
	kernel, err := OpenKernel(c)
	if err != nil {
		return nil, fmt.Errorf("clean up: %w", err)
	}
	defer func() { err = errors.Join(err, kernel.Close()) }()
	return kernel.Remove()
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
