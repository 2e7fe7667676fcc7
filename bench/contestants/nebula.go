package contestants

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
)

// Nebula is Nebula on a TUN device with its default cipher (AES-256-GCM), as gateway
// of a site by "unsafe routes"; the kernel does the site's side.
type Nebula struct{}

// Name of the contestant.
func (Nebula) Name() string { return "nebula" }

// Attachments of the contestant.
func (Nebula) Attachments() []string { return []string{scenario.VXLAN, scenario.Routed} }

// Supports what the kernel's site side can do, from end to end: the sink cannot read
// its packets on the WAN.
func (Nebula) Supports(s method.Scenario) error {
	if s.Direction != method.Through {
		return fmt.Errorf("%w: its packets on the WAN cannot be counted", method.ErrUnavailable)
	}
	return kernelOnly(s)
}

const (
	nebulaModule = "github.com/slackhq/nebula"
	nebulaFolder = "bench/contestants/nebula"
	nebulaPort   = 4242
	nebulaDevice = "nebula0"
)

type nebulaGateways struct {
	version string
	daemons [2]*scenario.Daemon
}

// Build makes a certificate authority, and starts both.
func (Nebula) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	binary, version, err := program{name: "nebula", pkg: nebulaModule + "/cmd/nebula", module: nebulaFolder, version: nebulaModule}.build(ctx)
	if err != nil {
		return nil, err
	}
	cert, _, err := program{name: "nebula-cert", pkg: nebulaModule + "/cmd/nebula-cert", module: nebulaFolder, version: nebulaModule}.build(ctx)
	if err != nil {
		return nil, err
	}
	dir := lab.Scope.Dir()
	if _, err := run(ctx, dir, cert, "ca", "-name", "bench"); err != nil {
		return nil, err
	}
	g := &nebulaGateways{version: version}
	for i, site := range lab.Ends {
		if err := kernelSite(lab, i); err != nil {
			return nil, err
		}
		own := filepath.Join(site.Gateway.Dir(), "nebula")
		if _, err := run(ctx, dir, cert, "sign", "-name", site.Gateway.Name(), "-networks", nebulaAddress(site.Number)+"/24",
			"-unsafe-networks", joined(lab, i), "-out-crt", own+".crt", "-out-key", own+".key"); err != nil {
			return nil, err
		}
		if err := os.WriteFile(own+".yaml", []byte(nebulaConfiguration(lab, i)), 0o600); err != nil {
			return nil, err
		}
		if g.daemons[i], err = lab.Start(ctx, site.Gateway, nil, binary, "-config", own+".yaml"); err != nil {
			return nil, err
		}
	}
	for i, d := range g.daemons {
		host := lab.Ends[i].Gateway.Netlink()
		if err := d.Wait(ctx, func() error { _, err := host.LinkByName(nebulaDevice); return err }); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func nebulaAddress(site int) string { return fmt.Sprintf("100.64.0.%d", site) }

// joined is what is at a site, as nebula-cert takes it.
func joined(lab *scenario.Lab, i int) string {
	var texts []string
	for _, p := range lab.Prefixes(i) {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

func nebulaConfiguration(lab *scenario.Lab, i int) string {
	own := filepath.Join(lab.Ends[i].Gateway.Dir(), "nebula")
	peer := lab.Ends[1-i].Number
	var text strings.Builder
	fmt.Fprintf(&text, `pki: {ca: %s, cert: %s.crt, key: %s.key}
static_host_map:
  "%s": ["%s:%d"]
lighthouse: {am_lighthouse: false}
listen: {host: 0.0.0.0, port: %d}
punchy: {punch: false}
logging: {level: warning, format: text}
firewall:
  default_local_cidr_any: true
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
tun:
  dev: %s
  mtu: %d
  unsafe_routes:
`, filepath.Join(lab.Scope.Dir(), "ca.crt"), own, own, nebulaAddress(peer), scenario.WAN(peer), nebulaPort,
		nebulaPort, nebulaDevice, scenario.InnerMTU)
	for _, p := range lab.RoutesTo(1 - i) {
		fmt.Fprintf(&text, "    - {route: %s, via: %s}\n", p, nebulaAddress(peer))
	}
	return text.String()
}

func (g *nebulaGateways) PIDs() []int     { return []int{g.daemons[0].PID(), g.daemons[1].PID()} }
func (g *nebulaGateways) Version() string { return g.version }

// Restart kills the first daemon and starts it again; it sets up its own device and routes.
func (g *nebulaGateways) Restart(ctx context.Context) error { return g.daemons[0].Restart(ctx) }
