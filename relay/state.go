package relay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// state is a Snapshot made ready for workers: names are gone, references are
// indexes, and what the pipeline asks per packet is a table.
type state struct {
	ports       []portState
	vpcs        []vpcState
	deliveries  []deliveryState
	peers       []peerState
	local       addrSet // outer addresses that are ours
	tunnel      addrSet // ours inside the tunnels
	inward      addrSet // the same, and those of peers that others reach through us
	passes      bool    // there are such peers
	tunnel4     netip.Addr
	tunnel6     netip.Addr
	tun         uint32                // ifindex of the port to the host's kernel, 0: none
	tunnelPeers map[netip.Addr]uint32 // with it: who has which tunnel address
	wireguard   uint16
	direct      uint16                // UDP port of direct peers; 0: there are none
	directs     map[netip.Addr]uint32 // address of a direct peer -> peer
	defaultVPC  int32                 // index of VNI 0, -1 without
	vniVPC      numberMap             // VNI -> VPC
	attached    numberMap             // attachmentKey -> VPC
	mizars      numberMap             // attachmentKey -> mizarBlocks
	mizarBlocks []mizarBlock
	snapshot    *Snapshot                // that it was made of, for names
	counters    uint32                   // one more than the largest fib.Route.Counter
	segments    map[hosts.Segment]uint32 // overlay attachment -> its learned delivery
	meters      []MeterKey
	limiters    []limiter
	shaped      bool // something limits what goes to peers
	metered     bool // something limits what comes from peers
	trusted     []trusted
	longACL     bool // some access list is worth a cache
	large       bool // some VPC has largeTable routes
	notice      packet.Notice
	relayed     relayed
}

type portState struct {
	ifindex  uint32
	mac      [6]byte
	mtu      int
	virtual  bool
	toPeers  int32 // number of its limiter, 0: none
	routed   int32 // the VPC it is a routed attachment of, -1 if of none
	overlays []overlay
	icmp4    netip.Addr // sources of ICMP errors towards what is behind it
	icmp6    netip.Addr
}

// overlay is a UDP port that a port serves.
type overlay struct {
	udp   uint16
	kind  AttachmentKind
	guard bool // some attachment of it has a list of trusted VTEPs
	learn bool // somewhere behind it are hosts to be learned
	mizar bool // somewhere behind it are Mizar's nodes
}

type vpcState struct {
	vni       uint32
	routes    *fib.Table
	gateways  addrSet
	policy    *policy // nil: none
	sources   SourceCheck
	ours      bool // a peer could claim addresses of our own
	groups    []netip.Prefix
	peers     []uint32 // who gets what is sent to groups; only with groups
	flood     []uint32
	mac       [6]byte
	icmp4     netip.Addr // source of ICMP errors; invalid: none can be sent
	icmp6     netip.Addr
	translate *translation // nil: addresses are the same outside
	mss       int          // VPC.MSS
	spare     *fib.Table   // nil: none
}

type deliveryState struct {
	vpc     int32
	kind    AttachmentKind
	ifindex uint32
	udp     uint16
	vtep    netip.Addr
	via     netip.Addr
	mac     [6]byte
	learned bool
	listen  bool
	segment hosts.Segment // of a learned one
	mizar   *mizarBlock   // nil: not behind a Mizar attachment
}

type peerState struct {
	wireguard *wireguard.Peer // nil: direct, or a hole
	direct    netip.AddrPort  // of a peer that is spoken to in the clear; invalid: not direct
	sent      int32           // direct: index of the meter
	received  int32
	tunnel4   netip.Addr
	tunnel6   netip.Addr
	tunnel    template // in front of what is not the default VPC's; empty when we have no family in common
	flowPorts wireguard.FlowPorts
	limits    [directions]int32 // numbers of limiters, 0: none
	vnis      numberMap         // VNI here -> VNI there, where they differ
	mss       int               // Peer.MSS
}

// remoteVNI is what the peer calls the VPC.
func (p *peerState) remoteVNI(vni uint32) uint32 {
	if there := p.vnis.find(uint64(vni)); there >= 0 {
		return uint32(there)
	}
	return vni
}

const maxVNI = 1<<24 - 1

// attachmentKey tells overlay attachments apart: the same VNI may mean
// different VPCs on different ports or UDP ports.
func attachmentKey(port int, udp uint16, vni uint32) uint64 {
	return uint64(port)<<40 | uint64(udp)<<24 | uint64(vni)
}

