package agent_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// The release test plan of Fornax, its twenty cases in its words, on a chain
// A <- B <- C <- D, with its time limits halved. API servers are real, agents have
// only the permissions that they are given; "edgecore" and "cloudcore" are both the
// agent here, so "kill edgecore B" ends the whole agent of B.
func TestReleasePlan(t *testing.T) {
	servers := pool.take(t, 4)
	a := root(t, servers[0])

	healthy := v1alpha1.Healthy
	type below = map[string]v1alpha1.Health
	var b, c, d *site
	deployment, job := &appsv1.Deployment{}, &batchv1.Job{}

	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Run(name, f) {
			t.FailNow() // each case goes on where the last one ended
		}
	}
	has := func(kind client.Object, name string) func(*site) func() error {
		return func(s *site) func() error { return s.has(kind, name) }
	}
	none := func(kind client.Object, name string) func(*site) func() error {
		return func(s *site) func() error { return s.none(kind, name) }
	}

	step("TC1 clusters appear one after the other, sub-clusters with their paths", func(t *testing.T) {
		b = a.child(servers[1], "b", nil)
		soon(t, 10*time.Second, "B at A", a.cluster("b", healthy, below{}))
		c = b.child(servers[2], "c", nil)
		soon(t, 20*time.Second, "B shows sub C", a.cluster("b", healthy, below{"c": healthy}))
		d = c.child(servers[3], "d", map[string]string{"company": "futurewei"})
		soon(t, 30*time.Second, "C and C/D", a.cluster("b", healthy, below{"c": healthy, "c/d": healthy}))
	})
	step("TC2 without its agent, B is disconnected and its sub-clusters are cleared", func(t *testing.T) {
		b.pause()
		soon(t, time.Minute, "disconnected", a.cluster("b", v1alpha1.Disconnected, below{}))
	})
	step("TC3 with its agent back, B is healthy and its sub-clusters are back", func(t *testing.T) {
		b.start()
		soon(t, 10*time.Second, "healthy", a.cluster("b", healthy, below{"c": healthy, "c/d": healthy}))
	})
	step("TC4 deployment-to-all is shown with status and is in B, C and D", func(t *testing.T) {
		a.submit("deployment-to-all", v1alpha1.MissionSpec{Manifests: deploymentYAML("web", 1)})
		soon(t, 10*time.Second, "status", a.states("deployment-to-all", map[string]string{"b": "Progressing", "b/c": "Progressing", "b/c/d": "Progressing"}))
		soon(t, time.Second, "deployment", everywhere(has(deployment, "web"), b, c, d))
		if err := a.none(deployment, "web")(); err != nil {
			t.Errorf("the root runs no Missions of its own: %v", err)
		}
	})
	step("TC5 without the agent of B the deployment stays in B, C and D", func(t *testing.T) {
		b.pause()
		soon(t, time.Minute, "disconnected", a.cluster("b", v1alpha1.Disconnected, below{}))
		if err := everywhere(has(deployment, "web"), b, c, d)(); err != nil {
			t.Error(err)
		}
	})
	step("TC6 B's own API server shows EdgeCluster C and the mission", func(t *testing.T) {
		soon(t, 10*time.Second, "both", all(b.states("deployment-to-all", map[string]string{"c": "Progressing", "c/d": "Progressing"}), b.cluster("c", healthy, below{"d": healthy})))
		b.start()
		soon(t, 10*time.Second, "B is back", a.cluster("b", healthy, below{"c": healthy, "c/d": healthy}))
	})
	step("TC7 job-to-all is in B, C and D", func(t *testing.T) {
		a.submit("job-to-all", v1alpha1.MissionSpec{Manifests: jobYAML("pi")})
		soon(t, 10*time.Second, "job", everywhere(has(job, "pi"), b, c, d))
	})
	step("TC8 states are keyed B, B/C, B/C/D and follow the objects", func(t *testing.T) {
		soon(t, 10*time.Second, "states", a.states("job-to-all", map[string]string{"b": "", "b/c": "", "b/c/d": ""}))
		// What a controller of D would do: the deployment becomes available.
		soon(t, 10*time.Second, "D's deployment becomes available", func() error {
			var web appsv1.Deployment
			if err := d.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "web"}, &web); err != nil {
				return err
			}
			web.Status = appsv1.DeploymentStatus{
				ObservedGeneration: web.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
				Conditions: []appsv1.DeploymentCondition{
					{Type: appsv1.DeploymentAvailable, Status: "True", Reason: "Test"}, {Type: appsv1.DeploymentProgressing, Status: "True", Reason: "NewReplicaSetAvailable"},
				},
			}
			return d.admin.Status().Update(t.Context(), &web)
		})
		soon(t, 10*time.Second, "D is ready", a.states("deployment-to-all", map[string]string{"b": "Progressing", "b/c": "Progressing", "b/c/d": "Ready"}))
	})
	step("TC9 changed replicas are changed in B, C and D", func(t *testing.T) {
		a.submit("deployment-to-all", v1alpha1.MissionSpec{Manifests: deploymentYAML("web", 3)})
		soon(t, 10*time.Second, "replicas", everywhere(func(s *site) func() error { return s.replicas("web", 3) }, b, c, d))
		soon(t, 10*time.Second, "their generation", a.states("deployment-to-all", map[string]string{"b": "", "b/c": "", "b/c/d": ""}))
	})
	step("TC10 without the agent of C, A says cluster unreachable of B/C, and nothing of B/C/D", func(t *testing.T) {
		c.pause()
		soon(t, time.Minute, "unreachable", a.states("deployment-to-all", map[string]string{"b": "", "b/c": "cluster unreachable"}))
		c.start()
		soon(t, 15*time.Second, "C is back", a.states("deployment-to-all", map[string]string{"b": "", "b/c": "", "b/c/d": ""}))
	})
	step("TC11 a deleted mission is gone with its deployment in B, C and D", func(t *testing.T) {
		a.withdraw("deployment-to-all")
		a.withdraw("job-to-all")
		gone := func(s *site) func() error {
			return all(s.none(deployment, "web"), s.none(job, "pi"), s.none(&v1alpha1.Mission{}, "deployment-to-all"), s.none(&v1alpha1.Mission{}, "job-to-all"))
		}
		soon(t, 10*time.Second, "gone", everywhere(gone, a, b, c, d))
		soon(t, 10*time.Second, "no reports are left", func() error {
			var list v1alpha1.MissionReportList
			err := a.admin.List(t.Context(), &list, client.InNamespace(v1alpha1.ClusterNamespace("b")))
			if err == nil && len(list.Items) > 0 {
				err = fmt.Errorf("%d reports", len(list.Items))
			}
			return err
		})
	})
	step("TC12 placement by name: the mission is everywhere, its content only in C", func(t *testing.T) {
		a.submit("to-given-clusters", v1alpha1.MissionSpec{Manifests: deploymentYAML("web", 1), Placement: toNames("c")})
		soon(t, 10*time.Second, "states", a.states("to-given-clusters", map[string]string{"b": "not match", "b/c": "Progressing", "b/c/d": "not match"}))
		if err := all(everywhere(has(&v1alpha1.Mission{}, "to-given-clusters"), a, b, c, d), c.has(deployment, "web"), everywhere(none(deployment, "web"), a, b, d))(); err != nil {
			t.Error(err)
		}
		a.withdraw("to-given-clusters")
		soon(t, 10*time.Second, "gone", c.none(deployment, "web"))
	})
	step("TC13 placement by a label that only D has: content only in D", func(t *testing.T) {
		a.submit("to-given-labels", v1alpha1.MissionSpec{Manifests: deploymentYAML("web", 1), Placement: toLabels(map[string]string{"company": "futurewei"})})
		soon(t, 10*time.Second, "states", a.states("to-given-labels", map[string]string{"b": "not match", "b/c": "not match", "b/c/d": "Progressing"}))
		if err := all(d.has(deployment, "web"), everywhere(none(deployment, "web"), a, b, c))(); err != nil {
			t.Error(err)
		}
	})
	step("TC14 EdgeClusters show heartbeat, health, sub-clusters, received and matched missions", func(t *testing.T) {
		a.submit("to-b", v1alpha1.MissionSpec{Manifests: configYAML("to-b", "1"), Placement: toNames("b")})
		check := func(s *site, name string, sub below, received, matched string) func() error {
			return func() error {
				var e v1alpha1.EdgeCluster
				if err := s.admin.Get(t.Context(), client.ObjectKey{Name: name}, &e); err != nil {
					return err
				}
				st := e.Status
				if st.LastHeartbeat == nil || time.Since(st.LastHeartbeat.Time) > 30*time.Second || st.Health != healthy || fmt.Sprint(st.SubClusters) != fmt.Sprint(sub) ||
					fmt.Sprint(st.ReceivedMissions) != received || fmt.Sprint(st.MatchedMissions) != matched || st.Distro != "k8s" || st.Version == "" || st.Capacity == nil {
					return fmt.Errorf("at %q, %s: %+v", s.name, name, st)
				}
				return nil
			}
		}
		soon(t, 10*time.Second, "B at A", check(a, "b", below{"c": healthy, "c/d": healthy}, "[to-b to-given-labels]", "[to-b]"))
		soon(t, 10*time.Second, "C at B", check(b, "c", below{"d": healthy}, "[to-b to-given-labels]", "[]"))
		soon(t, 10*time.Second, "D at C", check(c, "d", nil, "[to-b to-given-labels]", "[to-given-labels]"))
		var first, second v1alpha1.EdgeCluster
		if err := a.admin.Get(t.Context(), client.ObjectKey{Name: "b"}, &first); err != nil {
			t.Fatal(err)
		}
		soon(t, 10*time.Second, "the heartbeat moves", func() error {
			if err := a.admin.Get(t.Context(), client.ObjectKey{Name: "b"}, &second); err != nil {
				return err
			}
			if !second.Status.LastHeartbeat.After(first.Status.LastHeartbeat.Time) {
				return fmt.Errorf("still %v", second.Status.LastHeartbeat)
			}
			return nil
		})
		a.withdraw("to-b")
		a.withdraw("to-given-labels")
		soon(t, 10*time.Second, "gone", all(d.none(deployment, "web"), b.none(&v1alpha1.Mission{}, "to-given-labels")))
	})
	step("TC15 a mission that was added while B was away arrives when it is back", func(t *testing.T) {
		b.pause()
		a.submit("late", v1alpha1.MissionSpec{Manifests: deploymentYAML("late", 1)})
		stays(t, 2*time.Second, "absent while B is away", everywhere(none(&v1alpha1.Mission{}, "late"), b, c, d))
		b.start()
		soon(t, 10*time.Second, "mission and content", everywhere(func(s *site) func() error { return all(s.has(&v1alpha1.Mission{}, "late"), s.has(deployment, "late")) }, b, c, d))
	})
	step("TC16 a mission that was updated while B was away is updated when it is back", func(t *testing.T) {
		b.pause()
		a.submit("late", v1alpha1.MissionSpec{Manifests: deploymentYAML("late", 4)})
		stays(t, 2*time.Second, "unchanged while B is away", everywhere(func(s *site) func() error { return s.replicas("late", 1) }, b, c, d))
		b.start()
		soon(t, 10*time.Second, "updated", everywhere(func(s *site) func() error { return s.replicas("late", 4) }, b, c, d))
	})
	step("TC17 a mission that was deleted while B was away is deleted when it is back", func(t *testing.T) {
		b.pause()
		a.withdraw("late")
		stays(t, 2*time.Second, "still active while B is away", everywhere(has(deployment, "late"), b, c, d))
		b.start()
		soon(t, 10*time.Second, "gone", everywhere(func(s *site) func() error {
			return all(s.none(deployment, "late"), s.none(&v1alpha1.Mission{}, "late"))
		}, b, c, d))
	})
	a.submit("steady", v1alpha1.MissionSpec{Manifests: deploymentYAML("steady", 2)})
	soon(t, 10*time.Second, "steady", b.replicas("steady", 2))
	step("TC18 content that somebody deletes in B is back", func(t *testing.T) {
		var old appsv1.Deployment
		if err := b.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "steady"}, &old); err != nil {
			t.Fatal(err)
		}
		if err := b.admin.Delete(t.Context(), old.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			t.Fatal(err)
		}
		soon(t, 10*time.Second, "back", func() error {
			var now appsv1.Deployment
			if err := b.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "steady"}, &now); err != nil {
				return err
			}
			if now.UID == old.UID {
				return fmt.Errorf("it is still the old one")
			}
			return nil
		})
	})
	step("TC19 content that somebody scales to 10 in B is scaled back", func(t *testing.T) {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":10}}`))
		scaled := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "steady"}}
		if err := b.admin.Patch(t.Context(), scaled, patch); err != nil {
			t.Fatal(err)
		}
		if *scaled.Spec.Replicas != 10 {
			t.Fatalf("%d replicas", *scaled.Spec.Replicas)
		}
		soon(t, 10*time.Second, "reverted", b.replicas("steady", 2))
	})
	step("TC20 with its API server stopped and its agent running, D is unhealthy at C and at A", func(t *testing.T) {
		if err := d.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		soon(t, 10*time.Second, "unhealthy at C", c.cluster("d", v1alpha1.Unhealthy, nil))
		soon(t, 10*time.Second, "unhealthy at A", a.cluster("b", healthy, below{"c": healthy, "c/d": v1alpha1.Unhealthy}))
		if err := d.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		soon(t, 20*time.Second, "healthy again", a.cluster("b", healthy, below{"c": healthy, "c/d": healthy}))
	})
}
