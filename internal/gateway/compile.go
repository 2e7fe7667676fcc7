package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/xdp"
)

// peerRef is a configured peer as the data plane knows it: its id in snapshots and its half of the WireGuard device.
type peerRef struct {
	id        uint32
	wireguard *wireguard.Peer // nil: encryption none
	use       use
	addresses []netip.Addr   // outer, as configured, resolved or learned; none while unknown
	claims    map[string]use // by VPC: what other gateways of its site make of it
}

// plan is what a configuration means on the interfaces that are there.
type plan struct {
	snapshot *relay.Snapshot
	xdp      xdp.State
	// deliveries says in words what relay.Snapshot.Deliveries holds, for the API.
	deliveries []deliveryInfo
	// learned are the attachments whose hosts are found out.
	learned []hosts.Attachment
	// site is about the routes of VPCs that BGP has told of, by name; only for the assembly.
	site    map[string]*siteTable
	amended int // deliveries that were added since everything was compiled
	// gateways are the peers that routes from BGP may lead to, by tunnel address.
	gateways map[netip.Addr]remoteGateway
	// fabrics are the attachments whose hosts fabrics may tell.
	fabrics map[fabricPort]hosts.Segment
}

type deliveryInfo struct {
	attachment string // "vxlan site0"
	vtep       netip.Addr
	mac        config.MAC
	vni        uint32
	ifindex    uint32
	udp        uint16
	via        netip.Addr // the router that BGP told of
	learned    bool       // vtep and mac are each host's own
	fabric     bool       // EVPN told of vtep and mac
}

// compile is a pure function from what is wanted and what is there to what the workers and the XDP program are told.
// A port whose interface does not exist, and what is attached to it, is left out: it joins when the interface appears.
func compile(cfg *config.Config, links *neigh.Links, peers map[string]peerRef, learned learnedRoutes) (*plan, error) {
	c := &compiler{cfg: cfg, links: links, peers: peers, learned: learned, plan: &plan{snapshot: &relay.Snapshot{
		Tunnel:        cfg.WireGuard.TunnelAddresses,
		WireGuardPort: cfg.WireGuard.ListenPort,
	}}}
	c.plan.xdp.WireGuard = []uint16{cfg.WireGuard.ListenPort}
	if link := links.LinkByName(cfg.WireGuard.TUN.Name); link != nil {
		c.plan.snapshot.TunPort = link.Ifindex
	}
	c.local()
	c.ports()
	c.peerTable()
	c.gatewayHops()
	for i := range cfg.VPCs {
		c.vpc(&cfg.VPCs[i])
	}
	for i := range cfg.VPCs {
		c.carveSite(&cfg.VPCs[i])
	}
	slices.Sort(c.plan.xdp.Geneve)
	slices.Sort(c.plan.xdp.VXLAN)
	c.plan.xdp.Geneve = slices.Compact(c.plan.xdp.Geneve)
	c.plan.xdp.VXLAN = slices.Compact(c.plan.xdp.VXLAN)
	return c.plan, errors.Join(c.errs...)
}

type compiler struct {
	cfg   *config.Config
	links *neigh.Links
	peers map[string]peerRef
	plan  *plan
	errs  []error

	members map[string][]member // by VPC: who has prefixes in it
	learned learnedRoutes
}

// member is a peer in a VPC.
type member struct {
	id       uint32
	use      use
	prefixes []netip.Prefix
	allowed  []netip.Prefix // what it may announce
	direct   bool
}

// local collects the host's own addresses: peers and VTEPs may send to any of them, also to one on a loopback
// interface that several uplinks lead to. Some hosts have thousands that are nobody's tunnel end (a Kubernetes node has
// one for each service): the ports' own come first, and what the program has no room for is left out.
func (c *compiler) local() {
	var own, others []netip.Addr
	for link := range c.links.All() {
		if link.Name == c.cfg.WireGuard.TUN.Name {
			continue // these are inside the tunnels
		}
		for _, p := range link.Addrs {
			switch a := p.Addr().WithZone(""); {
			case a.IsLoopback() || a.IsMulticast():
			case slices.ContainsFunc(c.cfg.Ports, func(p config.Port) bool { return p.Name == link.Name }):
				own = append(own, a)
			default:
				others = append(others, a)
			}
		}
	}
	local := append(own, others...)
	local = local[:min(len(local), xdp.MaxLocal)]
	slices.SortFunc(local, netip.Addr.Compare)
	c.plan.xdp.Local = slices.Compact(local)
	c.plan.snapshot.Local = c.plan.xdp.Local
}

// port returns a configured port's link, nil when it is not there or cannot be a port.
func (c *compiler) port(name string) *neigh.Link {
	link := c.links.LinkByName(name)
	if link == nil || unfit(link) != nil {
		return nil
	}
	return link
}

// unfit says why an interface cannot be a port.
func unfit(link *neigh.Link) error {
	if link.NoLink || link.MAC == [6]byte{} || link.MAC[0]&1 != 0 {
		return errors.New("it is no Ethernet interface")
	}
	return nil
}

