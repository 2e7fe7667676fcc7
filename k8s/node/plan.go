package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

// Objects are what the API server has.
type Objects struct {
	Gateways []v1alpha1.Gateway
	VPCs     []v1alpha1.VPC
	Subnets  []v1alpha1.Subnet
	Nodes    []network.PodNode
}

// Address is an address of this machine.
type Address struct {
	Prefix netip.Prefix // with its host bits
	Link   string
	MTU    int // of the link
}

// State is what the kernel should have. All lists are sorted.
type State struct {
	Links  []Link
	Routes []Route
	// Pods are this node's and Remote the other clusters' prefixes: between them no address is translated. None of
	// either list overlaps another.
	Pods, Remote []netip.Prefix
	// MTU bounds the TCP segments between them; 0: nothing does.
	MTU int
	// Problems are why something is not as it could be, each with the object's name.
	Problems []string
}

// Link is a VXLAN link.
type Link struct {
	Name     string
	VNI      uint32
	UDPPort  uint16
	Local    netip.Addr // the node's VTEP
	LocalMAC config.MAC
	Gateway  netip.Addr // the gateway's VTEP
	MTU      int
}

// Route is a route of our table. Beside it there is one that refuses, for when there is no link.
type Route struct {
	Dst    netip.Prefix
	Link   string     // empty: the gateway is not known
	Source netip.Addr // for what this machine itself sends: one of its pods' addresses; invalid: it has none
}

// Outer headers of VXLAN: Ethernet inside, VXLAN, UDP, IP.
const (
	overhead4 = 14 + 8 + 8 + 20
	overhead6 = 14 + 8 + 8 + 40
)

// planner is one run of Plan.
type planner struct {
	config  Config
	objects Objects
	host    []Address
	state   State
	node    *network.PodNode
	local   []netip.Prefix // Subnets that are at home in this cluster
}

// Plan says what the kernel should have. Problems are in the State: what has one is left
// out, and takes nothing else along.
func Plan(c Config, o Objects, host []Address) State {
	o.Nodes, host = slices.Clone(o.Nodes), slices.Clone(host)
	slices.SortFunc(o.Nodes, func(a, b network.PodNode) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(host, func(a, b Address) int { return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.Link, b.Link)) })
	p := &planner{config: c, objects: o, host: host}
	p.plan()
	slices.SortFunc(p.state.Links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.state.Routes, func(a, b Route) int { return a.Dst.Compare(b.Dst) })
	slices.Sort(p.state.Problems)
	return p.state
}

func (p *planner) problem(format string, args ...any) {
	p.state.Problems = append(p.state.Problems, fmt.Sprintf(format, args...))
}

func (p *planner) plan() {
	at := slices.IndexFunc(p.objects.Nodes, func(n network.PodNode) bool { return n.Name == p.config.Node })
	if at < 0 {
		p.problem("Node %s: there is none", p.config.Node)
		return
	}
	n := &p.objects.Nodes[at]
	p.node = n
	for i := range p.objects.Subnets {
		if s := &p.objects.Subnets[i]; s.Spec.Cluster == p.config.Cluster {
			if prefix, err := netip.ParsePrefix(s.Spec.Prefix); err == nil { // the schema has seen to it
				p.local = append(p.local, prefix)
			}
		}
	}
	vpcs := slices.Clone(p.objects.VPCs)
	slices.SortFunc(vpcs, func(a, b v1alpha1.VPC) int { return cmp.Compare(a.Name, b.Name) })
	found := false
	for i := range vpcs {
		if subnets := p.homes(vpcs[i].Name); len(subnets) > 0 {
			found = true
			p.vpc(&vpcs[i], subnets)
		}
	}
	switch {
	case len(n.Pods) == 0:
		p.problem("Node %s: spec.podCIDRs: is empty, so nobody knows which pods are here", n.Name)
	case !found:
		p.problem("Node %s: spec.podCIDRs: no Subnet of cluster %s has %v", n.Name, p.config.Cluster, n.Pods)
	}
	p.state.Remote = disjoint(p.state.Remote)
	if len(p.state.Remote) > 0 {
		p.state.Pods = disjoint(slices.Clone(n.Pods))
	}
}

// homes are the Subnets of a VPC that this node's pods are in.
func (p *planner) homes(vpc string) (list []netip.Prefix) {
	for i := range p.objects.Subnets {
		s := &p.objects.Subnets[i]
		if s.Spec.VPC != vpc || s.Spec.Cluster != p.config.Cluster {
			continue
		}
		if prefix, err := netip.ParsePrefix(s.Spec.Prefix); err == nil && slices.ContainsFunc(p.node.Pods, func(pods netip.Prefix) bool {
			return prefix.Bits() <= pods.Bits() && prefix.Contains(pods.Addr())
		}) {
			list = append(list, prefix)
		}
	}
	return list
}

