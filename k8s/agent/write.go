package agent

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Field managers: who an API server says has set a field.
const (
	ownerMirror   = client.FieldOwner("sluice-mirror")   // copies of the parent's objects
	ownerContent  = client.FieldOwner("sluice-content")  // what Missions bring, and status.local
	ownerFold     = client.FieldOwner("sluice-fold")     // the rest of the status
	ownerReporter = client.FieldOwner("sluice-reporter") // reports at the parent
	ownerNetwork  = client.FieldOwner("sluice-network")  // what is said of Gateways elsewhere
	ownerChildren = client.FieldOwner("sluice-children") // namespaces and permissions of children
)

// wish is the body of a server-side apply: what its writer wants, whole.
type wish struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec,omitempty"`
	Status     any      `json:"status,omitempty"`
	Report     any      `json:"report,omitempty"`
	Data       any      `json:"data,omitempty"`
	RoleRef    any      `json:"roleRef,omitempty"`
	Subjects   any      `json:"subjects,omitempty"`
}

type metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Finalizers  []string          `json:"finalizers,omitempty"`
}

// sluice begins a wish for one of our own kinds.
func sluice(kind, namespace, name string) wish {
	return wish{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, Metadata: metadata{Name: name, Namespace: namespace}}
}

// apply sends a wish; into says where to, and takes the answer.
func (w wish) apply(ctx context.Context, c client.Client, into client.Object, owner client.FieldOwner) error {
	patch, err := w.patch(into)
	if err != nil {
		return err
	}
	return c.Patch(ctx, into, patch, owner, client.ForceOwnership)
}

// applyStatus sends a wish that is about the status.
func (w wish) applyStatus(ctx context.Context, c client.Client, into client.Object, owner client.FieldOwner) error {
	patch, err := w.patch(into)
	if err != nil {
		return err
	}
	return c.Status().Patch(ctx, into, patch, owner, client.ForceOwnership)
}

func (w wish) patch(into client.Object) (client.Patch, error) {
	into.SetName(w.Metadata.Name)
	into.SetNamespace(w.Metadata.Namespace)
	body, err := json.Marshal(w)
	return client.RawPatch(types.ApplyPatchType, body), err
}
