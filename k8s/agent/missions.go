package agent

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// missions folds the reports of children into the status of this cluster's
// Missions.
type missions struct {
	client   client.Client
	children atomic.Int64 // as many as there were last
}

// Reports of many children about a Mission come one by one, and each would change its
// status, which has an entry for every child: those that come within settleChild for
// each child are folded in at once.
const (
	settleChild = 2 * time.Millisecond
	settleFold  = 2 * time.Second // at most
)

func (r *missions) setUp(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) (requests []reconcile.Request) {
		for _, name := range missionNames(r.client)(ctx) {
			requests = append(requests, request(name))
		}
		return requests
	})
	return ctrl.NewControllerManagedBy(mgr).Named("missions").WithOptions(options(4)).
		For(&v1alpha1.Mission{}).
		Watches(&v1alpha1.MissionReport{}, r.soon()).
		Watches(&v1alpha1.EdgeCluster{}, all, builder.WithPredicates(healthChanged)).
		Complete(r)
}

// soon makes a report work for the Mission of its name, with those that come a little
// later.
func (r *missions) soon() handler.EventHandler {
	add := func(o client.Object, q queueing) {
		q.AddAfter(request(o.GetName()), min(time.Duration(r.children.Load())*settleChild, settleFold))
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queueing) { add(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queueing) { add(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queueing) { add(e.Object, q) },
	}
}

// byName makes reports work for the Mission of their name.
var byName = handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{request(o.GetName())}
})

// healthChanged lets through what changes a Mission's status: heartbeats alone do
// not.
var healthChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		old, ok1 := e.ObjectOld.(*v1alpha1.EdgeCluster)
		new, ok2 := e.ObjectNew.(*v1alpha1.EdgeCluster)
		return !ok1 || !ok2 || (old.Status.Health == v1alpha1.Disconnected) != (new.Status.Health == v1alpha1.Disconnected)
	},
}

func (r *missions) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var m v1alpha1.Mission
	if err := r.client.Get(ctx, client.ObjectKey{Name: req.Name}, &m); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var clusters v1alpha1.EdgeClusterList
	if err := r.client.List(ctx, &clusters); err != nil {
		return ctrl.Result{}, err
	}
	r.children.Store(int64(len(clusters.Items)))
	var children []fold.Child
	for i := range clusters.Items {
		c := &clusters.Items[i]
		child := fold.Child{Name: c.Name, Health: c.Status.Health}
		var report v1alpha1.MissionReport
		err := r.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.ClusterNamespace(c.Name), Name: m.Name}, &report)
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		if err == nil {
			child.Report = &report.Report
		}
		children = append(children, child)
	}
	next := fold.Status(m.Status, children, generation(&m), time.Now())
	now := m.Status
	now.Local = nil
	if apiequality.Semantic.DeepEqual(now, next) {
		return ctrl.Result{}, nil
	}
	w := sluice("Mission", "", m.Name)
	w.Status = next
	return ctrl.Result{}, client.IgnoreNotFound(w.applyStatus(ctx, r.client, &v1alpha1.Mission{}, ownerFold))
}

// generation of a Mission as a person wrote it, wherever that was.
func generation(m *v1alpha1.Mission) int64 {
	if mirrored(m) {
		if n, err := strconv.ParseInt(m.Annotations[v1alpha1.AnnotationGeneration], 10, 64); err == nil {
			return n
		}
	}
	return m.Generation
}

// mirrored reports whether an object came from the parent.
func mirrored(o client.Object) bool { return o.GetLabels()[v1alpha1.LabelMirrored] != "" }

// childOf is the name of the child that a namespace belongs to.
func childOf(namespace string) (string, bool) {
	return strings.CutPrefix(namespace, v1alpha1.NamespacePrefix)
}

// missionNames lists the Missions that a reader has.
func missionNames(c client.Reader) func(context.Context) []string {
	return func(ctx context.Context) (names []string) {
		var list v1alpha1.MissionList
		if err := c.List(ctx, &list); err != nil {
			return nil // the cache is gone, and we go with it
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	}
}
