package gateway

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/routing/bfd"
)

// bgp is the gateway's half of package routing: the assembly says what is wanted and takes the routes that were learned;
// a goroutine of its own (run) does what may take time, so that trouble with BGP holds up nothing else.
type bgp struct {
	router  *routing.Router
	wanted  chan routing.Config // the latest that is not yet in force
	changed chan struct{}       // there are routes to take
	pass    chan struct{}       // routes were taken that others are to be told of

	// Owned by the assembly.
	pace      pace
	passwords map[string]routing.Secret // by name of the neighbour
	withheld  map[string]bool           // as told last
}

// learnedRoutes yields the prefixes of a VPC that BGP has told of, by its name, and hosts of fabrics; nil: there are none.
type learnedRoutes func(vpc string) iter.Seq2[netip.Prefix, []routing.NextHop]

func (l learnedRoutes) of(vpc string) iter.Seq2[netip.Prefix, []routing.NextHop] {
	if l == nil {
		return func(func(netip.Prefix, []routing.NextHop) bool) {}
	}
	return withoutHosts(l(vpc))
}

func (g *Gateway) newBGP() {
	g.bgp = bgp{wanted: make(chan routing.Config, 1), changed: make(chan struct{}, 1), pass: make(chan struct{}, 1)}
	g.bgp.router = routing.New(routing.Options{Logger: g.log, OnChange: func() {
		select {
		case g.bgp.changed <- struct{}{}:
		default: // it will look anyway
		}
	}})
}

// runBGP puts what is wanted into force until ctx ends. What fails (an interface that just went away) is tried again.
func (g *Gateway) runBGP(ctx context.Context) error {
	defer g.bgp.router.Close()
	var latest routing.Config
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.bgp.pass:
			if err := g.bgp.router.Pass(); err != nil && ctx.Err() == nil {
				g.log.Error("pass routes on", "error", err)
				again = time.After(retryInterval)
			}
			continue
		case latest = <-g.bgp.wanted:
		case <-again:
		}
		again = nil
		if err := g.bgp.router.Set(ctx, latest); err != nil && ctx.Err() == nil {
			g.log.Error("configure bgp", "error", err)
			again = time.After(retryInterval)
		}
	}
}

// speak tells the goroutine what is wanted now.
func (g *Gateway) speak(links *neigh.Links) {
	select {
	case <-g.bgp.wanted: // never in force, and outdated
	default:
	}
	g.bgp.withheld = g.withheld()
	out := routingConfig(g.cfg, links, g.bgp.passwords, g.bgp.withheld)
	out.Leaving, out.Gateways = g.leaving(), evpnGateways(g.cfg, g.deadPeers())
	g.keepForwarding(&out)
	g.withhold(&out)
	g.bgp.wanted <- out
}

// followExports tells the routers of other prefixes where peers have died, or live.
func (g *Gateway) followExports() {
	if !maps.Equal(g.bgp.withheld, g.withheld()) {
		g.speak(g.kernel.Links())
	}
}

// takeRoutes brings the routes that have changed into force.
func (g *Gateway) takeRoutes() {
	began := time.Now()
	defer func() { g.bgp.pace.stepped(began, time.Now()) }()
	all := g.takeHosts(g.bgp.router.Take())
	g.takeVTEPs()
	if len(all) == 0 {
		return
	}
	done, err := g.amend(all)
	if err != nil {
		g.log.Error("amend routes", "error", err)
	}
	if !done {
		if err := g.update(); err != nil {
			g.log.Error("update forwarding state", "error", err)
		}
	}
	select {
	case g.bgp.pass <- struct{}{}:
	default: // it will look anyway
	}
}

// routingConfig is a pure function from the configuration and what is there to what BGP is told. A port that is not
// there has no speaker; it gets one when it appears.
func routingConfig(cfg *config.Config, links *neigh.Links, passwords map[string]routing.Secret, withheld map[string]bool) routing.Config {
	out := routing.Config{ASN: cfg.BGP.ASN, RouterID: cfg.BGP.RouterID.Addr, MaxPaths: cfg.BGP.MaxPaths}
	if len(cfg.BGP.Neighbours) == 0 && !cfg.SpeaksEVPN() {
		return out
	}
	policies := bgpPolicies(&cfg.BGP)
	ports := make(map[string]int)
	for i := range cfg.VPCs {
		vpc := &cfg.VPCs[i]
		for j := range vpc.Attachments {
			a := &vpc.Attachments[j]
			link := links.LinkByName(a.Port)
			if a.Type != config.Routed || link == nil {
				continue
			}
			port := routing.Port{Name: a.Port, Ifindex: link.Ifindex, Device: true, VPC: vpc.Name}
			for _, p := range link.Addrs {
				port.Addresses = append(port.Addresses, p.Addr().WithZone(""))
			}
			ports[a.Port] = len(out.Ports)
			out.Ports = append(out.Ports, port)
		}
		out.VPCs = append(out.VPCs, routingVPC(cfg, vpc, withheld))
	}
	fabricPorts(cfg, links, &out, ports)
	for i := range cfg.BGP.Neighbours {
		n := &cfg.BGP.Neighbours[i]
		if at, ok := ports[n.Port]; ok {
			out.Ports[at].Neighbours = append(out.Ports[at].Neighbours, routingNeighbour(n, policies, passwords[n.Name]))
		}
	}
	if port, ok := evpnPort(cfg, links); ok {
		out.Ports = append(out.Ports, port)
	}
	return out
}

