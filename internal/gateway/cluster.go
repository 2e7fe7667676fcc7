package gateway

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/controlplane/cluster"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

const (
	// clusterPort is the UDP port, at both ends and inside the tunnels, of what gateways
	// tell each other about who is active.
	clusterPort = 51822
	// clusterTOS is that of network control (CS6), as of probes.
	clusterTOS = 0xc0
	// clusterMessages wait for the goroutine at most.
	clusterMessages = 64
	// helloInterval is how often we ask the gateways of a cluster at another site to tell
	// us who is active, and helloAge how long they go on after the last time.
	helloInterval, helloAge = time.Second, 5 * time.Second
	// lookInterval is how often it is looked at whether this gateway is ready.
	lookInterval = 100 * time.Millisecond
)

// ha is the gateway's half of package cluster. A goroutine of its own (run) owns the time; everything else is under mu. The
// assembly says what is configured (set) and puts into force what follows (roles).
type ha struct {
	messages chan relay.PeerMessage
	poke     chan struct{} // something is due at once
	changed  chan struct{} // roles are others now
	roles    atomic.Pointer[roles]
	applied  *roles // that are in force; owned by the assembly

	mu        sync.Mutex
	machine   *cluster.Machine // nil: this gateway is in no cluster
	config    cluster.Config
	vpcs      []string // of config.VPCs, by index
	peers     map[uint32]*clusterPeer
	fences    map[string]*cluster.Fence
	voters    map[string]*cluster.Voter
	listeners map[uint32]int64 // peers that want our reports, until when
	reasons   map[string][]string
	hello     int64
	look      int64
	losses    uint64 // leases that were lost
	refused   uint64 // messages that nobody of us has to do with, or that are none
}

// clusterPeer is what a peer has to do with clusters. Immutable.
type clusterPeer struct {
	id            uint32
	name          string
	key           cluster.ID
	member        bool   // of our cluster
	witness       bool   // of our cluster
	cluster       string // that it is a member of; empty: of none, or ours
	local, remote netip.Addr
	vnis          map[string]uint32 // of our VPCs at its site, by name
}

// roles is what follows for this gateway. Immutable.
type roles struct {
	carried map[string]bool           // VPCs that one gateway at a time is active for: is it us?
	spare   map[string]bool           // of those, which routers are told of us as the last resort: we may take over in a moment
	claims  map[string]map[string]use // of peers, by name, in VPCs: what other gateways of their site leave to them
}

func (r *roles) equal(o *roles) bool { return r.forwardsAs(o) && maps.Equal(r.spare, o.spare) }

// forwardsAs says whether both differ in nothing but what routers are told.
func (r *roles) forwardsAs(o *roles) bool {
	return maps.Equal(r.carried, o.carried) && maps.EqualFunc(r.claims, o.claims, func(a, b map[string]use) bool { return maps.Equal(a, b) })
}

// bootTime goes on while the machine sleeps, unlike the workers' clock: a lease that has ended meanwhile is over.
func bootTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error()) // every kernel since 2.6.39 has it
	}
	return t.Nano()
}

func (g *Gateway) newHA() error {
	g.ha = ha{
		messages: make(chan relay.PeerMessage, clusterMessages), poke: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		fences: make(map[string]*cluster.Fence), voters: make(map[string]*cluster.Voter), listeners: make(map[uint32]int64),
		reasons: make(map[string][]string), peers: make(map[uint32]*clusterPeer),
	}
	g.ha.roles.Store(&roles{})
	_, err := g.relay.ListenMessages(clusterPort, g.ha.messages)
	return err
}

