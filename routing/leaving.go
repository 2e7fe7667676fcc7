package routing

import "slices"

// Leaving says how much of what we announce is to be believed.
type Leaving uint8

// The ways to leave, one after the other.
const (
	Staying   Leaving = iota
	Lowered           // announced as about to go: GRACEFUL_SHUTDOWN (RFC 8326) for everybody, and local preference 0 inside our AS
	Withdrawn         // nothing is announced; what routers announce to us goes on counting
)

// leaving returns the configuration with what is announced changed, and nothing else: sessions stay.
func (c Config) leaving() Config {
	switch c.Leaving {
	case Withdrawn:
		c.VPCs = slices.Clone(c.VPCs)
		for i := range c.VPCs {
			c.VPCs[i].Silent = true
		}
	case Lowered:
		c.Ports = slices.Clone(c.Ports)
		for i := range c.Ports {
			p := &c.Ports[i]
			if p.EVPN { // gateways hear of it by their probes, and go on taking what we send them
				continue
			}
			p.Neighbours = slices.Clone(p.Neighbours)
			for j := range p.Neighbours {
				n := &p.Neighbours[j]
				n.Export = n.Export.lowered(n.ASN == c.ASN)
			}
		}
	}
	return c
}

// lowered returns the policy with every route that it accepts marked, after whatever else the rule does to it.
func (p *Policy) lowered(internal bool) *Policy {
	if p == nil {
		return nil
	}
	out := &Policy{Name: p.Name, Rules: slices.Clone(p.Rules)}
	for i := range out.Rules {
		r := &out.Rules[i]
		if r.Refuse {
			continue
		}
		if !slices.Contains(r.AddCommunities, GracefulShutdown) {
			r.AddCommunities = append(slices.Clip(r.AddCommunities), GracefulShutdown)
		}
		if internal {
			r.LocalPref = new(uint32)
		}
	}
	return out
}
