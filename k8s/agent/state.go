package agent

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/fold"
)

// labelEdgeNode is the label by which KubeEdge and others tell nodes at the edge.
const labelEdgeNode = "node-role.kubernetes.io/edge"

// maxNodes is how many nodes are reported by name.
const maxNodes = 500

// readState reads what this cluster, whose name is self, is made of.
func readState(ctx context.Context, c client.Reader, self string) (v1alpha1.ClusterState, error) {
	var state v1alpha1.ClusterState
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return state, err
	}
	addNodes(&state, nodes.Items)
	var clusters v1alpha1.EdgeClusterList
	if err := c.List(ctx, &clusters); err != nil {
		return state, err
	}
	var gateways v1alpha1.GatewayList
	if err := c.List(ctx, &gateways); err != nil {
		return state, err
	}
	state.Network = &v1alpha1.NetworkState{Gateways: fold.Gateways(gateways.Items, clusters.Items, self)}
	if below := fold.SubClusters(clusters.Items); len(below) > 0 {
		state.SubClusters = below
	}
	var list v1alpha1.MissionList
	if err := c.List(ctx, &list); err != nil {
		return state, err
	}
	for i := range list.Items {
		m := &list.Items[i]
		if !mirrored(m) || m.DeletionTimestamp != nil {
			continue
		}
		state.ReceivedMissions = append(state.ReceivedMissions, m.Name)
		if local := m.Status.Local; local != nil && local.Phase != v1alpha1.PhaseNotMatched {
			state.MatchedMissions = append(state.MatchedMissions, m.Name)
		}
	}
	slices.Sort(state.ReceivedMissions)
	slices.Sort(state.MatchedMissions)
	return state, nil
}

// addNodes sums up the nodes.
func addNodes(state *v1alpha1.ClusterState, nodes []corev1.Node) {
	total := v1alpha1.Capacity{Nodes: int32(len(nodes))}
	for i := range nodes {
		n := &nodes[i]
		one := v1alpha1.NodeState{Name: n.Name, Ready: nodeReady(n)}
		_, one.Edge = n.Labels[labelEdgeNode]
		state.Nodes = append(state.Nodes, one)
		if !one.Ready {
			continue
		}
		total.ReadyNodes++
		for name, quantity := range n.Status.Allocatable {
			if total.Allocatable == nil {
				total.Allocatable = corev1.ResourceList{}
			}
			sum := total.Allocatable[name]
			sum.Add(quantity)
			total.Allocatable[name] = sum
		}
	}
	for name, quantity := range total.Allocatable {
		total.Allocatable[name] = resource.MustParse(quantity.String()) // as it comes back from an API server
	}
	slices.SortFunc(state.Nodes, func(a, b v1alpha1.NodeState) int { return strings.Compare(a.Name, b.Name) })
	if len(state.Nodes) > maxNodes {
		state.Nodes = state.Nodes[:maxNodes]
	}
	state.Capacity = &total
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
