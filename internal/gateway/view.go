package gateway

import (
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// view is what the API reads: immutable, replaced as a whole by the assembly.
type view struct {
	cfg      *config.Config
	revision *sluicev1.ConfigRevision
	plan     *plan
	links    *neigh.Links
	peers    []peerView // in the order of the configuration
	ports    []portView
	tun      *tunPort                       // nil: none is wanted
	bases    map[uint32]relay.RouteCounters // of route counters that were another route's before
}

type peerView struct {
	cfg       config.Peer
	id        uint32
	wireguard *wireguard.Peer // nil: encryption none
	problem   string
}

type portView struct {
	cfg     config.Port
	port    *port // nil: not open
	problem string
}

// publish shows the API what is in force now.
func (g *Gateway) publish() {
	v := view{cfg: g.cfg, revision: g.revision, plan: g.plan, links: g.links, bases: g.numbers.bases()}
	v.peers = make([]peerView, 0, len(g.cfg.Peers))
	for _, c := range g.cfg.Peers {
		if p := g.peers[c.Name]; p != nil {
			v.peers = append(v.peers, peerView{cfg: c, id: p.id, wireguard: p.wireguard, problem: p.problem})
		}
	}
	v.ports = make([]portView, 0, len(g.cfg.Ports))
	for _, c := range g.cfg.Ports {
		v.ports = append(v.ports, portView{cfg: c, port: g.ports[c.Name], problem: g.portProblems[c.Name]})
	}
	if g.tun != nil {
		shown := *g.tun
		v.tun = &shown
	}
	g.view.Store(&v)
}

// peerByID returns nil for a peer that is not in this view.
func (v *view) peerByID(id uint32) *peerView {
	for i := range v.peers {
		if v.peers[i].id == id {
			return &v.peers[i]
		}
	}
	return nil
}