// setCluster takes in what is configured.
func (g *Gateway) setCluster() {
	h, c := &g.ha, &g.cfg.Cluster
	now := bootTime()
	h.mu.Lock()
	defer h.mu.Unlock()
	peers := make(map[uint32]*clusterPeer)
	config := cluster.Config{Self: cluster.ID(g.device.PublicKey()), Interval: c.Interval, Lease: c.Lease(), HoldDown: c.HoldDown, Failback: c.Failback == "automatic"}
	clusters := make(map[string]bool)
	for t := range g.tunnels() {
		if !t.local.IsValid() {
			continue
		}
		p := &clusterPeer{id: t.id, name: t.peer.Name, key: cluster.ID(t.peer.PublicKey), local: t.local, remote: t.remote, cluster: t.peer.Cluster,
			member: slices.Contains(c.Members, t.peer.Name), witness: slices.Contains(c.Witnesses, t.peer.Name), vnis: make(map[string]uint32)}
		for _, v := range t.peer.VPCs {
			p.vnis[v.Name] = v.VNI
		}
		peers[t.id] = p
		switch {
		case p.member:
			config.Members = append(config.Members, p.key)
		case p.witness:
			config.Witnesses = append(config.Witnesses, p.key)
		}
		if p.cluster != "" {
			clusters[p.cluster] = true
			if h.fences[p.cluster] == nil {
				h.fences[p.cluster], h.voters[p.cluster] = cluster.NewFence(), cluster.NewVoter(now)
			}
		}
	}
	for name := range h.fences {
		if !clusters[name] {
			delete(h.fences, name)
			delete(h.voters, name)
		}
	}
	maps.DeleteFunc(h.listeners, func(id uint32, until int64) bool { return peers[id] == nil || until < now })
	h.peers = peers
	h.vpcs = nil
	for i := range g.cfg.VPCs {
		v := cluster.VPC{VNI: g.cfg.VPCs[i].VNI, Shared: true}
		if single := c.VPC(g.cfg.VPCs[i].Name); single != nil {
			v.Priority, v.Shared = single.Priority, false
		}
		config.VPCs = append(config.VPCs, v)
		h.vpcs = append(h.vpcs, g.cfg.VPCs[i].Name)
	}
	switch {
	case !c.Enabled() && len(h.listeners) == 0: // nobody wants to know
		h.machine = nil
	case h.machine == nil || !h.machine.SameVoters(&config):
		if h.machine != nil {
			g.log.Warn("the cluster's members, witnesses or times have changed: this gateway begins anew as a standby")
		}
		h.machine = cluster.New(config, uint64(time.Now().UnixNano()), func() uint64 { return uint64(time.Now().UnixMilli()) }, now)
	default:
		h.machine.SetPolicy(config.HoldDown, config.Failback)
		if !slices.Equal(config.VPCs, h.config.VPCs) {
			h.machine.SetVPCs(config.VPCs, now)
		}
	}
	if h.machine != nil {
		h.machine.Drain(g.drain.on())
	}
	h.config = config
	h.look, h.hello = 0, 0
	g.publishRoles(now)
	h.wake()
}

func (h *ha) wake() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// runCluster works until ctx ends, and returns nil.
func (g *Gateway) runCluster(ctx context.Context) error {
	h := &g.ha
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var first *relay.PeerMessage
		select {
		case <-ctx.Done():
			return nil
		case m := <-h.messages:
			first = &m
		case <-h.poke:
		case <-timer.C:
		}
		h.mu.Lock()
		wait := g.workCluster(first)
		h.mu.Unlock()
		timer.Reset(wait)
	}
}

// workCluster does what is due and says how long it may wait for the next time.
func (g *Gateway) workCluster(first *relay.PeerMessage) time.Duration {
	h := &g.ha
	now := bootTime()
	if h.machine != nil && now >= h.look {
		h.look = now + int64(lookInterval)
		g.lookReady(now)
	}
	// A lease that has ended while we were held up is over before anything else is heard.
	g.tickCluster(now)
	for m := first; m != nil; {
		g.takeMessage(m, now)
		m = nil
		select {
		case next := <-h.messages:
			m = &next
		default:
		}
	}
	g.tickCluster(now)
	if len(h.fences) > 0 && now >= h.hello {
		h.hello = now + int64(helloInterval)
		hello := cluster.Message{Kind: cluster.Hello, Lease: time.Second, Start: 1, Seq: 1}
		for _, p := range h.peers {
			if p.cluster != "" {
				g.tell(p, &hello)
			}
		}
	}
	wake := now + int64(time.Hour)
	for _, f := range h.fences {
		f.Expire(now)
		wake = min(wake, f.Wake(now))
	}
	g.publishRoles(now)
	if h.machine != nil {
		wake = min(wake, h.machine.Wake(now), h.look)
	}
	if len(h.fences) > 0 {
		wake = min(wake, h.hello)
	}
	return max(time.Duration(wake-now), time.Millisecond)
}

// tickCluster lets the machine decide, and tells the others.
func (g *Gateway) tickCluster(now int64) {
	h := &g.ha
	if h.machine == nil {
		return
	}
	g.tellAll(h.machine.Tick(now), now)
}

func (g *Gateway) tellAll(reports []*cluster.Message, now int64) {
	for _, r := range reports {
		for id, p := range g.ha.peers {
			if p.member || p.witness || g.ha.listeners[id] > now {
				g.tell(p, r)
			}
		}
	}
}

// tell sends a message into a peer's tunnel. What is lost is said again.
func (g *Gateway) tell(p *clusterPeer, m *cluster.Message) {
	g.sendProbe(p.id, packet.Datagram(p.local, p.remote, clusterTOS, clusterPort, clusterPort, m.Append(nil)), wireguard.Endpoint{})
}

