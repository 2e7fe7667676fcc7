package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// mirror copies the parent's Missions into this cluster, and deletes copies of what
// the parent has no more: here too, if it was deleted while we were away. It runs
// only while the parent's whole list is known.
type mirror struct {
	parent client.Reader
	own    client.Client
	bell   *bell // of own Missions
}

func (r *mirror) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("mirror").WithOptions(options(4)).
		For(&v1alpha1.Mission{}).
		WatchesRawSource(r.bell.source(0)).
		WatchesRawSource(atStart(missionNames(r.own))).
		Complete(r)
}

func (r *mirror) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	key := client.ObjectKey{Name: req.Name}
	var theirs, ours v1alpha1.Mission
	err := r.parent.Get(ctx, key, &theirs)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	wanted := err == nil && theirs.DeletionTimestamp == nil
	err = r.own.Get(ctx, key, &ours)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	there := err == nil
	switch {
	case there && !mirrored(&ours): // made here; the reporter says so
		return ctrl.Result{}, nil
	case there && ours.DeletionTimestamp != nil: // when it is gone, we are called again
		return ctrl.Result{}, nil
	case there && !wanted:
		err := r.own.Delete(ctx, &ours, client.Preconditions{UID: &ours.UID})
		return ctrl.Result{}, client.IgnoreNotFound(err)
	case !wanted:
		return ctrl.Result{}, nil
	}
	w, err := copyOf(&theirs)
	if err != nil {
		return ctrl.Result{}, err
	}
	if there {
		same, err := isCopy(&ours, w)
		if err != nil || same {
			return ctrl.Result{}, err
		}
	}
	if err := w.apply(ctx, r.own, &v1alpha1.Mission{}, ownerMirror); err != nil {
		return ctrl.Result{}, fmt.Errorf("copy Mission %s: %w", req.Name, err)
	}
	return ctrl.Result{}, nil
}

// copyOf is what a parent's Mission has to be here.
func copyOf(theirs *v1alpha1.Mission) (wish, error) {
	w := sluice("Mission", "", theirs.Name)
	w.Metadata.Labels = maps.Clone(theirs.Labels)
	if w.Metadata.Labels == nil {
		w.Metadata.Labels = map[string]string{}
	}
	maps.DeleteFunc(w.Metadata.Labels, func(key, _ string) bool { return strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/") })
	w.Metadata.Labels[v1alpha1.LabelMirrored] = "true"
	w.Metadata.Annotations = map[string]string{v1alpha1.AnnotationGeneration: strconv.FormatInt(generation(theirs), 10)}
	w.Metadata.Finalizers = []string{v1alpha1.FinalizerContent}
	spec, err := json.Marshal(theirs.Spec)
	w.Spec = json.RawMessage(spec)
	return w, err
}

// isCopy reports whether a Mission is as it has to be.
func isCopy(ours *v1alpha1.Mission, w wish) (bool, error) {
	if !maps.Equal(ours.Labels, w.Metadata.Labels) || !controllerutil.ContainsFinalizer(ours, v1alpha1.FinalizerContent) ||
		ours.Annotations[v1alpha1.AnnotationGeneration] != w.Metadata.Annotations[v1alpha1.AnnotationGeneration] {
		return false, nil
	}
	a, err := canonical(ours.Spec)
	if err != nil {
		return false, err
	}
	b, err := canonical(w.Spec)
	return bytes.Equal(a, b), err
}

// canonical is JSON with its keys sorted, also inside of embedded objects.
func canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var decoded any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&decoded); err != nil {
		return nil, err
	}
	return json.Marshal(decoded)
}
