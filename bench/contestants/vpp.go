package contestants

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/testenv"
)

// VPP is FD.io's Vector Packet Processing with its wireguard plugin, on AF_XDP sockets in copy mode as ours are. It
// needs packages vpp and vpp-plugin-core of fd.io, which Debian does not have. Written after VPP's documentation
// (https://s3-docs.fd.io/vpp/26.02/, "Wireguard cli reference" and "af_xdp"), and so far run nowhere.
type VPP struct{}

// Name of the contestant.
func (VPP) Name() string { return "vpp" }

// Attachments of the contestant.
func (VPP) Attachments() []string { return []string{scenario.Routed} }

// Supports one thread between two sites, on wire-faithful links.
func (VPP) Supports(s method.Scenario) error {
	for _, tool := range []string{"vpp", "vppctl"} {
		if _, err := testenv.LookTool(tool); err != nil {
			return fmt.Errorf("%w: package vpp: %w", method.ErrUnavailable, err)
		}
	}
	switch {
	case s.Native:
		return errNative
	case s.Direction != method.Through:
		return fmt.Errorf("%w: it is configured for both sites", method.ErrUnavailable)
	case s.Workers > 1:
		return fmt.Errorf("%w: one thread is configured", method.ErrUnavailable)
	}
	return kernelOnly(s)
}

type vppGateways struct {
	version string
	daemons [2]*scenario.Daemon
}

// Build starts both with their configuration.
func (VPP) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	g := &vppGateways{}
	for i, site := range lab.Ends {
		dir := site.Gateway.Dir()
		setup := filepath.Join(dir, "vpp.setup")
		if err := os.WriteFile(setup, vppSetup(lab, i), 0o600); err != nil { // it has the private key
			return nil, err
		}
		startup := filepath.Join(dir, "vpp.conf")
		if err := os.WriteFile(startup, []byte(vppStartup(dir, setup)), 0o600); err != nil {
			return nil, err
		}
		binary, err := testenv.LookTool("vpp")
		if err != nil {
			return nil, err
		}
		if g.daemons[i], err = lab.Start(ctx, site.Gateway, nil, binary, "-c", startup); err != nil {
			return nil, err
		}
	}
	for i, d := range g.daemons {
		if err := d.Wait(ctx, func() error { return vppReady(ctx, lab, i) }); err != nil {
			return nil, err
		}
	}
	text, err := vppctl(ctx, lab, 0, "show", "version")
	g.version, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	return g, err
}

// vppStartup keeps everything that VPP makes in the folder of the host: two of them run at once.
func vppStartup(dir, setup string) string {
	return fmt.Sprintf(`unix {
  nodaemon
  runtime-dir %[1]s
  cli-listen %[1]s/vpp.sock
  log %[1]s/vpp.own.log
  exec %[2]s
}
socksvr { socket-name %[1]s/vpp.api }
statseg { socket-name %[1]s/vpp.stats }
plugins { plugin dpdk_plugin.so { disable } }
`, dir, setup)
}

// vppSetup is the commands that configure a gateway. VPP answers for the addresses that the kernel has on the links.
func vppSetup(lab *scenario.Lab, i int) []byte {
	var text bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	site, other := lab.Ends[i], lab.Ends[1-i]
	for _, port := range []struct {
		name, mac string
		addresses []netip.Prefix
	}{
		{site.Inside.Name, scenario.GatewayMAC(site.Number).String(), []netip.Prefix{
			netip.PrefixFrom(scenario.Underlay(site.Number, true), 24), netip.PrefixFrom(scenario.InnerGateway(site.Number, scenario.Routed), 24)}},
		{site.WAN.Name, scenario.WANMAC(site.Number).String(), []netip.Prefix{netip.PrefixFrom(scenario.WAN(site.Number), 16)}},
	} {
		say("create interface af_xdp host-if %s name vpp-%[1]s num-rx-queues 1 no-zero-copy", port.name)
		say("set interface mac address vpp-%s %s", port.name, port.mac)
		say("set interface mtu packet %d vpp-%s", scenario.LinkMTU, port.name)
		say("set interface state vpp-%s up", port.name)
		for _, a := range port.addresses {
			say("set interface ip address vpp-%s %s", port.name, a)
		}
	}
	say("set ip neighbor static vpp-%s %s %s", site.Inside.Name, scenario.Inner(site.Number, scenario.Routed), scenario.EndMAC(site.Number))
	say("set ip neighbor static vpp-%s %s %s", site.WAN.Name, scenario.WAN(other.Number), scenario.WANMAC(other.Number))
	for _, p := range lab.Prefixes(i)[1:] {
		say("ip route add %s via %s vpp-%s", p, scenario.Inner(site.Number, scenario.Routed), site.Inside.Name)
	}
	key, peer := lab.PrivateKey(i), lab.Peers(i)[0]
	say("wireguard create listen-port %d private-key %s src %s", scenario.WireGuardPort, key.RevealBase64(), scenario.WAN(site.Number))
	say("set interface ip address wg0 %s/32", lab.Peers(1 - i)[0].Tunnel)
	say("set interface mtu packet %d wg0", scenario.InnerMTU)
	say("set interface state wg0 up")
	allowed := ""
	for _, p := range append(lab.RoutesTo(1-i), netip.PrefixFrom(peer.Tunnel, 32)) {
		allowed += fmt.Sprintf(" allowed-ip %s", p)
	}
	say("wireguard peer add wg0 public-key %s endpoint %s%s dst-port %d", peer.Key, scenario.WAN(other.Number), allowed, scenario.WireGuardPort)
	for _, p := range lab.RoutesTo(1 - i) {
		say("ip route add %s via %s wg0", p, peer.Tunnel)
	}
	return text.Bytes()
}

// vppReady asks for the peer, which is configured last but for the routes.
func vppReady(ctx context.Context, lab *scenario.Lab, i int) error {
	text, err := vppctl(ctx, lab, i, "show", "wireguard", "peer")
	if err == nil && !strings.Contains(text, scenario.WAN(lab.Ends[1-i].Number).String()) {
		err = fmt.Errorf("vpp has no peer yet: %q", text)
	}
	return err
}

func vppctl(ctx context.Context, lab *scenario.Lab, i int, args ...string) (string, error) {
	host := lab.Ends[i].Gateway
	out, err := host.Command(ctx, "vppctl", append([]string{"-s", filepath.Join(host.Dir(), "vpp.sock")}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("vppctl %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

func (g *vppGateways) PIDs() []int     { return pids(g.daemons[:]) }
func (g *vppGateways) Version() string { return g.version }

// Restart kills the first gateway and starts it again.
func (g *vppGateways) Restart(ctx context.Context) error { return g.daemons[0].Restart(ctx) }
