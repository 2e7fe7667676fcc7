package agent_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

func unmarshal(text string, into any) error { return yaml.Unmarshal([]byte(text), into) }

// Two siblings at every level: root <- north, south; north <- fjord, fell.
func TestFamily(t *testing.T) {
	servers := pool.take(t, 5)
	a := root(t, servers[0])
	north, south := a.child(servers[1], "north", nil), a.child(servers[2], "south", nil)
	fjord, fell := north.child(servers[3], "fjord", nil), north.child(servers[4], "fell", nil)
	healthy := v1alpha1.Healthy
	type below = map[string]v1alpha1.Health
	soon(t, 20*time.Second, "all are there", all(a.cluster("north", healthy, below{"fjord": healthy, "fell": healthy}), a.cluster("south", healthy, below{})))
	config := &corev1.ConfigMap{}
	value := func(name, v string) func(*site) func() error {
		return func(s *site) func() error { return s.value(name, v) }
	}

	t.Run("a Mission reaches all, and all states come back", func(t *testing.T) {
		a.submit("all", v1alpha1.MissionSpec{Manifests: configYAML("all", "1")})
		soon(t, 10*time.Second, "states", a.states("all", map[string]string{"north": "Ready", "north/fell": "Ready", "north/fjord": "Ready", "south": "Ready"}))
		if err := everywhere(value("all", "1"), north, south, fjord, fell)(); err != nil {
			t.Error(err)
		}
		m, err := a.mission("all")
		if err != nil || m.Status.Summary != "4 of 4 ready" {
			t.Errorf("%q, %v", m.Status.Summary, err)
		}
	})
	t.Run("one sibling away takes nothing from the other", func(t *testing.T) {
		fjord.pause()
		soon(t, 30*time.Second, "only fjord", a.states("all", map[string]string{"north": "Ready", "north/fell": "Ready", "north/fjord": "cluster unreachable", "south": "Ready"}))
		fjord.start()
		soon(t, 10*time.Second, "back", a.states("all", map[string]string{"north": "Ready", "north/fell": "Ready", "north/fjord": "Ready", "south": "Ready"}))
	})
	t.Run("by path", func(t *testing.T) {
		a.submit("path", v1alpha1.MissionSpec{Manifests: configYAML("path", "1"), Placement: toNames("north/fell")})
		soon(t, 10*time.Second, "states", a.states("path", map[string]string{"north": "not match", "north/fell": "Ready", "north/fjord": "not match", "south": "not match"}))
		a.withdraw("path")
	})
	t.Run("a Mission made half-way is for those below", func(t *testing.T) {
		north.submit("own", v1alpha1.MissionSpec{Manifests: configYAML("own", "1")})
		soon(t, 10*time.Second, "states", north.states("own", map[string]string{"fell": "Ready", "fjord": "Ready"}))
		if err := everywhere(func(s *site) func() error { return s.none(config, "own") }, a, north, south)(); err != nil {
			t.Error(err)
		}
		north.withdraw("own")
		soon(t, 10*time.Second, "gone", fell.none(config, "own"))
	})
	t.Run("a parent that is down leaves its children working, and comes back", func(t *testing.T) {
		if err := north.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		soon(t, 10*time.Second, "north is unhealthy", a.cluster("north", v1alpha1.Unhealthy, nil))
		// Drift below is put back meanwhile, also by an agent that starts without its parent.
		fjord.pause()
		fjord.start()
		fell.make(configYAML("all", "changed"))
		fjord.make(configYAML("all", "changed"))
		soon(t, 15*time.Second, "put back", everywhere(value("all", "1"), fjord, fell))
		a.submit("all", v1alpha1.MissionSpec{Manifests: configYAML("all", "2")})
		soon(t, 10*time.Second, "the other side goes on", south.value("all", "2"))
		stays(t, time.Second, "this one has its copy", everywhere(value("all", "1"), fjord, fell))
		if err := north.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		soon(t, 30*time.Second, "all have it", everywhere(value("all", "2"), north, south, fjord, fell))
		soon(t, 10*time.Second, "states", a.states("all", map[string]string{"north": "Ready", "north/fell": "Ready", "north/fjord": "Ready", "south": "Ready"}))
	})
	t.Run("a child cannot read or write another's reports, nor the parent's objects", func(t *testing.T) {
		file, err := a.KubeconfigFor(v1alpha1.ClusterUser("south"), v1alpha1.GroupClusters)
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(config, client.Options{Scheme: newScheme()})
		if err != nil {
			t.Fatal(err)
		}
		own, other := client.InNamespace(v1alpha1.ClusterNamespace("south")), client.InNamespace(v1alpha1.ClusterNamespace("north"))
		report := func(ns, name string) *v1alpha1.MissionReport {
			return &v1alpha1.MissionReport{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		}
		ctx := t.Context()
		for name, tt := range map[string]struct {
			err     error
			allowed bool
		}{
			"lists Missions":                {c.List(ctx, &v1alpha1.MissionList{}), true},
			"lists its reports":             {c.List(ctx, &v1alpha1.MissionReportList{}, own), true},
			"writes a report":               {c.Create(ctx, report(v1alpha1.ClusterNamespace("south"), "x")), true},
			"deletes a report":              {c.Delete(ctx, report(v1alpha1.ClusterNamespace("south"), "x")), true},
			"lists another's reports":       {c.List(ctx, &v1alpha1.MissionReportList{}, other), false},
			"lists another's ClusterReport": {c.List(ctx, &v1alpha1.ClusterReportList{}, other), false},
			"lists everybody's reports":     {c.List(ctx, &v1alpha1.MissionReportList{}), false},
			"writes another's report":       {c.Create(ctx, report(v1alpha1.ClusterNamespace("north"), "x")), false},
			"deletes another's report":      {c.Delete(ctx, report(v1alpha1.ClusterNamespace("north"), "all")), false},
			"answers itself": {c.Status().Patch(ctx, &v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.ClusterNamespace("south"), Name: "south"}},
				client.RawPatch("application/merge-patch+json", []byte(`{"status":{"path":"x"}}`))), false},
			"makes a Mission":   {c.Create(ctx, &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1alpha1.MissionSpec{Manifests: "x"}}), false},
			"deletes a Mission": {c.Delete(ctx, &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: "all"}}), false},
			"sees its siblings": {c.List(ctx, &v1alpha1.EdgeClusterList{}), false},
			"reads Secrets":     {c.List(ctx, &corev1.SecretList{}), false},
		} {
			if tt.allowed && client.IgnoreNotFound(tt.err) != nil || !tt.allowed && !apierrors.IsForbidden(tt.err) {
				t.Errorf("a child %s: %v, want allowed %v", name, tt.err, tt.allowed)
			}
		}
	})
	t.Run("a cluster that moves to another parent keeps what both have", func(t *testing.T) {
		a.submit("only-south", v1alpha1.MissionSpec{Manifests: configYAML("only-south", "1"), Placement: toNames("south/fell")})
		var before, after corev1.ConfigMap
		key := client.ObjectKey{Namespace: "default", Name: "all"}
		if err := fell.admin.Get(t.Context(), key, &before); err != nil {
			t.Fatal(err)
		}
		fell.pause()
		fell.join(south)
		fell.start()
		if err := north.admin.Delete(t.Context(), &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: "fell"}}); err != nil {
			t.Fatal(err)
		}
		soon(t, time.Minute, "it has moved", all(a.cluster("north", healthy, below{"fjord": healthy}), a.cluster("south", healthy, below{"fell": healthy})))
		soon(t, 10*time.Second, "its states have moved", a.states("all", map[string]string{"north": "Ready", "north/fjord": "Ready", "south": "Ready", "south/fell": "Ready"}))
		soon(t, 10*time.Second, "its new path counts", fell.value("only-south", "1"))
		if err := fell.admin.Get(t.Context(), key, &after); err != nil || before.UID != after.UID {
			t.Errorf("%v: it is another object", err)
		}
		soon(t, 10*time.Second, "the old parent lets nobody in", func() error {
			var list v1alpha1.MissionReportList
			return north.admin.List(t.Context(), &list, client.InNamespace(v1alpha1.ClusterNamespace("fell")))
		})
		a.withdraw("only-south")
	})
	t.Run("twenty flaps lose nothing", func(t *testing.T) {
		for n := range 20 {
			south.pause()
			switch n % 3 {
			case 0:
				a.submit("flap", v1alpha1.MissionSpec{Manifests: configYAML("flap", "1")})
			case 1:
				a.submit("flap", v1alpha1.MissionSpec{Manifests: configYAML("flap", "2")})
			case 2:
				a.withdraw("flap")
			}
			south.start()
			time.Sleep(time.Duration(n%5) * 100 * time.Millisecond)
		}
		soon(t, 30*time.Second, "the last word holds", all(south.value("flap", "2"), fell.value("flap", "2"), fjord.value("flap", "2"))) // 19 is a case 1
		soon(t, 20*time.Second, "states", a.states("flap", map[string]string{"north": "Ready", "north/fjord": "Ready", "south": "Ready", "south/fell": "Ready"}))
	})
	a.withdraw("all")
	a.withdraw("flap")
	soon(t, 20*time.Second, "nothing is left", everywhere(func(s *site) func() error {
		return all(s.none(config, "all"), s.none(&v1alpha1.Mission{}, "all"), s.none(config, "flap"))
	}, north, south, fjord, fell))
}
