package standalone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/manifests"
	"github.com/sluicegw/sluice/k8s/standalone"
)

func newScheme(t testing.TB) *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func newClient(t testing.TB, config *rest.Config) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(config, client.Options{Scheme: newScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// realServer is an API server that knows our kinds.
func realServer(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubetest.Start(t, kubetest.Options{Name: "twin"}).Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	c := newClient(t, config)
	objects, err := manifests.Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range objects {
		if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("admin")); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // a definition is served a moment after it is there
		err := c.List(t.Context(), &v1alpha1.MissionList{})
		for _, list := range []client.ObjectList{&v1alpha1.VPCList{}, &v1alpha1.GatewayList{}, &v1alpha1.SubnetList{}, &v1alpha1.EdgeClusterList{}} {
			if err == nil {
				err = c.List(t.Context(), list)
			}
		}
		if err == nil {
			return config
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// step does one thing to a server, and returns an object or a list of them.
type step struct {
	name string
	do   func(context.Context, client.Client) (runtime.Object, error)
}

func patch(kind client.Object, name string, how client.Patch, status bool, options ...client.PatchOption) func(context.Context, client.Client) (runtime.Object, error) {
	return func(ctx context.Context, c client.Client) (runtime.Object, error) {
		o := kind.DeepCopyObject().(client.Object)
		o.SetName(name)
		if status {
			var more []client.SubResourcePatchOption
			for _, option := range options {
				more = append(more, option.(client.SubResourcePatchOption))
			}
			return o, c.Status().Patch(ctx, o, how, more...)
		}
		return o, c.Patch(ctx, o, how, options...)
	}
}

func apply(kind client.Object, name, body string, status bool, owner string, options ...client.PatchOption) func(context.Context, client.Client) (runtime.Object, error) {
	return patch(kind, name, client.RawPatch("application/apply-patch+yaml", []byte(body)), status, append(options, client.FieldOwner(owner))...)
}

func get(kind client.Object, name string) func(context.Context, client.Client) (runtime.Object, error) {
	return func(ctx context.Context, c client.Client) (runtime.Object, error) {
		o := kind.DeepCopyObject().(client.Object)
		return o, c.Get(ctx, client.ObjectKey{Name: name}, o)
	}
}

func remove(kind client.Object, name string, options ...client.DeleteOption) func(context.Context, client.Client) (runtime.Object, error) {
	return func(ctx context.Context, c client.Client) (runtime.Object, error) {
		o := kind.DeepCopyObject().(client.Object)
		o.SetName(name)
		err := c.Delete(ctx, o, options...)
		if apierrors.IsConflict(err) { // in other words
			err = apierrors.NewConflict(schema.GroupResource{}, name, errors.New("it is another"))
		}
		return nil, err
	}
}

const (
	missionHead = `{"apiVersion":"sluice.dev/v1alpha1","kind":"Mission","metadata":{"name":"shop"`
	gatewayHead = `{"apiVersion":"sluice.dev/v1alpha1","kind":"Gateway","metadata":{"name":"gw"`
	key         = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// A Site answers what a real API server answers.
func TestASiteAnswersAsAnAPIServerDoes(t *testing.T) {
	site, err := standalone.Open(standalone.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	real, ours := newClient(t, realServer(t)), newClient(t, site.Config())
	m, g, v, ns, cm := &v1alpha1.Mission{}, &v1alpha1.Gateway{}, &v1alpha1.VPC{}, &corev1.Namespace{}, &corev1.ConfigMap{}
	other := types.UID("no-such-uid")
	steps := []step{
		{"get what is not there", get(m, "shop")},
		{"apply a new object", apply(m, "shop", missionHead+`,"labels":{"a":"1"},"annotations":{"x":"y"},"finalizers":["sluice.dev/content"]},"spec":{"command":{"command":["/bin/true"]},"dependsOn":["a","b"]}}`, false, "mirror", client.ForceOwnership)},
		{"apply the same again", apply(m, "shop", missionHead+`,"labels":{"a":"1"},"annotations":{"x":"y"},"finalizers":["sluice.dev/content"]},"spec":{"command":{"command":["/bin/true"]},"dependsOn":["a","b"]}}`, false, "mirror", client.ForceOwnership)},
		{"apply less: what is left out goes", apply(m, "shop", missionHead+`,"labels":{"b":"2"},"finalizers":["sluice.dev/content"]},"spec":{"command":{"command":["/bin/false"],"timeout":"20s"}}}`, false, "mirror", client.ForceOwnership)},
		{"apply a status", apply(m, "shop", missionHead+`},"status":{"local":{"path":"","phase":"Ready","state":"fine","objects":[{"apiVersion":"v1","kind":"ConfigMap","name":"a"}]}}}`, true, "content", client.ForceOwnership)},
		{"another writer's part of the status", apply(m, "shop", missionHead+`},"status":{"observedGeneration":3,"summary":"1 of 1 ready","totals":{"clusters":1,"matched":1,"ready":1,"failed":0,"unreachable":0},"clusters":[{"path":"x","phase":"Ready","state":"ok"}]}}`, true, "fold", client.ForceOwnership)},
		{"the first one's again, with less", apply(m, "shop", missionHead+`},"status":{"local":{"path":"","phase":"Failed","state":"bad"}}}`, true, "content", client.ForceOwnership)},
		{"a spec in a write of the status does nothing", apply(m, "shop", missionHead+`},"spec":{"command":{"command":["/bin/ls"]}},"status":{"local":{"path":"","phase":"Failed","state":"bad"}}}`, true, "content", client.ForceOwnership)},
		{"a field that somebody else has", apply(m, "shop", missionHead+`},"spec":{"command":{"command":["/bin/ls"]}}}`, false, "another")},
		{"a field that there is not", apply(m, "shop", missionHead+`},"spec":{"nonsense":1,"command":{"command":["/bin/ls"]}}}`, false, "mirror", client.ForceOwnership)},
		{"a wrong value", apply(v, "red", `{"apiVersion":"sluice.dev/v1alpha1","kind":"VPC","metadata":{"name":"red"},"spec":{"vni":99999999}}`, false, "x")},
		{"a wrong type", apply(v, "red", `{"apiVersion":"sluice.dev/v1alpha1","kind":"VPC","metadata":{"name":"red"},"spec":{"vni":"seven"}}`, false, "x")},
		{"another name", apply(v, "blue", `{"apiVersion":"sluice.dev/v1alpha1","kind":"VPC","metadata":{"name":"red"},"spec":{"vni":1}}`, false, "x")},
		{"create", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			o := &v1alpha1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: "gw"}, Spec: v1alpha1.GatewaySpec{Cluster: "oslo", Endpoints: []v1alpha1.GatewayEndpoint{{Name: "one", Address: "192.0.2.1"}, {Name: "two"}}}}
			return o, c.Create(ctx, o)
		}},
		{"create what is there", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			return nil, c.Create(ctx, &v1alpha1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: "gw"}})
		}},
		{"one field of one entry of a list", apply(g, "gw", gatewayHead+`},"spec":{"endpoints":[{"name":"two","publicKey":"`+key+`"}]}}`, false, "gateway")},
		{"the uid of another", apply(g, "gw", gatewayHead+`,"uid":"`+string(other)+`"},"spec":{"endpoints":[{"name":"two","publicKey":"`+key+`"}]}}`, false, "gateway")},
		{"the uid of one that is gone", apply(g, "gone", `{"apiVersion":"sluice.dev/v1alpha1","kind":"Gateway","metadata":{"name":"gone","uid":"`+string(other)+`"},"spec":{"endpoints":[{"name":"two"}]}}`, false, "gateway")},
		{"update of a status", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			var o v1alpha1.Gateway
			if err := c.Get(ctx, client.ObjectKey{Name: "gw"}, &o); err != nil {
				return nil, err
			}
			o.Status.ObservedGeneration = 1
			o.Status.ActiveMembers = []v1alpha1.ActiveMember{{Endpoint: "one"}}
			o.Spec.Cluster = "not written"
			return &o, c.Status().Update(ctx, &o)
		}},
		{"update of an old version", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			var o v1alpha1.Gateway
			if err := c.Get(ctx, client.ObjectKey{Name: "gw"}, &o); err != nil {
				return nil, err
			}
			old := o.DeepCopy()
			o.Spec.Cluster = "bergen"
			if err := c.Update(ctx, &o); err != nil {
				return nil, err
			}
			old.Spec.Cluster = "moss"
			return nil, c.Update(ctx, old)
		}},
		{"what it is now", get(g, "gw")},
		{"merge patch with a condition", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			var o v1alpha1.Gateway
			if err := c.Get(ctx, client.ObjectKey{Name: "gw"}, &o); err != nil {
				return nil, err
			}
			old := o.DeepCopy()
			o.Finalizers = append(o.Finalizers, "sluice.dev/child")
			return &o, c.Patch(ctx, &o, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}))
		}},
		{"JSON patch", patch(g, "gw", client.RawPatch("application/json-patch+json", []byte(`[{"op":"add","path":"/spec/exposeType","value":"LoadBalancer"}]`)), false)},
		{"a JSON patch of what is not there", patch(g, "gw", client.RawPatch("application/json-patch+json", []byte(`[{"op":"replace","path":"/spec/no/such","value":1}]`)), false)},
		{"merge patch of the status alone", patch(g, "gw", client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"cluster":"x"},"status":{"observedGeneration":7}}`)), true)},
		{"deletion with a finalizer", remove(g, "gw")},
		{"it is still there", get(g, "gw")},
		{"deletion once more", remove(g, "gw")},
		{"the finalizer goes", patch(g, "gw", client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)), false)},
		{"and it with it", get(g, "gw")},
		{"deletion of what is not there", remove(g, "gw")},
		{"deletion of another", remove(m, "shop", client.Preconditions{UID: &other})},
		{"a namespace", func(ctx context.Context, c client.Client) (runtime.Object, error) { // Kubernetes adds what nobody asks a Site for
			_, err := apply(ns, "sluice-site", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"sluice-site"}}`, false, "mirror", client.ForceOwnership)(ctx, c)
			return nil, err
		}},
		{"list", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			var list v1alpha1.MissionList
			return &list, c.List(ctx, &list)
		}},
		{"list by label", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			var list v1alpha1.MissionList
			return &list, c.List(ctx, &list, client.MatchingLabels{"b": "1"})
		}},
		{"a kind that there is not", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"})
			return nil, c.Get(ctx, client.ObjectKey{Name: "x"}, u)
		}},
		{"a ConfigMap", func(ctx context.Context, c client.Client) (runtime.Object, error) {
			o := cm.DeepCopy()
			o.Namespace, o.Name = "sluice-site", "kept"
			err := c.Patch(ctx, o, client.RawPatch("application/apply-patch+yaml", []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept","namespace":"sluice-site"},"data":{"path":"a/b"}}`)), client.FieldOwner("mirror"))
			o.ManagedFields = nil // a Site has no schema for it
			return o, err
		}},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			want, got := outcome(s.do(t.Context(), real)), outcome(s.do(t.Context(), ours))
			if want != got {
				t.Errorf("an API server (-), a Site (+):\n%s", cmp.Diff(want, got))
			}
		})
	}
}

