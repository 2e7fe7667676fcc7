package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/placement"
)

// identityName is the ConfigMap, in the system's namespace, that keeps what the
// parent said of this cluster for the time when it cannot be asked.
const identityName = "sluice-cluster"

// identity is who this cluster is. It may be used from any goroutine.
type identity struct {
	changed bell // rings with an empty name

	mu   sync.Mutex
	name string
	own  map[string]string // labels by configuration
	said v1alpha1.ClusterReportStatus
}

// cluster is what placement goes by. What the parent says of labels goes before what
// the agent's configuration says: it is the one that can be changed from above.
func (i *identity) cluster() placement.Cluster {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := placement.Cluster{Name: i.name, Path: i.said.Path, Labels: maps.Clone(i.own)}
	if c.Path == "" {
		c.Path = i.name
	}
	maps.Copy(c.Labels, i.said.Labels)
	return c
}

// below is the path of a child. The root is not part of paths.
func (i *identity) below(child string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.said.Path == "" {
		return child
	}
	return i.said.Path + "/" + child
}

// hear takes what the parent says, and reports whether it is news.
func (i *identity) hear(said v1alpha1.ClusterReportStatus) bool {
	i.mu.Lock()
	news := i.said.Path != said.Path || !maps.Equal(i.said.Labels, said.Labels)
	i.said = *said.DeepCopy()
	i.mu.Unlock()
	if news {
		i.changed.ring("")
	}
	return news
}

// load reads what was kept. The ConfigMap is a person's to see, and to break.
func (i *identity) load(ctx context.Context, c client.Reader) error {
	var kept corev1.ConfigMap
	err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: identityName}, &kept)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w", v1alpha1.SystemNamespace, identityName, err)
	}
	if err != nil {
		return nil
	}
	said := v1alpha1.ClusterReportStatus{Path: kept.Data["path"]}
	if text := kept.Data["labels"]; text != "" {
		if err := json.Unmarshal([]byte(text), &said.Labels); err != nil {
			return fmt.Errorf("ConfigMap %s/%s: labels: %w", v1alpha1.SystemNamespace, identityName, err)
		}
	}
	i.hear(said)
	return nil
}

// keep writes down what the parent said.
func (i *identity) keep(ctx context.Context, c client.Client) error {
	i.mu.Lock()
	said := *i.said.DeepCopy()
	i.mu.Unlock()
	text, err := json.Marshal(said.Labels)
	if err != nil {
		return err
	}
	ns := wish{APIVersion: "v1", Kind: "Namespace", Metadata: metadata{Name: v1alpha1.SystemNamespace}}
	if err := ns.apply(ctx, c, &corev1.Namespace{}, ownerMirror); err != nil {
		return fmt.Errorf("make namespace %s: %w", v1alpha1.SystemNamespace, err)
	}
	w := wish{APIVersion: "v1", Kind: "ConfigMap", Metadata: metadata{Name: identityName, Namespace: v1alpha1.SystemNamespace}}
	w.Data = map[string]string{"path": said.Path, "labels": string(text)}
	if err := w.apply(ctx, c, &corev1.ConfigMap{}, ownerMirror); err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", v1alpha1.SystemNamespace, identityName, err)
	}
	return nil
}
