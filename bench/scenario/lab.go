package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// Attachments, as in a scenario.
const (
	VXLAN  = "vxlan"
	Routed = "routed"
)

// Lab is the hosts and links of one run.
type Lab struct {
	Scope    *netnstest.Scope
	Scenario method.Scenario // normal; its Attachment is set
	Ends     [2]*Site
	// WANHost is between the gateways in the directions encrypt and decrypt, else nil;
	// Taps are its links towards the gateways.
	WANHost *netnstest.Switch
	Taps    [2]*netnstest.Link

	standIn bool // we are one of the gateways
	peers   [2][]Peer
	nics    []string // interfaces of the machine that the links are made of; none: veth pairs
}

// Site is one side of the lab.
type Site struct {
	Number  int
	End     *netnstest.Host
	EndLink *netnstest.Link // eth0 of End
	Gateway *netnstest.Host
	Inside  *netnstest.Link // site0 of Gateway
	WAN     *netnstest.Link // wan0 of Gateway
}

// wanBits is the length of the WAN's prefix, in which there is room for many gateways.
const wanBits = 16

// NewLab builds the hosts. The gateways have links and addresses, and do nothing. With
// standIn, the gateway that is not under test is not to be started: see Active. The links are made of the interfaces
// nics, in the order of NICs, or else of veth pairs.
func NewLab(s method.Scenario, standIn bool, nics ...string) (_ *Lab, err error) {
	if err := usable(s, nics); err != nil {
		return nil, err
	}
	if err := testenv.Namespaces(); err != nil {
		return nil, fmt.Errorf("%w: %w", method.ErrUnavailable, err)
	}
	scope, err := netnstest.Open(netnstest.Options{Label: "bench"})
	if err != nil {
		return nil, err
	}
	l := &Lab{Scope: scope, Scenario: s, standIn: standIn && s.Direction != method.Through, nics: nics}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for i := range l.Ends {
		l.Ends[i] = l.site(i + 1)
	}
	l.connectWAN()
	for i := range l.Ends {
		if err := l.attach(i); err != nil {
			return nil, err
		}
	}
	if err := l.makeKeys(); err != nil {
		return nil, err
	}
	if err := l.carriers(); err != nil {
		return nil, err
	}
	if l.WANHost == nil {
		return l, nil
	}
	// A bridge takes a while until it forwards, and the first handshake that is lost costs
	// five seconds.
	return l, Eventually(context.Background(), func() error {
		return netnstest.Ping(context.Background(), l.Ends[0].Gateway, WAN(2), netnstest.PingOptions{Count: 1, Timeout: 20 * time.Millisecond})
	})
}

// Close removes everything.
func (l *Lab) Close() error { return l.Scope.Close() }

// Overlay says whether the ends speak VXLAN with their gateways.
func (l *Lab) Overlay() bool { return l.Scenario.Attachment == VXLAN }

func (l *Lab) site(number int) *Site {
	s := &Site{
		Number:  number,
		End:     l.Scope.NewHost(fmt.Sprint("end", number)),
		Gateway: l.Scope.NewHost(fmt.Sprint("gw", number)),
	}
	prefixes := []netip.Prefix{netip.PrefixFrom(Underlay(number, false), 24)}
	gateway := []netip.Prefix{netip.PrefixFrom(Underlay(number, true), 24)}
	if !l.Overlay() {
		prefixes = append(prefixes, netip.PrefixFrom(Inner(number, Routed), 24))
		gateway = append(gateway, netip.PrefixFrom(InnerGateway(number, Routed), 24))
	}
	s.EndLink, s.Inside = l.connect(s.firstNIC(),
		l.end(s.End, "eth0", EndMAC(number), prefixes),
		l.end(s.Gateway, "site0", GatewayMAC(number), gateway),
	)
	return s
}

func (l *Lab) end(h *netnstest.Host, name string, mac net.HardwareAddr, addrs []netip.Prefix) netnstest.End {
	return netnstest.End{Host: h, Name: name, MAC: mac, MTU: LinkMTU, Queues: l.Scenario.Workers, Addrs: addrs, Offload: l.Scenario.Native}
}

func (l *Lab) connectWAN() {
	var ends [2]netnstest.End
	for i, s := range l.Ends {
		ends[i] = l.end(s.Gateway, "wan0", WANMAC(s.Number), []netip.Prefix{netip.PrefixFrom(WAN(s.Number), wanBits)})
	}
	if l.Scenario.Direction == method.Through {
		l.Ends[0].WAN, l.Ends[1].WAN = l.connect(2, ends[0], ends[1])
		return
	}
	l.WANHost = l.Scope.NewSwitch("wan")
	for i, s := range l.Ends {
		s.WAN = l.WANHost.Plug(ends[i])
		l.Taps[i] = &netnstest.Link{Host: l.WANHost.Host, Name: fmt.Sprint("port", i+1)}
	}
}

// attach gives an end host its address inside and the way to the other one, and fixes
// the neighbours that every contestant has: nothing is left to learn under load.
func (l *Lab) attach(i int) error {
	if err := l.Scope.Err(); err != nil {
		return err
	}
	s, other := l.Ends[i], l.Ends[1-i]
	attachment := l.Scenario.Attachment
	device := s.EndLink
	if l.Overlay() {
		device = s.End.NewVXLAN(netnstest.VXLAN{
			Name: "pod0", VNI: VNI, Local: Underlay(s.Number, false), Remote: []netip.Addr{Underlay(s.Number, true)}, MTU: InnerMTU,
			Addrs: []netip.Prefix{netip.PrefixFrom(Inner(s.Number, VXLAN), 16)},
		})
		device.SetMAC(PodMAC(s.Number))
	}
	for _, n := range []struct {
		host *netnstest.Host
		link *netnstest.Link
		ip   netip.Addr
		mac  net.HardwareAddr
	}{
		{s.End, s.EndLink, Underlay(s.Number, true), GatewayMAC(s.Number)},
		{s.Gateway, s.Inside, Underlay(s.Number, false), EndMAC(s.Number)},
		{s.Gateway, s.WAN, WAN(other.Number), WANMAC(other.Number)},
		{s.End, device, InnerGateway(s.Number, attachment), l.innerGatewayMAC(s.Number)},
	} {
		if err := Neighbour(n.host, n.link.Name, n.ip, n.mac); err != nil {
			return err
		}
	}
	if !l.Overlay() {
		if err := Neighbour(s.Gateway, s.Inside.Name, Inner(s.Number, Routed), EndMAC(s.Number)); err != nil {
			return err
		}
	}
	if !l.Overlay() {
		for _, p := range l.Prefixes(i)[1:] {
			s.Gateway.Route(p, Inner(s.Number, Routed))
		}
	}
	s.End.Route(InnerPrefix(other.Number, attachment), InnerGateway(s.Number, attachment))
	return l.Scope.Err()
}

func (l *Lab) innerGatewayMAC(site int) net.HardwareAddr {
	if l.Overlay() {
		return OverlayMAC()
	}
	return GatewayMAC(site)
}
