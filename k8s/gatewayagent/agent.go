package gatewayagent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

const (
	settle     = 50 * time.Millisecond  // changes within are one
	lookEvery  = 5 * time.Second        // how often the gateway is asked how it is
	retryFirst = 200 * time.Millisecond // after an error, doubled each time
	retryLast  = 30 * time.Second
)

// Options of an Agent.
type Options struct {
	Config Config
	// Own is the cluster's API server.
	Own    *rest.Config
	Logger *slog.Logger
}

// Run runs until ctx is done. An API server or a gateway that does not answer is
// waited for.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	own := rest.CopyConfig(o.Own)
	own.QPS, own.Burst, own.UserAgent = 50, 100, "sluice-agent-gateway"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	for failures := 0; ctx.Err() == nil; {
		started := time.Now()
		err := session(ctx, o, own, scheme)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > time.Minute {
			failures = 0
		}
		o.Logger.Warn("connection to this cluster's API server", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(jitter(min(retryFirst<<min(failures, 10), retryLast))):
		}
		failures++
	}
	return nil
}

func session(ctx context.Context, o Options, own *rest.Config, scheme *runtime.Scheme) error {
	mgr, err := ctrl.NewManager(own, ctrl.Options{
		Scheme: scheme, Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Logger:  logr.FromSlogHandler(o.Logger.Handler()),
		Metrics: server.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		GracefulShutdownTimeout: ptr.To(5 * time.Second),
		Controller:              ctrlconfig.Controller{CacheSyncTimeout: 30 * time.Second, SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		return err
	}
	everything := reconcile.Request{}
	everything.Name = o.Config.Gateway
	soon := func(q workqueue.TypedRateLimitingInterface[reconcile.Request]) { q.AddAfter(everything, settle) }
	wake := handler.Funcs{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			soon(q)
		},
		UpdateFunc: func(_ context.Context, _ event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			soon(q)
		},
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			soon(q)
		},
	}
	b := ctrl.NewControllerManagedBy(mgr).Named("gateway").WithOptions(controller.Options{
		MaxConcurrentReconciles: 1,
		RateLimiter:             jittered{workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryLast)},
	})
	for _, kind := range []client.Object{&v1alpha1.Gateway{}, &v1alpha1.VPC{}, &v1alpha1.Subnet{}} {
		b = b.Watches(kind, wake, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, saidByOthers)))
	}
	b = b.Watches(&corev1.Node{}, wake, builder.WithPredicates(nodeChanged))
	r := &reconciler{client: mgr.GetClient(), config: o.Config, log: o.Logger}
	if err := b.Complete(r); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return err
	}
	return errors.New("watching has ended")
}

// nodeReady reports what a node says of itself.
func nodeReady(o client.Object) bool {
	n, ok := o.(*corev1.Node)
	if !ok {
		return false
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// nodeChanged: its heartbeats are no news.
var nodeChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*corev1.Node)
	now, also := e.ObjectNew.(*corev1.Node)
	return !ok || !also || nodeReady(before) != nodeReady(now) || !maps.Equal(before.Labels, now.Labels) ||
		!reflect.DeepEqual(network.PodNodeOf(before), network.PodNodeOf(now))
}}

// saidByOthers lets that part of a status through that a gateway's configuration comes
// from, and that agents write.
var saidByOthers = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		switch old := e.ObjectOld.(type) {
		case *v1alpha1.Gateway:
			now, ok := e.ObjectNew.(*v1alpha1.Gateway)
			return !ok || !apiequality.Semantic.DeepEqual(old.Status.Endpoints, now.Status.Endpoints) ||
				!apiequality.Semantic.DeepEqual(old.Status.ActiveMembers, now.Status.ActiveMembers)
		case *v1alpha1.VPC:
			now, ok := e.ObjectNew.(*v1alpha1.VPC)
			return !ok || old.Status.VNI != now.Status.VNI
		}
		return false
	},
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }

// jittered keeps gateways that failed together from trying again together.
type jittered struct {
	workqueue.TypedRateLimiter[reconcile.Request]
}

func (j jittered) When(r reconcile.Request) time.Duration { return jitter(j.TypedRateLimiter.When(r)) }
