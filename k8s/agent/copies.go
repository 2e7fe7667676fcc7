package agent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// networkKind is a kind of network objects.
type networkKind struct {
	name  string
	empty func() client.Object
	list  func() client.ObjectList
}

var networkKinds = [3]networkKind{
	{"Gateway", func() client.Object { return &v1alpha1.Gateway{} }, func() client.ObjectList { return &v1alpha1.GatewayList{} }},
	{"VPC", func() client.Object { return &v1alpha1.VPC{} }, func() client.ObjectList { return &v1alpha1.VPCList{} }},
	{"Subnet", func() client.Object { return &v1alpha1.Subnet{} }, func() client.ObjectList { return &v1alpha1.SubnetList{} }},
}

// copies does for network objects what mirror does for Missions: the parent's are copied
// into this cluster, and copies of what the parent has no more are deleted. What a
// Mission brought to the parent is not copied: Missions say themselves where to.
type copies struct {
	kind   networkKind
	parent client.Reader
	own    client.Client
	self   *identity
	bell   *bell // of own objects
}

func (r *copies) setUp(mgr ctrl.Manager) error {
	names := func(ctx context.Context) (names []string) {
		list := r.kind.list()
		if err := r.own.List(ctx, list); err != nil {
			return nil // the cache is gone, and we go with it
		}
		objects, err := meta.ExtractList(list)
		if err != nil {
			return nil // it is one of ours: a list
		}
		for _, o := range objects {
			names = append(names, o.(client.Object).GetName())
		}
		return names
	}
	return ctrl.NewControllerManagedBy(mgr).Named("copies-" + strings.ToLower(r.kind.name)).WithOptions(options(2)).
		For(r.kind.empty()).
		WatchesRawSource(r.bell.source(0)).
		WatchesRawSource(atStart(names)).
		Complete(r)
}

func (r *copies) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	theirs, ours := r.kind.empty(), r.kind.empty()
	err := r.parent.Get(ctx, req.NamespacedName, theirs)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	labels := theirs.GetLabels()
	wanted := err == nil && theirs.GetDeletionTimestamp() == nil && labels[v1alpha1.LabelMission] == "" && labels[v1alpha1.LabelCluster] != r.self.cluster().Name
	err = r.own.Get(ctx, req.NamespacedName, ours)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	there := err == nil
	var spec any
	if wanted {
		var known bool
		if spec, known = r.specOf(theirs); !known {
			return ctrl.Result{}, nil // we are called again when it is
		}
	}
	switch {
	case there && !mirrored(ours): // made here
		return ctrl.Result{}, nil
	case there && ours.GetDeletionTimestamp() != nil: // when it is gone, we are called again
		return ctrl.Result{}, nil
	case there && !wanted:
		uid := ours.GetUID()
		return ctrl.Result{}, client.IgnoreNotFound(r.own.Delete(ctx, ours, client.Preconditions{UID: &uid}))
	case !wanted:
		return ctrl.Result{}, nil
	}
	w := sluice(r.kind.name, "", req.Name)
	w.Spec = spec
	w.Metadata.Labels = maps.Clone(labels)
	if w.Metadata.Labels == nil {
		w.Metadata.Labels = map[string]string{}
	}
	maps.DeleteFunc(w.Metadata.Labels, func(key, _ string) bool { return strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/") })
	w.Metadata.Labels[v1alpha1.LabelMirrored] = "true"
	created := theirs.GetAnnotations()[v1alpha1.AnnotationCreated]
	if !mirrored(theirs) || created == "" {
		created = theirs.GetCreationTimestamp().UTC().Format(time.RFC3339)
	}
	w.Metadata.Annotations = map[string]string{v1alpha1.AnnotationCreated: created}
	same := false
	if there {
		if same, err = sameCopy(ours, w); err != nil {
			return ctrl.Result{}, err
		}
	}
	if !same {
		if err := w.apply(ctx, r.own, ours, ownerMirror); err != nil {
			return ctrl.Result{}, fmt.Errorf("copy %s %s: %w", r.kind.name, req.Name, err)
		}
	}
	if g, ok := ours.(*v1alpha1.Gateway); ok {
		return ctrl.Result{}, r.say(ctx, g, theirs.(*v1alpha1.Gateway))
	}
	return ctrl.Result{}, nil
}

// specOf is what the copy of an object says; known is false while that is not decided at
// the parent.
func (r *copies) specOf(theirs client.Object) (spec any, known bool) {
	switch o := theirs.(type) {
	case *v1alpha1.Gateway:
		spec := o.Spec.DeepCopy()
		if spec.Cluster == "" { // the parent, whose name our path has, unless it is the root
			if spec.Cluster = path.Base(path.Dir(r.self.cluster().Path)); spec.Cluster == "." {
				return nil, false
			}
		}
		return spec, true
	case *v1alpha1.VPC: // its number is the parent's word, or there is none
		if o.Status.ObservedGeneration != o.Generation {
			return nil, false
		}
		spec := o.Spec.DeepCopy()
		spec.VNI = nil
		if o.Status.VNI > 0 {
			spec.VNI = &o.Status.VNI
		}
		return spec, true
	case *v1alpha1.Subnet:
		return &o.Spec, true
	}
	return nil, false
}

// say copies what is said of a Gateway, unless it is said here, or below.
func (r *copies) say(ctx context.Context, ours, theirs *v1alpha1.Gateway) error {
	if ours.Spec.Cluster == r.self.cluster().Name {
		return nil
	}
	var clusters v1alpha1.EdgeClusterList
	if err := r.own.List(ctx, &clusters, client.UnsafeDisableDeepCopy); err != nil { // only read here
		return err
	}
	if len(fold.Behind(clusters.Items, ours.Spec.Cluster)) > 0 {
		return nil
	}
	home := meta.FindStatusCondition(theirs.Status.Conditions, v1alpha1.ConditionAtHome)
	return sayOfGateway(ctx, r.own, ours, theirs.Status.Endpoints, theirs.Status.ActiveMembers, home)
}

// sameCopy reports whether a copy is as it has to be. Labels and annotations that it has
// beside ours are others'.
func sameCopy(ours client.Object, w wish) (bool, error) {
	if !includes(ours.GetLabels(), w.Metadata.Labels) || !includes(ours.GetAnnotations(), w.Metadata.Annotations) {
		return false, nil
	}
	var now any
	switch o := ours.(type) {
	case *v1alpha1.Gateway:
		now = o.Spec
	case *v1alpha1.VPC:
		now = o.Spec
	case *v1alpha1.Subnet:
		now = o.Spec
	}
	a, err := canonical(now)
	if err != nil {
		return false, err
	}
	b, err := canonical(w.Spec)
	return bytes.Equal(a, b), err
}

func includes(all, some map[string]string) bool {
	for key, value := range some {
		if all[key] != value {
			return false
		}
	}
	return true
}
