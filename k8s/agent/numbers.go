package agent

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

// numbers gives VPCs their numbers. It is the only one in a cluster that does, one at a
// time, and looks at no cache: a number that was given a moment ago must not be given
// again. Copies have their number from above.
type numbers struct {
	client client.Client
	fresh  client.Reader
	top    bool // of the tree
}

func (r *numbers) setUp(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{request("all")} })
	return ctrl.NewControllerManagedBy(mgr).Named("numbers").WithOptions(options(1)).Watches(&v1alpha1.VPC{}, all).Complete(r)
}

func (r *numbers) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var list v1alpha1.VPCList
	if err := r.fresh.List(ctx, &list); err != nil {
		return ctrl.Result{}, err
	}
	numbered := network.Number(list.Items, r.top)
	for i := range list.Items {
		v := &list.Items[i]
		result, ok := numbered[v.Name]
		if !ok {
			continue // it is being deleted
		}
		next := v.DeepCopy()
		s := &next.Status
		s.ObservedGeneration, s.VNI, s.State = v.Generation, result.VNI, ""
		switch {
		case result.Problem == nil:
			s.State = v1alpha1.VPCReady
		case result.Problem.Reason == network.ReasonDuplicateVNI:
			s.State = v1alpha1.DuplicateVNI
		}
		if apiequality.Semantic.DeepEqual(next.Status, v.Status) {
			continue
		}
		patch := client.MergeFromWithOptions(v, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, next, patch); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("number VPC %s: %w", v.Name, err)
		}
	}
	return ctrl.Result{}, nil
}
