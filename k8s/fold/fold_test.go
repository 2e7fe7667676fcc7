package fold

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

func ready(path string, generation int64) v1alpha1.MissionState {
	return v1alpha1.MissionState{Path: path, Phase: v1alpha1.PhaseReady, State: "2 ready", ObservedGeneration: generation}
}

func report(states ...v1alpha1.MissionState) *v1alpha1.MissionReportBody {
	return &v1alpha1.MissionReportBody{Clusters: states}
}

func TestPathsGrowOnTheWayUp(t *testing.T) {
	atC := v1alpha1.MissionStatus{
		Local:    &v1alpha1.MissionLocal{MissionState: ready("", 3)},
		Clusters: []v1alpha1.MissionState{ready("d", 3), ready("e", 3)},
	}
	fromC := Report(atC)
	atB := v1alpha1.MissionStatus{Local: &v1alpha1.MissionLocal{MissionState: ready("", 3)}, Clusters: Mission([]Child{{"c", v1alpha1.Healthy, &fromC}})}
	fromB := Report(atB)
	atA := Mission([]Child{{"b", v1alpha1.Healthy, &fromB}})
	want := []v1alpha1.MissionState{ready("b", 3), ready("b/c", 3), ready("b/c/d", 3), ready("b/c/e", 3)}
	if d := cmp.Diff(want, atA); d != "" {
		t.Error(d)
	}
}

