package agent

import (
	"context"
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// settleReport is how long a Mission's status may change before it is told: several
// clusters below usually change at the same time.
const settleReport = 300 * time.Millisecond

// reporter tells the parent what became of its Missions here and below.
type reporter struct {
	parent client.Client
	own    client.Client
	self   *identity
	bell   *bell // of own Missions
}

func (r *reporter) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("reporter").WithOptions(options(4)).
		Watches(&v1alpha1.MissionReport{}, byName). // which others should not, but may, change
		Watches(&v1alpha1.Mission{}, &handler.EnqueueRequestForObject{}).
		WatchesRawSource(r.bell.source(settleReport)).
		WatchesRawSource(atStart(missionNames(r.own))).
		Complete(r)
}

func (r *reporter) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var theirs, ours v1alpha1.Mission
	err := r.parent.Get(ctx, client.ObjectKey{Name: req.Name}, &theirs)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	known := err == nil
	err = r.own.Get(ctx, client.ObjectKey{Name: req.Name}, &ours)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	here := err == nil
	cluster := r.self.cluster().Name
	key := client.ObjectKey{Namespace: v1alpha1.ClusterNamespace(cluster), Name: req.Name}
	var report v1alpha1.MissionReport
	err = r.parent.Get(ctx, key, &report)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	told := err == nil

	var body v1alpha1.MissionReportBody
	switch {
	case known && here && !mirrored(&ours):
		body.Clusters = []v1alpha1.MissionState{{
			Phase: v1alpha1.PhaseFailed, State: "cluster " + cluster + " has a Mission of its own with this name",
			ObservedGeneration: generation(&theirs),
		}}
	case known && here:
		body = fold.Report(ours.Status)
	case known: // the mirror is at it
		return ctrl.Result{}, nil
	case here && mirrored(&ours): // it is being deleted; the report stays until that is done
		return ctrl.Result{}, nil
	case told:
		return ctrl.Result{}, client.IgnoreNotFound(r.parent.Delete(ctx, &report))
	default:
		return ctrl.Result{}, nil
	}
	if len(body.Clusters) == 0 || told && apiequality.Semantic.DeepEqual(report.Report, body) {
		return ctrl.Result{}, nil
	}
	w := sluice("MissionReport", key.Namespace, key.Name)
	w.Report = body
	if err := w.apply(ctx, r.parent, &v1alpha1.MissionReport{}, ownerReporter); err != nil {
		return ctrl.Result{}, fmt.Errorf("report Mission %s: %w", req.Name, err)
	}
	return ctrl.Result{}, nil
}