// routingVPC says what a VPC's routers are told, and what they may not tell us.
func routingVPC(cfg *config.Config, vpc *config.VPC, withheld map[string]bool) routing.VPC {
	out := routing.VPC{Name: vpc.Name}
	reserve := func(p netip.Prefix, format string, args ...any) {
		out.Reserved = append(out.Reserved, routing.Reserved{Prefix: p, Whose: fmt.Sprintf(format, args...)})
	}
	ofPeer := func(p netip.Prefix, name string) {
		out.Reserved = append(out.Reserved, routing.Reserved{Prefix: p, Whose: fmt.Sprintf("prefix %s of peer %s", p, name), Peer: true})
	}
	address := func(a netip.Addr, format string, args ...any) {
		reserve(netip.PrefixFrom(a, a.BitLen()), format, args...)
	}
	exported := make(map[netip.Prefix]bool)
	for i := range cfg.Peers {
		peer := &cfg.Peers[i]
		for _, v := range peer.VPCs {
			if v.Name != vpc.Name {
				continue
			}
			for _, p := range v.Prefixes {
				if !exported[p] && !withheld[peer.Name] {
					exported[p] = true
					out.Export = append(out.Export, p)
				}
				if p.Bits() > 0 { // everything is inside a default route
					ofPeer(p, peer.Name)
				}
			}
		}
		if vpc.VNI == 0 {
			for _, a := range peer.TunnelAddresses {
				address(a, "tunnel address %s of peer %s", a, peer.Name)
			}
		}
	}
	if vpc.VNI == 0 {
		for _, a := range cfg.WireGuard.TunnelAddresses {
			address(a, "tunnel address %s of this gateway", a)
		}
	}
	for _, a := range vpc.GatewayAddresses {
		address(a, "gateway address %s of the VPC", a)
	}
	for _, t := range vpc.Translate {
		reserve(t.As, "prefix %s that other sites know %s by", t.As, t.Prefix)
	}
	for i := range vpc.Attachments {
		a := &vpc.Attachments[i]
		out.Static = append(out.Static, a.Prefixes...)
		for j := range a.Hosts {
			out.Static = append(out.Static, a.Hosts[j].Prefixes...)
		}
		for j := range a.Subnets {
			out.Static = append(out.Static, a.Subnets[j].Prefixes...)
		}
	}
	out.EVPN = vpcEVPN(cfg, vpc, out.Static)
	return out
}

func routingNeighbour(n *config.BGPNeighbour, policies map[string]*routing.Policy, password routing.Secret) routing.Neighbour {
	out := routing.Neighbour{
		Name: n.Name, ASN: n.ASN, Passive: n.Passive, Password: password, TTLSecurity: n.TTLSecurity,
		Hold: n.HoldTime, ConnectRetry: n.ConnectRetry, MaxPrefixes: n.MaxPrefixes,
		Import: policies[n.Import], Export: policies[n.Export], Restart: n.RestartTime, LongLived: n.LongLivedTime,
	}
	if one, ok := n.Address.One(); ok {
		out.Address = one
	} else {
		out.Range = n.Address.Prefix
	}
	if n.EVPN {
		out.Export = everything
	}
	for _, r := range n.ASNs {
		out.ASNs = append(out.ASNs, routing.ASNRange(r))
	}
	if n.BFD.Interval > 0 {
		out.BFD = &bfd.Session{Interval: n.BFD.Interval, Multiplier: uint8(n.BFD.Multiplier)}
	}
	return out
}

func bgpPolicies(b *config.BGP) map[string]*routing.Policy {
	lists := make(map[string][]routing.PrefixRange, len(b.PrefixLists))
	for _, l := range b.PrefixLists {
		for _, p := range l.Prefixes {
			r := routing.PrefixRange{Prefix: p.Prefix, Min: p.Prefix.Bits(), Max: p.Prefix.Bits()}
			if p.GE != 0 {
				r.Min, r.Max = p.GE, p.Prefix.Addr().BitLen()
			}
			if p.LE != 0 {
				r.Max = p.LE
			}
			lists[l.Name] = append(lists[l.Name], r)
		}
	}
	policies := make(map[string]*routing.Policy, len(b.Policies))
	for _, p := range b.Policies {
		out := &routing.Policy{Name: p.Name}
		for i := range p.Rules {
			out.Rules = append(out.Rules, bgpRule(&p.Rules[i], lists))
		}
		policies[p.Name] = out
	}
	return policies
}

func bgpRule(r *config.BGPRule, lists map[string][]routing.PrefixRange) routing.Rule {
	out := routing.Rule{Refuse: r.Action == config.Refuse, Prepend: r.Prepend}
	for _, name := range r.PrefixLists {
		out.Prefixes = append(out.Prefixes, lists[name]...)
	}
	for _, c := range r.Communities {
		out.Communities = append(out.Communities, routing.Community(c))
	}
	for _, c := range r.AddCommunities {
		out.AddCommunities = append(out.AddCommunities, routing.Community(c))
	}
	if r.LocalPref != 0 {
		out.LocalPref = &r.LocalPref
	}
	if r.MED != 0 {
		out.MED = &r.MED
	}
	return out
}

// maxPassword is what the kernel takes for TCP MD5 (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// readPassword reads the first line of a file that only its owner can read. Errors do not repeat what is in it.
func readPassword(path string) (routing.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return routing.Secret{}, err
	}
	defer f.Close() // opened for reading: nothing to lose
	info, err := f.Stat()
	switch {
	case err != nil:
		return routing.Secret{}, err
	case !info.Mode().IsRegular():
		return routing.Secret{}, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return routing.Secret{}, fmt.Errorf("%s: group or others may access it, its mode is %#o (fix: chmod 600 %s)", path, info.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPassword+2))
	if err != nil {
		return routing.Secret{}, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(line) > maxPassword {
		return routing.Secret{}, fmt.Errorf("%s: its first line is no password of 1 to %d bytes", path, maxPassword)
	}
	return routing.NewSecret(line), nil
}
