package content

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

func manifests(text string) v1alpha1.MissionSpec { return v1alpha1.MissionSpec{Manifests: text} }

func TestParse(t *testing.T) {
	spec := manifests(`# a comment alone is no object
---
apiVersion: v1
kind: ConfigMap
metadata: {name: it's 100% fine\n, namespace: shop}
data: {n: "1"}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, resourceVersion: "7", uid: abc}
status: {phase: Active}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: a}}
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
---
`)
	spec.Resources = []runtime.RawExtension{{Raw: []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2}}`)}}
	objects, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range objects {
		got = append(got, Words(NameOf(u)))
	}
	want := []string{"Namespace shop", `ConfigMap shop/it's 100% fine\n`, "Secret a", "Secret b", "Deployment web"}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got %q, want %q", got, want)
	}
	if objects[0].GetResourceVersion() != "" || objects[0].GetUID() != "" || objects[0].Object["status"] != nil {
		t.Errorf("what only the API server may say is still there: %v", objects[0].Object)
	}
	if n, _, _ := unstructured.NestedInt64(objects[4].Object, "spec", "replicas"); n != 2 {
		t.Errorf("replicas %v", objects[4].Object["spec"])
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	const cm = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	tests := []struct{ name, text, want string }{
		{"broken YAML", cm + "---\na: [", "manifests, document 2: "},
		{"a key twice", "apiVersion: v1\nkind: ConfigMap\nkind: Secret\nmetadata: {name: a}", `"kind" already set`},
		{"no object", "- 1\n- 2\n", "document 1: not an object"},
		{"nothing but comments", "# nothing\n", "no object in it"},
		{"no apiVersion", "kind: ConfigMap\nmetadata: {name: a}", `apiVersion "" is none`},
		{"no kind", "apiVersion: v1\nmetadata: {name: a}", "document 1: "},
		{"no metadata", "apiVersion: v1\nkind: ConfigMap", "metadata is missing"},
		{"no name", "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: a}", "metadata.name is missing"},
		{"a generated name", "apiVersion: v1\nkind: Job\nmetadata: {generateName: a-}", "set metadata.name"},
		{"the same object twice", cm + "---\n" + cm, "ConfigMap a is there twice"},
		{"a label that is ours", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {sluice.dev/mission: x}}", "sluice.dev/mission is set by Sluice"},
		{"a number as a label", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: 1}}", "x is not a string"},
		{"a list with a number", "apiVersion: v1\nkind: List\nitems: [1]", "items[0] is not an object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := Parse(manifests(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || objects != nil {
				t.Errorf("got %v, %v; want an error with %q", objects, err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n{}")
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: b}}]")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := Parse(manifests(text))
		if (len(objects) == 0) != (err != nil) {
			t.Fatalf("%d objects and error %v", len(objects), err)
		}
		for _, u := range objects {
			if u.GetName() == "" || u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetResourceVersion() != "" {
				t.Fatalf("object %v got through", u.Object)
			}
			if _, err := u.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
			u.DeepCopy() // panics over what is no JSON
		}
	})
}

func deployment(replicas, ready int64) map[string]any {
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "web", "namespace": "default", "generation": int64(1)},
		"spec":     map[string]any{"replicas": replicas},
		"status": map[string]any{
			"observedGeneration": int64(1), "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
			"conditions": []any{map[string]any{"type": "Available", "status": map[bool]string{true: "True", false: "False"}[ready == replicas]}},
		},
	}
}

func TestProgress(t *testing.T) {
	config := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "default"}}
	failed := map[string]any{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "j", "namespace": "default"},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True", "message": "BackoffLimit\nExceeded"}}},
	}
	tests := []struct {
		name    string
		objects []map[string]any
		phase   v1alpha1.Phase
		text    string
	}{
		{"all ready", []map[string]any{deployment(2, 2), config}, v1alpha1.PhaseReady, "2 objects ready"},
		{"one ready speaks for itself", []map[string]any{deployment(2, 2)}, v1alpha1.PhaseReady, "Deployment is available. Replicas: 2"},
		{"one is not", []map[string]any{config, deployment(2, 1)}, v1alpha1.PhaseProgressing, "Deployment default/web: Available: 1/2"},
		{"a failure goes before progress", []map[string]any{deployment(2, 1), failed}, v1alpha1.PhaseFailed, "Job default/j: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var objects []*unstructured.Unstructured
			for _, o := range tt.objects {
				objects = append(objects, &unstructured.Unstructured{Object: o})
			}
			phase, text := Progress(objects)
			if phase != tt.phase || !strings.HasPrefix(text, tt.text) || strings.Contains(text, "\n") {
				t.Errorf("got %s %q, want %s %q", phase, text, tt.phase, tt.text)
			}
		})
	}
}

func TestFieldPath(t *testing.T) {
	for path, want := range map[string]string{
		"{.status.readyReplicas}": "1", ".status.readyReplicas": "1", "status.readyReplicas": "1",
		"{.status.readyReplicas} of {.spec.replicas}": "1 of 2", "{.status.nothing}": "",
		`{.status.conditions[?(@.type=="Available")].status}`: "False",
	} {
		if got, err := FieldPath(path, deployment(2, 1)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := FieldPath("{.a[}", deployment(1, 1)); err == nil || !strings.Contains(err.Error(), "stateCheck.fieldPath") {
		t.Errorf("a path that means nothing: %v", err)
	}
}

func TestExpression(t *testing.T) {
	truth := map[string]string{"true": "true", "false": "false"}
	for expression, want := range map[string]string{
		"object.status.readyReplicas == object.spec.replicas":                      "false",
		"object.status.readyReplicas > 0":                                          "true",
		`string(object.status.readyReplicas) + "/" + string(object.spec.replicas)`: "1/2",
		"object.spec.replicas * 2":                                                 "4",
		"object.?status.?nothing.orValue('-')":                                     "-",
		"object.status.conditions.map(c, c.type)":                                  `["Available"]`,
	} {
		got, ready, err := Expression(context.Background(), expression, deployment(2, 1))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", expression, got, err, want)
		}
		if (ready != nil) != (truth[want] != "") || ready != nil && *ready != (want == "true") {
			t.Errorf("%s: ready %v", expression, ready)
		}
	}
	for expression, want := range map[string]string{
		"object.":        "Syntax error",
		"nothing":        "undeclared reference",
		"object.a.b > 1": "no such key",
		"[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))": "cost limit",
	} {
		_, _, err := Expression(context.Background(), expression, deployment(2, 1))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "stateCheck.expression") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40s: %v; want %q in one line", expression, err, want)
		}
	}
}
