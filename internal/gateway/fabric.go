package gateway

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
)

// A fabric at the site tells by EVPN where its hosts are (docs/bgp.md). Prefixes take the way of all routes, as deliveries
// behind a VTEP. Hosts do not: the route of their attachment's prefixes leads to a learned delivery, whose table the
// learner publishes apart from the snapshot, so a host that comes, moves or goes costs no compilation.

// fabric is what fabrics have told. It is the assembly's.
type fabric struct {
	hosts    map[string]map[netip.Addr]routing.NextHop // by VPC
	vteps    map[string][]routing.NextHop              // by VPC
	segments map[fabricPort]hosts.Segment              // where they were told to the learner to be
}

type fabricPort struct{ vpc, port string }

// fabricVPCs are the VPCs with an overlay behind a port, as routing has them; none without neighbours of the fabric.
func fabricVPCs(cfg *config.Config, link *neigh.Link) []routing.FabricVPC {
	var out []routing.FabricVPC
	for i := range cfg.VPCs {
		vpc := &cfg.VPCs[i]
		for j := range vpc.Attachments {
			a := &vpc.Attachments[j]
			if a.Port != link.Name || !cfg.InFabric(a) {
				continue
			}
			v := routing.FabricVPC{VPC: vpc.Name, VNI: vpc.VNI, Tunnel: routing.VXLAN, Targets: vpnIDs(vpc.EVPN.ImportTargets),
				Hosts: a.Prefixes, Allowed: slices.Concat(a.Prefixes, a.AllowedPrefixes), VTEPs: fabricVTEPs(a),
				VTEP: vtepOf(link), MAC: vpc.GatewayMAC, Gateways: vpc.GatewayAddresses}
			if a.Type == config.Geneve {
				v.Tunnel = routing.Geneve
			}
			out = append(out, v)
		}
	}
	return out
}

// fabricVTEPs are the next hops that routes of an attachment may have; none: any.
func fabricVTEPs(a *config.Attachment) []netip.Prefix {
	if len(a.VTEPs) == 0 {
		return trustedVTEPs(a)
	}
	var out []netip.Prefix
	for _, v := range nodes(a) {
		out = append(out, netip.PrefixFrom(v, v.BitLen()))
	}
	return out
}

// vtepOf is our end of the overlays behind a port.
func vtepOf(link *neigh.Link) netip.Addr {
	var out netip.Addr
	for _, p := range link.Addrs {
		switch a := p.Addr().WithZone(""); {
		case a.Is4():
			return a
		case !a.IsLinkLocalUnicast() && !out.IsValid():
			out = a
		}
	}
	return out
}

// fabricPorts adds the ports that fabrics are behind.
func fabricPorts(cfg *config.Config, links *neigh.Links, out *routing.Config, ports map[string]int) {
	for i := range cfg.Ports {
		link := links.LinkByName(cfg.Ports[i].Name)
		if link == nil {
			continue
		}
		vpcs := fabricVPCs(cfg, link)
		if len(vpcs) == 0 {
			continue
		}
		port := routing.Port{Name: link.Name, Ifindex: link.Ifindex, Device: true, Fabric: vpcs}
		for _, p := range link.Addrs {
			port.Addresses = append(port.Addresses, p.Addr().WithZone(""))
		}
		ports[link.Name] = len(out.Ports)
		out.Ports = append(out.Ports, port)
	}
}

// takeHosts keeps the hosts among changes of routes, tells the learner of them, and returns the other changes.
func (g *Gateway) takeHosts(all map[string][]routing.Change) map[string][]routing.Change {
	told := make(map[hosts.Segment][]hosts.Told)
	for vpc, changes := range all {
		at := g.fabric.hosts[vpc]
		kept := changes[:0]
		for _, c := range changes {
			a := c.Prefix.Addr()
			before, was := at[a]
			was = was && c.Prefix.IsSingleIP()
			host := len(c.NextHops) > 0 && c.NextHops[0].Host
			if was && (!host || before.Port != c.NextHops[0].Port) {
				delete(at, a)
				segment := g.fabric.segments[fabricPort{vpc, before.Port}]
				told[segment] = append(told[segment], hosts.Told{Addr: a})
			}
			if host {
				if at == nil {
					if g.fabric.hosts == nil {
						g.fabric.hosts = make(map[string]map[netip.Addr]routing.NextHop)
					}
					at = make(map[netip.Addr]routing.NextHop)
					g.fabric.hosts[vpc] = at
				}
				hop := c.NextHops[0]
				at[a] = hop
				if segment, ok := g.fabric.segments[fabricPort{vpc, hop.Port}]; ok {
					told[segment] = append(told[segment], toldHost(a, hop))
				}
				c.NextHops = nil
			}
			if len(c.NextHops) > 0 || !was && !host || g.hasRoute(vpc, c.Prefix) {
				kept = append(kept, c)
			}
		}
		if all[vpc] = kept; len(kept) == 0 {
			delete(all, vpc)
		}
	}
	for segment, changes := range told {
		g.learner.Tell(segment, changes)
	}
	return all
}

