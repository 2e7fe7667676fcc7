package fold

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// maxGateways is how many Gateways a cluster reports.
const maxGateways = 1000

// Gateways is what a cluster, whose name is self, tells its parent of its own gateways
// and those below.
func Gateways(gateways []v1alpha1.Gateway, children []v1alpha1.EdgeCluster, self string) []v1alpha1.GatewayState {
	list := []v1alpha1.GatewayState{}
	for i := range gateways {
		g := &gateways[i]
		cluster := g.Spec.Cluster
		if cluster == "" {
			cluster = self
		}
		if g.DeletionTimestamp != nil || cluster != self && len(Behind(children, cluster)) == 0 {
			continue
		}
		state := v1alpha1.GatewayState{Name: g.Name, Cluster: cluster, Endpoints: g.Status.Endpoints, ActiveMembers: g.Status.ActiveMembers}
		if g.Labels[v1alpha1.LabelMirrored] == "" {
			state.Spec = g.Spec.DeepCopy()
			state.Spec.Cluster = cluster
		}
		if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionAtHome); c != nil {
			state.AtHome = c.DeepCopy()
		}
		list = append(list, state)
	}
	slices.SortFunc(list, func(a, b v1alpha1.GatewayState) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(len(list), maxGateways)]
}

// Behind are the children that a cluster is, or is said to be below of. A child of this
// name is the only one.
func Behind(children []v1alpha1.EdgeCluster, cluster string) (names []string) {
	for i := range children {
		child := &children[i]
		if child.Name == cluster {
			return []string{cluster}
		}
		for path := range child.Status.SubClusters {
			if path == cluster || strings.HasSuffix(path, "/"+cluster) {
				names = append(names, child.Name)
				break
			}
		}
	}
	return names
}

// Gateway is what the child says of a Gateway that may speak for its cluster, and which
// child that is; nil when nobody does. conflict names a cluster that several children
// say they have below them: none of them is believed.
func Gateway(name string, children []v1alpha1.EdgeCluster) (said *v1alpha1.GatewayState, child, conflict string) {
	for i := range children {
		c := &children[i]
		if c.Status.Network == nil || c.DeletionTimestamp != nil {
			continue
		}
		list := c.Status.Network.Gateways
		at := slices.IndexFunc(list, func(s v1alpha1.GatewayState) bool { return s.Name == name })
		if at < 0 {
			continue
		}
		behind := Behind(children, list[at].Cluster)
		switch {
		case !slices.Contains(behind, c.Name):
		case len(behind) > 1:
			conflict = list[at].Cluster
		case said == nil:
			said, child = &list[at], c.Name
		}
	}
	return said, child, conflict
}
