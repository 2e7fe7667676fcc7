package fold_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// child is an EdgeCluster with these clusters below, which speaks of gateways: name and
// cluster each.
func child(name string, below []string, says ...[2]string) v1alpha1.EdgeCluster {
	c := v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Status.SubClusters = map[string]v1alpha1.Health{}
	for _, path := range below {
		c.Status.SubClusters[path] = v1alpha1.Healthy
	}
	c.Status.Network = &v1alpha1.NetworkState{}
	for _, s := range says {
		c.Status.Network.Gateways = append(c.Status.Network.Gateways, v1alpha1.GatewayState{Name: s[0], Cluster: s[1]})
	}
	return c
}

func TestWhoIsBelievedAboutAGateway(t *testing.T) {
	type children = []v1alpha1.EdgeCluster
	for name, tt := range map[string]struct {
		children children
		want     string // child and conflict
	}{
		"a child about itself":                         {children{child("oslo", nil, [2]string{"gw", "oslo"})}, "oslo|"},
		"a child about a cluster two levels below":     {children{child("oslo", []string{"fjord", "fjord/quay"}, [2]string{"gw", "quay"})}, "oslo|"},
		"nobody about a sibling":                       {children{child("oslo", nil, [2]string{"gw", "bergen"}), child("bergen", nil)}, "|"},
		"not who says that a sibling is below it":      {children{child("oslo", []string{"bergen"}, [2]string{"gw", "bergen"}), child("bergen", nil)}, "|"},
		"the sibling itself, whoever says it is below": {children{child("a", []string{"b"}, [2]string{"gw", "b"}), child("b", nil, [2]string{"gw", "b"})}, "b|"},
		"nobody about a cluster that is nowhere":       {children{child("oslo", []string{"fjord"}, [2]string{"gw", "quay"})}, "|"},
		"nobody, when two have a cluster of that name": {children{child("a", []string{"q"}, [2]string{"gw", "q"}), child("b", []string{"x/q"})}, "|q"},
		"a part of a name is not a name":               {children{child("oslo", []string{"old-quay"}, [2]string{"gw", "quay"})}, "|"},
		"another gateway":                              {children{child("oslo", nil, [2]string{"other", "oslo"})}, "|"},
		"a child that has said nothing yet":            {children{{ObjectMeta: metav1.ObjectMeta{Name: "oslo"}}}, "|"},
	} {
		t.Run(name, func(t *testing.T) {
			said, from, conflict := fold.Gateway("gw", tt.children)
			if got := fmt.Sprintf("%s|%s", from, conflict); got != tt.want || (said == nil) != (from == "") {
				t.Errorf("got %q (%+v), want %q", got, said, tt.want)
			}
		})
	}
}

func TestWhatAClusterSaysOfGateways(t *testing.T) {
	gateway := func(name, cluster string, labels map[string]string) v1alpha1.Gateway {
		g := v1alpha1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: v1alpha1.GatewaySpec{Cluster: cluster}}
		g.Status.Endpoints = []v1alpha1.EndpointStatus{{Name: name, PublicKey: "key of " + name}}
		g.Status.Conditions = []metav1.Condition{{Type: "Ready", Reason: "Here"}, {Type: v1alpha1.ConditionAtHome, Reason: "Home"}}
		return g
	}
	going := gateway("going", "oslo", nil)
	going.DeletionTimestamp = &metav1.Time{}
	mirrored := map[string]string{v1alpha1.LabelMirrored: "true"}
	list := fold.Gateways([]v1alpha1.Gateway{
		gateway("made-here", "", nil), gateway("from-above", "oslo", mirrored), gateway("below", "quay", mirrored), gateway("elsewhere", "bergen", nil), going,
	}, []v1alpha1.EdgeCluster{child("fjord", []string{"quay"})}, "oslo")
	got := ""
	for _, g := range list {
		got += fmt.Sprintf("%s of %s, spec %v, %s, %s; ", g.Name, g.Cluster, g.Spec != nil && g.Spec.Cluster == g.Cluster, g.Endpoints[0].PublicKey, g.AtHome.Reason)
	}
	want := "below of quay, spec false, key of below, Home; from-above of oslo, spec false, key of from-above, Home; made-here of oslo, spec true, key of made-here, Home; "
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatIsKnownOfGatewaysStaysWhileAClusterIsSilent(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old := v1alpha1.EdgeClusterStatus{}
	old.Network = &v1alpha1.NetworkState{Gateways: []v1alpha1.GatewayState{{Name: "gw", Cluster: "oslo"}}}
	at := metav1.NewMicroTime(now)
	old.ReportedHeartbeat, old.LastHeartbeat = &at, &metav1.Time{Time: now.Add(-fold.Grace(1))}
	body := &v1alpha1.ClusterReportBody{Heartbeat: &at, HeartbeatSeconds: 1}
	next, _ := fold.Cluster(old, "oslo", body, now)
	if next.Health != v1alpha1.Disconnected || next.Network == nil || len(next.Network.Gateways) != 1 {
		t.Errorf("disconnected: %+v", next)
	}
	later := metav1.NewMicroTime(now.Add(1e9))
	body.Heartbeat = &later // of an agent that has just started
	if next, _ = fold.Cluster(next, "oslo", body, now); next.Network == nil || len(next.Network.Gateways) != 1 {
		t.Errorf("back, and does not know yet: %+v", next)
	}
	body.Network = &v1alpha1.NetworkState{}
	if next, _ = fold.Cluster(next, "oslo", body, now); next.Network == nil || len(next.Network.Gateways) != 0 {
		t.Errorf("has none: %+v", next)
	}
}