// hasRoute says whether there is a route to just this prefix.
func (g *Gateway) hasRoute(vpc string, p netip.Prefix) bool {
	if g.plan == nil {
		return false
	}
	at := slices.IndexFunc(g.plan.snapshot.VPCs, func(v relay.VPC) bool { return v.Name == vpc })
	return at >= 0 && g.plan.snapshot.VPCs[at].Routes.Exact(p) != nil
}

// withoutHosts leaves out what the learner is told.
func withoutHosts(all iter.Seq2[netip.Prefix, []routing.NextHop]) iter.Seq2[netip.Prefix, []routing.NextHop] {
	return func(yield func(netip.Prefix, []routing.NextHop) bool) {
		for p, hops := range all {
			if !hops[0].Host && !yield(p, hops) {
				return
			}
		}
	}
}

func toldHost(a netip.Addr, hop routing.NextHop) hosts.Told {
	return hosts.Told{Addr: a, Place: hosts.Place{VTEP: hop.Addr, MAC: hop.MAC}}
}

// takeVTEPs tells the learner of VTEPs that have come or gone.
func (g *Gateway) takeVTEPs() {
	now := g.bgp.router.VTEPs()
	if maps.EqualFunc(now, g.fabric.vteps, slices.Equal) {
		return
	}
	if g.fabric.vteps = now; g.plan != nil {
		g.tellLearner(g.plan)
	}
}

// tellLearner tells the learner of a plan's attachments, with what the fabrics have told of them.
func (g *Gateway) tellLearner(p *plan) {
	attachments := slices.Clone(p.learned)
	for at, segment := range p.fabrics {
		i := slices.IndexFunc(attachments, func(l hosts.Attachment) bool { return l.Segment == segment })
		for _, v := range g.fabric.vteps[at.vpc] {
			if v.Port == at.port {
				attachments[i].Told = append(attachments[i].Told, v.Addr)
			}
		}
	}
	g.learner.SetAttachments(attachments)
	for at, segment := range g.fabric.segments {
		if p.fabrics[at] != segment {
			g.learner.Unsay(segment)
		}
	}
	for at, segment := range p.fabrics {
		if g.fabric.segments[at] == segment {
			continue
		}
		var told []hosts.Told
		for a, hop := range g.fabric.hosts[at.vpc] {
			if hop.Port == at.port {
				told = append(told, toldHost(a, hop))
			}
		}
		g.learner.Tell(segment, told)
	}
	g.fabric.segments = p.fabrics
}

// fabricSegment notes an attachment whose hosts a fabric may tell.
func (c *compiler) fabricSegment(vpc *config.VPC, a *config.Attachment, segment hosts.Segment) {
	if !c.cfg.InFabric(a) {
		return
	}
	if c.plan.fabrics == nil {
		c.plan.fabrics = make(map[fabricPort]hosts.Segment)
	}
	c.plan.fabrics[fabricPort{vpc.Name, a.Port}] = segment
}

// behindVTEP returns the delivery of a router behind a VTEP; false if the overlay is not there.
func (c *compiler) behindVTEP(vni uint32, out *relay.VPC, router routing.NextHop, link *neigh.Link) (fib.NextHop, bool) {
	for i, a := range out.Attachments {
		if a.Kind == relay.Routed || a.Ifindex != link.Ifindex {
			continue
		}
		hop := fib.NextHop{Kind: fib.Local, ID: uint32(len(c.plan.snapshot.Deliveries))}
		c.plan.snapshot.Deliveries = append(c.plan.snapshot.Deliveries, relay.Delivery{VNI: vni, Attachment: i, VTEP: router.Addr, MAC: router.MAC})
		c.plan.deliveries = append(c.plan.deliveries, deliveryInfo{attachment: a.Kind.String() + " " + router.Port, vni: vni, ifindex: link.Ifindex,
			udp: a.UDPPort, vtep: router.Addr, mac: config.MAC(router.MAC), fabric: true})
		return hop, true
	}
	return fib.NextHop{}, false
}

// fabricProblem says in words what a neighbour tells of an overlay and may not. That it has VPCs which we do not is no problem.
func fabricProblem(n *routing.NeighbourStatus) string {
	total := refusedFor(n, routing.NotAllowed, routing.NotVTEP, routing.WrongVNI, routing.OtherTunnel, routing.BadMAC, routing.Recursive)
	if !n.Fabric || total == 0 {
		return ""
	}
	return fmt.Sprintf("bgp neighbour %s: tells of %d hosts, prefixes and VTEPs that are refused; see sluice bgp %s --routes", n.Name, total, n.Name)
}