// compile checks a snapshot and builds the state. The error names every problem.
func compile(s *Snapshot) (*state, error) {
	c := compiler{in: s, out: &state{snapshot: s, wireguard: s.WireGuardPort, direct: s.DirectPort, notice: s.Notice, defaultVPC: -1},
		portAt: make(map[uint32]int), vpcAt: make(map[uint32]int32), attached: make(map[uint64]int32)}
	c.ports()
	c.tunnels()
	c.peers()
	c.relayed()
	c.vpcs()
	c.deliveries()
	c.routes()
	if err := c.err(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return c.out, nil
}

type compiler struct {
	in       *Snapshot
	out      *state
	portAt   map[uint32]int
	vpcAt    map[uint32]int32
	attached map[uint64]int32
	mizars   map[uint64]int32
	errs     []error
}

func (c *compiler) err() error { return errors.Join(c.errs...) }

func (c *compiler) problem(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *compiler) ports() {
	local := append([]netip.Addr(nil), c.in.Local...)
	for i, p := range c.in.Ports {
		if _, twice := c.portAt[p.Ifindex]; twice {
			c.problem("port %s: ifindex %d occurs twice", p.Name, p.Ifindex)
		}
		c.portAt[p.Ifindex] = i
		ps := portState{ifindex: p.Ifindex, mac: p.MAC, mtu: p.MTU, virtual: p.Virtual, routed: -1}
		if ps.mtu == 0 {
			ps.mtu = 1500
		}
		ps.icmp4, ps.icmp6 = firstOfEach(p.Addresses)
		ps.toPeers = c.limiter(MeterKey{Kind: PortLimitMeter, ID: p.Ifindex, Direction: DirectionFromSite}, p.ToPeers)
		c.out.shaped = c.out.shaped || ps.toPeers != 0
		local = append(local, p.Addresses...)
		c.out.ports = append(c.out.ports, ps)
	}
	c.out.local = newAddrSet(local)
}

// firstOfEach picks the first IPv4 and the first global IPv6 address.
func firstOfEach(addrs []netip.Addr) (four, six netip.Addr) {
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		switch {
		case a.Is4() && !four.IsValid():
			four = a
		case a.Is6() && !six.IsValid() && !a.IsLinkLocalUnicast():
			six = a
		}
	}
	return four, six
}

func (c *compiler) tunnels() {
	if c.in.DirectPort != 0 && c.in.DirectPort == c.in.WireGuardPort {
		c.problem("UDP port %d is both WireGuard's and that of direct peers", c.in.DirectPort)
	}
	c.out.tunnel = newAddrSet(c.in.Tunnel)
	c.out.tunnel4, c.out.tunnel6 = firstOfEach(c.in.Tunnel)
	c.out.tun = c.in.TunPort
}

func (c *compiler) peers() {
	c.out.peers = make([]peerState, len(c.in.Peers))
	for i, p := range c.in.Peers {
		ps := &c.out.peers[i]
		if p.Direct.IsValid() {
			c.direct(uint32(i), &p, ps)
		} else if p.WireGuard == nil {
			continue
		}
		ps.wireguard, ps.flowPorts, ps.mss = p.WireGuard, p.FlowPorts, p.MSS
		if n := p.FlowPorts.Count; n&(n-1) != 0 || int(p.FlowPorts.First)+int(n) > 1<<16 {
			c.problem("peer %s: flow ports %d to %d are no power of two of ports", p.Name, p.FlowPorts.First, int(p.FlowPorts.First)+int(n)-1)
		}
		ps.tunnel4, ps.tunnel6 = firstOfEach(p.Tunnel)
		ps.limits = c.limits(MeterKey{Kind: PeerLimitMeter, ID: uint32(i)}, p.Limits)
		c.out.shaped = c.out.shaped || ps.limits[fromSite] != 0
		c.out.metered = c.out.metered || ps.limits[fromPeer] != 0
		c.tunnel(ps)
		vnis := make(map[uint64]int32)
		for _, v := range p.VPCs {
			if v.RemoteVNI > maxVNI || v.RemoteVNI == 0 != (v.VNI == 0) {
				c.problem("peer %s vpc %d: vni %d at the peer is out of range", p.Name, v.VNI, v.RemoteVNI)
			}
			vnis[uint64(v.VNI)] = int32(v.RemoteVNI)
		}
		ps.vnis = newNumberMap(vnis)
	}
	if c.out.tun != 0 {
		c.out.tunnelPeers = tunnelOwners(c.out.peers)
	}
}