// outcome is what a step came to, without what differs between any two servers.
func outcome(o runtime.Object, err error) string {
	if err != nil {
		return fmt.Sprintf("%s %d: %v", apierrors.ReasonForError(err), code(err), strings.Replace(random.ReplaceAllString(err.Error(), "UID"), rulesToo, "", 1))
	}
	if o == nil {
		return ""
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	var decoded any
	if err := json.Unmarshal(text, &decoded); err != nil {
		return err.Error()
	}
	text, err = json.MarshalIndent(bare(decoded), "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// rulesToo is what an API server adds that would have asked CEL rules too.
const rulesToo = ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"

var random = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

func code(err error) int32 {
	if status, ok := err.(apierrors.APIStatus); ok {
		return status.Status().Code
	}
	return 0
}

// bare drops times, numbers of versions and the like.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range []string{"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "time"} {
			if v[name] != nil {
				v[name] = "..."
			}
		}
		if v["manager"] == "before-first-apply" || strings.HasPrefix(fmt.Sprint(v["manager"]), "standalone.test") {
			v["manager"] = "..."
		}
		for name := range v {
			v[name] = bare(v[name])
		}
	case []any:
		for i := range v {
			v[i] = bare(v[i])
		}
		slices.SortStableFunc(v, func(a, b any) int { return strings.Compare(entry(a), entry(b)) })
	}
	return v
}

// entry orders the owners of fields, which a server sorts by time.
func entry(v any) string {
	m, ok := v.(map[string]any)
	if !ok || m["manager"] == nil {
		return ""
	}
	return fmt.Sprint(m["manager"], m["subresource"], m["operation"])
}
