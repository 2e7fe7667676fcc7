package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// roleReports is the ClusterRole that a child has in its namespace, and only there.
const roleReports = "sluice:child-reports"

// children keeps the EdgeClusters of this cluster: the namespace and permissions of
// each, its status out of its report, and the answer to it.
type children struct {
	client client.Client
	self   *identity
	heard  heard
}

func (r *children) setUp(mgr ctrl.Manager) error {
	byLabel := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{request(o.GetLabels()[v1alpha1.LabelCluster])}
	})
	byNamespace := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		child, ok := childOf(o.GetNamespace())
		if !ok || o.GetName() != child {
			return nil
		}
		return []reconcile.Request{request(child)}
	})
	names := func(ctx context.Context) (names []string) {
		var list v1alpha1.EdgeClusterList
		if err := r.client.List(ctx, &list); err != nil {
			return nil // the cache is gone, and we go with it
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	}
	return ctrl.NewControllerManagedBy(mgr).Named("children").WithOptions(options(4)).
		For(&v1alpha1.EdgeCluster{}).
		Watches(&v1alpha1.ClusterReport{}, byNamespace).
		Watches(&corev1.Namespace{}, byLabel).
		Watches(&rbacv1.RoleBinding{}, byLabel).
		WatchesRawSource(r.self.changed.forAll(names)).
		Complete(r)
}

func (r *children) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var c v1alpha1.EdgeCluster
	if err := r.client.Get(ctx, client.ObjectKey{Name: req.Name}, &c); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.heard.forget(req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if c.DeletionTimestamp != nil {
		return ctrl.Result{}, r.dismiss(ctx, &c)
	}
	if err := r.admit(ctx, &c); err != nil {
		return ctrl.Result{}, err
	}
	namespace := v1alpha1.ClusterNamespace(c.Name)
	var report v1alpha1.ClusterReport
	err := r.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: c.Name}, &report)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	path := r.self.below(c.Name)
	var body *v1alpha1.ClusterReportBody
	if err == nil {
		body = &report.Report
		if err := useUp(ctx, r.client, &c); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		answer := v1alpha1.ClusterReportStatus{Path: path, Labels: c.Spec.Labels}
		if report.Status.Path != path || !maps.Equal(report.Status.Labels, c.Spec.Labels) {
			w := sluice("ClusterReport", namespace, c.Name)
			w.Status = answer
			if err := w.applyStatus(ctx, r.client, &v1alpha1.ClusterReport{}, ownerChildren); client.IgnoreNotFound(err) != nil {
				return ctrl.Result{}, err
			}
		}
	}
	next, again := fold.Cluster(r.heard.with(c.Name, c.Status), path, body, time.Now())
	if r.heard.news(c.Name, c.Status, next) {
		w := sluice("EdgeCluster", "", c.Name)
		w.Status = next
		if err := w.applyStatus(ctx, r.client, &v1alpha1.EdgeCluster{}, ownerFold); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// admit makes what a child needs here, or repairs it.
func (r *children) admit(ctx context.Context, c *v1alpha1.EdgeCluster) error {
	if !controllerutil.ContainsFinalizer(c, v1alpha1.FinalizerChild) {
		old := c.DeepCopy()
		controllerutil.AddFinalizer(c, v1alpha1.FinalizerChild)
		if err := r.client.Patch(ctx, c, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("set finalizer: %w", err)
		}
	}
	name := v1alpha1.ClusterNamespace(c.Name)
	labels := map[string]string{v1alpha1.LabelCluster: c.Name}
	var ns corev1.Namespace
	err := r.client.Get(ctx, client.ObjectKey{Name: name}, &ns)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || ns.Labels[v1alpha1.LabelCluster] != c.Name {
		w := wish{APIVersion: "v1", Kind: "Namespace", Metadata: metadata{Name: name, Labels: labels}}
		if err := w.apply(ctx, r.client, &corev1.Namespace{}, ownerChildren); err != nil {
			return fmt.Errorf("make namespace %s: %w", name, err)
		}
	}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.ClusterUser(c.Name)}}
	var binding rbacv1.RoleBinding
	err = r.client.Get(ctx, client.ObjectKey{Namespace: name, Name: roleReports}, &binding)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || !slices.Equal(binding.Subjects, subjects) {
		w := wish{
			APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding",
			Metadata: metadata{Name: roleReports, Namespace: name, Labels: labels},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: roleReports},
			Subjects: subjects,
		}
		if err := w.apply(ctx, r.client, &rbacv1.RoleBinding{}, ownerChildren); err != nil {
			return fmt.Errorf("let %s report: %w", c.Name, err)
		}
	}
	return nil
}

// dismiss takes a child's permissions away, then all that it said.
func (r *children) dismiss(ctx context.Context, c *v1alpha1.EdgeCluster) error {
	if !controllerutil.ContainsFinalizer(c, v1alpha1.FinalizerChild) {
		return nil
	}
	name := v1alpha1.ClusterNamespace(c.Name)
	binding := &rbacv1.RoleBinding{}
	binding.Namespace, binding.Name = name, roleReports
	if err := r.client.Delete(ctx, binding); client.IgnoreNotFound(err) != nil {
		return err
	}
	for _, kind := range []client.Object{&v1alpha1.MissionReport{}, &v1alpha1.ClusterReport{}} {
		if err := r.client.DeleteAllOf(ctx, kind, client.InNamespace(name)); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	ns := &corev1.Namespace{}
	ns.Name = name
	if err := r.client.Delete(ctx, ns); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return err
	}
	return client.IgnoreNotFound(removeFinalizer(ctx, r.client, c, v1alpha1.FinalizerChild))
}

// removeFinalizer takes one finalizer away, and no other that came in between.
func removeFinalizer(ctx context.Context, c client.Client, o client.Object, finalizer string) error {
	old := o.DeepCopyObject().(client.Object)
	if !controllerutil.RemoveFinalizer(o, finalizer) {
		return nil
	}
	return c.Patch(ctx, o, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}))
}