func (c *compiler) ports() {
	for i := range c.cfg.Ports {
		link := c.port(c.cfg.Ports[i].Name)
		if link == nil {
			continue
		}
		port := relay.Port{Ifindex: link.Ifindex, Name: link.Name, MAC: link.MAC, MTU: link.MTU, Virtual: link.Virtual, ToPeers: relayLimit(&c.cfg.Ports[i].ToPeers)}
		for _, p := range link.Addrs {
			port.Addresses = append(port.Addresses, p.Addr().WithZone(""))
		}
		c.plan.snapshot.Ports = append(c.plan.snapshot.Ports, port)

		program := xdp.Port{Ifindex: int(link.Ifindex), Queues: c.cfg.Workers, Virtual: link.Virtual, MAC: link.MAC}
		for _, vpc := range c.cfg.VPCs {
			for _, a := range vpc.Attachments {
				switch {
				case a.Port != link.Name:
				case a.Type == config.Routed:
					program.Routed, program.VNI = true, vpc.VNI
				default:
					program.Overlay = true
				}
			}
		}
		c.plan.xdp.Ports = append(c.plan.xdp.Ports, program)
	}
}

func (c *compiler) peerTable() {
	vnis := make(map[string]uint32, len(c.cfg.VPCs))
	for i := range c.cfg.VPCs {
		vnis[c.cfg.VPCs[i].Name] = c.cfg.VPCs[i].VNI
	}
	c.members = make(map[string][]member, len(c.cfg.VPCs))
	for i := range c.cfg.Peers {
		peer := &c.cfg.Peers[i]
		ref, ok := c.peers[peer.Name]
		if !ok {
			c.errs = append(c.errs, fmt.Errorf("peer %s: not in the WireGuard device", peer.Name))
			continue
		}
		if peer.Encryption != config.EncryptionNone {
			room := xdp.MaxPeers - len(c.plan.xdp.Peers)
			c.plan.xdp.Peers = append(c.plan.xdp.Peers, ref.addresses[:min(len(ref.addresses), room)]...)
		}
		for len(c.plan.snapshot.Peers) <= int(ref.id) {
			c.plan.snapshot.Peers = append(c.plan.snapshot.Peers, relay.Peer{})
		}
		entry := relay.Peer{Name: peer.Name, WireGuard: ref.wireguard, Tunnel: peer.TunnelAddresses, FlowPorts: flowPorts(peer), Limits: relayLimits(&peer.Limits)}
		entry.MSS = mss(peer.ClampMSS, peer.MaxMSS)
		if peer.Encryption == config.EncryptionNone {
			entry.Direct = c.direct(peer, ref.id)
		}
		c.between(peer, &entry)
		for _, v := range peer.VPCs {
			c.members[v.Name] = append(c.members[v.Name], member{id: ref.id, use: max(ref.use, ref.claims[v.Name]), prefixes: v.Prefixes,
				allowed: v.AllowedPrefixes, direct: peer.Encryption == config.EncryptionNone})
			if vni, ok := vnis[v.Name]; ok && v.VNI != vni {
				entry.VPCs = append(entry.VPCs, relay.PeerVPC{VNI: vni, RemoteVNI: v.VNI})
			}
		}
		c.plan.snapshot.Peers[ref.id] = entry
	}
}

func (c *compiler) vpc(vpc *config.VPC) {
	out := relay.VPC{Name: vpc.Name, VNI: vpc.VNI, GatewayAddresses: vpc.GatewayAddresses, GatewayMAC: vpc.GatewayMAC, Sources: relaySources(vpc.SourceCheck), ACL: relayACL(&vpc.ACL), Limits: relayLimits(&vpc.Limits)}
	out.MSS = mss(vpc.ClampMSS, vpc.MaxMSS)
	out.Groups = vpc.MulticastGroups
	for _, g := range vpc.MulticastGroups {
		c.plan.xdp.Groups = append(c.plan.xdp.Groups, xdp.Prefix{VNI: vpc.VNI, Prefix: g})
	}
	hops := make(map[netip.Prefix][]fib.NextHop)
	overlay := false
	for i := range vpc.Attachments {
		if c.attachment(vpc, &vpc.Attachments[i], &out, hops) {
			overlay = true
		}
	}
	for p := range hops {
		// Only those inside a remote prefix matter, but few sites have so many that it would pay to find out.
		c.plan.xdp.Site = append(c.plan.xdp.Site, xdp.Prefix{VNI: vpc.VNI, Prefix: p})
	}
	c.siteRoutes(vpc, &out, hops)
	c.remoteRoutes(vpc, &out, hops)
	if overlay {
		c.plan.xdp.VNIs = append(c.plan.xdp.VNIs, vpc.VNI)
		for _, a := range vpc.GatewayAddresses {
			c.plan.xdp.Gateways = append(c.plan.xdp.Gateways, xdp.Gateway{VNI: vpc.VNI, Addr: a})
		}
	}
	for _, t := range vpc.Translate {
		out.Translate = append(out.Translate, relay.Translation{Prefix: t.Prefix, As: t.As})
		// The site's hosts have no business with these addresses: the relay tells them so.
		c.plan.xdp.Remote = append(c.plan.xdp.Remote, xdp.Prefix{VNI: vpc.VNI, Prefix: t.As})
	}
	routes := make([]fib.Route, 0, len(hops))
	for p, h := range hops {
		routes = append(routes, fib.Route{Prefix: p, NextHops: h})
	}
	table, err := fib.New(routes)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("vpc %s: %w", vpc.Name, err))
		return
	}
	out.Routes = table
	c.covers(vpc, table)
	c.plan.snapshot.VPCs = append(c.plan.snapshot.VPCs, out)
}

