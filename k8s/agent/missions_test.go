package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// says wants the state of one path to contain a text.
func (c *site) says(mission, path string, phase v1alpha1.Phase, text string) func() error {
	return func() error {
		m, err := c.mission(mission)
		if err != nil {
			return err
		}
		for _, s := range m.Status.Clusters {
			if s.Path != path {
				continue
			}
			if s.Phase == phase && strings.Contains(s.State, text) && s.ObservedGeneration == m.Generation {
				return nil
			}
			return fmt.Errorf("%s of %s: %s %q of generation %d; want %s %q of %d", path, mission, s.Phase, s.State, s.ObservedGeneration, phase, text, m.Generation)
		}
		return fmt.Errorf("%s of %s: no entry", path, mission)
	}
}

func secretYAML(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\n", name)
}

// TestMissions has one child; each case has Missions of its own.
func TestMissions(t *testing.T) {
	servers := pool.take(t, 2)
	a := root(t, servers[0])
	e := a.child(servers[1], "east", map[string]string{"region": "north"})
	soon(t, 10*time.Second, "east reports", a.cluster("east", v1alpha1.Healthy, nil))
	const limit = 10 * time.Second
	config := &corev1.ConfigMap{}

	t.Run("what is wrong is said in words at the root", func(t *testing.T) {
		for name, tt := range map[string]struct{ manifests, want string }{
			"wrong-namespace": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nowhere}", `ConfigMap nowhere/x: namespaces "nowhere" not found`},
			"wrong-kind":      {"apiVersion: nobody.example/v1\nkind: Gadget\nmetadata: {name: x}", "no kind Gadget in nobody.example/v1 in this cluster"},
			"wrong-yaml":      {"a: [", "manifests, document 1: "},
			"wrong-spec":      {strings.Replace(deploymentYAML("x", 1), "matchLabels: {app: x}", "matchLabels: {app: y}", 1), "Deployment default/x: "},
			"wrong-field":     {strings.Replace(deploymentYAML("x", 1), "replicas:", "replicaz:", 1), "replicaz"},
			"no-permission":   {secretYAML("x"), "Secret default/x: forbidden: the agent has no permission"},
		} {
			a.submit(name, v1alpha1.MissionSpec{Manifests: tt.manifests + "\n---\n" + configYAML(name, "1")})
			soon(t, limit, name, a.says(name, "east", v1alpha1.PhaseFailed, tt.want))
			if name != "wrong-yaml" {
				soon(t, limit, "the other objects are applied", e.value(name, "1"))
			}
			a.submit(name, v1alpha1.MissionSpec{Manifests: configYAML(name, "2")})
			soon(t, limit, "and mended", all(a.says(name, "east", v1alpha1.PhaseReady, ""), e.value(name, "2")))
			a.withdraw(name)
		}
	})

	t.Run("the schema refuses what means nothing", func(t *testing.T) {
		text := configYAML("x", "1")
		command := &v1alpha1.MissionCommand{Command: []string{"/bin/true"}}
		for name, tt := range map[string]struct {
			spec v1alpha1.MissionSpec
			want string
		}{
			"empty":                 {v1alpha1.MissionSpec{}, "a Mission needs content"},
			"both":                  {v1alpha1.MissionSpec{Manifests: text, Command: command}, "command excludes manifests"},
			"itself":                {v1alpha1.MissionSpec{Manifests: text, DependsOn: []string{"itself"}}, "cannot depend on itself"},
			"policy":                {v1alpha1.MissionSpec{Manifests: text, Adoption: "Steal"}, "Unsupported value"},
			"two-checks":            {v1alpha1.MissionSpec{Manifests: text, StateCheck: &v1alpha1.StateCheck{FieldPath: "{.a}", Expression: "1"}}, "exactly one of"},
			"cluster-name":          {v1alpha1.MissionSpec{Manifests: text, Placement: toNames("B_1")}, "spec.placement.clusters"},
			strings.Repeat("n", 64): {v1alpha1.MissionSpec{Manifests: text}, "at most 63"},
		} {
			err := a.admin.Create(t.Context(), &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: tt.spec})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
		}
	})

	t.Run("resources are applied like manifests, quotes and percent signs and all", func(t *testing.T) {
		text := `it's 100% \n "quoted"`
		a.submit("resources", v1alpha1.MissionSpec{Resources: []runtime.RawExtension{embedded(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "resources"}, "data": map[string]any{"value": text},
		})}})
		soon(t, limit, "applied", all(e.value("resources", text), a.says("resources", "east", v1alpha1.PhaseReady, "")))
		a.withdraw("resources")
	})

	t.Run("what leaves a Mission is pruned, unless it says no", func(t *testing.T) {
		both := configYAML("stays", "1") + "---\n" + configYAML("leaves", "1")
		a.submit("prune", v1alpha1.MissionSpec{Manifests: both})
		soon(t, limit, "both", all(e.value("stays", "1"), e.value("leaves", "1")))
		a.submit("prune", v1alpha1.MissionSpec{Manifests: configYAML("stays", "1")})
		soon(t, limit, "pruned", all(e.value("stays", "1"), e.none(config, "leaves")))
		no := false
		a.submit("prune", v1alpha1.MissionSpec{Manifests: both, Prune: &no})
		soon(t, limit, "both again", e.value("leaves", "1"))
		a.submit("prune", v1alpha1.MissionSpec{Manifests: configYAML("stays", "2"), Prune: &no})
		soon(t, limit, "left alone", all(e.value("stays", "2"), func() error { return e.owner("leaves", "") }))
		a.withdraw("prune")
		soon(t, limit, "gone", e.none(config, "stays"))
		if err := e.value("leaves", "1")(); err != nil {
			t.Error(err)
		}
	})

	t.Run("what was there is adopted or refused, what is another's is left", func(t *testing.T) {
		e.make(configYAML("found", "0"))
		a.submit("refuses", v1alpha1.MissionSpec{Manifests: configYAML("found", "1"), Adoption: v1alpha1.Refuse})
		soon(t, limit, "refused", a.says("refuses", "east", v1alpha1.PhaseFailed, "it was there before, and adoption is Refuse"))
		a.withdraw("refuses")
		soon(t, limit, "gone", e.none(&v1alpha1.Mission{}, "refuses"))
		if err := e.value("found", "0")(); err != nil {
			t.Error(err)
		}
		a.submit("adopts", v1alpha1.MissionSpec{Manifests: configYAML("found", "1")})
		soon(t, limit, "adopted", e.value("found", "1"))
		a.submit("thief", v1alpha1.MissionSpec{Manifests: configYAML("found", "2")})
		soon(t, limit, "not stolen", a.says("thief", "east", v1alpha1.PhaseFailed, "it belongs to Mission adopts"))
		a.withdraw("thief")
		soon(t, limit, "gone", e.none(&v1alpha1.Mission{}, "thief"))
		if err := e.value("found", "1")(); err != nil {
			t.Error(err)
		}
		a.withdraw("adopts")
		soon(t, limit, "deleted with its Mission", e.none(config, "found"))
	})

	t.Run("a conflict is overwritten or reported", func(t *testing.T) {
		e.make(configYAML("contested", "theirs"))
		a.submit("reports", v1alpha1.MissionSpec{Manifests: configYAML("contested", "ours"), Conflicts: v1alpha1.Report})
		soon(t, limit, "reported", a.says("reports", "east", v1alpha1.PhaseFailed, "conflict"))
		if err := e.value("contested", "theirs")(); err != nil {
			t.Error(err)
		}
		a.submit("reports", v1alpha1.MissionSpec{Manifests: configYAML("contested", "ours")})
		soon(t, limit, "overwritten", e.value("contested", "ours"))
		a.withdraw("reports")
	})

	t.Run("orphans stay, and are nobody's", func(t *testing.T) {
		a.submit("orphans", v1alpha1.MissionSpec{Manifests: configYAML("orphan", "1"), Deletion: v1alpha1.Orphan})
		soon(t, limit, "applied", e.value("orphan", "1"))
		a.withdraw("orphans")
		soon(t, limit, "gone", e.none(&v1alpha1.Mission{}, "orphans"))
		if err := e.owner("orphan", ""); err != nil {
			t.Error(err)
		}
	})

	t.Run("a state check speaks", func(t *testing.T) {
		a.submit("path", v1alpha1.MissionSpec{Manifests: configYAML("path", "warm"), StateCheck: &v1alpha1.StateCheck{FieldPath: "{.data.value} today"}})
		soon(t, limit, "field path", a.says("path", "east", v1alpha1.PhaseReady, "warm today"))
		check := &v1alpha1.StateCheck{
			Object:     &v1alpha1.ObjectName{APIVersion: "v1", Kind: "ConfigMap", Name: "second"},
			Expression: `object.data.value == "done"`,
		}
		a.submit("cel", v1alpha1.MissionSpec{Manifests: configYAML("first", "x") + "---\n" + configYAML("second", "open"), StateCheck: check})
		soon(t, limit, "not ready", a.says("cel", "east", v1alpha1.PhaseProgressing, "false"))
		a.submit("cel", v1alpha1.MissionSpec{Manifests: configYAML("first", "x") + "---\n" + configYAML("second", "done"), StateCheck: check})
		soon(t, limit, "ready", a.says("cel", "east", v1alpha1.PhaseReady, "true"))
		check.Expression = "object.nothing.at.all"
		a.submit("cel", v1alpha1.MissionSpec{Manifests: configYAML("second", "done"), StateCheck: check})
		soon(t, limit, "a bad expression", a.says("cel", "east", v1alpha1.PhaseFailed, "stateCheck.expression: no such key"))
		a.submit("cel", v1alpha1.MissionSpec{Manifests: configYAML("second", "done"), StateCheck: &v1alpha1.StateCheck{Command: []string{"/bin/true"}}})
		soon(t, limit, "a command", a.says("cel", "east", v1alpha1.PhaseFailed, "commands are not allowed in this cluster"))
		a.withdraw("path")
		a.withdraw("cel")
	})

	t.Run("Missions wait for those that they depend on", func(t *testing.T) {
		ready := &v1alpha1.StateCheck{Expression: `object.data.value == "up"`}
		a.submit("web", v1alpha1.MissionSpec{Manifests: configYAML("web", "1"), DependsOn: []string{"database"}})
		soon(t, limit, "missing", a.says("web", "east", v1alpha1.PhaseWaiting, "waits for Mission database, which is not here"))
		a.submit("database", v1alpha1.MissionSpec{Manifests: configYAML("database", "down"), StateCheck: ready})
		soon(t, limit, "not ready", a.says("web", "east", v1alpha1.PhaseWaiting, "which is progressing"))
		if err := e.none(config, "web")(); err != nil {
			t.Error(err)
		}
		a.submit("database", v1alpha1.MissionSpec{Manifests: configYAML("database", "up"), StateCheck: ready})
		soon(t, limit, "ready", all(e.value("web", "1"), a.says("web", "east", v1alpha1.PhaseReady, "")))
		a.withdraw("database")
		stays(t, time.Second, "what is applied stays", e.value("web", "1"))
		a.submit("web", v1alpha1.MissionSpec{Manifests: configYAML("web", "2"), DependsOn: []string{"ring"}})
		a.submit("ring", v1alpha1.MissionSpec{Manifests: configYAML("ring", "2"), DependsOn: []string{"web"}})
		soon(t, limit, "a circle", a.says("web", "east", v1alpha1.PhaseFailed, "dependsOn goes in a circle: web, ring, web"))
		a.submit("ring", v1alpha1.MissionSpec{Manifests: configYAML("ring", "2"), Placement: toNames("elsewhere")})
		soon(t, limit, "one that is not for this cluster holds nobody up", e.value("web", "2"))
		a.withdraw("web")
		a.withdraw("ring")
	})

	t.Run("labels that the parent adds re-place content", func(t *testing.T) {
		a.submit("labelled", v1alpha1.MissionSpec{Manifests: configYAML("labelled", "1"), Placement: toLabels(map[string]string{"tier": "gold", "region": "north"})})
		soon(t, limit, "not meant", a.says("labelled", "east", v1alpha1.PhaseNotMatched, "not match"))
		e.label(`{"spec":{"labels":{"tier":"gold"}}}`)
		soon(t, limit, "meant", e.value("labelled", "1"))
		e.pause()
		e.start()
		stays(t, time.Second, "it is not forgotten", e.value("labelled", "1"))
		e.label(`{"spec":{"labels":null}}`)
		soon(t, limit, "no more", all(e.none(config, "labelled"), a.says("labelled", "east", v1alpha1.PhaseNotMatched, "not match")))
		a.withdraw("labelled")
	})

	t.Run("a Mission that the cluster has itself is not touched", func(t *testing.T) {
		own := &v1alpha1.Mission{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Spec: v1alpha1.MissionSpec{Manifests: configYAML("local", "own")}}
		if err := e.admin.Create(t.Context(), own); err != nil {
			t.Fatal(err)
		}
		a.submit("local", v1alpha1.MissionSpec{Manifests: configYAML("local", "parent's")})
		soon(t, limit, "said", a.says("local", "east", v1alpha1.PhaseFailed, "cluster east has a Mission of its own with this name"))
		if err := e.none(config, "local")(); err != nil {
			t.Error(err)
		}
		a.withdraw("local")
		stays(t, time.Second, "it stays", e.has(&v1alpha1.Mission{}, "local"))
		e.withdraw("local")
	})

	t.Run("changes to a copy are put back", func(t *testing.T) {
		a.submit("copied", v1alpha1.MissionSpec{Manifests: configYAML("copied", "1")})
		soon(t, limit, "applied", e.value("copied", "1"))
		m, err := e.mission("copied")
		if err != nil {
			t.Fatal(err)
		}
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"manifests":%q}}`, configYAML("copied", "2")))
		if err := e.admin.Patch(t.Context(), m, patch); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "put back", func() error {
			if m, err = e.mission("copied"); err == nil && m.Spec.Manifests != configYAML("copied", "1") {
				err = fmt.Errorf("%s", m.Spec.Manifests)
			}
			return err
		})
		soon(t, limit, "and its content", e.value("copied", "1"))
		if err := e.admin.Delete(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "a deleted copy comes back", func() error {
			now, err := e.mission("copied")
			if err == nil && now.UID == m.UID {
				err = fmt.Errorf("it is the old one")
			}
			return err
		})
		soon(t, limit, "with its content", e.value("copied", "1"))
		a.withdraw("copied")
	})

	t.Run("kinds come with the Mission that uses them", func(t *testing.T) {
		crd := `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
		a.submit("widget", v1alpha1.MissionSpec{Manifests: "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n"})
		soon(t, limit, "no such kind yet", a.says("widget", "east", v1alpha1.PhaseFailed, "no kind Widget"))
		e.make(crd)
		widget := func() error {
			u := &unstructured.Unstructured{}
			u.SetAPIVersion("example.com/v1")
			u.SetKind("Widget")
			return e.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "w"}, u)
		}
		soon(t, 40*time.Second, "when the kind is there, it is applied", widget)
		a.withdraw("widget")
		soon(t, limit, "gone", func() error {
			if err := widget(); client.IgnoreNotFound(err) != nil || err == nil {
				return fmt.Errorf("widget: %v", err)
			}
			return nil
		})
	})

	t.Run("a change of status causes no write below, and no second report", func(t *testing.T) {
		a.submit("quiet", v1alpha1.MissionSpec{Manifests: deploymentYAML("quiet", 1)})
		soon(t, limit, "progressing", a.says("quiet", "east", v1alpha1.PhaseProgressing, ""))
		time.Sleep(2 * time.Second) // what is on its way comes through
		copyBefore, err := e.mission("quiet")
		if err != nil {
			t.Fatal(err)
		}
		var before, after v1alpha1.MissionReport
		key := client.ObjectKey{Namespace: v1alpha1.ClusterNamespace("east"), Name: "quiet"}
		if err := a.admin.Get(t.Context(), key, &before); err != nil {
			t.Fatal(err)
		}
		// The root's status changes, for a reason that is none of east's.
		m, err := a.mission("quiet")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.admin.Status().Patch(t.Context(), m, client.RawPatch("application/merge-patch+json", []byte(`{"status":{"summary":"changed"}}`))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		copyAfter, err := e.mission("quiet")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.admin.Get(t.Context(), key, &after); err != nil {
			t.Fatal(err)
		}
		if copyBefore.ResourceVersion != copyAfter.ResourceVersion {
			t.Errorf("the copy was written: %s, %s", copyBefore.ResourceVersion, copyAfter.ResourceVersion)
		}
		if before.ResourceVersion != after.ResourceVersion {
			t.Error("it was reported again")
		}
		if m, err = a.mission("quiet"); err != nil || m.Status.Summary == "changed" {
			t.Errorf("the fold does not hold its own: %q, %v", m.Status.Summary, err)
		}
		a.withdraw("quiet")
		soon(t, limit, "gone", e.none(&appsv1.Deployment{}, "quiet"))
	})
}

// make applies an object in a cluster, as a person there.
func (c *site) make(text string) {
	c.t.Helper()
	u := &unstructured.Unstructured{}
	if err := unmarshal(text, &u.Object); err != nil {
		c.t.Fatal(err)
	}
	if u.GetNamespace() == "" && u.GetKind() == "ConfigMap" {
		u.SetNamespace("default")
	}
	if err := c.admin.Apply(c.t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("person"), client.ForceOwnership); err != nil {
		c.t.Fatal(err)
	}
}

// owner wants a ConfigMap to be a Mission's.
func (c *site) owner(name, mission string) error {
	var m corev1.ConfigMap
	if err := c.admin.Get(c.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &m); err != nil {
		return err
	}
	if got := m.Labels[v1alpha1.LabelMission]; got != mission {
		return fmt.Errorf("ConfigMap %s belongs to %q, want %q", name, got, mission)
	}
	return nil
}

// label changes the site's EdgeCluster at its parent.
func (c *site) label(patch string) {
	c.t.Helper()
	e := &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: c.name}}
	if err := c.parent.admin.Patch(c.t.Context(), e, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		c.t.Fatal(err)
	}
}
