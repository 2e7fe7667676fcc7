package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// compiler is one attempt.
type compiler struct {
	machine Machine
	objects Objects
	refused map[string]*Problem // by kind and name: what the configuration's own checks have refused
	result  *Result

	placed map[string][]placedSubnet // by VPC: subnets without a problem
	vpcs   map[string]*v1alpha1.VPC
	peers  map[string]*v1alpha1.Gateway // by cluster: the Gateway that its subnets are behind

	own    *v1alpha1.Gateway                    // nil: there is none
	self   *v1alpha1.GatewayEndpoint            // of own: this machine, if it is one
	remote map[string]*v1alpha1.GatewayEndpoint // by Gateway: the endpoint of a peer
}

type placedSubnet struct {
	name    string
	prefix  netip.Prefix
	cluster string
}

// Compile makes the configuration. The error is about the machine's own part; problems
// of objects are in the result.
func Compile(m Machine, o Objects) (*Result, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	o.Gateways, o.VPCs, o.Subnets = sorted(o.Gateways), sorted(o.VPCs), sorted(o.Subnets)
	refused := map[string]*Problem{}
	for {
		c := &compiler{
			machine: m, objects: o, refused: refused,
			result: &Result{VPCs: map[string]VPC{}, Subnets: map[string]Subnet{}, Gateways: map[string]Gateway{}},
			placed: map[string][]placedSubnet{}, vpcs: map[string]*v1alpha1.VPC{}, peers: map[string]*v1alpha1.Gateway{},
			remote: map[string]*v1alpha1.GatewayEndpoint{},
		}
		c.number()
		c.elect()
		c.place()
		again, err := c.assemble()
		if err != nil {
			return nil, err
		}
		if !again {
			return c.result, nil
		}
	}
}

func (m Machine) check() error {
	var problems []error
	for i, a := range m.File.WireGuard.TunnelAddresses {
		if a.Is6() {
			problems = append(problems, fmt.Errorf("wireguard.tunnelAddresses[%d]: %s: leave it out: the IPv6 tunnel address is made from the key", i, a))
		}
	}
	if m.PublicKey.IsZero() {
		problems = append(problems, errors.New("the gateway's public key is not known"))
	}
	if a := m.Attachment; a != nil && len(a.Prefixes)+len(a.Hosts)+len(a.Subnets) > 0 {
		problems = append(problems, errors.New("attachment: leave out prefixes, hosts and subnets: they come from Subnet objects"))
	}
	return errors.Join(problems...)
}

// elect finds out which Gateways there are, and which endpoint of each carries traffic.
func (c *compiler) elect() {
	for i := range c.objects.Gateways {
		if g := &c.objects.Gateways[i]; g.Name == c.machine.Gateway {
			c.own = g
			c.result.Gateways[g.Name] = c.electOwn(g)
		}
	}
	for i := range c.objects.Gateways {
		g := &c.objects.Gateways[i]
		switch {
		case g == c.own:
		case g.Spec.Cluster == "" || g.Spec.Cluster == c.machine.Cluster:
			c.result.Gateways[g.Name] = Gateway{} // another one of this cluster: its own machines' business
		default:
			c.result.Gateways[g.Name] = c.electPeer(g)
		}
	}
	if c.own == nil {
		c.result.Gateways[c.machine.Gateway] = Gateway{Own: true, Problem: &Problem{ReasonMissing, "there is no Gateway " + c.machine.Gateway}}
	}
}

func (c *compiler) electOwn(g *v1alpha1.Gateway) Gateway {
	r := Gateway{Own: true, Problem: c.refused["Gateway "+g.Name]}
	if g.Spec.Cluster != "" && g.Spec.Cluster != c.machine.Cluster {
		r.Problem = &Problem{ReasonInvalid, fmt.Sprintf("spec.cluster: is %s, but this machine is of cluster %s", g.Spec.Cluster, c.machine.Cluster)}
		return r
	}
	list := c.atHome(g)
	if c.self = endpointOf(list, c.machine.Endpoint); c.self == nil {
		r.Problem = &Problem{ReasonMissing, fmt.Sprintf("spec.endpoints: has no %s, which this machine is", c.machine.Endpoint)}
		if g.Spec.NodeSelector != nil {
			r.Problem.Message += ", and spec.nodeSelector does not select its node"
		}
		return r
	}
	e := preferred(list, func(e *v1alpha1.GatewayEndpoint) bool {
		node, known := c.objects.Nodes[e.Node]
		return !known || node.Ready
	})
	if e == nil {
		r.Problem = &Problem{ReasonNotReady, "spec.endpoints: the nodes of all of them are not ready"}
		return r
	}
	r.Active = e.Name
	return r
}

