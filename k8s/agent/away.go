package agent

import (
	"context"
	"errors"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Times of the look at this cluster's API server.
const (
	askOwn  = time.Second
	awayFor = 2 // tries in a row that fail, and then it was away
)

// errBack: what was seen of this cluster may not be true any more.
var errBack = errors.New("the API server was away and is back: everything is listed anew")

// back ends this cluster's side when its API server was away and is back. It may have
// come back from a backup, with other objects and smaller resource versions; a watch
// that goes on where it was does not notice once these have grown past it.
func (a *Agent) back() (manager.Runnable, error) {
	config := rest.CopyConfig(a.options.Own)
	config.Timeout = probeTimeout
	asks, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return manager.RunnableFunc(func(ctx context.Context) error {
		for failures := 0; sleep(ctx, askOwn); {
			err := asks.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
			switch {
			case err != nil:
				failures++
			case failures >= awayFor:
				return errBack
			default:
				failures = 0
			}
		}
		return nil
	}), nil
}
