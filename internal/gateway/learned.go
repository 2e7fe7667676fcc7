package gateway

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
)

// learn adds an overlay attachment whose hosts are found out; its delivery is the next one.
func (c *compiler) learn(vpc *config.VPC, a *config.Attachment, out *relay.VPC, link *neigh.Link) {
	l := hosts.Attachment{
		Segment: hosts.Segment{VNI: vpc.VNI, Ifindex: link.Ifindex, UDP: a.UDPPort},
		VPC:     vpc.Name, MAC: out.GatewayMAC, VTEPs: c.others(a.VTEPs), Listen: a.Learn == config.LearnTraffic,
		MaxHosts: vpc.MaxHosts, Timeout: vpc.HostTimeout,
	}
	for _, g := range vpc.GatewayAddresses {
		switch {
		case g.Is4() && !l.Gateway4.IsValid():
			l.Gateway4 = g
		case g.Is6() && (!l.Gateway6.IsValid() || l.Gateway6.IsLinkLocalUnicast() && !g.IsLinkLocalUnicast()):
			l.Gateway6 = g.WithZone("")
		}
	}
	for _, h := range a.Hosts {
		if !slices.Contains(l.Known, h.VTEP) {
			l.Known = append(l.Known, h.VTEP)
		}
	}
	c.fabricSegment(vpc, a, l.Segment)
	c.plan.learned = append(c.plan.learned, l)
	if l.Listen && !slices.Contains(c.plan.xdp.Learn, vpc.VNI) {
		c.plan.xdp.Learn = append(c.plan.xdp.Learn, vpc.VNI)
	}
}

// others leaves our own addresses out of a list of VTEPs, so that all nodes can have the same list: what is on this host
// is behind a routed attachment. A list that names nobody else stays, lest it mean everybody.
func (c *compiler) others(vteps []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range vteps {
		if !slices.Contains(c.plan.snapshot.Local, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return vteps
	}
	return out
}

// covers tells the learner which addresses of a VPC belong to which of its attachments: those whose longest prefix does.
func (c *compiler) covers(vpc *config.VPC, table *fib.Table) {
	for i := range c.plan.learned {
		l := &c.plan.learned[i]
		if l.VNI != vpc.VNI {
			continue
		}
		id := slices.IndexFunc(c.plan.deliveries, func(d deliveryInfo) bool {
			return d.learned && d.vni == l.VNI && d.ifindex == l.Ifindex && d.udp == l.UDP
		})
		l.Covers = func(a netip.Addr) bool {
			r := table.Lookup(a)
			return r != nil && r.NextHops[0] == (fib.NextHop{Kind: fib.Local, ID: uint32(id)}) && !slices.Contains(vpc.GatewayAddresses, a)
		}
	}
}

// newLearner makes what finds hosts; it asks by way of the relay, which is made after it.
func (g *Gateway) newLearner() {
	g.learner = hosts.New(hosts.Options{
		Clock:    g.device.Clock,
		Send:     func(q hosts.Question) bool { return g.relay.SendQuestion(q) },
		OnChange: func() { g.wakeRelay() },
		Logger:   g.log,
	})
}

func (g *Gateway) wakeRelay() {
	if g.relay != nil {
		g.relay.Wake()
	}
}

func (g *Gateway) runLearner(ctx context.Context) error { return named("hosts", g.learner.Run(ctx)) }
