package agent

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// bell tells those who listen which objects of a kind have changed, by name.
// Listeners come and go (the parent's side with every connection), which handlers of
// an informer cannot. It may be used from any goroutine.
type bell struct {
	mu        sync.Mutex
	next      int
	listeners map[int]func(name string)
}

func (b *bell) ring(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, listen := range b.listeners {
		listen(name)
	}
}

// listen calls f for every change until the returned function is called. f must not
// block or ring.
func (b *bell) listen(f func(name string)) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[int]func(string){}
	}
	id := b.next
	b.next++
	b.listeners[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, id)
	}
}

// queueing is what controllers take their work from.
type queueing = workqueue.TypedRateLimitingInterface[reconcile.Request]

// source feeds a controller. What changes several times within settle is looked at
// once.
func (b *bell) source(settle time.Duration) source.Source {
	return source.Func(func(ctx context.Context, queue queueing) error {
		stop := b.listen(func(name string) { queue.AddAfter(request(name), settle) })
		context.AfterFunc(ctx, stop)
		return nil
	})
}

// forAll feeds a controller with all names, whatever has changed.
func (b *bell) forAll(names func(context.Context) []string) source.Source {
	return source.Func(func(ctx context.Context, queue queueing) error {
		stop := b.listen(func(string) {
			for _, name := range names(ctx) {
				queue.Add(request(name))
			}
		})
		context.AfterFunc(ctx, stop)
		return nil
	})
}

// handler rings for every event of an informer; key says for whom.
func (b *bell) handler(key func(client.Object) string) toolscache.ResourceEventHandler {
	ring := func(object any) {
		if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if o, ok := object.(client.Object); ok {
			if name := key(o); name != "" {
				b.ring(name)
			}
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: ring,
		UpdateFunc: func(old, new any) {
			ring(old) // it may have been somebody else's
			ring(new)
		},
		DeleteFunc: ring,
	}
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}
