package gateway

import (
	"net/netip"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// The XDP program forwards packets between this site and peers with encryption none by itself where it needs nothing but
// other headers for that. A hop is such a way, with the headers: it follows from the plan and the kernel's neighbours, and
// so changes more often than the plan. What a hop cannot do stays the relay's: a VPC with an access list, limits,
// translation, Mizar's options, trusted VTEPs, the strict source check, or hosts that are found out (the learner goes by what
// workers see); prefixes with several next hops; peers and ports with limits.

// hopKey is what makes a hop the same place for as long as it is there, so that its counters go on.
type hopKey struct {
	hopClass
	kind   xdp.HopKind
	dst    netip.AddrPort // of the outer header; of a routed neighbour, its address
	remote uint32         // VNI there
	mac    [6]byte        // of the host behind a VTEP, or of a routed neighbour
}

// hopClass is what a hop counts for.
type hopClass struct {
	routeKey
	peer uint32 // id of the DirectPeer; 0: a place at this site
}

// hopPlan is what the program forwards by itself.
type hopPlan struct {
	state xdp.State
	keys  map[uint32]hopKey // by id
	// neighbours are those that the hops depend on, by id.
	neighbours map[uint32]neigh.Key
}

// hopCompiler adds hops to the state of a plan.
type hopCompiler struct {
	plan   *plan
	table  *neigh.Table
	number func(hopKey) uint32
	out    *hopPlan
	remote map[xdp.Prefix]int // index in the state's list
	site   map[xdp.Prefix]int
}

// planHops is a pure function, but for the numbers: a key has the same one for as long as number remembers it.
func planHops(p *plan, cfg *config.Config, table *neigh.Table, number func(hopKey) uint32) *hopPlan {
	c := &hopCompiler{plan: p, table: table, number: number, out: &hopPlan{state: p.program(), keys: make(map[uint32]hopKey), neighbours: make(map[uint32]neigh.Key)}}
	if len(p.xdp.DirectPeers) == 0 {
		return c.out
	}
	c.out.state.Remote, c.remote = indexed(p.xdp.Remote)
	c.out.state.Site, c.site = indexed(c.out.state.Site)
	for i := range cfg.VPCs {
		for j := range p.snapshot.VPCs {
			if p.snapshot.VPCs[j].Name == cfg.VPCs[i].Name && hoppable(&cfg.VPCs[i]) {
				c.vpc(&p.snapshot.VPCs[j])
			}
		}
	}
	return c.out
}

// indexed copies a list of prefixes: those of the plan stay as they are.
func indexed(list []xdp.Prefix) ([]xdp.Prefix, map[xdp.Prefix]int) {
	at := make(map[xdp.Prefix]int, len(list))
	for i, p := range list {
		at[p] = i
	}
	return append([]xdp.Prefix(nil), list...), at
}

// hoppable says whether the program can do all that the VPC asks for.
func hoppable(v *config.VPC) bool {
	if len(v.ACL.Rules) > 0 || v.ACL.Default != config.Allow || v.Limits != (config.Limits{}) || len(v.Translate) > 0 || v.SourceCheck == config.SourceStrict {
		return false
	}
	for i := range v.Attachments {
		a := &v.Attachments[i]
		if a.Options != "" || len(a.TrustedVTEPs) > 0 || a.Type != config.Routed && len(a.Prefixes) > 0 {
			return false
		}
	}
	return true
}

// vpc adds the hops of a VPC, if peers with encryption none have a part in it.
func (c *hopCompiler) vpc(v *relay.VPC) {
	direct := false
	for r := range v.Routes.All() {
		if hop := r.NextHops[0]; hop.Kind == fib.Remote && len(r.NextHops) == 1 {
			direct = c.toPeer(v, r, hop.ID) || direct
		}
	}
	if !direct {
		return
	}
	for r := range v.Routes.All() {
		if hop := r.NextHops[0]; hop.Kind == fib.Local && len(r.NextHops) == 1 {
			c.toSite(v, r, &c.plan.snapshot.Deliveries[hop.ID])
		}
	}
}

// toPeer adds the hop of a remote prefix, if its peer has encryption none.
func (c *hopCompiler) toPeer(v *relay.VPC, r *fib.Route, id uint32) bool {
	peer := &c.plan.snapshot.Peers[id]
	if !peer.Direct.IsValid() || peer.Limits != (relay.Limits{}) || c.coversTunnel(v, r.Prefix) {
		return false
	}
	h := xdp.Hop{Kind: xdp.ToPeer, VNI: v.VNI, Peer: directID(id), Dst: peer.Direct.Addr(), UDPPort: peer.Direct.Port(), RemoteVNI: v.VNI}
	for _, m := range peer.VPCs {
		if m.VNI == v.VNI {
			h.RemoteVNI = m.RemoteVNI
		}
	}
	clampAs(&h, v.MSS, peer.MSS)
	key := neigh.Key{Dst: h.Dst}
	if e, port := c.way(key); e != nil && port.ToPeers == (relay.Limit{}) {
		c.tunnel(&h, e, port, packet.UDPLen+packet.GeneveLen)
	}
	c.add(h, key, hopKey{hopClass: hopClass{routeKey{v.VNI, r.Prefix}, h.Peer}, kind: h.Kind, dst: peer.Direct, remote: h.RemoteVNI}, r.Prefix, c.remote, &c.out.state.Remote)
	return true
}

// coversTunnel says whether a peer's prefix holds an address of ours inside the tunnels, whose use by the peer is refused.
func (c *hopCompiler) coversTunnel(v *relay.VPC, p netip.Prefix) bool {
	for _, a := range c.plan.snapshot.Tunnel {
		if v.VNI == 0 && p.Contains(a) {
			return true
		}
	}
	return false
}

// toSite adds the hops of a local prefix: one for a host behind a VTEP, and behind a routed attachment one for each
// neighbour that the relay has sent to.
func (c *hopCompiler) toSite(v *relay.VPC, r *fib.Route, d *relay.Delivery) {
	a := &v.Attachments[d.Attachment]
	class := hopClass{routeKey: routeKey{v.VNI, r.Prefix}}
	if a.Kind == relay.Routed {
		for e := range c.table.All() {
			if e.Key.Ifindex != a.Ifindex || e.State != neigh.Resolved || !r.Prefix.Contains(e.Key.Dst) || v.Routes.Lookup(e.Key.Dst) != r {
				continue
			}
			h := xdp.Hop{Kind: xdp.ToRouted, VNI: v.VNI}
			clampAs(&h, v.MSS, 0)
			if e, port := c.way(e.Key); e != nil {
				c.link(&h, e, port, 0)
			}
			c.add(h, e.Key, hopKey{hopClass: class, kind: h.Kind, dst: netip.AddrPortFrom(e.Key.Dst, 0), mac: e.DstMAC},
				netip.PrefixFrom(e.Key.Dst, e.Key.Dst.BitLen()), c.site, &c.out.state.Site)
		}
		return
	}
	h := xdp.Hop{Kind: xdp.ToVXLAN, VNI: v.VNI, Dst: d.VTEP, UDPPort: a.UDPPort, RemoteVNI: v.VNI, InnerSrc: v.GatewayMAC, InnerDst: d.MAC}
	if a.Kind == relay.Geneve {
		h.Kind = xdp.ToGeneve
	}
	clampAs(&h, v.MSS, 0)
	key := neigh.Key{Dst: d.VTEP, Ifindex: a.Ifindex}
	if e, port := c.way(key); e != nil {
		c.tunnel(&h, e, port, packet.UDPLen+packet.GeneveLen+packet.EthernetLen)
	}
	c.add(h, key, hopKey{hopClass: class, kind: h.Kind, dst: netip.AddrPortFrom(d.VTEP, a.UDPPort), remote: h.RemoteVNI, mac: d.MAC}, r.Prefix, c.site, &c.out.state.Site)
}

// way is the entry of a neighbour that can be sent to, and the port that it is behind; nil: not now.
func (c *hopCompiler) way(key neigh.Key) (*neigh.Entry, *relay.Port) {
	e := c.table.Lookup(key)
	if e == nil || e.State != neigh.Resolved || e.NoLink {
		return nil, nil
	}
	for i := range c.plan.snapshot.Ports {
		if port := &c.plan.snapshot.Ports[i]; port.Ifindex == e.Egress {
			return e, port
		}
	}
	return nil, nil
}

// tunnel completes a hop with outer headers, of which so many bytes follow the IP header. Without a source address of
// the family, it stays incomplete, and its packets the relay's.
func (c *hopCompiler) tunnel(h *xdp.Hop, e *neigh.Entry, port *relay.Port, behind int) {
	src := e.Src.Unmap()
	if !src.IsValid() || src.Is4() != h.Dst.Is4() {
		return
	}
	h.Src = src
	if h.Dst.Is4() {
		c.link(h, e, port, packet.IPv4Len+behind)
	} else {
		c.link(h, e, port, packet.IPv6Len+behind)
	}
}

// link completes a hop, whose headers behind Ethernet have so many bytes.
func (c *hopCompiler) link(h *xdp.Hop, e *neigh.Entry, port *relay.Port, overhead int) {
	mtu := port.MTU
	if mtu == 0 {
		mtu = 1500
	}
	if e.MTU > 0 {
		mtu = min(mtu, e.MTU)
	}
	if mtu -= overhead; mtu < packet.IPv6Len+packet.TCPLen || e.DstMAC == [6]byte{} || e.DstMAC[0]&1 != 0 || e.SrcMAC == [6]byte{} {
		return
	}
	h.Ifindex, h.SrcMAC, h.DstMAC, h.MTU = int(e.Egress), e.SrcMAC, e.DstMAC, mtu
}

// clampAs sets what becomes of the MSS: relay.VPC.MSS and that of a peer, of which the stricter holds.
func clampAs(h *xdp.Hop, policies ...int) {
	for _, p := range policies {
		switch {
		case p < 0:
			h.NoClamp = true
		case p > 0 && (h.MaxMSS == 0 || p < int(h.MaxMSS)):
			h.MaxMSS = uint16(p)
		}
	}
}

// add adds a hop and lets a prefix lead to it, which is added where the list has none such. Where there is no room for
// more, packets stay the relay's.
func (c *hopCompiler) add(h xdp.Hop, neighbour neigh.Key, key hopKey, p netip.Prefix, index map[xdp.Prefix]int, list *[]xdp.Prefix) {
	s := &c.out.state
	at, known := index[xdp.Prefix{VNI: h.VNI, Prefix: p}]
	if len(s.Hops) >= xdp.MaxHops || !known && len(s.Remote)+len(s.Site)+len(s.Groups)+len(s.Gateways) >= xdp.MaxRoutes {
		return
	}
	h.ID = c.number(key)
	if !known {
		at = len(*list)
		*list = append(*list, xdp.Prefix{VNI: h.VNI, Prefix: p})
	}
	(*list)[at].Hop = h.ID
	s.Hops = append(s.Hops, h)
	c.out.keys[h.ID] = key
	c.out.neighbours[h.ID] = neighbour
}
