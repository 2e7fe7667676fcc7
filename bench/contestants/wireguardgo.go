package contestants

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/bench/traffic"
)

// WireGuardGo is wireguard-go on a TUN device, with the kernel's VXLAN and forwarding
// on the site's side: what one would build today without a kernel module.
type WireGuardGo struct{}

// Name of the contestant.
func (WireGuardGo) Name() string { return "wireguard-go" }

// Attachments of the contestant.
func (WireGuardGo) Attachments() []string { return []string{scenario.VXLAN, scenario.Routed} }

// Supports what the kernel's site side can do; it seals and opens.
func (WireGuardGo) Supports(s method.Scenario) error {
	s.Peers, s.Direction = 1, method.Through
	return kernelOnly(s)
}

// Sealed is the packet itself.
func (WireGuardGo) Sealed(lab *scenario.Lab) traffic.Flow { return innerFlow(lab) }

// wireGuardGo is two wireguard-go with their TUN devices.
type wireGuardGo struct {
	kernelGateways
	version string
	devices [2]string
	configs [2]string
	daemons [2]*scenario.Daemon
}

// Build starts and configures both.
func (WireGuardGo) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	binary, version, err := program{name: "wireguard-go", pkg: wireGuardModule, version: wireGuardModule}.build(ctx)
	if err != nil {
		return nil, err
	}
	g := &wireGuardGo{version: version}
	g.kernelGateways = kernelGateways{lab: lab, wan: func(ctx context.Context, i int) error {
		return kernelRoutes(ctx, lab, i, "dev "+g.devices[i])
	}}
	for i, site := range lab.Ends {
		if !lab.Active(i) {
			continue
		}
		// The control socket's name is the device's, in a folder that all hosts share.
		g.devices[i] = fmt.Sprintf("%s-%d", lab.Scope.ID(), site.Number)
		if g.configs[i], err = g.configuration(i); err != nil {
			return nil, err
		}
		if g.daemons[i], err = lab.Start(ctx, site.Gateway, []string{"LOG_LEVEL=error"}, binary, "-f", g.devices[i]); err != nil {
			return nil, err
		}
		if err := g.bringUp(ctx, i); err != nil {
			return nil, err
		}
	}
	return g, g.build(ctx)
}

const wireGuardModule = "golang.zx2c4.com/wireguard"

// bringUp configures a daemon that was just started.
func (g *wireGuardGo) bringUp(ctx context.Context, i int) error {
	return g.daemons[i].Wait(ctx, func() error {
		if _, err := g.uapi(i, "set=1\n"+g.configs[i]); err != nil {
			return err
		}
		host := g.lab.Ends[i].Gateway.Netlink()
		link, err := host.LinkByName(g.devices[i])
		if err != nil {
			return err
		}
		if err := host.LinkSetMTU(link, scenario.InnerMTU); err != nil {
			return err
		}
		return host.LinkSetUp(link)
	})
}

// configuration is in the words of the cross-platform interface of WireGuard.
func (g *wireGuardGo) configuration(i int) (string, error) {
	private, err := hexKey(g.lab.PrivateKey(i))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "private_key=%s\nlisten_port=%d\nreplace_peers=true\n", private, scenario.WireGuardPort)
	for _, peer := range g.lab.Peers(i) {
		fmt.Fprintf(&text, "public_key=%s\nendpoint=%s\n", hex.EncodeToString(peer.Key[:]), peer.Endpoint)
		for _, p := range peer.Prefixes {
			fmt.Fprintf(&text, "allowed_ip=%s\n", p)
		}
	}
	return text.String() + "\n", nil
}

// uapi sends a request to a daemon and returns its answer.
func (g *wireGuardGo) uapi(i int, request string) (string, error) {
	conn, err := net.Dial("unix", "/var/run/wireguard/"+g.devices[i]+".sock")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return "", err
	}
	var answer strings.Builder
	buf := make([]byte, 4096)
	for !strings.HasSuffix(answer.String(), "\n\n") {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return "", fmt.Errorf("wireguard-go: %w", err)
		}
	}
	if !strings.Contains(answer.String(), "errno=0\n") {
		return "", fmt.Errorf("wireguard-go refuses: %q", answer.String())
	}
	return answer.String(), nil
}

// PIDs of the active daemons.
func (g *wireGuardGo) PIDs() []int {
	var active []*scenario.Daemon
	for _, d := range g.daemons {
		if d != nil {
			active = append(active, d)
		}
	}
	return pids(active)
}

// Version of the module.
func (g *wireGuardGo) Version() string { return g.version }

// Restart kills the first daemon, starts it again and configures it as wg-quick would.
func (g *wireGuardGo) Restart(ctx context.Context) error {
	if err := g.daemons[0].Restart(ctx); err != nil {
		return err
	}
	if err := g.bringUp(ctx, 0); err != nil {
		return err
	}
	return g.wan(ctx, 0)
}

// LastHandshake asks the first daemon.
func (g *wireGuardGo) LastHandshake(context.Context) (time.Time, error) {
	answer, err := g.uapi(0, "get=1\n\n")
	if err != nil {
		return time.Time{}, err
	}
	var at [2]int64 // seconds, nanoseconds
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for i, name := range [...]string{"last_handshake_time_sec", "last_handshake_time_nsec"} {
			if key == name {
				if at[i], err = strconv.ParseInt(value, 10, 64); err != nil {
					return time.Time{}, fmt.Errorf("wireguard-go: %s: %w", name, err)
				}
			}
		}
	}
	if at[0] == 0 {
		return time.Time{}, fmt.Errorf("wireguard-go: no handshake yet")
	}
	return time.Unix(at[0], at[1]), nil
}

// Renewal is WireGuard's REKEY_AFTER_TIME.
func (g *wireGuardGo) Renewal() time.Duration { return 120 * time.Second }
