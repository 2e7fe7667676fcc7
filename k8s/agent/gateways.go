package agent

import (
	"context"
	"fmt"
	"log/slog"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// gateways writes what children say of their gateways, and of those below, into the
// status of this cluster's Gateways, and makes Gateways here that were made there.
type gateways struct {
	client client.Client
	log    *slog.Logger
}

func (r *gateways) setUp(mgr ctrl.Manager) error {
	reported := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) (requests []reconcile.Request) {
		if c, ok := o.(*v1alpha1.EdgeCluster); ok && c.Status.Network != nil {
			for _, g := range c.Status.Network.Gateways {
				requests = append(requests, request(g.Name))
			}
		}
		return requests
	})
	return ctrl.NewControllerManagedBy(mgr).Named("gateways").WithOptions(options(2)).
		For(&v1alpha1.Gateway{}).
		Watches(&v1alpha1.EdgeCluster{}, reported, builder.WithPredicates(networkChanged)).
		Complete(r)
}

// networkChanged lets through what changes who says what of gateways.
var networkChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		old, ok1 := e.ObjectOld.(*v1alpha1.EdgeCluster)
		new, ok2 := e.ObjectNew.(*v1alpha1.EdgeCluster)
		return !ok1 || !ok2 || (old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil) || len(old.Status.SubClusters) != len(new.Status.SubClusters) ||
			!apiequality.Semantic.DeepEqual(old.Status.Network, new.Status.Network)
	},
}

func (r *gateways) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var clusters v1alpha1.EdgeClusterList
	if err := r.client.List(ctx, &clusters, client.UnsafeDisableDeepCopy); err != nil { // only read here
		return ctrl.Result{}, err
	}
	said, child, conflict := fold.Gateway(req.Name, clusters.Items)
	if conflict != "" {
		r.log.Warn("several children say that they have a cluster below them: none is believed about its gateway", "cluster", conflict, "gateway", req.Name)
		return ctrl.Result{}, nil
	}
	var g v1alpha1.Gateway
	err := r.client.Get(ctx, req.NamespacedName, &g)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	there := err == nil
	from := g.Labels[v1alpha1.LabelCluster] // it was made there
	switch {
	case there && g.DeletionTimestamp != nil:
		return ctrl.Result{}, nil
	case there && from != "" && (said == nil || said.Spec == nil || child != from):
		return ctrl.Result{}, client.IgnoreNotFound(r.client.Delete(ctx, &g, client.Preconditions{UID: &g.UID}))
	case said == nil:
		return ctrl.Result{}, nil
	case said.Spec != nil && (!there || from != "" && !apiequality.Semantic.DeepEqual(g.Spec, *said.Spec)):
		w := sluice("Gateway", "", req.Name)
		w.Metadata.Labels = map[string]string{v1alpha1.LabelCluster: child}
		w.Spec = said.Spec
		if err := w.apply(ctx, r.client, &g, ownerNetwork); err != nil {
			return ctrl.Result{}, fmt.Errorf("make Gateway %s of cluster %s: %w", req.Name, said.Cluster, err)
		}
	case !there:
		return ctrl.Result{}, nil
	}
	if g.Spec.Cluster != said.Cluster {
		r.log.Warn("a child speaks of a Gateway that is another cluster's here", "gateway", req.Name, "child", child, "says", said.Cluster, "cluster", g.Spec.Cluster)
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, sayOfGateway(ctx, r.client, &g, said.Endpoints, said.ActiveMembers, said.AtHome)
}

// sayOfGateway writes what is said elsewhere of a Gateway, if it is news.
func sayOfGateway(ctx context.Context, c client.Client, g *v1alpha1.Gateway, endpoints []v1alpha1.EndpointStatus, active []v1alpha1.ActiveMember, home *metav1.Condition) error {
	was := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionAtHome)
	if apiequality.Semantic.DeepEqual(g.Status.Endpoints, endpoints) && apiequality.Semantic.DeepEqual(g.Status.ActiveMembers, active) && apiequality.Semantic.DeepEqual(was, home) {
		return nil
	}
	w := sluice("Gateway", "", g.Name)
	status := v1alpha1.GatewayStatus{Endpoints: endpoints, ActiveMembers: active}
	if home != nil {
		status.Conditions = []metav1.Condition{*home}
	}
	w.Status = status
	if err := w.applyStatus(ctx, c, &v1alpha1.Gateway{}, ownerNetwork); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write status of Gateway %s: %w", g.Name, err)
	}
	return nil
}
