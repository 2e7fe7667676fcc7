package gateway

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// The XDP program diverts what is for the peers' prefixes and passes all else. Of a prefix that a site's router has told of it
// must know only where that lies inside a peer's, and is carved out of it. With a default route at a peer that is so for
// everything that the site has: then each flap is written to the program as the one entry that it is.

// carves says whether the program must know a prefix of the site: it lies inside a remote prefix, of which it is the
// exception, and no shorter prefix of the site in there has made the exception already. So a site with 100,000 prefixes
// costs the program nothing but where peers have a default route, and then what is not inside one another.
func (t *siteTable) carves(p netip.Prefix) bool {
	around, ok := t.authorised.LookupPrefixLPM(p)
	if nearer, told := t.diverted.LookupPrefixLPM(p); told && (!ok || nearer.Bits() > around.Bits()) {
		around, ok = nearer, true
	}
	if !ok {
		return false
	}
	if p.Bits() == 0 {
		return true
	}
	parent := netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
	shorter, ok := t.site.LookupPrefixLPM(parent)
	return !ok || shorter.Bits() < around.Bits()
}

// program is all that the XDP program is to know.
func (p *plan) program() xdp.State {
	s := p.xdp
	for _, table := range p.site {
		if table.carved.Size() > 0 {
			s.Site = slices.Grow(slices.Clip(s.Site), table.carved.Size())
		}
		for prefix := range table.carved.All() {
			s.Site = append(s.Site, xdp.Prefix{VNI: table.vni, Prefix: prefix})
		}
	}
	return s
}

// room is how many more prefixes the program has room for. What it is not told of it diverts, and the relay delivers
// it to the site.
func (p *plan) room() int {
	used := len(p.xdp.Remote) + len(p.xdp.Site) + len(p.xdp.Groups) + len(p.xdp.Gateways)
	for _, table := range p.site {
		used += table.carved.Size()
	}
	return xdp.MaxRoutes - used
}

// carveSite notes the prefixes that routers have told of and that the program must pass; after all others, for room.
func (c *compiler) carveSite(vpc *config.VPC) {
	table := c.plan.site[vpc.Name]
	if table == nil {
		return
	}
	room := c.plan.room()
	for p, routers := range c.learned.of(vpc.Name) {
		if room > 0 && !ofGateways(routers) && table.site.Get(p) && table.carves(p) {
			table.carved.Insert(p)
			room--
		}
	}
}

// ofSite says whether a change inside a prefix of a peer is one of a prefix that this site's routers tell of, or have told of.
func (c *compiler) ofSite(change routing.Change, have *fib.Route) bool {
	if len(change.NextHops) > 0 {
		return !ofGateways(change.NextHops)
	}
	if have == nil { // it came and went meanwhile
		return !c.cfg.SpeaksEVPN()
	}
	return have.NextHops[0].Kind == fib.Local
}

// carvesAlone says whether what a change of such a prefix means to the program is told by carve. Elsewhere it depends on more: what
// other gateways announce inside of it, hosts that are found out, hops, or a peer that has the very same prefix.
func (c *compiler) carvesAlone(v *relay.VPC, table *siteTable, p netip.Prefix, have *fib.Route) bool {
	if c.cfg.SpeaksEVPN() || len(c.plan.xdp.DirectPeers) > 0 || table.authorised.Get(p) || table.diverted.Get(p) {
		return false
	}
	if have != nil && have.NextHops[0].Kind != fib.Local {
		return false
	}
	return !p.IsSingleIP() || !slices.Contains(v.GatewayAddresses, p.Addr())
}

// carving is what changes in the program when a site's prefixes come and go: first add, then del.
type carving struct {
	add, del []xdp.Prefix
	own      map[*siteTable]bool // whose sets were copied as a whole
}

// carveShare: from this share of a table on (one change per so many prefixes) its sets are copied once, and not the way to each
// prefix; as fib.Table does. Chosen where both take the same time.
const carveShare = 64

// carve notes that a prefix of the site is there, or no more, in a table that is the amendment's own. changes is how many
// there are for the table.
func (a *amendment) carve(table *siteTable, p netip.Prefix, there bool, changes int) {
	if table.site.Get(p) == there {
		return
	}
	if !a.carving.own[table] && changes > table.site.Size()/carveShare {
		table.site, table.carved = table.site.Clone(), table.carved.Clone()
		if a.carving.own == nil {
			a.carving.own = make(map[*siteTable]bool)
		}
		a.carving.own[table] = true
	}
	a.put(table, &table.site, p, there)
	if !there && table.carved.Get(p) {
		a.recarve(table, p, false)
	}
	// Those inside of it made the exception themselves, or do so now.
	for inner := range table.site.Subnets(p) {
		carves := table.carves(inner)
		if carves != table.carved.Get(inner) && (!carves || a.plan.room() > 0) {
			a.recarve(table, inner, carves)
		}
	}
}

func (a *amendment) recarve(table *siteTable, p netip.Prefix, carves bool) {
	list := &a.carving.del
	if carves {
		list = &a.carving.add
	}
	*list = append(*list, xdp.Prefix{VNI: table.vni, Prefix: p})
	a.put(table, &table.carved, p, carves)
}

// put adds a prefix to a set of a table, or takes it out.
func (a *amendment) put(table *siteTable, set **bart.Lite, p netip.Prefix, there bool) {
	switch own := a.carving.own[table]; {
	case own && there:
		(*set).Insert(p)
	case own:
		(*set).Delete(p)
	case there:
		*set = (*set).InsertPersist(p)
	default:
		*set = (*set).DeletePersist(p)
	}
}
