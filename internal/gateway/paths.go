package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// pathsOf are the ways to a peer that there are now, the preferred ones first. What has no address yet, or leaves
// through an interface that is not there, is left out: it joins when it has.
func (g *Gateway) pathsOf(p *peer, links *neigh.Links) []liveness.Path {
	var out []liveness.Path
	for i := range p.cfg.Paths {
		c := &p.cfg.Paths[i]
		way := liveness.Path{Name: c.Name, Priority: c.Priority}
		if c.Port != "" {
			link := links.LinkByName(c.Port)
			if link == nil || unfit(link) != nil {
				continue
			}
			way.Endpoint.Ifindex, way.Down = link.Ifindex, !link.Up
		}
		if c.Via != "" {
			if way.Endpoint = g.endpointVia(p, c.Via); way.Endpoint.Via != nil {
				out = append(out, way)
			}
			continue
		}
		addrs := p.names[c.Endpoint.Host]
		if literal, ok := c.Endpoint.AddrPort(); ok {
			addrs = []netip.Addr{literal.Addr()}
		}
		for n, a := range addrs {
			way.Name = c.Name
			if len(addrs) > 1 {
				way.Name = fmt.Sprintf("%s-%d", c.Name, n+1)
			}
			way.Endpoint.Remote = netip.AddrPortFrom(a, c.Endpoint.Port)
			out = append(out, way)
		}
	}
	slices.SortStableFunc(out, func(a, b liveness.Path) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// setPaths tells the data plane by which ways peers with paths can be reached.
func (g *Gateway) setPaths(links *neigh.Links) {
	for _, p := range g.peers {
		if p.wireguard == nil {
			continue
		}
		p.paths = g.pathsOf(p, links)
		ends := make([]wireguard.Endpoint, len(p.paths))
		for i := range p.paths {
			ends[i] = p.paths[i].Endpoint
		}
		p.wireguard.SetPaths(ends)
	}
}

// addresses are those that a peer's handshakes may come from.
func (p *peer) addresses() []netip.Addr {
	var out []netip.Addr
	if a := p.address(); a.IsValid() {
		out = append(out, a)
	}
	for i := range p.paths {
		if a := p.paths[i].Endpoint.Remote.Addr(); p.paths[i].Endpoint.Via == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// hostNames are the names that have to be looked up to reach a peer.
func hostNames(c *config.Peer) (names []string) {
	add := func(e config.Endpoint) {
		if _, literal := e.AddrPort(); !literal && !e.IsZero() && !slices.Contains(names, e.Host) {
			names = append(names, e.Host)
		}
	}
	add(c.Endpoint)
	for i := range c.Paths {
		add(c.Paths[i].Endpoint)
	}
	return names
}

// switched is called when a peer is sent to by another path.
func (g *Gateway) switched(peer uint32) { g.prober.LookAgain(peer) }

// pathsStatus adds what is known of a peer's paths.
func (g *Gateway) pathsStatus(out *sluicev1.Peer, p *peerView) {
	for _, s := range g.alive.Paths(p.id) {
		way := &sluicev1.Path{Name: s.Name, Endpoint: s.Endpoint.Remote.String(), Priority: uint32(s.Priority),
			Used: s.Used, Lossy: s.Lossy, PortDown: s.Down, Liveness: livenessMessage(s.Status)}
		way.Via = g.view.Load().nameOf(s.Endpoint.Via)
		if s.Endpoint.Ifindex != 0 {
			if link := g.kernel.Links().LinkByIndex(s.Endpoint.Ifindex); link != nil {
				way.Port = link.Name
			}
		}
		out.Paths = append(out.Paths, way)
	}
}

func livenessMessage(s liveness.Status) *sluicev1.Liveness {
	l := &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_OFF, Rtt: durationpb.New(s.RTT), MinRtt: durationpb.New(s.Least),
		Jitter: durationpb.New(s.Jitter), Lost: uint32(s.Lost), Probes: uint32(s.Probes)}
	switch s.State {
	case liveness.Unknown:
		l.State = sluicev1.LiveState_LIVE_STATE_UNKNOWN
	case liveness.Up:
		l.State = sluicev1.LiveState_LIVE_STATE_UP
	case liveness.Down:
		l.State = sluicev1.LiveState_LIVE_STATE_DOWN
	}
	return l
}

// allUp says whether each of the peer's names leads somewhere that answers.
func (p *peer) allUp(paths []liveness.PathStatus) bool {
	for _, s := range paths {
		if s.State != liveness.Up {
			return false
		}
	}
	return len(paths) > 0 || len(p.cfg.Paths) == 0
}

// applyNames takes in what the names of a peer's paths lead to. A name that does not resolve keeps what it had.
func (g *Gateway) applyNames(p *peer, found map[string][]netip.Addr) {
	changed := false
	names := make(map[string][]netip.Addr, len(found))
	for name, before := range p.names {
		names[name] = before
	}
	for name, addrs := range found {
		slices.SortFunc(addrs, netip.Addr.Compare) // servers answer in any order
		addrs = slices.Compact(addrs)
		if len(addrs) > 0 && !slices.Equal(addrs, names[name]) {
			names[name], changed = addrs, true
			g.log.Info("peer resolved", "peer", p.cfg.Name, "name", name, "addresses", addrs)
		}
	}
	if p.names = names; !changed {
		return
	}
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
	}
}
