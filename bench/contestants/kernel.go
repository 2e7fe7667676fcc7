package contestants

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// site0 and wan0 are the gateways' ports, pods0 is the VXLAN device of a gateway whose
// site side the kernel does.
const podsDevice = "pods0"

// kernelSite makes the kernel of a gateway forward, and gives it the site's attachment.
func kernelSite(lab *scenario.Lab, i int) error {
	site, s := lab.Ends[i], lab.Scenario
	site.Gateway.Sysctl("net.ipv4.ip_forward", "1")
	if lab.Overlay() {
		vxlan := site.Gateway.NewVXLAN(netnstest.VXLAN{
			Name: podsDevice, VNI: scenario.VNI, Local: scenario.Underlay(site.Number, true),
			Remote: []netip.Addr{scenario.Underlay(site.Number, false)}, MTU: scenario.InnerMTU,
			Addrs: []netip.Prefix{netip.PrefixFrom(scenario.InnerGateway(site.Number, s.Attachment), 16)},
		})
		vxlan.SetMAC(scenario.OverlayMAC())
		if err := lab.Scope.Err(); err != nil {
			return err
		}
		if err := scenario.Neighbour(site.Gateway, podsDevice, scenario.Inner(site.Number, s.Attachment), scenario.PodMAC(site.Number)); err != nil {
			return err
		}
		for _, p := range lab.Prefixes(i)[1:] {
			site.Gateway.Route(p, scenario.Inner(site.Number, s.Attachment))
		}
	}
	return lab.Scope.Err()
}

// kernelRoutes routes what is at the other site: rest is a route's next hop, as ip(8) has it.
func kernelRoutes(ctx context.Context, lab *scenario.Lab, i int, rest string) error {
	var commands bytes.Buffer
	for _, p := range lab.RoutesTo(1 - i) {
		fmt.Fprintf(&commands, "route replace %s %s\n", p, rest)
	}
	return scenario.Batch(ctx, lab.Ends[i].Gateway, commands.Bytes())
}

// errNative is of what reads packets as they are on the link: unfinished checksums of
// links with offload cannot be sent on.
var errNative = fmt.Errorf("%w: its user space cannot finish checksums", method.ErrUnavailable)

// kernelOnly reports what the kernel's site side cannot do.
func kernelOnly(s method.Scenario) error {
	switch {
	case s.VNIs > 1:
		return fmt.Errorf("%w: one VNI is configured", method.ErrUnavailable)
	case s.Peers > 1:
		return fmt.Errorf("%w: one peer is configured", method.ErrUnavailable)
	}
	return nil
}

// KernelForward is plain IP forwarding between the two sites: no tunnel, no encryption.
// What remains is what a packet costs on these links at the least.
type KernelForward struct{}

// Name of the contestant.
func (KernelForward) Name() string { return "kernel" }

// Attachments of the contestant.
func (KernelForward) Attachments() []string { return []string{scenario.Routed} }

// Supports what one forwarding kernel can do.
func (KernelForward) Supports(s method.Scenario) error { return kernelOnly(s) }

// Build sets up forwarding.
func (KernelForward) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	g := &kernelGateways{lab: lab, wan: func(ctx context.Context, i int) error {
		return kernelRoutes(ctx, lab, i, "via "+scenario.WAN(lab.Ends[1-i].Number).String())
	}}
	return g, g.build(ctx)
}

// KernelVXLAN is kernel forwarding into a VXLAN device on the WAN: a tunnel, no encryption.
type KernelVXLAN struct{}

// Name of the contestant.
func (KernelVXLAN) Name() string { return "kernel-vxlan" }

// Attachments of the contestant: plain packets first, which are the least work for it.
func (KernelVXLAN) Attachments() []string { return []string{scenario.Routed, scenario.VXLAN} }

// Supports what one forwarding kernel can do.
func (KernelVXLAN) Supports(s method.Scenario) error { return kernelOnly(s) }

// tunnelDevice is the tunnel on the WAN, tunnelVNI its number there.
const (
	tunnelDevice = "tunnel0"
	tunnelVNI    = 300
)

// Build sets up forwarding and the devices.
func (KernelVXLAN) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	mac := func(site int) string { return fmt.Sprintf("02:00:00:03:00:%02x", site) }
	addr := func(site int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, 0, byte(site)}) }
	for i, site := range lab.Ends {
		other := lab.Ends[1-i].Number
		device := site.Gateway.NewVXLAN(netnstest.VXLAN{
			Name: tunnelDevice, VNI: tunnelVNI, Local: scenario.WAN(site.Number), Remote: []netip.Addr{scenario.WAN(other)},
			MTU: scenario.InnerMTU, Addrs: []netip.Prefix{netip.PrefixFrom(addr(site.Number), 24)},
		})
		device.SetMAC(netnstest.MAC(mac(site.Number)))
		if err := lab.Scope.Err(); err != nil {
			return nil, err
		}
		if err := scenario.Neighbour(site.Gateway, tunnelDevice, addr(other), netnstest.MAC(mac(other))); err != nil {
			return nil, err
		}
	}
	g := &kernelGateways{lab: lab, wan: func(ctx context.Context, i int) error {
		return kernelRoutes(ctx, lab, i, "via "+addr(lab.Ends[1-i].Number).String())
	}}
	return g, g.build(ctx)
}

// kernelGateways has no process: the kernel does it all.
type kernelGateways struct {
	lab *scenario.Lab
	wan func(ctx context.Context, i int) error // the routes to the other site
}

func (g *kernelGateways) build(ctx context.Context) error {
	for i := range g.lab.Ends {
		if !g.lab.Active(i) {
			continue
		}
		if err := kernelSite(g.lab, i); err != nil {
			return err
		}
		if err := g.wan(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (g *kernelGateways) PIDs() []int { return nil }

func (g *kernelGateways) Version() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}

// Repair sets the routes again.
func (g *kernelGateways) Repair(ctx context.Context) error {
	for i := range g.lab.Ends {
		if err := g.wan(ctx, i); err != nil {
			return err
		}
	}
	return nil
}
