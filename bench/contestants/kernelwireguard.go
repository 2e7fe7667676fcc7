package contestants

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/bench/traffic"
	"github.com/sluicegw/sluice/internal/testenv"
)

// KernelWireGuard is the kernel's own WireGuard, with the kernel forwarding into it. It needs a kernel with
// CONFIG_WIREGUARD.
type KernelWireGuard struct{}

// Name of the contestant.
func (KernelWireGuard) Name() string { return "kernel-wireguard" }

// Attachments of the contestant.
func (KernelWireGuard) Attachments() []string { return []string{scenario.VXLAN, scenario.Routed} }

// Supports what the kernel's site side can do, with many peers besides.
func (KernelWireGuard) Supports(s method.Scenario) error {
	if _, err := testenv.LookTool("wg"); err != nil {
		return fmt.Errorf("%w: package wireguard-tools: %w", method.ErrUnavailable, err)
	}
	s.Peers = 1
	return kernelOnly(s)
}

// Sealed is the packet itself: the kernel takes VXLAN off first.
func (KernelWireGuard) Sealed(lab *scenario.Lab) traffic.Flow { return innerFlow(lab) }

const kernelWireGuardDevice = "wgbench0"

type kernelWireGuard struct{ kernelGateways }

// Build makes and configures the devices.
func (KernelWireGuard) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	g := &kernelWireGuard{kernelGateways{lab: lab, wan: func(ctx context.Context, i int) error {
		return kernelRoutes(ctx, lab, i, "dev "+kernelWireGuardDevice)
	}}}
	for i, site := range lab.Ends {
		if !lab.Active(i) {
			continue
		}
		if err := command(ctx, site.Gateway, "ip", "link", "add", kernelWireGuardDevice, "type", "wireguard"); err != nil {
			return nil, fmt.Errorf("%w: the kernel makes no wireguard device: %w", method.ErrUnavailable, err)
		}
		file := filepath.Join(site.Gateway.Dir(), "wg.conf")
		if err := os.WriteFile(file, wgConfiguration(lab, i), 0o600); err != nil {
			return nil, err
		}
		for _, args := range [][]string{
			{"wg", "setconf", kernelWireGuardDevice, file},
			{"ip", "link", "set", kernelWireGuardDevice, "mtu", strconv.Itoa(scenario.InnerMTU), "up"},
		} {
			if err := command(ctx, site.Gateway, args[0], args[1:]...); err != nil {
				return nil, err
			}
		}
	}
	return g, g.build(ctx)
}

// wgConfiguration is in the words of wg(8).
func wgConfiguration(lab *scenario.Lab, i int) []byte {
	key := lab.PrivateKey(i)
	text := append([]byte("[Interface]\nPrivateKey = "), key.RevealBase64()...)
	text = fmt.Appendf(text, "\nListenPort = %d\n", scenario.WireGuardPort)
	for _, peer := range lab.Peers(i) {
		var prefixes []string
		for _, p := range peer.Prefixes {
			prefixes = append(prefixes, p.String())
		}
		text = fmt.Appendf(text, "[Peer]\nPublicKey = %s\nEndpoint = %s\nAllowedIPs = %s\n", peer.Key, peer.Endpoint, strings.Join(prefixes, ", "))
	}
	return text
}

// LastHandshake asks the first gateway's device.
func (g *kernelWireGuard) LastHandshake(ctx context.Context) (time.Time, error) {
	out, err := g.lab.Ends[0].Gateway.Command(ctx, "wg", "show", kernelWireGuardDevice, "latest-handshakes").Output()
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(out)) { // public key, tab, seconds since 1970 or 0
		_, at, _ := strings.Cut(strings.TrimSpace(line), "\t")
		seconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("wg: latest handshake %q: %w", at, err)
		}
		if seconds > 0 {
			return time.Unix(seconds, 0), nil
		}
	}
	return time.Time{}, fmt.Errorf("no handshake yet")
}

// Renewal is WireGuard's REKEY_AFTER_TIME.
func (g *kernelWireGuard) Renewal() time.Duration { return 120 * time.Second }
