// Package fold makes the status of a Mission or a cluster out of what children
// report: paths get longer by the child's name on the way up. It is pure; times are
// given to it.
package fold

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Child is one child's word on a Mission.
type Child struct {
	Name   string
	Health v1alpha1.Health
	// Report is nil as long as the child has said nothing about the Mission.
	Report *v1alpha1.MissionReportBody
}

// Mission makes the entries of a Mission's status. The caller keeps the children.
//
// A child that is not heard of stands for all clusters below it, since what they
// said last may be long untrue.
func Mission(children []Child) []v1alpha1.MissionState {
	var states []v1alpha1.MissionState
	for _, child := range children {
		switch {
		case child.Health == v1alpha1.Disconnected:
			states = append(states, v1alpha1.MissionState{Path: child.Name, Phase: v1alpha1.PhaseUnreachable, State: v1alpha1.StateUnreachable})
		case child.Report == nil || len(child.Report.Clusters) == 0:
			states = append(states, v1alpha1.MissionState{Path: child.Name, Phase: v1alpha1.PhasePending, State: v1alpha1.StatePending})
		default:
			for _, state := range child.Report.Clusters {
				state.Path = below(child.Name, state.Path)
				states = append(states, state)
			}
		}
	}
	slices.SortFunc(states, func(a, b v1alpha1.MissionState) int { return strings.Compare(a.Path, b.Path) })
	return states
}

// Report is what a cluster tells its parent of a Mission: itself first, then the
// clusters below it.
func Report(status v1alpha1.MissionStatus) v1alpha1.MissionReportBody {
	var body v1alpha1.MissionReportBody
	if status.Local != nil {
		own := status.Local.MissionState
		own.Path = ""
		body.Clusters = append(body.Clusters, own)
	}
	body.Clusters = append(body.Clusters, status.Clusters...)
	return body
}

// Totals counts the clusters; of those that have an older generation than the
// Mission's, none is ready.
func Totals(states []v1alpha1.MissionState, generation int64) v1alpha1.MissionTotals {
	var t v1alpha1.MissionTotals
	for _, s := range states {
		t.Clusters++
		switch s.Phase {
		case v1alpha1.PhaseUnreachable:
			t.Unreachable++
			continue
		case v1alpha1.PhaseNotMatched, v1alpha1.PhasePending:
			continue
		}
		t.Matched++
		switch {
		case s.Phase == v1alpha1.PhaseFailed:
			t.Failed++
		case s.Phase == v1alpha1.PhaseReady && s.ObservedGeneration >= generation:
			t.Ready++
		}
	}
	return t
}

// Summary says the totals in words.
func Summary(t v1alpha1.MissionTotals) string {
	var b strings.Builder
	switch {
	case t.Clusters == 0:
		return "no clusters"
	case t.Matched == 0 && t.Unreachable == 0:
		return "no cluster matches"
	}
	fmt.Fprintf(&b, "%d of %d ready", t.Ready, t.Matched)
	if t.Failed > 0 {
		fmt.Fprintf(&b, ", %d failed", t.Failed)
	}
	if t.Unreachable > 0 {
		fmt.Fprintf(&b, ", %d unreachable", t.Unreachable)
	}
	return b.String()
}

// Status makes the part of a Mission's status that is about the clusters below.
// Conditions keep the time of their last change from old.
func Status(old v1alpha1.MissionStatus, children []Child, generation int64, now time.Time) v1alpha1.MissionStatus {
	states := Mission(children)
	counted := states
	if old.Local != nil { // what the cluster did itself counts too
		counted = append(slices.Clone(states), old.Local.MissionState)
	}
	totals := Totals(counted, generation)
	next := v1alpha1.MissionStatus{
		ObservedGeneration: generation,
		Summary:            Summary(totals),
		Totals:             totals,
		Clusters:           states,
		Conditions:         slices.Clone(old.Conditions),
	}
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Message: next.Summary,
	}
	behind := slices.ContainsFunc(counted, func(s v1alpha1.MissionState) bool {
		return s.Phase == v1alpha1.PhasePending || s.Phase != v1alpha1.PhaseUnreachable && s.ObservedGeneration < generation
	})
	switch {
	case totals.Failed > 0:
		ready.Reason = "Failed"
	case totals.Unreachable > 0:
		ready.Reason = "Unreachable"
	case behind || totals.Ready < totals.Matched:
		ready.Reason = "Progressing"
	default:
		ready.Status, ready.Reason = metav1.ConditionTrue, "Ready"
	}
	meta.SetStatusCondition(&next.Conditions, ready)
	return next
}

// SubClusters are the clusters below one, by path, out of the statuses of its
// children.
func SubClusters(children []v1alpha1.EdgeCluster) map[string]v1alpha1.Health {
	health := map[string]v1alpha1.Health{}
	for i := range children {
		child := &children[i]
		if child.Status.Health == "" {
			continue // never heard of
		}
		health[child.Name] = child.Status.Health
		if child.Status.Health == v1alpha1.Disconnected {
			continue
		}
		for path, h := range child.Status.SubClusters {
			health[below(child.Name, path)] = h
		}
	}
	return health
}

// Cluster makes the status of a child out of its report. A report that is not there
// is nil. again is when to look next, without any news: when the child will have
// been silent for too long.
func Cluster(old v1alpha1.EdgeClusterStatus, path string, report *v1alpha1.ClusterReportBody, now time.Time) (next v1alpha1.EdgeClusterStatus, again time.Duration) {
	next = *old.DeepCopy()
	next.Path = path
	if report == nil || report.Heartbeat == nil {
		return next, 0
	}
	moved := old.ReportedHeartbeat == nil || !old.ReportedHeartbeat.Time.Equal(report.Heartbeat.Time)
	if moved {
		seen := metav1.NewTime(now.Truncate(time.Second))
		next.LastHeartbeat, next.ReportedHeartbeat = &seen, report.Heartbeat.DeepCopy()
	}
	grace := Grace(report.HeartbeatSeconds)
	silent := now.Sub(next.LastHeartbeat.Time)
	if !moved && silent >= grace {
		next.Health = v1alpha1.Disconnected
		next.Message = "no report since " + next.LastHeartbeat.UTC().Format(time.RFC3339)
		next.ClusterState = v1alpha1.ClusterState{
			Distro: next.Distro, Version: next.Version, AgentVersion: next.AgentVersion, Labels: next.Labels,
			Network: next.Network, // its gateways go on
		}
		return next, 0
	}
	next.Health, next.Message = report.Health, report.Message
	known := next.Network
	next.ClusterState = *report.ClusterState.DeepCopy()
	if next.Network == nil { // an agent that has just started
		next.Network = known
	}
	if moved {
		silent = 0
	}
	return next, grace - silent
}

// Grace is how long a child may be silent: three heartbeats, and the second that
// times are cut to.
func Grace(heartbeatSeconds int32) time.Duration {
	return 3*time.Duration(max(heartbeatSeconds, 1))*time.Second + time.Second
}

func below(name, path string) string {
	if path == "" {
		return name
	}
	return name + "/" + path
}