func TestMission(t *testing.T) {
	tests := []struct {
		name     string
		children []Child
		want     []v1alpha1.MissionState
	}{
		{"no children", nil, nil},
		{
			"two siblings with children of the same name stay apart",
			[]Child{{"b2", v1alpha1.Healthy, report(ready("", 1), ready("c", 1))}, {"b1", v1alpha1.Healthy, report(ready("", 1), ready("c", 1))}},
			[]v1alpha1.MissionState{ready("b1", 1), ready("b1/c", 1), ready("b2", 1), ready("b2/c", 1)},
		},
		{
			"a child that is not heard of hides those below it",
			[]Child{{"b", v1alpha1.Disconnected, report(ready("", 1), ready("c", 1))}},
			[]v1alpha1.MissionState{{Path: "b", Phase: v1alpha1.PhaseUnreachable, State: "cluster unreachable"}},
		},
		{
			"an unhealthy child still speaks",
			[]Child{{"b", v1alpha1.Unhealthy, report(ready("", 1))}},
			[]v1alpha1.MissionState{ready("b", 1)},
		},
		{
			"a child that has not said anything is pending",
			[]Child{{"b", v1alpha1.Healthy, nil}},
			[]v1alpha1.MissionState{{Path: "b", Phase: v1alpha1.PhasePending, State: "no report yet"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Mission(tt.children)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	failed := v1alpha1.MissionState{Path: "", Phase: v1alpha1.PhaseFailed, State: "no kind Widget", ObservedGeneration: 2}
	unmatched := v1alpha1.MissionState{Path: "c", Phase: v1alpha1.PhaseNotMatched, State: v1alpha1.StateNotMatch, ObservedGeneration: 2}
	tests := []struct {
		name     string
		children []Child
		summary  string
		reason   string
		ready    metav1.ConditionStatus
	}{
		{"without clusters there is nothing to wait for", nil, "no clusters", "Ready", metav1.ConditionTrue},
		{"all ready", []Child{{"b", v1alpha1.Healthy, report(ready("", 2), unmatched)}}, "1 of 1 ready", "Ready", metav1.ConditionTrue},
		{"an older generation is not ready", []Child{{"b", v1alpha1.Healthy, report(ready("", 1))}}, "0 of 1 ready", "Progressing", metav1.ConditionFalse},
		{"an older word of no match is waited for", []Child{{"b", v1alpha1.Healthy, report(v1alpha1.MissionState{Phase: v1alpha1.PhaseNotMatched, ObservedGeneration: 1})}}, "no cluster matches", "Progressing", metav1.ConditionFalse},
		{"a failure", []Child{{"a", v1alpha1.Healthy, report(ready("", 2))}, {"b", v1alpha1.Healthy, report(failed)}}, "1 of 2 ready, 1 failed", "Failed", metav1.ConditionFalse},
		{"somebody out of reach", []Child{{"a", v1alpha1.Healthy, report(ready("", 2))}, {"b", v1alpha1.Disconnected, nil}}, "1 of 1 ready, 1 unreachable", "Unreachable", metav1.ConditionFalse},
		{"nobody matches", []Child{{"b", v1alpha1.Healthy, report(v1alpha1.MissionState{Phase: v1alpha1.PhaseNotMatched, ObservedGeneration: 2})}}, "no cluster matches", "Ready", metav1.ConditionTrue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Status(v1alpha1.MissionStatus{}, tt.children, 2, time.Unix(1000, 0))
			c := got.Conditions[0]
			if got.Summary != tt.summary || c.Reason != tt.reason || c.Status != tt.ready {
				t.Errorf("got %q, %s %s; want %q, %s %s", got.Summary, c.Reason, c.Status, tt.summary, tt.reason, tt.ready)
			}
			again := Status(got, tt.children, 2, time.Unix(2000, 0))
			if d := cmp.Diff(got, again); d != "" {
				t.Errorf("without news the status changes: %s", d)
			}
		})
	}
}

func TestCluster(t *testing.T) {
	start := time.Unix(5000, 0)
	beat := func(seconds int64) *metav1.MicroTime { m := metav1.NewMicroTime(time.Unix(seconds, 0)); return &m }
	body := &v1alpha1.ClusterReportBody{
		Health: v1alpha1.Healthy, Heartbeat: beat(77), HeartbeatSeconds: 10,
		ClusterState: v1alpha1.ClusterState{Distro: "k3s", SubClusters: map[string]v1alpha1.Health{"c": v1alpha1.Healthy}, MatchedMissions: []string{"m"}},
	}
	silent, _ := Cluster(v1alpha1.EdgeClusterStatus{}, "a/b", nil, start)
	if silent.Health != "" || silent.Path != "a/b" {
		t.Errorf("a child that never reported: %+v", silent)
	}
	first, again := Cluster(silent, "a/b", body, start)
	if first.Health != v1alpha1.Healthy || !first.LastHeartbeat.Time.Equal(start) || first.SubClusters["c"] != v1alpha1.Healthy || again != 31*time.Second {
		t.Errorf("after the first report: %+v, again in %v", first, again)
	}
	same, again := Cluster(first, "a/b", body, start.Add(20*time.Second))
	if d := cmp.Diff(first, same); d != "" || again != 11*time.Second {
		t.Errorf("between heartbeats: again in %v, %s", again, d)
	}
	gone, again := Cluster(first, "a/b", body, start.Add(31*time.Second))
	if gone.Health != v1alpha1.Disconnected || len(gone.SubClusters) != 0 || len(gone.MatchedMissions) != 0 || gone.Distro != "k3s" || again != 0 {
		t.Errorf("after three heartbeats: %+v, again in %v", gone, again)
	}
	body.Heartbeat, body.Health, body.Message = beat(3), v1alpha1.Unhealthy, "connection refused"
	back, _ := Cluster(gone, "a/b", body, start.Add(600*time.Second))
	if back.Health != v1alpha1.Unhealthy || back.Message != "connection refused" || back.SubClusters["c"] != v1alpha1.Healthy || !back.LastHeartbeat.Time.Equal(start.Add(600*time.Second)) {
		t.Errorf("a child whose clock was set back reports again: %+v", back)
	}
}

func TestSubClusters(t *testing.T) {
	child := func(name string, h v1alpha1.Health, sub map[string]v1alpha1.Health) v1alpha1.EdgeCluster {
		c := v1alpha1.EdgeCluster{}
		c.Name, c.Status.Health, c.Status.SubClusters = name, h, sub
		return c
	}
	got := SubClusters([]v1alpha1.EdgeCluster{
		child("b1", v1alpha1.Healthy, map[string]v1alpha1.Health{"c1": v1alpha1.Healthy, "c2": v1alpha1.Unhealthy, "c1/d": v1alpha1.Disconnected}),
		child("b2", v1alpha1.Disconnected, map[string]v1alpha1.Health{"c": v1alpha1.Healthy}),
		child("b3", "", nil),
	})
	want := map[string]v1alpha1.Health{
		"b1": v1alpha1.Healthy, "b1/c1": v1alpha1.Healthy, "b1/c2": v1alpha1.Unhealthy, "b1/c1/d": v1alpha1.Disconnected, "b2": v1alpha1.Disconnected,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
