package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// link is a child's way to its parent, which can be cut.
type link struct {
	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, errors.New("the link is down")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.Join(errors.New("the link is down"), c.Close())
	}
	if l.conns == nil {
		l.conns = map[net.Conn]bool{}
	}
	l.conns[c] = true
	return c, nil
}

func (l *link) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for c := range l.conns {
			c.Close()
		}
		clear(l.conns)
	}
}

// The link of two children flaps while Missions come, change and go: a cluster and a
// site without an API server. In the end both have what the parent has, the parent
// knows it, and nobody writes anything any more.
func TestFlapsOfTheParentLinkLoseNothing(t *testing.T) {
	flaps := 8
	if os.Getenv("SLUICE_WIDE") != "" {
		flaps = 20
	}
	servers := pool.take(t, 2)
	a := root(t, servers[0])
	var links [2]link
	cluster := &site{server: servers[1], t: t, name: "flaps", parent: a, dial: links[0].dial}
	t.Cleanup(cluster.pause)
	t.Cleanup(cluster.clean)
	cluster.join(a)
	cluster.start()
	parent := (&site{server: servers[1], t: t, name: "lonely", parent: a, dial: links[1].dial}).options().Parent
	(&site{t: t, name: "lonely"}).join(a)
	alone := &lonely{t: t, name: "lonely", dir: t.TempDir(), parent: parent}
	t.Cleanup(alone.pause)
	alone.start()
	soon(t, 20*time.Second, "both report", all(a.cluster("flaps", v1alpha1.Healthy, nil), a.cluster("lonely", v1alpha1.Healthy, nil)))

	want := map[string]int{} // Mission: number of its VPC
	for n := range flaps {
		for i := range links {
			links[i].set(n%3 != i) // one of them, the other, or both
		}
		time.Sleep(500 * time.Millisecond)
		name := fmt.Sprintf("flap%d", n%5)
		if _, there := want[name]; there && n%3 == 0 {
			a.withdraw(name)
			delete(want, name)
		} else {
			want[name] = n + 1
			a.submit(name, v1alpha1.MissionSpec{Manifests: vpcYAML(name, n+1)})
		}
		time.Sleep(500 * time.Millisecond)
		for i := range links {
			links[i].set(false)
		}
		time.Sleep(time.Duration(200+200*(n%5)) * time.Millisecond)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		soon(t, 30*time.Second, "all have it, and the root knows", all(alone.vni(name, int32(want[name])), a.states(name, map[string]string{"flaps": "Ready", "lonely": "Ready"})))
	}
	soon(t, 20*time.Second, "nothing else is left", func() error {
		for _, c := range []client.Reader{alone.own, cluster.admin} {
			var missions v1alpha1.MissionList
			var vpcs v1alpha1.VPCList
			if err := errors.Join(c.List(t.Context(), &missions), c.List(t.Context(), &vpcs)); err != nil {
				return err
			}
			if len(missions.Items) != len(want) || len(vpcs.Items) != len(want) {
				return fmt.Errorf("%d Missions and %d VPCs, want %d", len(missions.Items), len(vpcs.Items), len(want))
			}
		}
		return nil
	})
	// What goes up causes nothing downwards: at rest the parent gets heartbeats, the child's API server nothing.
	above, below := newMeter(t, servers[0], nil), newMeter(t, servers[1], nil)
	soon(t, 20*time.Second, "nobody writes", func() error {
		before := [2]reading{above.read(), below.read()}
		time.Sleep(2 * time.Second)
		up, words := above.read().since(before[0])
		down, _ := below.read().since(before[1])
		for name := range up {
			if !slices.Contains(heartbeats, name) && !slices.Contains(serversOwn, name) {
				return fmt.Errorf("the parent: %s", words)
			}
		}
		for name, n := range down {
			if !slices.Contains(serversOwn, name) {
				return fmt.Errorf("the child: %d writes of %s", n, name)
			}
		}
		return nil
	})
	for name := range want {
		a.withdraw(name)
	}
	soon(t, 20*time.Second, "all is gone", func() error {
		for name := range want {
			if err := all(alone.vni(name, 0), cluster.none(&v1alpha1.Mission{}, name))(); err != nil {
				return err
			}
		}
		return nil
	})
}