// takeMessage takes what a peer has sent.
func (g *Gateway) takeMessage(in *relay.PeerMessage, now int64) {
	h := &g.ha
	p := h.peers[in.Peer]
	m, err := cluster.Parse(in.Data[:in.Len])
	if p == nil || err != nil {
		h.refused++
		return
	}
	switch {
	case m.Kind == cluster.Hello:
		if h.listeners[in.Peer] = now + int64(helloAge); h.machine == nil {
			select {
			case g.lives <- struct{}{}: // the next update makes one
			default:
			}
		}
	case h.machine != nil && (p.member || m.Kind == cluster.Vote && p.witness):
		if answer := h.machine.Receive(p.key, m, now); answer != nil {
			g.tell(p, answer)
		}
	case m.Kind == cluster.Report && p.cluster != "":
		h.fences[p.cluster].Report(p.key, m, now)
		if vote := h.voters[p.cluster].Report(p.key, m, now); vote != nil {
			g.tell(p, vote)
		}
	default:
		h.refused++
	}
}

// publishRoles tells the assembly when something follows that did not before.
func (g *Gateway) publishRoles(now int64) {
	h := &g.ha
	next := &roles{carried: make(map[string]bool), spare: make(map[string]bool), claims: make(map[string]map[string]use)}
	if h.machine != nil {
		losses := uint64(0)
		for i, s := range h.machine.Status(now) {
			losses += s.Losses
			if !s.Shared {
				next.carried[h.vpcs[i]] = s.Active || s.Role == cluster.Left
				if s.Prepares {
					next.spare[h.vpcs[i]] = true
				}
			}
		}
		if losses > h.losses {
			g.log.Warn("cluster: a majority of members and witnesses was not reached in time: this gateway is not active any more")
		}
		h.losses = losses
	}
	for _, p := range h.peers {
		if p.cluster == "" {
			continue
		}
		for vpc, vni := range p.vnis {
			view, told := h.fences[p.cluster].View(vni)
			u := claimed(view, p.key)
			if !told || u == useful {
				continue
			}
			if next.claims[p.name] == nil {
				next.claims[p.name] = make(map[string]use)
			}
			next.claims[p.name][vpc] = u
		}
	}
	old := h.roles.Load()
	if next.equal(old) {
		return
	}
	g.logRoles(old, next)
	h.roles.Store(next)
	select {
	case h.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// claimed says what is left to a gateway of another site.
func claimed(view cluster.View, id cluster.ID) use {
	switch {
	case view.Shared != nil:
		if ready, told := view.Shared[id]; told && !ready {
			return elsewhere
		}
		return useful
	case view.Held && view.Holder == id:
		return useful
	case view.Held && view.Before == id:
		return dead
	}
	return fenced
}

func (g *Gateway) logRoles(old, next *roles) {
	if !maps.Equal(old.spare, next.spare) {
		g.log.Debug("cluster: we are the last resort of routers, as the active gateway is late", "vpcs", slices.Sorted(maps.Keys(next.spare)))
	}
	for vpc, carried := range next.carried {
		if was, known := old.carried[vpc]; known && was != carried {
			g.log.Info("cluster: this gateway's role has changed", "vpc", vpc, "active", carried)
		}
	}
	for peer, vpcs := range next.claims {
		for vpc, u := range vpcs {
			if was := old.claims[peer][vpc]; was != u {
				g.log.Info("cluster: what a gateway of another site is used for has changed", "peer", peer, "vpc", vpc, "use", u.String())
			}
		}
	}
}

// lookReady finds out for which VPCs this gateway could take over.
func (g *Gateway) lookReady(now int64) {
	h, v := &g.ha, g.view.Load()
	if v == nil {
		return
	}
	bgp := g.bgp.router.Status(context.Background(), false)
	for i, name := range h.vpcs {
		h.reasons[name] = nil
		vpc := slices.IndexFunc(v.cfg.VPCs, vpcNamed(name))
		if vpc < 0 {
			continue // a change is under way
		}
		h.reasons[name] = g.notReady(v, &v.cfg.VPCs[vpc], bgp)
		h.machine.SetReady(h.config.VPCs[i].VNI, len(h.reasons[name]) == 0, now)
	}
}

// reached says whether a peer seems to be there, and have our keys: it answers probes, or, where it never has, there is
// a session.
func reached(s liveness.State, p *wireguard.Peer) bool {
	return s == liveness.Up || s != liveness.Down && p.Status().Session
}