// tunnel prepares the headers between tunnel addresses, IPv4 if both have it.
// Without UDP checksum, in IPv6 too (RFC 6935): what is inside was authenticated
// by the tunnel around it.
func (c *compiler) tunnel(p *peerState) {
	src, dst := c.out.tunnel4, p.tunnel4
	if !src.IsValid() || !dst.IsValid() {
		src, dst = c.out.tunnel6, p.tunnel6
	}
	if !src.IsValid() || !dst.IsValid() {
		return
	}
	p.tunnel.entropy()
	p.tunnel.tunnel(src, dst, 0, packet.PortGeneve)
	p.tunnel.add(packet.GeneveLen)
}

func (c *compiler) vpcs() {
	vnis := make(map[uint64]int32)
	for i, v := range c.in.VPCs {
		index := int32(i)
		if _, twice := c.vpcAt[v.VNI]; twice {
			c.problem("vpc %s: vni %d occurs twice", v.Name, v.VNI)
		}
		if v.VNI > maxVNI {
			c.problem("vpc %s: vni %d has more than 24 bits", v.Name, v.VNI)
		}
		c.vpcAt[v.VNI] = index
		vnis[uint64(v.VNI)] = index
		if v.VNI == 0 {
			c.out.defaultVPC = index
		}
		vs := vpcState{vni: v.VNI, routes: v.Routes, mac: v.GatewayMAC, mss: v.MSS, gateways: newAddrSet(v.GatewayAddresses)}
		if vs.routes == nil {
			vs.routes = new(fib.Table)
		}
		vs.icmp4, vs.icmp6 = firstOfEach(v.GatewayAddresses)
		vs.policy, vs.sources, vs.ours = c.policy(&v), v.Sources, c.claimsOurs(&v, vs.routes)
		vs.translate = c.translation(&v)
		c.spares(&v, &vs)
		vs.groups, vs.flood = v.Groups, v.Flood
		c.out.large = c.out.large || vs.routes.Len() >= largeTable
		c.out.vpcs = append(c.out.vpcs, vs)
		for _, a := range v.Attachments {
			c.attachment(index, v.Name, a)
		}
	}
	c.out.vniVPC = newNumberMap(vnis)
	c.out.attached = newNumberMap(c.attached)
	c.out.mizars = newNumberMap(c.mizars)
}

func (c *compiler) attachment(vpc int32, name string, a Attachment) {
	at, ok := c.portAt[a.Ifindex]
	if !ok {
		c.problem("vpc %s: %v attachment to ifindex %d, which is no port", name, a.Kind, a.Ifindex)
		return
	}
	port, vs := &c.out.ports[at], &c.out.vpcs[vpc]
	if a.Kind == Routed {
		if port.routed >= 0 {
			c.problem("vpc %s: ifindex %d is routed for another vpc already", name, a.Ifindex)
		}
		port.routed = vpc
		if !vs.icmp4.IsValid() {
			vs.icmp4 = port.icmp4
		}
		if !vs.icmp6.IsValid() {
			vs.icmp6 = port.icmp6
		}
		return
	}
	udp := a.port()
	if udp == c.in.DirectPort {
		c.problem("vpc %s: UDP port %d of ifindex %d is that of direct peers", name, udp, a.Ifindex)
	}
	for _, o := range port.overlays {
		if o.udp == udp && o.kind != a.Kind {
			c.problem("vpc %s: UDP port %d of ifindex %d is both %v and %v", name, udp, a.Ifindex, o.kind, a.Kind)
		}
	}
	if port.overlay(udp) == nil {
		port.overlays = append(port.overlays, overlay{udp: udp, kind: a.Kind})
	}
	key := attachmentKey(at, udp, vs.vni)
	if _, twice := c.attached[key]; twice {
		c.problem("vpc %s: attached twice to UDP port %d of ifindex %d", name, udp, a.Ifindex)
	}
	c.attached[key] = vpc
	if a.Trusted != nil {
		c.out.trusted = append(c.out.trusted, trustedVTEPs(key, a.Trusted))
		for i := range port.overlays {
			port.overlays[i].guard = port.overlays[i].guard || port.overlays[i].udp == udp
		}
	}
	if a.Mizar != nil {
		c.mizar(name, a, port.overlay(udp), key)
	}
}