func (c *compiler) electPeer(g *v1alpha1.Gateway) Gateway {
	if p := c.refused["Gateway "+g.Name]; p != nil {
		return Gateway{Problem: p}
	}
	bad := func(reason, format string, args ...any) Gateway {
		return Gateway{Problem: &Problem{reason, fmt.Sprintf(format, args...)}}
	}
	if first := c.peers[g.Spec.Cluster]; first != nil {
		return bad(ReasonInvalid, "spec.cluster: Gateway %s is that of cluster %s already", first.Name, g.Spec.Cluster)
	}
	e := chosen(g, endpoints(g))
	switch {
	case e == nil:
		return bad(ReasonMissing, "spec.endpoints: has none")
	case e.PublicKey == "":
		return bad(ReasonMissing, "spec.endpoints[%s].publicKey: is not known yet", e.Name)
	case c.own != nil && !dialled(g, e) && !dialled(c.own, c.self):
		return bad(ReasonMissing, "spec.endpoints[%s].address: nobody dials, since neither it nor this cluster's gateway has an address for others", e.Name)
	}
	var key config.PublicKey
	if err := key.UnmarshalText([]byte(e.PublicKey)); err != nil {
		return bad(ReasonInvalid, "spec.endpoints[%s].publicKey: %v", e.Name, err)
	}
	if key == c.machine.PublicKey {
		return bad(ReasonInvalid, "spec.endpoints[%s].publicKey: is the key of this gateway", e.Name)
	}
	c.peers[g.Spec.Cluster], c.remote[g.Name] = g, e
	return Gateway{Active: e.Name}
}

// place finds out for each subnet whether it can be what it says.
func (c *compiler) place() {
	for i := range c.objects.VPCs {
		c.vpcs[c.objects.VPCs[i].Name] = &c.objects.VPCs[i]
	}
	for i := range c.objects.Subnets {
		s := &c.objects.Subnets[i]
		r := Subnet{Virtual: s.Spec.Cluster != c.machine.Cluster}
		if r.Virtual {
			if g := c.peers[s.Spec.Cluster]; g != nil {
				r.Gateway = g.Name
			}
		}
		if r.Problem = c.refused["Subnet "+s.Name]; r.Problem == nil {
			r.Problem = c.placeOne(s, r)
		}
		c.result.Subnets[s.Name] = r
	}
}

func (c *compiler) placeOne(s *v1alpha1.Subnet, r Subnet) *Problem {
	bad := func(reason, format string, args ...any) *Problem {
		return &Problem{reason, fmt.Sprintf(format, args...)}
	}
	vpc, known := c.vpcs[s.Spec.VPC]
	if !known {
		return bad(ReasonMissing, "spec.vpc: there is no VPC %s", s.Spec.VPC)
	}
	if p := c.result.VPCs[vpc.Name].Problem; p != nil {
		return bad(ReasonNotReady, "spec.vpc: VPC %s has a problem: %s", vpc.Name, p.Message)
	}
	prefix, err := netip.ParsePrefix(s.Spec.Prefix)
	if err != nil || prefix != prefix.Masked() {
		return bad(ReasonInvalid, "spec.prefix: %q is not a prefix without host bits, such as 10.1.2.0/24", s.Spec.Prefix)
	}
	if len(vpc.Spec.Prefixes) > 0 && !slices.ContainsFunc(vpc.Spec.Prefixes, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr())
	}) {
		return bad(ReasonInvalid, "spec.prefix: %s is in none of the prefixes of VPC %s (%s)", prefix, vpc.Name, strings.Join(vpc.Spec.Prefixes, ", "))
	}
	for _, other := range c.placed[vpc.Name] {
		if other.prefix.Overlaps(prefix) {
			return bad(ReasonInvalid, "spec.prefix: %s overlaps %s of Subnet %s, which is older", prefix, other.prefix, other.name)
		}
	}
	c.placed[vpc.Name] = append(c.placed[vpc.Name], placedSubnet{s.Name, prefix, s.Spec.Cluster})
	switch { // from here on it has the prefix, even when it cannot be reached
	case !r.Virtual && c.machine.Attachment == nil:
		return bad(ReasonMissing, "spec.cluster: the gateway of this cluster has no attachment to its nodes (attachment in its agent's configuration)")
	case r.Virtual && r.Gateway == "":
		return c.noPeer(s.Spec.Cluster)
	case r.Virtual && vpc.Spec.VNI == nil && c.foreign(c.peers[s.Spec.Cluster]):
		return bad(ReasonMissing, "spec.vpc: VPC %s spans clusters, so it needs a number that all of them know: set its spec.vni", vpc.Name)
	}
	return nil
}

// foreign reports whether a Gateway may be of a cluster that does not have its VPCs'
// numbers from this one: it came from above, or by hand. Below, the numbers go along
// with the VPCs.
func (c *compiler) foreign(g *v1alpha1.Gateway) bool {
	e := c.remote[g.Name]
	return mirrored(g) || slices.ContainsFunc(g.Spec.Endpoints, func(w v1alpha1.GatewayEndpoint) bool { return w.Name == e.Name && w.PublicKey != "" })
}

// noPeer says why a cluster has no gateway here.
func (c *compiler) noPeer(cluster string) *Problem {
	for i := range c.objects.Gateways {
		if g := &c.objects.Gateways[i]; g.Spec.Cluster == cluster {
			if p := c.result.Gateways[g.Name].Problem; p != nil {
				return &Problem{ReasonNotReady, fmt.Sprintf("spec.cluster: Gateway %s of cluster %s has a problem: %s", g.Name, cluster, p.Message)}
			}
		}
	}
	return &Problem{ReasonMissing, fmt.Sprintf("spec.cluster: no Gateway of cluster %s is known here", cluster)}
}
