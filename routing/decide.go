package routing

import (
	"bytes"
	"cmp"
	"slices"
)

// choose marks the best paths of a destination and returns their next hops, at most most of them. The order of the
// criteria is RFC 4271's (section 9.1.2.2); paths that are equal up to the last two, which only break ties, share the
// traffic.
func (d *destination) choose(most int) []NextHop {
	var candidates []*path
	for _, p := range d.paths {
		p.setBest(false)
		if p.attrs != nil {
			candidates = append(candidates, p)
		}
	}
	if len(candidates) > 1 {
		for _, criterion := range criteria {
			candidates = least(candidates, criterion)
		}
		candidates = lowestMED(candidates)
		candidates = least(candidates, func(p *path) int64 { return truth(p.session.internal) })
		slices.SortFunc(candidates, func(a, b *path) int {
			return cmp.Or(a.vtep().Compare(b.vtep()), a.session.id.Compare(b.session.id), a.session.address.Compare(b.session.address), a.id.compare(b.id))
		})
	}
	var hops []NextHop
	for _, p := range candidates {
		hop := NextHop{Port: p.session.speaker.port.Name, Addr: p.attrs.NextHop}
		if hop.setPlace(p.attrs.EVPN); hop.Host {
			most = 1
		}
		if p.session.speaker.port.EVPN {
			hop.Port = ""
		}
		if !slices.Contains(hops, hop) {
			if len(hops) == max(most, 1) {
				continue
			}
			hops = append(hops, hop)
		}
		p.setBest(true)
	}
	slices.SortFunc(hops, compareHops)
	return hops
}

// criteria: the paths with the least value go on.
var criteria = []func(*path) int64{
	func(p *path) int64 { return truth(p.stale) },                     // what a dead session left is the last resort (RFC 9494 section 4.3)
	func(p *path) int64 { return truth(p.session.speaker.port.EVPN) }, // what the site has itself, no gateway takes from it
	func(p *path) int64 { return truth(p.id.kind != HostRoute) },      // where a host is says more than where its prefix is
	func(p *path) int64 { return -p.mobility() },                      // it has moved (RFC 7432 section 15)
	func(p *path) int64 { return -int64(p.attrs.LocalPref) },
	func(p *path) int64 { return int64(p.attrs.PathLen) },
	func(p *path) int64 { return int64(p.attrs.Origin) },
}

func (a pathID) compare(b pathID) int {
	return cmp.Or(bytes.Compare(a.rd[:], b.rd[:]), cmp.Compare(a.tag, b.tag), cmp.Compare(a.kind, b.kind), bytes.Compare(a.mac[:], b.mac[:]), cmp.Compare(a.add, b.add))
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func least(paths []*path, value func(*path) int64) []*path {
	best := value(paths[0])
	for _, p := range paths[1:] {
		best = min(best, value(p))
	}
	return slices.DeleteFunc(paths, func(p *path) bool { return value(p) > best })
}

// lowestMED drops each path that a path of the same neighbouring AS beats: MEDs of different ones do not compare. A
// missing one is the lowest.
func lowestMED(paths []*path) []*path {
	lowest := make(map[uint32]uint32, 1)
	for _, p := range paths {
		as := p.attrs.firstAS()
		if med, ok := lowest[as]; !ok || p.attrs.MED < med {
			lowest[as] = p.attrs.MED
		}
	}
	return slices.DeleteFunc(paths, func(p *path) bool { return p.attrs.MED > lowest[p.attrs.firstAS()] })
}
