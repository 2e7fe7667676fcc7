package demo

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// wireMTU is what the links carry. What is left of it for packets of a host is
// the lab's hostMTU, which the hosts have to find out; pods get a podMTU that
// fits in every case, as one sets it in a real cluster.
const wireMTU = 1500

// vpcs are the tenants; the default VPC is that of the hosts.
var vpcs = [...]string{"red", "blue"}

// lab is everything that the demo runs in.
type lab struct {
	scope  *netnstest.Scope
	wan    *netnstest.Host
	sites  [2]*site
	marker []byte // in all that the endpoints send; never to be seen on the WAN

	labOptions
	outer           int // family of outer packets, 4 or 6
	hostMTU, podMTU int
}

// labOptions vary the lab.
type labOptions struct {
	bergen config.AttachmentType // overlay of site bergen
	ipv6   bool                  // on the outside
	// offload leaves the sums of TCP and UDP, and of the overlays, to network cards
	// that are not there, as virtual machines do. Open vSwitch's userspace datapath
	// cannot cope with that, kernels and gateways have to.
	offload bool
	workers int // of each gateway, and queues of its ports; default 1
	// routers puts a router that speaks BGP between each site's host and its gateway,
	// and gives the site a second gateway.
	routers bool
}

// site is a site's nodes, pods, host and gateway.
type site struct {
	lab     *lab
	name    string
	number  int // in its addresses
	overlay config.AttachmentType
	vnis    map[string]uint32
	sw      *netnstest.Switch
	gateway *gateway
	pods    []*endpoint
	host    *endpoint
	second  *gateway        // with routers
	router  *netnstest.Host // with routers
}

