package gateway

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/tun"
	"github.com/sluicegw/sluice/relay"
)

var _ relay.Queue = (*tun.Queue)(nil)

// tunPort is the configured TUN device.
type tunPort struct {
	cfg     config.TUN
	port    *tun.Port // nil: it could not be made, see problem
	want    tun.Addresses
	problem string
}

// open says whether there is a device whose queues the workers have.
func (p *tunPort) open() bool { return p != nil && p.port != nil }

// failed says whether the device is wanted and does not work.
func (p *tunPort) failed() bool { return p != nil && p.problem != "" }

// reconcileTUN makes the TUN device what the configuration wants. What fails is a problem of the device, tried again at
// the next change; everything else runs.
func (g *Gateway) reconcileTUN(cfg *config.Config) {
	want := cfg.WireGuard.TUN
	if g.tun != nil && (g.tun.cfg.Name != want.Name || g.tun.open() && g.tun.port.Err() != nil) {
		g.closeTUN()
	}
	if want.Name == "" {
		return
	}
	before := g.tun
	if before == nil {
		before = &tunPort{}
	}
	now := &tunPort{cfg: want, port: before.port, want: tunAddresses(cfg)}
	g.tun = now
	err := g.setTUN(now)
	if err != nil {
		now.problem = err.Error()
	}
	switch {
	case err != nil && now.problem != before.problem:
		g.log.Error("tun device does not work", "error", err)
	case err == nil && (before.port == nil || before.problem != ""):
		g.log.Info("tun device works", "device", want.Name, "mtu", want.MTU, "addresses", now.want.Own, "peers", len(now.want.Peers))
	}
}

// setTUN makes the device, if need be, and gives it what it should have.
func (g *Gateway) setTUN(p *tunPort) (err error) {
	if p.port == nil {
		if p.port, err = tun.Open(tun.Options{Name: p.cfg.Name, MTU: p.cfg.MTU, UMEMs: g.umems, Notify: g.tunEvent}); err != nil {
			return err
		}
		if err := g.setQueues(nil); err != nil {
			return err
		}
	}
	return p.port.Configure(p.want)
}

// tunEvent is called when the kernel has sent something. A device that somebody has deleted is a change of links, too,
// which brings the assembly to look at it.
func (g *Gateway) tunEvent() { g.relay.Wake() }

// closeTUN takes the device from the workers and removes it.
func (g *Gateway) closeTUN() {
	if g.tun == nil {
		return
	}
	port := g.tun.port
	g.tun = nil
	if port == nil {
		return
	}
	if err := g.setQueues(nil); err != nil {
		g.log.Warn("close tun device", "error", err)
	}
	if err := port.Close(); err != nil {
		g.log.Warn("close tun device", "error", err)
	}
}

func tunAddresses(cfg *config.Config) tun.Addresses {
	a := tun.Addresses{MTU: cfg.WireGuard.TUN.MTU, Own: cfg.WireGuard.TunnelAddresses}
	for i := range cfg.Peers {
		a.Peers = append(a.Peers, cfg.Peers[i].TunnelAddresses...)
	}
	return a
}

// status is nil when no device is wanted.
func (p *tunPort) status() *sluicev1.TunPort {
	if p == nil {
		return nil
	}
	s := &sluicev1.TunPort{Name: p.cfg.Name, Problem: p.problem, Mtu: uint32(p.cfg.MTU)}
	if !p.open() {
		return s
	}
	if err := p.port.Err(); err != nil {
		s.Problem = err.Error()
		return s
	}
	toKernel, fromKernel := p.port.Lost()
	s.Ifindex, s.Lost = p.port.Ifindex(), toKernel+fromKernel
	for _, a := range p.want.Own {
		s.Addresses = append(s.Addresses, a.String())
	}
	for _, a := range p.want.Peers {
		if slices.ContainsFunc(p.want.Own, func(own netip.Addr) bool { return own.Is4() == a.Is4() }) {
			s.Peers = append(s.Peers, a.String())
		}
	}
	link, err := netlink.LinkByIndex(int(p.port.Ifindex()))
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	if n := link.Attrs().Statistics; n != nil { // the kernel's point of view: what it receives comes from peers
		s.ToKernelPackets, s.ToKernelBytes, s.FromKernelPackets, s.FromKernelBytes = n.RxPackets, n.RxBytes, n.TxPackets, n.TxBytes
	}
	return s
}