// overlay returns the port's overlay on a UDP port, or nil.
func (p *portState) overlay(udp uint16) *overlay {
	for i := range p.overlays {
		if p.overlays[i].udp == udp {
			return &p.overlays[i]
		}
	}
	return nil
}

// port is the UDP port with its default.
func (a Attachment) port() uint16 {
	switch {
	case a.UDPPort != 0:
		return a.UDPPort
	case a.Kind == VXLAN:
		return packet.PortVXLAN
	}
	return packet.PortGeneve
}

func (c *compiler) deliveries() {
	for i, d := range c.in.Deliveries {
		c.place(i, d)
	}
}

// place takes in delivery i, the next.
func (c *compiler) place(i int, d Delivery) {
	vpc, ok := c.vpcAt[d.VNI]
	if !ok || d.Attachment < 0 || d.Attachment >= len(c.in.VPCs[vpc].Attachments) {
		c.problem("delivery %d: no attachment %d in a vpc with vni %d", i, d.Attachment, d.VNI)
		c.out.deliveries = append(c.out.deliveries, deliveryState{vpc: -1})
		return
	}
	a := c.in.VPCs[vpc].Attachments[d.Attachment]
	if a.Kind != Routed && !d.VTEP.IsValid() && !d.Learned {
		c.problem("delivery %d: a %v host needs a VTEP", i, a.Kind)
	}
	c.out.deliveries = append(c.out.deliveries, deliveryState{vpc: vpc, kind: a.Kind, ifindex: a.Ifindex,
		udp: a.port(), vtep: d.VTEP.Unmap().WithZone(""), via: d.Via.Unmap().WithZone(""), mac: d.MAC})
	if a.Mizar != nil {
		c.mizarDelivery(i, a, &c.out.deliveries[i])
	}
	if d.Learned {
		c.learned(i, a)
	}
}

// learned takes in delivery i, whose hosts are to be learned behind a.
func (c *compiler) learned(i int, a Attachment) {
	d := &c.out.deliveries[i]
	if a.Kind == Routed {
		c.problem("delivery %d: a routed attachment learns no hosts", i)
		return
	}
	d.learned, d.listen = true, c.in.Deliveries[i].Listen
	d.segment = hosts.Segment{VNI: c.in.Deliveries[i].VNI, Ifindex: a.Ifindex, UDP: d.udp}
	if first, twice := c.out.segments[d.segment]; twice {
		c.problem("delivery %d: delivery %d has the learned hosts of the attachment already", i, first)
	}
	if c.out.segments == nil {
		c.out.segments = make(map[hosts.Segment]uint32)
	}
	c.out.segments[d.segment] = uint32(i)
	port := &c.out.ports[c.portAt[a.Ifindex]]
	for o := range port.overlays {
		if port.overlays[o].udp == d.udp {
			port.overlays[o].learn = true
		}
	}
}

func (c *compiler) routes() {
	for i := range c.out.vpcs {
		c.groups(&c.out.vpcs[i], &c.in.VPCs[i], int32(i))
		for r := range c.out.vpcs[i].routes.All() {
			c.route(int32(i), r)
		}
	}
}

// route checks a route of a VPC.
func (c *compiler) route(vpc int32, r *fib.Route) {
	name := c.in.VPCs[vpc].Name
	c.out.counters = max(c.out.counters, r.Counter+1)
	if r.Counter >= MaxRouteCounters {
		c.problem("vpc %s route %v: counter %d is out of range", name, r.Prefix, r.Counter)
	}
	for _, hop := range r.NextHops {
		switch {
		case hop.Kind == fib.Local && int(hop.ID) >= len(c.out.deliveries):
			c.problem("vpc %s route %v: no delivery %d", name, r.Prefix, hop.ID)
		case hop.Kind == fib.Local && c.out.deliveries[hop.ID].vpc != vpc:
			c.problem("vpc %s route %v: delivery %d belongs to another vpc", name, r.Prefix, hop.ID)
		case hop.Kind == fib.Remote && int(hop.ID) >= len(c.out.peers):
			c.problem("vpc %s route %v: no peer %d", name, r.Prefix, hop.ID)
		}
	}
}