// newLab builds the two sites and the WAN, and starts the endpoints' services.
func newLab(o labOptions) (_ *lab, err error) {
	scope, err := netnstest.Open(netnstest.Options{Label: label})
	if err != nil {
		return nil, err
	}
	o.workers = max(o.workers, 1)
	// WireGuard over UDP over IP adds 60 or 80 bytes, Geneve in it another 36.
	l := &lab{scope: scope, labOptions: o, outer: 4, hostMTU: wireMTU - 60, podMTU: 1400}
	if o.ipv6 {
		l.outer, l.hostMTU, l.podMTU = 6, wireMTU-80, 1360
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	var random [8]byte
	rand.Read(random[:]) // never fails (crypto/rand since Go 1.24)
	l.marker = []byte("sluice-demo-plain-text-" + hex.EncodeToString(random[:]))
	l.wan = scope.NewRouter("wan")
	l.sites = [2]*site{
		{lab: l, name: "oslo", number: 1, overlay: config.VXLAN, vnis: map[string]uint32{"red": 100, "blue": 200}},
		{lab: l, name: "bergen", number: 2, overlay: o.bergen, vnis: map[string]uint32{"red": 200, "blue": 300}},
	}
	for _, s := range l.sites {
		s.build()
		if o.routers {
			s.startRouter()
		}
	}
	if err := scope.Err(); err != nil {
		return nil, err
	}
	for _, e := range l.endpoints() {
		if err := e.serve(); err != nil {
			return nil, err
		}
	}
	return l, l.configure()
}

func (l *lab) close() error {
	var errs []error
	for _, e := range l.endpoints() {
		errs = append(errs, e.close())
	}
	return errors.Join(append(errs, l.scope.Close())...)
}

func (l *lab) endpoints() []*endpoint {
	var all []*endpoint
	for _, s := range l.sites {
		if s != nil {
			all = append(all, s.pods...)
			if s.host != nil {
				all = append(all, s.host)
			}
		}
	}
	return all
}

func (s *site) build() {
	scope := s.lab.scope
	s.sw = scope.NewSwitch(s.name + "-switch")
	s.gateway = &gateway{name: s.name + "-1", host: scope.NewHost(s.name + "-gw"), ports: []string{"site0", "host0", "wan0"}}
	// The gateway's three ports, and the ways out of it.
	s.sw.Plug(netnstest.End{Host: s.gateway.host, Name: "site0", MTU: wireMTU, Queues: s.lab.workers, Addrs: s.prefixes("192.168.%d.1/24", "fd92:%d::1/64"), Offload: s.lab.offload})
	scope.Connect(
		netnstest.End{Host: s.gateway.host, Name: "wan0", MTU: wireMTU, Queues: s.lab.workers, Addrs: []netip.Prefix{s.wan(2, 4), s.wan(2, 6)}},
		netnstest.End{Host: s.lab.wan, Name: s.name, MTU: wireMTU, Queues: s.lab.workers, Addrs: []netip.Prefix{s.wan(1, 4), s.wan(1, 6)}},
	)
	s.gateway.host.Route(netip.Prefix{}, s.wan(1, 4).Addr())
	s.gateway.host.Route(netip.Prefix{}, s.wan(1, 6).Addr())

	s.host = &endpoint{site: s, name: s.name + "-host", vpc: config.DefaultVPC, addrs: s.addrs("172.16.%d.10", "fd16:%d::10")}
	s.host.host = scope.NewHost(s.host.name)
	inside := netnstest.End{Host: s.gateway.host, Name: "host0", MTU: wireMTU, Queues: s.lab.workers, Addrs: s.prefixes("172.16.%d.1/24", "fd16:%d::1/64")}
	if s.lab.routers {
		inside = s.buildRouter()
	}
	scope.Connect(inside,
		netnstest.End{Host: s.host.host, Name: "eth0", MTU: wireMTU, Queues: s.lab.workers, Addrs: s.prefixes("172.16.%d.10/24", "fd16:%d::10/64"), Offload: s.lab.offload},
	)
	for _, via := range s.addrs("172.16.%d.1", "fd16:%d::1") {
		s.host.host.Route(netip.Prefix{}, via)
	}
	for number := 1; number <= 2; number++ {
		s.node(number)
	}
}

// node adds a node with a pod of each VPC; bergen's second one has a pod whose
// address exists in blue only.
func (s *site) node(number int) {
	build := s.lab.scope.NewVXLANNode
	if s.overlay == config.Geneve {
		build = s.lab.scope.NewOVSNode
	}
	o := netnstest.NodeOptions{
		Name: fmt.Sprintf("%s-node%d", s.name, number), Switch: s.sw,
		VTEP:    s.vtep(number),
		MAC:     net.HardwareAddr{2, 0, 0, byte(s.number), byte(number), 1},
		Remotes: []netip.Addr{s.vtep(3 - number).Addr(), s.vtep(0).Addr()},
		Offload: s.lab.offload,
	}
	for _, vpc := range vpcs {
		o.Segments = append(o.Segments, netnstest.Segment{Name: vpc, VNI: s.vnis[vpc]})
	}
	node := build(o)
	for _, vpc := range vpcs {
		s.pod(node, number, vpc, "11")
	}
	if s.number == 2 && number == 2 {
		s.pod(node, number, "blue", "99")
	}
}

func (s *site) pod(node *netnstest.Node, number int, vpc, last string) {
	n := fmt.Sprint(number)
	e := &endpoint{
		site: s, vpc: vpc, name: s.name + "-" + vpc + n, node: number,
		addrs: s.addrs("10.%d."+n+"."+last, "fd10:%d::"+n+":"+last),
		mac:   net.HardwareAddr{2, 0, vpc[0], byte(s.number), byte(number), last[0]},
	}
	if last != "11" {
		e.name, e.only = e.name+"-only", true
	}
	e.host = node.NewPod(netnstest.PodOptions{
		Name: e.name, Segment: vpc, MAC: e.mac, MTU: s.lab.podMTU,
		Addrs:    []netip.Prefix{netip.PrefixFrom(e.addrs[0], 16), netip.PrefixFrom(e.addrs[1], 64)},
		Gateways: s.addrs("10.%d.0.1", "fd10:%d::1"),
		Offload:  s.lab.offload,
	})
	s.pods = append(s.pods, e)
}

// pick returns the pod of a VPC on a node that has its twin in the other VPC.
func (s *site) pick(vpc string, node int) *endpoint {
	for _, e := range s.pods {
		if e.vpc == vpc && e.node == node && !e.only {
			return e
		}
	}
	return nil
}

// addrs puts the site's number into addresses.
func (s *site) addrs(patterns ...string) []netip.Addr {
	all := make([]netip.Addr, len(patterns))
	for i, p := range patterns {
		all[i] = netip.MustParseAddr(fmt.Sprintf(p, s.number))
	}
	return all
}

// prefixes puts the site's number into prefixes.
func (s *site) prefixes(patterns ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(patterns))
	for i, p := range patterns {
		all[i] = netip.MustParsePrefix(fmt.Sprintf(p, s.number))
	}
	return all
}

// vtep is the outer address of a node, or with 0 of the gateway.
func (s *site) vtep(node int) netip.Prefix {
	last := 1
	if node > 0 {
		last = 10 + node
	}
	if s.lab.outer == 6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd92:%d::%d/64", s.number, last))
	}
	return netip.MustParsePrefix(fmt.Sprintf("192.168.%d.%d/24", s.number, last))
}

// wan is an address of the site's WAN link, from the ranges for documentation
// (RFC 5737, RFC 3849): 1 is the router's, 2 the gateway's.
func (s *site) wan(last, family int) netip.Prefix {
	if family == 6 {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::%d/64", s.number, last))
	}
	return netip.MustParsePrefix(fmt.Sprintf("%s.%d/24", [...]string{1: "192.0.2", 2: "198.51.100"}[s.number], last))
}

// gateways are a site's: two with routers, or else one.
func (s *site) gateways() []*gateway {
	if s.second == nil {
		return []*gateway{s.gateway}
	}
	return []*gateway{s.gateway, s.second}
}

func (l *lab) gateways() []*gateway {
	return append(l.sites[0].gateways(), l.sites[1].gateways()...)
}