// attachment adds one attachment and its deliveries; it says whether it is an overlay that is there.
func (c *compiler) attachment(vpc *config.VPC, a *config.Attachment, out *relay.VPC, hops map[netip.Prefix][]fib.NextHop) bool {
	link := c.port(a.Port)
	if link == nil {
		return false
	}
	attachment := relay.Attachment{Kind: attachmentKind(a.Type), Ifindex: link.Ifindex, UDPPort: a.UDPPort, Trusted: trustedVTEPs(a)}
	if a.Options == config.OptionsMizar {
		attachment.Mizar = &relay.Mizar{PodLabel: a.PodLabel, NamespaceLabel: a.NamespaceLabel}
		if !slices.Contains(c.plan.xdp.Bounce, vpc.VNI) {
			c.plan.xdp.Bounce = append(c.plan.xdp.Bounce, vpc.VNI)
		}
	}
	out.Attachments = append(out.Attachments, attachment)
	deliver := func(d relay.Delivery, info deliveryInfo, prefixes []netip.Prefix) uint32 {
		d.VNI, d.Attachment = vpc.VNI, len(out.Attachments)-1
		id := uint32(len(c.plan.snapshot.Deliveries))
		info.attachment, info.vni, info.ifindex, info.udp = string(a.Type)+" "+a.Port, vpc.VNI, link.Ifindex, a.UDPPort
		c.plan.snapshot.Deliveries = append(c.plan.snapshot.Deliveries, d)
		c.plan.deliveries = append(c.plan.deliveries, info)
		for _, p := range prefixes {
			hops[p] = append(hops[p], fib.NextHop{Kind: fib.Local, ID: id})
		}
		return id
	}
	switch a.Type {
	case config.Routed:
		id := deliver(relay.Delivery{}, deliveryInfo{}, a.Prefixes)
		if len(out.Groups) > 0 {
			out.Flood = append(out.Flood, id)
		}
		return false
	case config.Geneve:
		c.plan.xdp.Geneve = append(c.plan.xdp.Geneve, a.UDPPort)
	case config.VXLAN:
		c.plan.xdp.VXLAN = append(c.plan.xdp.VXLAN, a.UDPPort)
	}
	if len(a.Prefixes) > 0 {
		c.learn(vpc, a, out, link)
		deliver(relay.Delivery{Learned: true, Listen: a.Learn == config.LearnTraffic}, deliveryInfo{learned: true}, a.Prefixes)
	}
	for _, h := range a.Hosts {
		deliver(relay.Delivery{VTEP: h.VTEP, MAC: h.MAC}, deliveryInfo{vtep: h.VTEP, mac: h.MAC}, h.Prefixes)
	}
	for _, s := range a.Subnets { // the inner MAC address is for the bouncers to write: anything will do
		for _, vtep := range slices.Concat(s.Bouncers, s.Dividers) {
			deliver(relay.Delivery{VTEP: vtep, MAC: vpc.GatewayMAC}, deliveryInfo{vtep: vtep, mac: vpc.GatewayMAC}, s.Prefixes)
		}
	}
	if len(out.Groups) > 0 { // what peers send to groups goes to every node that the configuration names
		for _, node := range nodes(a) {
			out.Flood = append(out.Flood, deliver(relay.Delivery{VTEP: node}, deliveryInfo{vtep: node}, nil))
		}
	}
	return true
}

// nodes are the VTEPs that the configuration names as nodes of an overlay, each once.
func nodes(a *config.Attachment) []netip.Addr {
	all := slices.Clone(a.VTEPs)
	for _, h := range a.Hosts {
		all = append(all, h.VTEP)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func flowPorts(p *config.Peer) wireguard.FlowPorts {
	return wireguard.FlowPorts{First: p.FlowPort, Count: uint16(p.FlowPortCount)}
}

// mss is what relay.VPC.MSS and relay.Peer.MSS say.
func mss(clamp bool, most uint16) int {
	if !clamp {
		return -1
	}
	return int(most)
}

func attachmentKind(t config.AttachmentType) relay.AttachmentKind {
	switch t {
	case config.Geneve:
		return relay.Geneve
	case config.VXLAN:
		return relay.VXLAN
	default:
		return relay.Routed
	}
}
