package routing

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// Status is what there is to know of the sessions.
type Status struct {
	Problems   []Problem
	Neighbours []NeighbourStatus
}

// Problem is a port on which no session is possible.
type Problem struct{ Port, Text string }

// NeighbourStatus is one router; or a neighbour that no router has called for, with an invalid Address.
type NeighbourStatus struct {
	Name      string
	VPC, Port string
	Address   netip.Addr
	Range     netip.Prefix
	ASN       uint32
	RouterID  netip.Addr
	Internal  bool
	Fabric    bool // it tells of overlays (Port.Fabric)
	State     State
	Since     time.Time
	LastError string
	Ended     uint64 // established sessions that have ended
	Problem   string // why there is no session
	// Received counts the routes that it has told us, Accepted those that import let in, Best those in use, Stale those
	// that it told before it restarted; Refused counts the others, by reason.
	Received, Accepted, Best, Stale int
	Refused                         map[string]int
	Advertised                      uint64
	UpdatesIn, UpdatesOut           uint64
	Hold                            time.Duration // as agreed
	BFD                             string        // its session's state; empty: none
}

// Status reads the state of everything, in the order of VPC, port, name and address. Only with counters is GoBGP asked
// (Advertised, UpdatesIn and UpdatesOut, Hold), which takes longer the more routes there are.
func (r *Router) Status(ctx context.Context, counters bool) Status {
	var out Status
	index := make(map[*speaker]map[netip.Addr]int)
	r.mu.Lock()
	for port, text := range r.problems {
		out.Problems = append(out.Problems, Problem{port, text})
	}
	for _, s := range r.speakers {
		index[s] = make(map[netip.Addr]int)
		heard := make(map[*Neighbour]bool)
		for address, peer := range s.sessions {
			heard[peer.neighbour] = true
			index[s][address] = len(out.Neighbours)
			out.Neighbours = append(out.Neighbours, peer.status())
		}
		for name, n := range s.neighbours {
			if heard[n] && s.problems[name] == "" {
				continue
			}
			if n.Address.IsValid() {
				index[s][n.Address] = len(out.Neighbours)
			}
			out.Neighbours = append(out.Neighbours, NeighbourStatus{Name: name, VPC: s.port.VPC, Port: s.port.Name,
				Address: n.Address, Range: n.Range, ASN: n.ASN, Internal: n.ASN == s.asn, Fabric: len(s.fabric) > 0, BFD: s.bfdState(n, n.Address), Problem: s.problems[name]})
		}
	}
	r.mu.Unlock()
	if counters {
		for s, at := range index {
			s.readCounters(ctx, out.Neighbours, at)
		}
	}
	slices.SortFunc(out.Neighbours, func(a, b NeighbourStatus) int {
		return cmp.Or(cmp.Compare(a.VPC, b.VPC), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	slices.SortFunc(out.Problems, func(a, b Problem) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

func (peer *session) status() NeighbourStatus {
	s := peer.speaker
	out := NeighbourStatus{
		Name: peer.neighbour.Name, VPC: s.port.VPC, Port: s.port.Name, Address: peer.address, Range: peer.neighbour.Range,
		ASN: peer.asn, RouterID: peer.id, Internal: peer.internal, Fabric: len(s.fabric) > 0, State: peer.state, Since: peer.since,
		LastError: peer.lastError, Ended: peer.ended, Problem: s.problems[peer.neighbour.Name],
		Received: peer.counts[0] + peer.counts[1], Accepted: peer.verdicts[RuleAccepts] + peer.verdicts[Allowed], Best: peer.best, Stale: peer.stale,
		Refused: make(map[string]int),
	}
	if peer.overLimit && out.Problem == "" {
		out.Problem = "it announced more prefixes than maxPrefixes allows; the session stays down until its maxPrefixes or anything else of it is changed"
	}
	out.BFD = s.bfdState(peer.neighbour, peer.address)
	for reason, n := range peer.verdicts {
		if n > 0 && !Reason(reason).accepts() {
			out.Refused[Reason(reason).String()] = n
		}
	}
	return out
}

// readCounters adds what GoBGP counts.
func (s *speaker) readCounters(ctx context.Context, all []NeighbourStatus, at map[netip.Addr]int) {
	err := s.server.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		address, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		i, ok := at[address]
		if !ok {
			return
		}
		n := &all[i]
		n.UpdatesIn, n.UpdatesOut = p.GetState().GetMessages().GetReceived().GetUpdate(), p.GetState().GetMessages().GetSent().GetUpdate()
		n.Hold = time.Duration(p.GetTimers().GetState().GetNegotiatedHoldTime()) * time.Second
		for _, a := range p.GetAfiSafis() {
			n.Advertised += a.GetState().GetAdvertised()
		}
	})
	if err != nil {
		s.router.log.Debug("read bgp counters", "port", s.port.Name, "error", err)
	}
}

// Route is a route that a neighbour told us, or that we tell it.
type Route struct {
	VPC, Port, Neighbour string
	Address              netip.Addr // the neighbour's
	Prefix               netip.Prefix
	PathID               uint32
	Attributes           Attributes // as they are after policy; as they came, if it was refused
	Verdict              Verdict
	Best, Stale          bool
}

// Routes returns what the neighbours have told us, in the order of VPC, prefix and neighbour.
func (r *Router) Routes() []Route {
	r.mu.Lock()
	var out []Route
	for table := range r.tables() {
		for prefix, d := range table.destinations {
			for _, p := range d.paths {
				route := Route{VPC: table.vpc, Port: p.session.speaker.port.Name, Neighbour: p.session.neighbour.Name,
					Address: p.session.address, Prefix: prefix, PathID: p.id.add, Verdict: p.verdict, Best: p.best, Stale: p.stale}
				if p.attrs != nil {
					route.Attributes = *p.attrs
				} else if p.received != nil {
					route.Attributes = *p.received
				}
				out = append(out, route)
			}
		}
	}
	r.mu.Unlock()
	sortRoutes(out)
	return out
}

// Announced returns what we tell the neighbours that have a session, and what policy keeps from them.
func (r *Router) Announced() []Route {
	r.mu.Lock()
	var out []Route
	for _, s := range r.speakers {
		exports := s.exports()
		for _, peer := range s.sessions {
			if peer.state == Established {
				out = append(out, peer.announced(exports)...)
			}
		}
	}
	r.mu.Unlock()
	sortRoutes(out)
	return out
}

func (peer *session) announced(exports map[exportKey]exportAs) (out []Route) {
	for key, as := range exports {
		prefix := key.prefix
		a := Attributes{NextHop: as.hop, LocalPref: defaultLocalPref}
		if as.evpn != nil {
			a.NextHop = peer.speaker.port.address(peer.address)
			a.EVPN = &EVPNAttributes{VNI: as.evpn.VNI, Targets: as.evpn.Targets, FabricAttributes: FabricAttributes{Kind: as.kind, MAC: as.mac}}
			if as.vtep.IsValid() {
				a.NextHop = as.vtep
			}
		}
		if !peer.internal {
			a.Path, a.PathLen = []uint32{peer.speaker.asn}, 1
		}
		route := Route{VPC: key.vpc, Port: peer.speaker.port.Name, Neighbour: peer.neighbour.Name, Address: peer.address, Prefix: prefix}
		after, verdict := peer.neighbour.Export.apply(prefix, &a, peer.speaker.asn)
		if !a.NextHop.IsValid() {
			after, verdict = nil, Verdict{Reason: BadNextHop}
		}
		route.Attributes, route.Verdict = a, verdict
		if after != nil {
			route.Attributes, route.Best = *after, true
		}
		out = append(out, route)
	}
	return out
}

func sortRoutes(routes []Route) {
	slices.SortFunc(routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.VPC, b.VPC), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
			cmp.Compare(a.Neighbour, b.Neighbour), a.Address.Compare(b.Address), cmp.Compare(a.PathID, b.PathID))
	})
}
