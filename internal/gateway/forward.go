package gateway

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// hopInterval is how often neighbours of hops that are in use are kept fresh (the kernel's neighbour table looks every five
// seconds), and hopPause how soon after one change of neighbours the next is looked at: a whole rack may come up at once.
const (
	hopInterval = 2 * time.Second
	hopPause    = 100 * time.Millisecond
)

// forwarding is what the program forwards by itself and has counted. The assembly writes it; anybody may read counters.
type forwarding struct {
	mu      sync.Mutex
	plan    *hopPlan
	numbers map[hopKey]uint32 // of the hops in force
	last    uint32            // given out; a number is not used again within 2^32 hops
	past    map[hopClass]xdp.HopCount
	seen    map[uint32]uint64 // packets to each hop, when neighbours were kept fresh
}

func newForwarding() *forwarding {
	return &forwarding{plan: &hopPlan{}, numbers: make(map[hopKey]uint32), past: make(map[hopClass]xdp.HopCount), seen: make(map[uint32]uint64)}
}

// setState tells the program what to look for and, as neighbours are now, what to forward by itself.
func (g *Gateway) setState(p *plan) (err error) {
	defer func() { g.programBehind = err != nil }()
	f := g.forwarding
	f.mu.Lock()
	defer f.mu.Unlock()
	next := planHops(p, g.cfg, g.kernel.Table(), f.number)
	if err := f.retire(g.program, next); err != nil {
		return err
	}
	f.plan = next
	return g.program.SetState(next.state)
}

// number gives hops their numbers.
func (f *forwarding) number(k hopKey) uint32 {
	id := f.numbers[k]
	if id == 0 {
		f.last++
		id = f.last
		f.numbers[k] = id
	}
	return id
}

// retire keeps what hops have counted that are about to go.
func (f *forwarding) retire(program *xdp.Program, next *hopPlan) error {
	gone := make(map[uint32]hopKey)
	for id, key := range f.plan.keys {
		if _, stays := next.keys[id]; !stays {
			gone[id] = key
		}
	}
	if len(gone) == 0 {
		return nil
	}
	counted, err := program.HopCounters()
	if err != nil {
		return err
	}
	for id, key := range gone {
		f.past[key.hopClass] = sumOf(f.past[key.hopClass], counted[id])
		delete(f.numbers, key)
		delete(f.seen, id)
	}
	return nil
}

func sumOf(a, b xdp.HopCount) xdp.HopCount {
	return xdp.HopCount{ToPackets: a.ToPackets + b.ToPackets, ToBytes: a.ToBytes + b.ToBytes, FromPackets: a.FromPackets + b.FromPackets, FromBytes: a.FromBytes + b.FromBytes}
}

// keepHops keeps the neighbours of hops fresh that the program sends to, as workers do for theirs, and those of peers
// always, so that the first packet finds the way.
func (g *Gateway) keepHops() {
	f := g.forwarding
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.plan.keys) == 0 {
		return
	}
	counted, err := g.program.HopCounters()
	if err != nil {
		g.log.Error("read what the XDP program has forwarded", "error", err)
		return
	}
	for id, key := range f.plan.keys {
		n := counted[id].ToPackets
		if key.kind == xdp.ToPeer || n != f.seen[id] {
			g.kernel.Resolve(f.plan.neighbours[id])
		}
		f.seen[id] = n
	}
}

// hasHops says whether neighbours matter to the program.
func (g *Gateway) hasHops() bool { return g.plan != nil && len(g.plan.xdp.DirectPeers) > 0 }

// refreshHops tells the program of changed neighbours.
func (g *Gateway) refreshHops() {
	if err := g.setState(g.plan); err != nil {
		g.log.Error("update what the XDP program forwards", "error", err)
	}
}

// forwardedCounts is what the program has forwarded by itself, as of one moment.
type forwardedCounts map[hopClass]xdp.HopCount

// forwarded reads it; any goroutine may call it.
func (g *Gateway) forwarded() forwardedCounts {
	f := g.forwarding
	f.mu.Lock()
	defer f.mu.Unlock()
	all := forwardedCounts(maps.Clone(f.past))
	if len(f.plan.keys) == 0 {
		return all
	}
	counted, err := g.program.HopCounters()
	if err != nil {
		g.log.Error("read what the XDP program has forwarded", "error", err)
		return all
	}
	for id, key := range f.plan.keys {
		all[key.hopClass] = sumOf(all[key.hopClass], counted[id])
	}
	return all
}

// addTo adds what was forwarded for a VPC.
func (c forwardedCounts) addTo(v *relay.VPCCounters) {
	for class, n := range c {
		switch {
		case class.vni != v.VNI:
		case class.peer != 0:
			v.ToPeers += n.ToPackets
			v.ToPeersBytes += n.ToBytes
		default:
			v.ToSite += n.ToPackets
			v.ToSiteBytes += n.ToBytes
		}
	}
}

// route is what was forwarded on a route; From is counted for remote ones, as in the relay.
func (c forwardedCounts) route(vni uint32, prefix netip.Prefix) (out relay.RouteCounters) {
	for class, n := range c {
		if class.routeKey != (routeKey{vni, prefix}) {
			continue
		}
		out.ToPackets += n.ToPackets
		out.ToBytes += n.ToBytes
		if class.peer != 0 {
			out.FromPackets += n.FromPackets
			out.FromBytes += n.FromBytes
		}
	}
	return out
}

// peer is what was forwarded to and from the peer with this id in snapshots.
func (c forwardedCounts) peer(id uint32) (out xdp.HopCount) {
	for class, n := range c {
		if class.peer == directID(id) {
			out = sumOf(out, n)
		}
	}
	return out
}
