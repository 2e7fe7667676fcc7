package agent

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// watches sees what becomes of the objects that Missions brought: the cache holds
// those with a Mission's label, of every kind that was asked for. The bell rings
// with the Mission's name. Where the agent may not list a kind, its objects are
// never seen, and have to be looked at from time to time.
type watches struct {
	cache cache.Cache
	bell  bell

	mu    sync.Mutex
	kinds map[schema.GroupVersionKind]cache.Informer
}

// of begins to watch a kind, unless it is watched already.
func (w *watches) of(ctx context.Context, kind schema.GroupVersionKind) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kinds[kind] != nil {
		return nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	informer, err := w.cache.GetInformer(ctx, u, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(w.bell.handler(func(o client.Object) string { return o.GetLabels()[v1alpha1.LabelMission] }))
	if err != nil {
		return err
	}
	if w.kinds == nil {
		w.kinds = map[schema.GroupVersionKind]cache.Informer{}
	}
	w.kinds[kind] = informer
	return nil
}

// sees reports whether all objects of a kind are known, so that news will come.
func (w *watches) sees(kind schema.GroupVersionKind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	informer := w.kinds[kind]
	return informer != nil && informer.HasSynced()
}

// get returns an object as it was seen last; nil when it was not.
func (w *watches) get(ctx context.Context, name *unstructured.Unstructured) *unstructured.Unstructured {
	if !w.sees(name.GroupVersionKind()) {
		return nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(name.GroupVersionKind())
	if err := w.cache.Get(ctx, client.ObjectKeyFromObject(name), u); err != nil {
		return nil
	}
	return u
}
