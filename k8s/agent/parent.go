package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Waits between tries to reach an API server.
const (
	connectFirst = 500 * time.Millisecond
	connectLast  = 15 * time.Second
)

// parentSide keeps a session with the parent's API server until ctx is done. When the
// parent was away and is back, a new session lists everything anew: watches of the old
// one may find out late that their connection is dead.
func (a *Agent) parentSide(ctx context.Context, own client.Client) {
	for failures := 0; ctx.Err() == nil; {
		session, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-a.parentBack:
				cancel()
			case <-session.Done():
			}
		}()
		started := time.Now()
		err := a.session(session, own)
		again := session.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case again:
			failures = 0
			continue
		case time.Since(started) > time.Minute:
			failures = 0
		}
		a.log.Warn("connection to the parent", "error", err)
		sleep(ctx, jitter(min(connectFirst<<min(failures, 8), connectLast)))
		failures++
	}
}

func (a *Agent) session(ctx context.Context, own client.Client) error {
	here := map[string]cache.Config{v1alpha1.ClusterNamespace(a.self.cluster().Name): {}}
	mgr, err := ctrl.NewManager(a.options.Parent, a.manager(cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.MissionReport{}: {Namespaces: here},
			&v1alpha1.ClusterReport{}: {Namespaces: here},
		},
	}, a.log.With("side", "parent")))
	if err != nil {
		return err
	}
	parts := []interface{ setUp(ctrl.Manager) error }{
		&mirror{parent: mgr.GetClient(), own: own, bell: &a.missionBell},
		&reporter{parent: mgr.GetClient(), own: own, self: a.self, bell: &a.missionBell},
		&listener{parent: mgr.GetClient(), own: own, self: a.self, log: a.log},
	}
	for i, kind := range networkKinds {
		parts = append(parts, &copies{kind: kind, parent: mgr.GetClient(), own: own, self: a.self, bell: &a.netBells[i]})
	}
	for _, part := range parts {
		if err := part.setUp(mgr); err != nil {
			return err
		}
	}
	if site := a.options.Standalone; site != nil {
		err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			if mgr.GetCache().WaitForCacheSync(ctx) {
				site.Heard()
			}
			return nil
		}))
		if err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// listener takes what the parent says of this cluster: its path, its labels.
type listener struct {
	parent client.Reader
	own    client.Client
	self   *identity
	log    *slog.Logger
}

func (r *listener) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("listener").WithOptions(options(1)).For(&v1alpha1.ClusterReport{}).Complete(r)
}

func (r *listener) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var report v1alpha1.ClusterReport
	if err := r.parent.Get(ctx, req.NamespacedName, &report); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if req.Name != r.self.cluster().Name || report.Status.Path == "" || !r.self.hear(report.Status) {
		return ctrl.Result{}, nil
	}
	r.log.Info("the parent says who we are", "path", report.Status.Path, "labels", report.Status.Labels)
	if err := r.self.keep(ctx, r.own); err != nil {
		return ctrl.Result{}, fmt.Errorf("keep what the parent said: %w", err)
	}
	return ctrl.Result{}, nil
}

// atStart feeds a controller with names once, when it starts.
func atStart(names func(context.Context) []string) source.Source {
	return source.Func(func(ctx context.Context, queue queueing) error {
		for _, name := range names(ctx) {
			queue.Add(request(name))
		}
		return nil
	})
}
