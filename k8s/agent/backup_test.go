package agent_test

import (
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// An API server that comes back from an old backup says something else than before,
// with smaller resource versions: first that of a cluster on the way, which is brought
// up to date, then the root's, whose word counts, also when it is older.
func TestAPIServersFromAnOldBackup(t *testing.T) {
	servers := pool.take(t, 3)
	a := root(t, servers[0])
	b := a.child(servers[1], "middle", nil)
	c := b.child(servers[2], "leaf", nil)
	config := &corev1.ConfigMap{}
	const limit = time.Minute
	there := func(name, value string) {
		t.Helper()
		soon(t, limit, name+" is there", all(b.value(name, value), c.value(name, value), a.states(name, map[string]string{"middle": "Ready", "middle/leaf": "Ready"})))
	}
	gone := func(name string) {
		t.Helper()
		mission := &v1alpha1.Mission{}
		soon(t, limit, name+" is gone", all(b.none(config, name), c.none(config, name), b.none(mission, name), c.none(mission, name)))
	}
	submit := func(name, value string) { a.submit(name, v1alpha1.MissionSpec{Manifests: configYAML(name, value)}) }

	soon(t, limit, "they report", a.cluster("middle", v1alpha1.Healthy, map[string]v1alpha1.Health{"leaf": v1alpha1.Healthy}))
	submit("kept", "1")
	submit("deleted", "1")
	there("kept", "1")
	there("deleted", "1")

	backups := map[*site]*kubetest.Backup{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, s := range []*site{a, b} {
		group.Go(func() {
			backup, err := s.Backup(t.Context())
			if err != nil {
				t.Errorf("%q: %v", s.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			backups[s] = backup
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	soon(t, limit, "they are back", a.cluster("middle", v1alpha1.Healthy, map[string]v1alpha1.Health{"leaf": v1alpha1.Healthy}))
	submit("kept", "2")
	a.withdraw("deleted")
	submit("added", "1")
	there("kept", "2")
	gone("deleted")
	there("added", "1")

	if err := b.Restore(t.Context(), backups[b]); err != nil {
		t.Fatal(err)
	}
	there("added", "1")
	there("kept", "2")
	gone("deleted")

	if err := a.Restore(t.Context(), backups[a]); err != nil {
		t.Fatal(err)
	}
	there("deleted", "1")
	there("kept", "1")
	gone("added")

	submit("kept", "3")
	there("kept", "3")
	a.withdraw("kept")
	a.withdraw("deleted")
	gone("kept")
	gone("deleted")
}
