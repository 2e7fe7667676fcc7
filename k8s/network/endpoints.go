package network

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// defaultPriority is what the schema gives endpoints that say none.
const defaultPriority = 100

// endpoints are the candidates of a Gateway, as everybody sees them: those that are
// written down, with the keys that their machines say, and those on nodes that the
// selector has found, by name.
func endpoints(g *v1alpha1.Gateway) []v1alpha1.GatewayEndpoint {
	list := slices.Clone(g.Spec.Endpoints)
	said := slices.SortedFunc(slices.Values(g.Status.Endpoints), func(a, b v1alpha1.EndpointStatus) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range said {
		i := slices.IndexFunc(list, func(e v1alpha1.GatewayEndpoint) bool { return e.Name == s.Name })
		switch {
		case i >= 0:
			list[i].PublicKey = cmp.Or(list[i].PublicKey, s.PublicKey)
		case g.Spec.NodeSelector != nil && s.Node != "":
			list = append(list, v1alpha1.GatewayEndpoint{
				Name: s.Name, Node: s.Node, Address: s.Address, Port: s.Port, PublicKey: s.PublicKey, Priority: defaultPriority,
			})
		}
	}
	return list
}

// atHome are those of the own Gateway: this machine is among them before its status says
// so, and nodes that the selector finds no more are not.
func (c *compiler) atHome(g *v1alpha1.Gateway) []v1alpha1.GatewayEndpoint {
	list := slices.DeleteFunc(endpoints(g), func(e v1alpha1.GatewayEndpoint) bool {
		return !written(g, e.Name) && !selects(g.Spec.NodeSelector, c.objects.Nodes, e.Node)
	})
	m := c.machine
	if i := slices.IndexFunc(list, func(e v1alpha1.GatewayEndpoint) bool { return e.Name == m.Endpoint }); i >= 0 {
		return list
	}
	if !selects(g.Spec.NodeSelector, c.objects.Nodes, m.Node) {
		return list
	}
	self := v1alpha1.GatewayEndpoint{Name: m.Endpoint, Node: m.Node, Address: c.objects.Nodes[m.Node].Address, PublicKey: m.PublicKey.String(), Priority: defaultPriority}
	return append(list, self)
}

// written reports whether an endpoint is one of those that are written down.
func written(g *v1alpha1.Gateway, endpoint string) bool {
	return slices.ContainsFunc(g.Spec.Endpoints, func(e v1alpha1.GatewayEndpoint) bool { return e.Name == endpoint })
}

// selects reports whether a selector, if there is one, finds a node.
func selects(selector *metav1.LabelSelector, nodes map[string]Node, name string) bool {
	node, ok := nodes[name]
	if selector == nil || !ok {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(node.Labels))
}

// Said is what this machine says of itself in its Gateway's status, and whether it may.
func Said(m Machine, g *v1alpha1.Gateway, nodes map[string]Node) (v1alpha1.EndpointStatus, bool) {
	s := v1alpha1.EndpointStatus{Name: m.Endpoint, PublicKey: m.PublicKey.String()}
	if written(g, m.Endpoint) {
		return s, true
	}
	s.Node, s.Address, s.Port = m.Node, nodes[m.Node].Address, int32(m.File.WireGuard.ListenPort)
	return s, selects(g.Spec.NodeSelector, nodes, m.Node)
}

// Stale reports whether a machine that has said something of itself is not one of the
// Gateway's any more.
func Stale(g *v1alpha1.Gateway, s v1alpha1.EndpointStatus, nodes map[string]Node) bool {
	return !written(g, s.Name) && !selects(g.Spec.NodeSelector, nodes, s.Node)
}

// preferred returns the endpoint with the lowest priority of those that ok lets pass, of
// several the one that comes first; nil when there is none.
func preferred(list []v1alpha1.GatewayEndpoint, ok func(*v1alpha1.GatewayEndpoint) bool) (best *v1alpha1.GatewayEndpoint) {
	for i := range list {
		if e := &list[i]; ok(e) && (best == nil || e.Priority < best.Priority) {
			best = e
		}
	}
	return best
}

// chosen is the endpoint of another cluster's Gateway that packets go to: the one that is
// active by what is said there, else the preferred one of those whose key is known.
func chosen(g *v1alpha1.Gateway, list []v1alpha1.GatewayEndpoint) *v1alpha1.GatewayEndpoint {
	hasKey := func(e *v1alpha1.GatewayEndpoint) bool { return e.PublicKey != "" }
	for _, active := range g.Status.ActiveMembers {
		if e := endpointOf(list, active.Endpoint); e != nil && hasKey(e) && active.VPC == "" {
			return e
		}
	}
	if e := preferred(list, hasKey); e != nil {
		return e
	}
	return preferred(list, func(*v1alpha1.GatewayEndpoint) bool { return true })
}

// dialled reports whether others dial an endpoint.
func dialled(g *v1alpha1.Gateway, e *v1alpha1.GatewayEndpoint) bool {
	return e != nil && e.Address != "" && g.Spec.ExposeType != v1alpha1.ExposeNone
}

func endpointOf(list []v1alpha1.GatewayEndpoint, name string) *v1alpha1.GatewayEndpoint {
	i := slices.IndexFunc(list, func(e v1alpha1.GatewayEndpoint) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return &list[i]
}
