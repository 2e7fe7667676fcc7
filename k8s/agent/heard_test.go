package agent

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// With many children few heartbeats are written, and who falls silent is disconnected
// no later.
func TestHeartbeatsOfManyChildrenAreNotAllWritten(t *testing.T) {
	var h heard
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	stored, writes := map[string]v1alpha1.EdgeClusterStatus{}, 0
	look := func(child string, reported, now time.Time) (v1alpha1.EdgeClusterStatus, time.Duration) {
		at := metav1.NewMicroTime(reported)
		next, again := fold.Cluster(h.with(child, stored[child]), child, &v1alpha1.ClusterReportBody{Health: v1alpha1.Healthy, Heartbeat: &at, HeartbeatSeconds: 15}, now)
		if h.news(child, stored[child], next) {
			stored[child] = next
			writes++
		}
		return next, again
	}
	const children, beats = 400, 40 // ten minutes
	name := func(i int) string { return time.Duration(i).String() }
	for b := range beats {
		for i := range children {
			at := start.Add(time.Duration(b)*15*time.Second + time.Duration(i)*30*time.Millisecond)
			if next, _ := look(name(i), at, at); next.Health != v1alpha1.Healthy {
				t.Fatalf("child %d is %s", i, next.Health)
			}
		}
	}
	if most := children * (1 + beats*15/40); writes > most { // 400 children: every 40 s, or at the beat after
		t.Errorf("%d writes of %d heartbeats, want %d at most", writes, children*beats, most)
	}
	if writes < children*beats*15/75 {
		t.Errorf("only %d writes: each child's is to be written once a minute", writes)
	}
	// Child 0 falls silent after its last heartbeat.
	last := start.Add((beats - 1) * 15 * time.Second)
	if next, again := look(name(0), last, last.Add(44*time.Second)); next.Health != v1alpha1.Healthy || again != 2*time.Second {
		t.Errorf("after 44 s it is %s, looked at again after %v", next.Health, again)
	}
	if next, _ := look(name(0), last, last.Add(46*time.Second)); next.Health != v1alpha1.Disconnected || stored[name(0)].Health != v1alpha1.Disconnected || !stored[name(0)].LastHeartbeat.Time.Equal(last) {
		t.Errorf("after 46 s: %+v, written %+v", next, stored[name(0)])
	}
}
