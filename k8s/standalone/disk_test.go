package standalone_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/standalone"
)

func open(t testing.TB, dir string) *standalone.Site {
	t.Helper()
	site, err := standalone.Open(standalone.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return site
}

func closeSite(t testing.TB, site *standalone.Site) {
	t.Helper()
	if err := site.Close(); err != nil {
		t.Fatal(err)
	}
}

func vpc(name string, vni int32) *v1alpha1.VPC {
	return &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.VPCSpec{VNI: &vni}}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	site := open(t, dir)
	c := newClient(t, site.Config())
	for n, name := range []string{"red", "green", "blue"} {
		if err := c.Create(t.Context(), vpc(name, int32(n+1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Delete(t.Context(), vpc("green", 0)); err != nil {
		t.Fatal(err)
	}
	t.Run("a folder belongs to one process", func(t *testing.T) {
		if _, err := standalone.Open(standalone.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another agent uses the folder") {
			t.Errorf("%v", err)
		}
	})
	var before, after v1alpha1.VPCList
	if err := c.List(t.Context(), &before); err != nil || len(before.Items) != 2 {
		t.Fatalf("%v, %v", before.Items, err)
	}
	closeSite(t, site)
	path := func(name string) string { return filepath.Join(dir, "vpcs", name) }

	t.Run("what was there is there after a restart", func(t *testing.T) {
		if err := os.WriteFile(path("green.yaml.new"), []byte("# sluice obj"), 0o600); err != nil { // killed in the middle of it
			t.Fatal(err)
		}
		site = open(t, dir)
		defer closeSite(t, site)
		c = newClient(t, site.Config())
		if err := c.List(t.Context(), &after); err != nil {
			t.Fatal(err)
		}
		if len(after.Items) != 2 || after.Items[0].UID != before.Items[0].UID || *after.Items[1].Spec.VNI != 1 || len(site.Refused()) > 0 {
			t.Errorf("%v, refused %v", after.Items, site.Refused())
		}
		if _, err := os.Stat(path("green.yaml.new")); !errors.Is(err, os.ErrNotExist) {
			t.Error("the half-written file is still there")
		}
	})
	whole, err := os.ReadFile(path("red.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"is cut short":                whole[:len(whole)/2],
		"is empty":                    nil,
		"has a bit turned over":       flip(whole),
		"was edited":                  []byte(strings.Replace(string(whole), `"vni": 1`, `"vni": 9`, 1)),
		"has no heading":              whole[strings.IndexByte(string(whole), '\n')+1:],
		"is another object's content": readFile(t, path("blue.yaml")),
	} {
		t.Run("a file that "+name+" is refused by name and taken anew", func(t *testing.T) {
			if err := os.WriteFile(path("red.yaml"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			site := open(t, dir)
			defer closeSite(t, site)
			if refused := site.Refused(); len(refused) != 1 || refused["vpcs/red.yaml"] == "" {
				t.Fatalf("refused %v", refused)
			}
			if got := readFile(t, path("red.yaml.refused")); string(got) != string(content) {
				t.Errorf("set aside was %q", got)
			}
			c := newClient(t, site.Config())
			var v v1alpha1.VPC
			if err := c.Get(t.Context(), client.ObjectKey{Name: "red"}, &v); !apierrors.IsNotFound(err) {
				t.Errorf("%v, %+v", err, v)
			}
			if err := c.Create(t.Context(), vpc("red", 1)); err != nil {
				t.Fatal(err)
			}
			if len(site.Refused()) > 0 {
				t.Errorf("still refused: %v", site.Refused())
			}
		})
	}
	t.Run("a folder that cannot be written is said, and nothing is shown that is not in it", func(t *testing.T) {
		site := open(t, dir)
		defer closeSite(t, site)
		c := newClient(t, site.Config())
		if err := os.Rename(filepath.Join(dir, "vpcs"), filepath.Join(dir, "elsewhere")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "vpcs"), nil, 0o600); err != nil { // where a folder has to be
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), vpc("late", 7)); err == nil || site.Well() == nil && !strings.Contains(err.Error(), "vpcs") {
			t.Errorf("%v", err)
		}
		var v v1alpha1.VPC
		if err := c.Get(t.Context(), client.ObjectKey{Name: "late"}, &v); !apierrors.IsNotFound(err) {
			t.Errorf("%v", err)
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, "vpcs")), os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "vpcs"))); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Create(t.Context(), vpc("late", 7)), site.Well()); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func flip(content []byte) []byte {
	turned := append([]byte(nil), content...)
	turned[len(turned)/2] ^= 1
	return turned
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Whoever watches sees what changes, as its selector has it, and is told when it has
// missed too much.
func TestWatch(t *testing.T) {
	site := open(t, "")
	c := newClient(t, site.Config())
	var list v1alpha1.VPCList
	if err := errors.Join(c.Create(t.Context(), vpc("first", 1)), c.List(t.Context(), &list)); err != nil {
		t.Fatal(err)
	}
	since := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}}
	marked := client.MatchingLabels{"marked": "yes"}
	w, err := c.Watch(t.Context(), &v1alpha1.VPCList{}, since, marked)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	label := func(name, value string) {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"marked":`+value+`}}}`))
		if err := c.Patch(t.Context(), vpc(name, 0), patch); err != nil {
			t.Fatal(err)
		}
	}
	label("first", `"yes"`)
	label("first", `"no"`)
	label("first", `"yes"`)
	if err := errors.Join(c.Create(t.Context(), vpc("second", 2)), c.Delete(t.Context(), vpc("first", 0))); err != nil {
		t.Fatal(err)
	}
	for n, want := range []watch.EventType{watch.Added, watch.Deleted, watch.Added, watch.Deleted} {
		event := <-w.ResultChan()
		if v, ok := event.Object.(*v1alpha1.VPC); event.Type != want || !ok || v.Name != "first" {
			t.Errorf("event %d: %v %v, want %v of first", n, event.Type, event.Object, want)
		}
	}
	for range 300 {
		label("second", `"yes"`)
		label("second", `"no"`)
	}
	late, err := c.Watch(t.Context(), &v1alpha1.VPCList{}, since)
	if err == nil {
		late.Stop()
	}
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("a watch from long ago: %v", err)
	}
}
