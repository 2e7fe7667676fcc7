package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/content"
)

// errNotOurs: an object is there already, and the Mission must not have it.
var errNotOurs = errors.New("not ours")

// appliedAs is what an object was after we applied it, and what we had asked for.
type appliedAs struct {
	wish            uint64 // hash
	resourceVersion string
	generation      int64
}

// place completes an object's name with what this cluster knows of its kind.
func (r *contents) place(u *unstructured.Unstructured) error {
	kind := u.GroupVersionKind()
	if err := r.possible(kind); err != nil {
		return fmt.Errorf("%s: %w", content.Words(content.NameOf(u)), err)
	}
	mapping, err := r.client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("no kind %s in %s in this cluster (is its definition installed?)", kind.Kind, kind.GroupVersion())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", content.Words(content.NameOf(u)), err)
	}
	switch {
	case mapping.Scope.Name() == meta.RESTScopeNameRoot:
		u.SetNamespace("")
	case u.GetNamespace() == "":
		u.SetNamespace(metav1.NamespaceDefault)
	}
	return nil
}

// applyOne makes one object what the Mission wants it to be, and returns it as it is.
func (r *contents) applyOne(ctx context.Context, m *v1alpha1.Mission, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := r.watches.of(ctx, u.GroupVersionKind()); err != nil {
		return nil, err
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[v1alpha1.LabelMission] = m.Name
	u.SetLabels(labels)
	name, wish := content.NameOf(u), hash(u)

	live := r.watches.get(ctx, u)
	if live != nil && live.GetLabels()[v1alpha1.LabelMission] == m.Name && r.asWanted(name, wish, u, live) {
		return live, nil
	}
	if live == nil { // not seen is not absent: without our label it is nowhere in the cache
		live = u.DeepCopy()
		err := r.client.Get(ctx, client.ObjectKeyFromObject(u), live)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err != nil {
			live = nil
		}
	}
	if live != nil {
		switch owner := live.GetLabels()[v1alpha1.LabelMission]; {
		case owner == m.Name:
		case owner != "":
			return nil, fmt.Errorf("%w: it belongs to Mission %s", errNotOurs, owner)
		case mirrored(live):
			return nil, fmt.Errorf("%w: the cluster above has one of this name, and this is its copy", errNotOurs)
		case m.Spec.Adoption == v1alpha1.Refuse:
			return nil, fmt.Errorf("%w: it was there before, and adoption is Refuse", errNotOurs)
		}
		if live.GetDeletionTimestamp() != nil {
			return nil, errors.New("somebody is deleting it; it will be made again when it is gone")
		}
	}
	options := []client.ApplyOption{ownerContent}
	if m.Spec.Conflicts != v1alpha1.Report {
		options = append(options, client.ForceOwnership)
	}
	got := u.DeepCopy()
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(got), options...); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.applied[name] = appliedAs{wish, got.GetResourceVersion(), got.GetGeneration()}
	r.mu.Unlock()
	return got, nil
}

// asWanted reports whether an object needs no applying. Where the API server has
// written something in other words (1000m for 1) only the first of the rules helps,
// and where it does not the object is applied once too often, which changes nothing.
func (r *contents) asWanted(name v1alpha1.ObjectName, wish uint64, u, live *unstructured.Unstructured) bool {
	if live.GetDeletionTimestamp() != nil {
		return false
	}
	r.mu.Lock()
	before, ok := r.applied[name]
	r.mu.Unlock()
	if ok && before.wish == wish {
		if before.resourceVersion == live.GetResourceVersion() {
			return true
		}
		if before.generation != 0 && before.generation == live.GetGeneration() && contains(live.Object["metadata"], u.Object["metadata"]) {
			return true // only the status has changed
		}
	}
	return contains(live.Object, u.Object)
}

// contains reports whether a has all that b has; lists have to be equal in length.
func contains(a, b any) bool {
	switch b := b.(type) {
	case map[string]any:
		m, ok := a.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range b {
			if there, ok := m[key]; !ok || !contains(there, value) {
				return false
			}
		}
		return true
	case []any:
		l, ok := a.([]any)
		if !ok || len(l) != len(b) {
			return false
		}
		for i := range b {
			if !contains(l[i], b[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// hash of an object's JSON, in which keys are sorted.
func hash(u *unstructured.Unstructured) uint64 {
	h := fnv.New64a()
	text, err := u.MarshalJSON()
	if err != nil { // it came out of JSON
		panic(err)
	}
	h.Write(text)
	return h.Sum64()
}

// remove deletes an object, or lets go of it, and reports whether it is still there
// as this Mission's.
func (r *contents) remove(ctx context.Context, m *v1alpha1.Mission, name v1alpha1.ObjectName, keep bool) (there bool, err error) {
	u := named(name)
	err = r.client.Get(ctx, client.ObjectKeyFromObject(u), u)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		r.forget(name)
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if u.GetLabels()[v1alpha1.LabelMission] != m.Name {
		r.forget(name)
		return false, nil
	}
	if keep {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, v1alpha1.LabelMission)
		err = r.client.Patch(ctx, u, client.RawPatch(types.MergePatchType, []byte(patch)))
		if client.IgnoreNotFound(err) == nil {
			r.forget(name)
		}
		return client.IgnoreNotFound(err) != nil, client.IgnoreNotFound(err)
	}
	if u.GetDeletionTimestamp() == nil {
		err = r.client.Delete(ctx, u, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: ptr.To(u.GetUID())})
		if client.IgnoreNotFound(err) != nil {
			return true, err
		}
	}
	err = r.client.Get(ctx, client.ObjectKeyFromObject(u), named(name))
	if apierrors.IsNotFound(err) {
		r.forget(name)
		return false, nil
	}
	return true, err
}

func (r *contents) forget(name v1alpha1.ObjectName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.applied, name)
}

func named(name v1alpha1.ObjectName) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(name.APIVersion)
	u.SetKind(name.Kind)
	u.SetNamespace(name.Namespace)
	u.SetName(name.Name)
	return u
}

// reason says why the API server would not, in one line.
func reason(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, errNotOurs):
		text = strings.TrimPrefix(text, errNotOurs.Error()+": ")
	case apierrors.IsForbidden(err):
		text = "forbidden: the agent has no permission for it: " + text
	case apierrors.IsConflict(err):
		text = "conflict: " + text
	}
	return strings.Join(strings.Fields(text), " ")
}
