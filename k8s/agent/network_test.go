package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

func gatewayOf(cluster string) *v1alpha1.Gateway {
	return &v1alpha1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Name: "gw-" + cluster},
		Spec:       v1alpha1.GatewaySpec{Cluster: cluster, Endpoints: []v1alpha1.GatewayEndpoint{{Name: "a", Address: "192.0.2.1"}}},
	}
}

// speaks writes a Gateway's status as its gateway does.
func (c *site) speaks(key string) {
	c.t.Helper()
	soon(c.t, 10*time.Second, "the Gateway is at home", func() error {
		var g v1alpha1.Gateway
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: "gw-" + c.name}, &g); err != nil {
			return err
		}
		g.Status.Endpoints = []v1alpha1.EndpointStatus{{Name: "a", PublicKey: key}}
		g.Status.ActiveMembers = []v1alpha1.ActiveMember{{Endpoint: "a", PublicKey: key}}
		meta.SetStatusCondition(&g.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAtHome, Status: metav1.ConditionTrue, Reason: "Ready"})
		return c.admin.Status().Update(c.t.Context(), &g)
	})
}

// hears wants to know the key of a cluster's gateway.
func (c *site) hears(cluster, key string) func() error {
	return func() error {
		var g v1alpha1.Gateway
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: "gw-" + cluster}, &g); err != nil {
			return fmt.Errorf("at %q: %w", c.name, err)
		}
		s := g.Status
		if len(s.Endpoints) != 1 || s.Endpoints[0].PublicKey != key || len(s.ActiveMembers) != 1 || !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionAtHome) {
			return fmt.Errorf("at %q: Gateway of %s: %+v", c.name, cluster, s)
		}
		return nil
	}
}

func (c *site) vpc(name string, vni int32, state v1alpha1.VPCState) func() error {
	return func() error {
		var v v1alpha1.VPC
		if err := c.admin.Get(c.t.Context(), client.ObjectKey{Name: name}, &v); err != nil {
			return fmt.Errorf("at %q: %w", c.name, err)
		}
		if v.Status.VNI != vni || v.Status.State != state {
			return fmt.Errorf("at %q: VPC %s: %+v", c.name, name, v.Status)
		}
		return nil
	}
}

// cleanNetwork removes the network objects that a test left behind.
func (c *site) cleanNetwork(ctx context.Context) {
	for _, kind := range []client.Object{&v1alpha1.Gateway{}, &v1alpha1.VPC{}, &v1alpha1.Subnet{}} {
		if err := c.admin.DeleteAllOf(ctx, kind); err != nil {
			c.t.Errorf("clean up: %v", err)
		}
	}
}

// What gateways say goes up and down three levels, numbers of VPCs down.
func TestNetworkObjectsInATree(t *testing.T) {
	servers := pool.take(t, 4)
	a := root(t, servers[0])
	b := a.child(servers[1], "hub", nil)
	c, d := b.child(servers[2], "tip", nil), a.child(servers[3], "other", nil)
	everywhereThere := func(check func(*site) func() error) func() error { return everywhere(check, a, b, c, d) }
	create := func(at *site, o client.Object) {
		t.Helper()
		if err := at.admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(at *site, o client.Object) {
		t.Helper()
		if err := at.admin.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	const limit = 30 * time.Second
	soon(t, limit, "they report", a.cluster("hub", v1alpha1.Healthy, map[string]v1alpha1.Health{"tip": v1alpha1.Healthy}))

	t.Run("keys go up from where they are said, and down to all others", func(t *testing.T) {
		create(a, gatewayOf("hub"))   // made at the root
		create(c, gatewayOf("tip"))   // made at home, two levels below
		create(d, gatewayOf("other")) // made at home
		for _, s := range []*site{b, c, d} {
			s.speaks("key of " + s.name)
		}
		for _, of := range []string{"hub", "tip", "other"} {
			soon(t, limit, "all know the key of "+of, everywhereThere(func(s *site) func() error { return s.hears(of, "key of "+of) }))
		}
		b.speaks("another")
		soon(t, limit, "all know the other key", everywhereThere(func(s *site) func() error { return s.hears("hub", "another") }))
	})
	t.Run("a copy that somebody changes is put back", func(t *testing.T) {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"endpoints":[{"name":"a","address":"192.0.2.99"}]}}`))
		if err := c.admin.Patch(t.Context(), gatewayOf("hub"), patch); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "put back", func() error {
			var g v1alpha1.Gateway
			if err := c.admin.Get(t.Context(), client.ObjectKey{Name: "gw-hub"}, &g); err != nil || g.Spec.Endpoints[0].Address != "192.0.2.1" {
				return fmt.Errorf("%+v, %v", g.Spec, err)
			}
			return nil
		})
	})
	t.Run("a VPC has one number in all clusters below the one that it was made in", func(t *testing.T) {
		create(a, &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "of-the-root"}})
		create(b, &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "of-the-hub"}})
		soon(t, limit, "the root's", everywhereThere(func(s *site) func() error { return s.vpc("of-the-root", 1, v1alpha1.VPCReady) }))
		soon(t, limit, "the hub's", everywhere(func(s *site) func() error { return s.vpc("of-the-hub", 1<<24-1, v1alpha1.VPCReady) }, b, c))
		if err := errors.Join(a.none(&v1alpha1.VPC{}, "of-the-hub")(), d.none(&v1alpha1.VPC{}, "of-the-hub")()); err != nil {
			t.Error(err)
		}
	})
	t.Run("of two with a number the same one is the duplicate everywhere, and heals", func(t *testing.T) {
		time.Sleep(time.Second) // Kubernetes tells ages by the second
		create(a, &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "a-younger-one"}, Spec: v1alpha1.VPCSpec{VNI: ptr.To[int32](1)}})
		soon(t, limit, "a duplicate", everywhereThere(func(s *site) func() error { return s.vpc("a-younger-one", 0, v1alpha1.DuplicateVNI) }))
		remove(a, &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "of-the-root"}})
		soon(t, limit, "healed", everywhereThere(func(s *site) func() error { return s.vpc("a-younger-one", 1, v1alpha1.VPCReady) }))
	})
	t.Run("what was said last stays while a cluster is away", func(t *testing.T) {
		c.pause()
		soon(t, limit, "it is away", b.cluster("tip", v1alpha1.Disconnected, nil))
		stays(t, 2*time.Second, "its gateway goes on", everywhereThere(func(s *site) func() error { return s.hears("tip", "key of tip") }))
		c.start()
		soon(t, limit, "it is back", b.cluster("tip", v1alpha1.Healthy, nil))
		if err := everywhereThere(func(s *site) func() error { return s.hears("tip", "key of tip") })(); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is deleted where it was made is gone everywhere", func(t *testing.T) {
		remove(a, gatewayOf("hub"))
		remove(c, gatewayOf("tip"))
		for _, of := range []string{"hub", "tip"} {
			soon(t, limit, "no Gateway of "+of, everywhereThere(func(s *site) func() error { return s.none(&v1alpha1.Gateway{}, "gw-"+of) }))
		}
		if err := everywhereThere(func(s *site) func() error { return s.hears("other", "key of other") })(); err != nil {
			t.Error(err)
		}
	})
}
