package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Times of the heartbeat.
const (
	probeEvery    = 2 * time.Second        // how often this cluster's API server is asked whether it is well
	probeTimeout  = 3 * time.Second        // and how long it may think
	settleCluster = 500 * time.Millisecond // changes of nodes and clusters below that are told at once
	sendTimeout   = 10 * time.Second
	resendLast    = 10 * time.Second // the longest wait after a report that did not get through
	awayAtLeast   = time.Second      // a parent that was away for less has not come back from a backup
)

// heartbeat tells the parent that this cluster lives, and how. It depends on no
// cache, so that it can tell of an API server that does not answer.
type heartbeat struct {
	parent client.Client
	well   func(context.Context) (version string, err error) // how this cluster is
	every  time.Duration
	self   *identity
	state  *clusterState
	wake   chan struct{} // what state is made of has changed
	back   func()        // the parent answers again
	log    *slog.Logger

	sent v1alpha1.ClusterReportBody
	last time.Time // when the parent heard of us
}

// run returns when ctx is done.
func (h *heartbeat) run(ctx context.Context) {
	var away time.Time // since when the parent does not answer
	failures := 0
	for wait := time.Duration(0); ; {
		wake := h.wake
		if failures > 0 { // news make a parent that is away come back no sooner
			wake = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
			if !sleep(ctx, settleCluster) {
				return
			}
		case <-time.After(wait):
		}
		err := h.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if away.IsZero() {
				away = time.Now()
				h.log.Warn("report to the parent", "error", err)
			}
			wait = jitter(min(500*time.Millisecond<<min(failures, 8), resendLast))
			failures++
			continue
		case !away.IsZero() && time.Since(away) >= awayAtLeast:
			h.log.Info("the parent answers again", "away", time.Since(away).Round(time.Second))
			h.back()
		}
		away, failures = time.Time{}, 0
		wait = probeEvery
	}
}

// beat reports, if there is news or it is time.
func (h *heartbeat) beat(ctx context.Context) error {
	body := v1alpha1.ClusterReportBody{
		Health: v1alpha1.Healthy, HeartbeatSeconds: int32(h.every / time.Second), ClusterState: h.state.current(ctx),
	}
	version, err := h.well(ctx)
	if err != nil {
		body.Health, body.Message = v1alpha1.Unhealthy, err.Error()
		version = h.sent.Version
	}
	body.Version = version
	now := time.Now()
	if apiequality.Semantic.DeepEqual(body, h.sent) && now.Sub(h.last) < h.every {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	name := h.self.cluster().Name
	w := sluice("ClusterReport", v1alpha1.ClusterNamespace(name), name)
	beating := body
	at := metav1.NewMicroTime(now)
	beating.Heartbeat = &at
	w.Report = beating
	if err := w.apply(ctx, h.parent, &v1alpha1.ClusterReport{}, ownerReporter); err != nil {
		return err
	}
	h.sent, h.last = body, now
	return nil
}

// probe is the client of this cluster's API server.
type probe struct{ *discovery.DiscoveryClient }

// well asks it whether it is well, and which version it is.
func (p probe) well(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status := 0
	answer := p.RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
	if err := answer.Error(); err != nil {
		if status == http.StatusInternalServerError {
			return "", errors.New("the API server says that it is not ready")
		}
		return "", fmt.Errorf("the API server does not answer: %s", firstLine(err))
	}
	info, err := p.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("the API server does not say its version: %s", firstLine(err))
	}
	return info.GitVersion, nil
}

// firstLine keeps an error short.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 512 {
		line = strings.ToValidUTF8(line[:512], "")
	}
	return line
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// clusterState makes the report out of the caches of this cluster's side; while
// there are none, it is what was there last.
type clusterState struct {
	self    *identity
	distro  string
	version string // of the agent

	mu    sync.Mutex
	cache client.Reader // nil while there is none
	last  v1alpha1.ClusterState
}

func (s *clusterState) use(cache client.Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache = cache
}

func (s *clusterState) current(ctx context.Context) v1alpha1.ClusterState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache != nil {
		if state, err := readState(ctx, s.cache, s.self.cluster().Name); err == nil {
			s.last = state
		}
	}
	state := *s.last.DeepCopy()
	state.Distro, state.AgentVersion, state.Labels = s.distro, s.version, s.self.cluster().Labels
	return state
}
