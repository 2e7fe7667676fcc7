package gateway

import (
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/routing"
)

func vpcNamed(name string) func(config.VPC) bool {
	return func(v config.VPC) bool { return v.Name == name }
}

// notReady says why this gateway could not carry a VPC: the site's side, BGP, the WAN and the keys must all be there.
func (g *Gateway) notReady(v *view, vpc *config.VPC, bgp routing.Status) (reasons []string) {
	links := g.kernel.Links() // the view's may be older than a link that has just gone down
	because := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	for i := range vpc.Attachments {
		name := vpc.Attachments[i].Port
		at := slices.IndexFunc(v.ports, func(p portView) bool { return p.cfg.Name == name })
		switch link := links.LinkByName(name); {
		case at < 0 || v.ports[at].port == nil:
			because("port %s is not open", name)
		case link == nil || !link.Up:
			because("the link of port %s is down", name)
		}
		if i := slices.IndexFunc(v.cfg.BGP.Neighbours, func(n config.BGPNeighbour) bool { return n.Port == name }); i >= 0 &&
			!slices.ContainsFunc(bgp.Neighbours, func(n routing.NeighbourStatus) bool { return n.Port == name && n.State == routing.Established }) {
			because("no router on port %s has a BGP session with us", name)
		}
	}
	others, lives := 0, 0
	for i := range v.peers {
		p := &v.peers[i]
		if slices.Contains(v.cfg.Cluster.Members, p.cfg.Name) || !slices.ContainsFunc(p.cfg.VPCs, func(pv config.PeerVPC) bool { return pv.Name == vpc.Name }) {
			continue
		}
		others++
		if p.wireguard == nil || reached(g.alive.Status(p.id).State, p.wireguard) {
			lives++
		}
	}
	if others > 0 && lives == 0 {
		because("none of the %d peers of the VPC is reached over the WAN", others)
	}
	if !g.ready.Load() {
		because("it is still starting")
	}
	return reasons
}