// vpc plans what the pods of this node need to reach the others of their VPC.
func (p *planner) vpc(v *v1alpha1.VPC, homes []netip.Prefix) {
	remote := p.remotes(v.Name)
	if len(remote) == 0 {
		return
	}
	p.state.Remote = append(p.state.Remote, remote...)
	link := p.link(v)
	for _, home := range homes { // where the gateway's own errors come from
		if a := network.GatewayAddress(home, p.objects.Nodes); a.IsValid() {
			remote = append(remote, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if link != nil {
		p.state.Links = append(p.state.Links, *link)
	}
	for _, dst := range remote {
		r := Route{Dst: dst}
		if link != nil {
			r.Link, r.Source = link.Name, p.source(dst.Addr())
		}
		p.state.Routes = append(p.state.Routes, r)
	}
}

// remotes are the Subnets of a VPC in other clusters. One that is also near is not
// taken: what the node has now would be led away.
func (p *planner) remotes(vpc string) (list []netip.Prefix) {
	for i := range p.objects.Subnets {
		s := &p.objects.Subnets[i]
		prefix, err := netip.ParsePrefix(s.Spec.Prefix)
		if err != nil || s.Spec.VPC != vpc || s.Spec.Cluster == p.config.Cluster {
			continue
		}
		if near := p.near(vpc, prefix); near != "" {
			p.problem("Subnet %s: spec.prefix: %s overlaps %s", s.Name, prefix, near)
			continue
		}
		if !slices.Contains(list, prefix) {
			list = append(list, prefix)
		}
	}
	return list
}

// near says what of this cluster a prefix overlaps; empty: nothing.
func (p *planner) near(vpc string, prefix netip.Prefix) string {
	for _, l := range p.local {
		if l.Overlaps(prefix) {
			return fmt.Sprintf("%s, which is at home in this cluster", l)
		}
	}
	for _, n := range p.objects.Nodes {
		for _, pods := range n.Pods {
			if pods.Overlaps(prefix) {
				return fmt.Sprintf("%s, the pods of node %s", pods, n.Name)
			}
		}
		for _, a := range n.Addresses {
			if prefix.Contains(a) {
				return fmt.Sprintf("%s, node %s", a, n.Name)
			}
		}
	}
	for _, a := range p.host {
		if a.Prefix.Masked().Overlaps(prefix) {
			return fmt.Sprintf("the network of this node's address %s on %s", a.Prefix, a.Link)
		}
	}
	if v := p.vtep(vpc); v.IsValid() && prefix.Contains(v) {
		return fmt.Sprintf("%s, the gateway", v)
	}
	return ""
}

// link is the way to the gateway in a VPC; nil: there is none now.
func (p *planner) link(v *v1alpha1.VPC) *Link {
	vni := uint32(v.Status.VNI)
	if vni == 0 && v.Spec.VNI != nil && v.Status.State != v1alpha1.DuplicateVNI { // the cluster's agent has not looked at it yet, or there is none
		vni = uint32(*v.Spec.VNI)
	}
	if vni == 0 {
		p.problem("VPC %s: status.vni: it has none yet", v.Name)
		return nil
	}
	gateway := p.vtep(v.Name)
	if !gateway.IsValid() {
		p.problem("Gateway %s: status.activeMembers: none has a vtep for VPC %s", p.config.Gateway, v.Name)
		return nil
	}
	local := p.node.VTEP(gateway)
	i := slices.IndexFunc(p.host, func(a Address) bool { return a.Prefix.Addr() == local })
	switch {
	case slices.ContainsFunc(p.host, func(a Address) bool { return a.Prefix.Addr() == gateway }):
		p.problem("Gateway %s: is on this node, whose own pods it cannot carry", p.config.Gateway)
		return nil
	case !local.IsValid():
		p.problem("Node %s: status.addresses: has none of the family of the gateway, %s", p.node.Name, gateway)
		return nil
	case i < 0:
		p.problem("Node %s: status.addresses: %s is not this machine's", p.node.Name, local)
		return nil
	}
	l := &Link{
		Name: fmt.Sprintf("%s%d", linkPrefix, vni), VNI: vni, UDPPort: p.config.UDPPort,
		Local: local, LocalMAC: network.NodeMAC(local), Gateway: gateway, MTU: p.host[i].MTU - overhead4,
	}
	if gateway.Is6() {
		l.MTU = p.host[i].MTU - overhead6
	}
	if p.config.MTU != 0 {
		l.MTU = min(l.MTU, p.config.MTU)
	}
	if l.MTU < minMTU {
		p.problem("Node %s: packets to the gateway can have %d bytes on %s, which leaves %d inside; IPv6 needs %d", p.node.Name, p.host[i].MTU, p.host[i].Link, l.MTU, minMTU)
		return nil
	}
	p.state.MTU = l.MTU
	return l
}

// vpcOfAll names no VPC: an active member of all of them.
const vpcOfAll = ""

// vtep is the active gateway's, for a VPC; invalid: it is not known.
func (p *planner) vtep(vpc string) (vtep netip.Addr) {
	for i := range p.objects.Gateways {
		g := &p.objects.Gateways[i]
		if g.Name != p.config.Gateway {
			continue
		}
		for _, m := range g.Status.ActiveMembers {
			a, err := netip.ParseAddr(m.VTEP)
			if err == nil && (m.VPC == vpc || m.VPC == vpcOfAll && !vtep.IsValid()) { // the VPC's own goes before one of all
				vtep = a
			}
		}
	}
	return vtep
}

// source is an address of this machine that is in its pods' prefixes (of the bridge that they are on), of the family of dst.
func (p *planner) source(dst netip.Addr) netip.Addr {
	var found []netip.Addr
	for _, a := range p.host {
		if a.Prefix.Addr().Is4() == dst.Is4() && slices.ContainsFunc(p.node.Pods, func(pods netip.Prefix) bool { return pods.Contains(a.Prefix.Addr()) }) {
			found = append(found, a.Prefix.Addr())
		}
	}
	if len(found) == 0 {
		return netip.Addr{}
	}
	return slices.MinFunc(found, netip.Addr.Compare)
}

// disjoint sorts prefixes and leaves out those that are inside others.
func disjoint(list []netip.Prefix) (out []netip.Prefix) {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range list {
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}
