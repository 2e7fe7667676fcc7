package agent

import (
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Heartbeats of many children are not each written down: as many are as keep it at
// some ten a second, but every child's once a minute.
const (
	heardPerChild = 100 * time.Millisecond
	heardLast     = time.Minute
)

// heard keeps the last heartbeat of each child between the times that it is written
// into EdgeClusters. An agent that restarts has what was written, and so gives a child
// that fell silent meanwhile one grace more. The zero value is ready; it may be used
// from any goroutine.
type heard struct {
	mu   sync.Mutex
	last map[string]beat // by child
}

type beat struct {
	at       *metav1.Time      // by our clock
	reported *metav1.MicroTime // by the child's
}

// with is a status with the last heartbeat in it.
func (h *heard) with(child string, status v1alpha1.EdgeClusterStatus) v1alpha1.EdgeClusterStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b, ok := h.last[child]; ok && (status.LastHeartbeat == nil || b.at.After(status.LastHeartbeat.Time)) {
		status.LastHeartbeat, status.ReportedHeartbeat = b.at, b.reported
	}
	return status
}

// news keeps the heartbeat of a child's next status, and reports whether the status
// has to be written in place of the present one.
func (h *heard) news(child string, now, next v1alpha1.EdgeClusterStatus) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if next.LastHeartbeat != nil {
		if h.last == nil {
			h.last = map[string]beat{}
		}
		h.last[child] = beat{next.LastHeartbeat, next.ReportedHeartbeat}
	}
	if now.LastHeartbeat != nil && next.LastHeartbeat != nil {
		wait := min(time.Duration(len(h.last))*heardPerChild, heardLast)
		if next.LastHeartbeat.Sub(now.LastHeartbeat.Time) < wait {
			next.LastHeartbeat, next.ReportedHeartbeat = now.LastHeartbeat, now.ReportedHeartbeat
		}
	}
	return !apiequality.Semantic.DeepEqual(now, next)
}

func (h *heard) forget(child string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, child)
}
