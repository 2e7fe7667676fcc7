package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// evpnPort is where the sessions with peers are: the TUN device. Without the device there is none yet.
func evpnPort(cfg *config.Config, links *neigh.Links) (routing.Port, bool) {
	link := links.LinkByName(cfg.WireGuard.TUN.Name)
	if link == nil || !cfg.SpeaksEVPN() {
		return routing.Port{}, false
	}
	port := routing.Port{Name: link.Name, Ifindex: link.Ifindex, Device: true, EVPN: true, ASN: cfg.BGP.EVPN.ASN, Addresses: cfg.WireGuard.TunnelAddresses}
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		if _, theirs, ok := cfg.TunnelPair(p); ok && p.BGP.Enabled {
			port.Neighbours = append(port.Neighbours, routing.Neighbour{
				Name: p.Name, Address: theirs, ASN: p.BGP.ASN, Hold: cfg.BGP.EVPN.HoldTime, ConnectRetry: evpnRetry,
				MaxPrefixes: cfg.BGP.EVPN.MaxPrefixes, Export: everything, NextHops: p.TunnelAddresses,
				Client: p.BGP.Role == config.RoleClient, Reflector: p.BGP.Role == config.RoleReflector,
			})
		}
	}
	return port, true
}

// everything is the export policy of EVPN sessions, where the receiver asks what may be announced.
var everything = &routing.Policy{Name: "evpn", Rules: []routing.Rule{{}}}

// evpnRetry is how long we wait between calls: a peer that starts is to have its routes at once, and there are not so
// many peers that a call each second would matter.
const evpnRetry = retryInterval / 10

// evpnGateways are the peers that routes may lead to, with what each may announce.
func evpnGateways(cfg *config.Config, dead map[string]bool) []routing.Gateway {
	if !cfg.SpeaksEVPN() {
		return nil
	}
	targets := make(map[string][]routing.VPNID, len(cfg.VPCs))
	for i := range cfg.VPCs {
		targets[cfg.VPCs[i].Name] = vpnIDs(cfg.VPCs[i].EVPN.ImportTargets)
	}
	var out []routing.Gateway
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		if len(p.TunnelAddresses) == 0 || p.Encryption == config.EncryptionNone {
			continue
		}
		g := routing.Gateway{Name: p.Name, Addresses: p.TunnelAddresses, Dead: dead[p.Name]}
		for j := range p.VPCs {
			v := &p.VPCs[j]
			g.VPCs = append(g.VPCs, routing.GatewayVPC{VPC: v.Name, VNI: v.VNI, Targets: targets[v.Name], Allowed: slices.Concat(v.AllowedPrefixes, v.Prefixes)})
		}
		out = append(out, g)
	}
	return out
}

// vpcEVPN is how peers are told of a VPC. What is translated they know by its other address, and all of it is there for
// as long as the translation is.
func vpcEVPN(cfg *config.Config, vpc *config.VPC, static []netip.Prefix) routing.VPCEVPN {
	if !cfg.SpeaksEVPN() && !slices.ContainsFunc(vpc.Attachments, func(a config.Attachment) bool { return cfg.InFabric(&a) }) {
		return routing.VPCEVPN{}
	}
	asn := cfg.BGP.EVPN.ASN
	if asn == 0 { // no gateway is told
		asn = cfg.BGP.ASN
	}
	out := routing.VPCEVPN{VNI: vpc.VNI, Distinguisher: routing.VPNID(vpc.Distinguisher(cfg.BGP.RouterID)), Targets: vpnIDs(vpc.Targets(asn))}
	for _, t := range vpc.Translate {
		out.Announce = append(out.Announce, t.As)
		out.Hidden = append(out.Hidden, t.Prefix)
	}
	for _, p := range static {
		if !slices.ContainsFunc(out.Hidden, func(h netip.Prefix) bool { return h.Bits() <= p.Bits() && h.Contains(p.Addr()) }) {
			out.Announce = append(out.Announce, p)
		}
	}
	return out
}

func vpnIDs(ids []config.VPNID) []routing.VPNID {
	var out []routing.VPNID
	for _, id := range ids {
		out = append(out, routing.VPNID(id))
	}
	return out
}

// deadPeers are those that answered probes once and do so no more, by name.
func (g *Gateway) deadPeers() map[string]bool {
	dead := make(map[string]bool)
	for name, p := range g.peers {
		if g.alive.Dead(p.id) {
			dead[name] = true
		}
	}
	return dead
}

// remoteGateway is a peer that a route of a gateway may lead to.
type remoteGateway struct {
	id     uint32
	use    use
	claims map[string]use // by VPC: what other gateways of its site leave to it
}

func (r *remoteGateway) in(vpc string) member {
	return member{id: r.id, use: max(r.use, r.claims[vpc])}
}

