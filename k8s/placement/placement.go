// Package placement decides whether a Mission is for a cluster. It is pure: it
// asks nobody and keeps nothing.
package placement

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Cluster is what placement knows of a cluster.
type Cluster struct {
	Name string
	// Path leads from the root of the tree to the cluster, a/b/c; the name alone until the parent has said more.
	Path   string
	Labels map[string]string
}

// Matches reports whether p selects the cluster: by name, by labels, or because it
// says neither. An error is a selector that means nothing; it selects nobody.
func Matches(p v1alpha1.Placement, c Cluster) (bool, error) {
	if len(p.Clusters) == 0 && p.Selector == nil {
		return true, nil
	}
	for _, named := range p.Clusters {
		if named.Name == c.Name || named.Name == c.Path || strings.HasSuffix(c.Path, "/"+named.Name) {
			return true, nil
		}
	}
	if p.Selector == nil {
		return false, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Selector)
	if err != nil {
		return false, fmt.Errorf("placement.selector: %w", err)
	}
	return selector.Matches(labels.Set(c.Labels)), nil
}
