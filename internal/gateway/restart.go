package gateway

import (
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// Where the program forwards without us whatever a site's routers send for peers, those are asked to go on sending it while this
// process restarts (RFC 4724). The next process says that it has restarted and that forwarding was preserved,
// announces at once what it announced before, and then that this was all; so no route is ever withdrawn.

// findRestart finds out whether a process before us has left the program attached; before it is loaded.
func (g *Gateway) findRestart() error {
	if !g.pinned {
		return nil
	}
	left, err := xdp.Pinned(g.cfg.Direct.PinDir)
	g.restarted = left
	return err
}

// keepForwarding says which ports' routers may go on without us, and has them told everything at once after a restart.
func (g *Gateway) keepForwarding(out *routing.Config) {
	if !g.pinned {
		return
	}
	keeps := make(map[string]bool) // by VPC
	for i := range g.cfg.VPCs {
		keeps[g.cfg.VPCs[i].Name] = forwardsAlone(g.cfg, &g.cfg.VPCs[i])
	}
	for i := range out.Ports {
		p := &out.Ports[i]
		p.KeepsForwarding = !p.EVPN && keeps[p.VPC]
		p.Restarted = p.KeepsForwarding && g.restarted && g.joining.on
	}
	if g.restarted && g.joining.on && !g.drain.on() {
		out.Leaving = routing.Staying
		for i := range out.VPCs {
			out.VPCs[i].Silent = !keeps[out.VPCs[i].Name]
		}
	}
}

// forwardsAlone says whether the program forwards to peers whatever the site sends them in a VPC: see hops.go.
func forwardsAlone(cfg *config.Config, vpc *config.VPC) bool {
	if !hoppable(vpc) || slices.ContainsFunc(cfg.Ports, func(p config.Port) bool { return relayLimit(&p.ToPeers) != relay.Limit{} }) {
		return false
	}
	seen := make(map[netip.Prefix]bool)
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		for _, v := range p.VPCs {
			if v.Name != vpc.Name {
				continue
			}
			if p.Encryption != config.EncryptionNone || relayLimits(&p.Limits) != (relay.Limits{}) {
				return false
			}
			for _, prefix := range v.Prefixes {
				if seen[prefix] { // several next hops: the relay chooses
					return false
				}
				seen[prefix] = true
			}
		}
	}
	return len(seen) > 0
}