// gatewayHops are the peers that routes of gateways lead to, by NextHop.Addr.
func (c *compiler) gatewayHops() {
	c.plan.gateways = make(map[netip.Addr]remoteGateway)
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		if ref, ok := c.peers[p.Name]; ok && len(p.TunnelAddresses) > 0 {
			c.plan.gateways[p.TunnelAddresses[0]] = remoteGateway{id: ref.id, use: ref.use, claims: ref.claims}
		}
	}
}

// ofGateways says whether next hops are gateways; a route's are all of one side.
func ofGateways(hops []routing.NextHop) bool { return len(hops) > 0 && hops[0].Port == "" }

// gatewayRoutes adds what peers have announced to what they have by configuration, and tells the program of what they may announce: all of that is diverted,
// also for as long as nobody announces it, lest it leave in the clear. So the program need not know of routes that
// come and go, but for those inside a prefix of the site, or of a peer that it forwards to by itself.
func (c *compiler) gatewayRoutes(vpc *config.VPC, remote map[netip.Prefix][]member) {
	table := c.plan.site[vpc.Name]
	if table == nil {
		return
	}
	divert := func(p netip.Prefix) {
		if !table.site.Get(p) && !table.configured.Get(p) && !table.diverted.Get(p) {
			table.diverted.Insert(p)
			c.plan.xdp.Remote = append(c.plan.xdp.Remote, xdp.Prefix{VNI: vpc.VNI, Prefix: p})
		}
	}
	for _, m := range c.members[vpc.Name] {
		for _, p := range m.allowed {
			divert(p)
		}
	}
	for p, nextHops := range c.learned.of(vpc.Name) {
		if !ofGateways(nextHops) || table.site.Get(p) || table.direct.Get(p) {
			continue
		}
		alive := false
		for _, hop := range nextHops {
			gateway, known := c.plan.gateways[hop.Addr]
			m := gateway.in(vpc.Name)
			if known && !slices.ContainsFunc(remote[p], func(other member) bool { return other.id == m.id }) {
				remote[p] = append(remote[p], m)
			}
			alive = alive || known && m.use < dead
		}
		if alive && table.hides(p) {
			divert(p)
		}
	}
}

// hides says whether the program would not divert what is for a prefix that peers have announced, without being told of it.
func (t *siteTable) hides(p netip.Prefix) bool {
	around, ok := t.authorised.LookupPrefixLPM(p)
	if !ok {
		return true
	}
	for _, others := range []interface {
		LookupPrefixLPM(netip.Prefix) (netip.Prefix, bool)
	}{t.site, t.direct} {
		if nearer, ok := others.LookupPrefixLPM(p); ok && nearer.Bits() >= around.Bits() {
			return true
		}
	}
	return false
}

// amendRemote is amendVPC for a prefix that peers may announce; false means that everything must be compiled.
func (c *compiler) amendRemote(vpc string, table *siteTable, change routing.Change, have *fib.Route) (fib.Route, bool) {
	route := fib.Route{Prefix: change.Prefix}
	if len(change.NextHops) > 0 && !ofGateways(change.NextHops) || have != nil && have.NextHops[0].Kind == fib.Local ||
		table.configured.Get(change.Prefix) || table.hides(change.Prefix) {
		return route, false
	}
	for _, gateway := range c.plan.gateways {
		if gateway.in(vpc).use == elsewhere { // there are spare routes
			return route, false
		}
	}
	for _, hop := range change.NextHops {
		next := fib.NextHop{Kind: fib.Remote}
		gateway, known := c.plan.gateways[hop.Addr]
		m := gateway.in(vpc)
		if next.ID = m.id; known && m.use < dead && !slices.Contains(route.NextHops, next) {
			route.NextHops = append(route.NextHops, next)
		}
	}
	return route, true
}

// evpnProblem says in words what a peer announces and may not. It announces the prefixes of all its VPCs, and those of
// VPCs that we do not share are none of our business; only if there are no others is something wrong.
func evpnProblem(n *routing.NeighbourStatus) string {
	if n.Fabric {
		return ""
	}
	total := refusedFor(n, routing.NotAllowed, routing.NotItsOwn, routing.WrongVNI, routing.Recursive)
	if foreign := refusedFor(n, routing.NoVPC); foreign == n.Received {
		total += foreign
	}
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("peer %s: announces %d prefixes that are refused; see sluice bgp %s --routes", n.Name, total, n.Name)
}

// refusedFor is how many routes of a neighbour were refused for these reasons.
func refusedFor(n *routing.NeighbourStatus, reasons ...routing.Reason) (total int) {
	for _, reason := range reasons {
		total += n.Refused[reason.String()]
	}
	return total
}
