package demo

import (
	"fmt"
	"net/netip"
	"strings"
	"text/template"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// With routers, the hosts of a site are behind one: FRR at oslo, BIRD at bergen. It has a link to each of the site's two
// gateways, tells both by BGP what the site has, learns from both what the other site has, and shares flows between them.
// The pods stay with the first gateway.

// Addresses on the links between router and gateways, by site: the gateway is 1, the router 2.
var routerLinks = [2][2]string{{"172.21.%d.", "fd21:%d::"}, {"172.22.%d.", "fd22:%d::"}}

// routerAS is the AS of a site's router, gatewayAS that of its gateways.
func (s *site) routerAS() int  { return 65100 + s.number }
func (s *site) gatewayAS() int { return 65000 + s.number }

// onLink is an address on the link to the first or second gateway.
func (s *site) onLink(gateway, last int) []netip.Addr {
	l := routerLinks[gateway]
	return s.addrs(l[0]+fmt.Sprint(last), l[1]+fmt.Sprint(last))
}

func (s *site) linkPrefixes(gateway, last int) []netip.Prefix {
	a := s.onLink(gateway, last)
	return []netip.Prefix{netip.PrefixFrom(a[0], 24), netip.PrefixFrom(a[1], 64)}
}

// wanSecond is wan for the second gateway.
func (s *site) wanSecond(last, family int) netip.Prefix {
	if family == 6 {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:1%d::%d/64", s.number, last))
	}
	return netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/28", s.number*16+last))
}

// secondLink is the WAN router's link to a site's second gateway.
func (s *site) secondLink() string { return s.name + "2" }

// buildRouter makes the site's router and second gateway, and returns the router's end of the link to the host.
func (s *site) buildRouter() netnstest.End {
	scope := s.lab.scope
	s.router = scope.NewRouter(s.name + "-router")
	s.second = &gateway{name: s.name + "-2", host: scope.NewHost(s.name + "-gw2"), ports: []string{"host0", "wan0"}}
	scope.Connect(
		netnstest.End{Host: s.second.host, Name: "wan0", MTU: wireMTU, Queues: s.lab.workers, Addrs: []netip.Prefix{s.wanSecond(2, 4), s.wanSecond(2, 6)}},
		netnstest.End{Host: s.lab.wan, Name: s.secondLink(), MTU: wireMTU, Queues: s.lab.workers, Addrs: []netip.Prefix{s.wanSecond(1, 4), s.wanSecond(1, 6)}},
	)
	s.second.host.Route(netip.Prefix{}, s.wanSecond(1, 4).Addr())
	s.second.host.Route(netip.Prefix{}, s.wanSecond(1, 6).Addr())
	for i, g := range s.gateways() {
		scope.Connect(
			netnstest.End{Host: g.host, Name: "host0", MTU: wireMTU, Queues: s.lab.workers, Addrs: s.linkPrefixes(i, 1)},
			netnstest.End{Host: s.router, Name: fmt.Sprint("gw", i+1), MTU: wireMTU, Queues: s.lab.workers, Addrs: s.linkPrefixes(i, 2)},
		)
	}
	for _, family := range []string{"ipv4", "ipv6"} { // by flow, not by addresses alone
		s.router.Sysctl("net."+family+".fib_multipath_hash_policy", "1")
	}
	return netnstest.End{Host: s.router, Name: "host0", MTU: wireMTU, Queues: s.lab.workers, Addrs: s.prefixes("172.16.%d.1/24", "fd16:%d::1/64")}
}

// frr is a router's configuration: it balances over both gateways, and heeds GRACEFUL_SHUTDOWN.
var frr = template.Must(template.New("frr").Parse(`
bgp community-list standard leaving permit graceful-shutdown
route-map from-sluice permit 10
 match community leaving
 set local-preference 0
route-map from-sluice permit 20
router bgp {{.AS}}
 bgp router-id {{.ID}}
 no bgp ebgp-requires-policy
{{- range .Gateways}}
 neighbor {{.Gateway4}} remote-as {{$.GatewayAS}}
 neighbor {{.Gateway4}} timers connect 1
{{- end}}
 address-family ipv4 unicast
  network {{.Host4}}
  maximum-paths 4
{{- range .Gateways}}
  neighbor {{.Gateway4}} route-map from-sluice in
{{- end}}
 exit-address-family
 address-family ipv6 unicast
  network {{.Host6}}
  maximum-paths 4
{{- range .Gateways}}
  neighbor {{.Gateway4}} activate
  neighbor {{.Gateway4}} route-map from-sluice in
{{- end}}
 exit-address-family
`))

var bird = template.Must(template.New("bird").Parse(`
router id {{.ID}};
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "host0"; }
protocol kernel { ipv4 { export all; }; merge paths on; }
protocol kernel { ipv6 { export all; }; merge paths on; }
filter from_sluice {
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  accept;
}
{{- range $i, $g := .Gateways}}
protocol bgp gateway{{$i}} {
  local {{$g.Router4}} as {{$.AS}};
  neighbor {{$g.Gateway4}} as {{$.GatewayAS}};
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import filter from_sluice; export where source = RTS_DEVICE; };
  ipv6 { import filter from_sluice; export where source = RTS_DEVICE; next hop address {{$g.Router6}}; };
}
{{- end}}
`))

type routerSettings struct {
	AS, GatewayAS int
	ID            netip.Addr
	Host4, Host6  netip.Prefix
	Gateways      []struct{ Gateway4, Router4, Router6 netip.Addr }
}

// startRouter starts the routing daemons.
func (s *site) startRouter() {
	hosts := s.prefixes("172.16.%d.0/24", "fd16:%d::/64")
	o := routerSettings{AS: s.routerAS(), GatewayAS: s.gatewayAS(), ID: s.addrs("172.16.%d.1")[0], Host4: hosts[0], Host6: hosts[1]}
	for i := range s.gateways() {
		ours, its := s.onLink(i, 2), s.onLink(i, 1)
		o.Gateways = append(o.Gateways, struct{ Gateway4, Router4, Router6 netip.Addr }{its[0], ours[0], ours[1]})
	}
	var text strings.Builder
	if s.number == 1 {
		_ = frr.Execute(&text, o) // its only error is the writer's, and that has none
		s.router.StartFRR(text.String(), "")
		return
	}
	_ = bird.Execute(&text, o) // likewise
	s.router.StartBIRD(text.String())
}
