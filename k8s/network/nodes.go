package network

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// PodNode is a node of the cluster, whose pods `sluice node` brings to the gateway.
type PodNode struct {
	Name      string
	Addresses []netip.Addr   // its own, InternalIP
	Pods      []netip.Prefix // those of its pods
}

// PodNodeOf reads a node. What is no address or prefix is left out: other programs write these fields.
func PodNodeOf(o *corev1.Node) PodNode {
	n := PodNode{Name: o.Name}
	for _, a := range o.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			n.Addresses = append(n.Addresses, ip)
		}
	}
	for _, text := range o.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			n.Pods = append(n.Pods, p.Masked())
		}
	}
	return n
}

// VTEP is where the node's end of an overlay is whose other end is like: the first of its addresses of that family.
func (n *PodNode) VTEP(like netip.Addr) netip.Addr {
	i := slices.IndexFunc(n.Addresses, func(a netip.Addr) bool { return a.Is4() == like.Is4() })
	if i < 0 || !like.IsValid() {
		return netip.Addr{}
	}
	return n.Addresses[i]
}

// NodeMAC is the MAC address, inside overlays, of the node with that VTEP: locally administered, and a hash, so that
// the gateway knows it without asking.
func NodeMAC(vtep netip.Addr) config.MAC {
	sum := sha256.Sum256(vtep.AsSlice())
	mac := config.MAC(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// GatewayAddress is the address of the gateway in a Subnet of nodes: the last one that a host can have. Pods of most
// networks have the first ones, and their bridge the very first. Invalid where a node has it.
func GatewayAddress(subnet netip.Prefix, nodes []PodNode) netip.Addr {
	b := subnet.Addr().AsSlice()
	for bit := subnet.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	if subnet.Bits() > last.BitLen()-2 {
		return netip.Addr{}
	}
	last = last.Prev() // of IPv4 the last one is for broadcasts
	for _, n := range nodes {
		for _, p := range n.Pods {
			if p.Contains(last) {
				return netip.Addr{}
			}
		}
	}
	return last
}

// VTEP is where the cluster's nodes send to an endpoint of a Gateway: as it says, or its node's first address. Invalid:
// nobody knows.
func (o *Objects) VTEP(gateway, endpoint string) netip.Addr {
	for i := range o.Gateways {
		for j := range o.Gateways[i].Spec.Endpoints {
			if e := &o.Gateways[i].Spec.Endpoints[j]; o.Gateways[i].Name == gateway && e.Name == endpoint {
				return o.vtep(e)
			}
		}
	}
	return netip.Addr{}
}

func (o *Objects) vtep(e *v1alpha1.GatewayEndpoint) netip.Addr {
	if a, err := netip.ParseAddr(e.VTEP); err == nil {
		return a
	}
	for _, n := range o.PodNodes {
		if e.Node != "" && n.Name == e.Node && len(n.Addresses) > 0 {
			return n.Addresses[0]
		}
	}
	return netip.Addr{}
}

// behind lists the nodes whose pods are in a subnet, as hosts of the attachment. There are none unless the nodes know
// where the gateway is.
func (c *compiler) behind(subnet netip.Prefix) (hosts []config.Host) {
	if c.machine.Attachment.Type != config.VXLAN {
		return nil
	}
	gateway := c.objects.VTEP(c.machine.Gateway, c.machine.Endpoint)
	for _, n := range c.objects.PodNodes {
		vtep := n.VTEP(gateway)
		if !vtep.IsValid() || vtep == gateway {
			continue
		}
		h := config.Host{VTEP: vtep, MAC: NodeMAC(vtep)}
		for _, p := range n.Pods {
			if p.Bits() >= subnet.Bits() && subnet.Contains(p.Addr()) {
				h.Prefixes = append(h.Prefixes, p)
			}
		}
		if len(h.Prefixes) > 0 {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b config.Host) int {
		return cmp.Or(a.VTEP.Compare(b.VTEP), a.Prefixes[0].Compare(b.Prefixes[0]))
	})
	return hosts
}

// attachNodes gives a VPC a subnet that is the pods of nodes; false: it is another one. Nobody has to be asked where
// its pods are.
func (c *compiler) attachNodes(d *draft, v *config.VPC, a *config.Attachment, s placedSubnet, path string) bool {
	hosts := c.behind(s.prefix)
	for _, h := range hosts {
		d.owners[fmt.Sprintf("%s.attachments[0].hosts[%d]", path, len(a.Hosts))] = "Subnet " + s.name
		a.Hosts = append(a.Hosts, h)
	}
	if len(hosts) == 0 {
		return false
	}
	if address := GatewayAddress(s.prefix, c.objects.PodNodes); address.IsValid() {
		d.owners[fmt.Sprintf("%s.gatewayAddresses[%d]", path, len(v.GatewayAddresses))] = "Subnet " + s.name
		v.GatewayAddresses = append(v.GatewayAddresses, address)
	}
	return true
}
