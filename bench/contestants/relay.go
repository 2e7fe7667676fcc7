package contestants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
)

// PcapRelay is a gateway as they were built on packet capture; see its folder. It does
// not encrypt.
type PcapRelay struct{}

// Name of the contestant.
func (PcapRelay) Name() string { return "pcap-relay" }

// Attachments of the contestant.
func (PcapRelay) Attachments() []string { return []string{scenario.VXLAN} }

// Supports one node at each site, from end to end.
func (PcapRelay) Supports(s method.Scenario) error {
	if s.Routes > 1 || s.Direction != method.Through {
		return fmt.Errorf("%w: it knows one node at the other site", method.ErrUnavailable)
	}
	if s.Native {
		return errNative
	}
	return kernelOnly(s)
}

type relayGateways struct {
	version string
	daemons [2]*scenario.Daemon
}

// Build starts both.
func (PcapRelay) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	binary, version, err := program{name: "pcaprelay", pkg: "./bench/contestants/pcaprelay"}.build(ctx)
	if err != nil {
		return nil, err
	}
	g := &relayGateways{version: version}
	for i, site := range lab.Ends {
		other := lab.Ends[1-i].Number
		pair := func(mac fmt.Stringer, ip netip.Addr) string { return mac.String() + "," + ip.String() }
		g.daemons[i], err = lab.Start(ctx, site.Gateway, nil, binary,
			"-site", site.Inside.Name,
			"-site-src", pair(scenario.GatewayMAC(site.Number), scenario.Underlay(site.Number, true)),
			"-site-dst", pair(scenario.EndMAC(site.Number), scenario.Underlay(site.Number, false)),
			"-pod", scenario.PodMAC(site.Number).String(),
			"-wan", site.WAN.Name,
			"-wan-src", pair(scenario.WANMAC(site.Number), scenario.WAN(site.Number)),
			"-wan-dst", pair(scenario.WANMAC(other), scenario.WAN(other)),
		)
		if err != nil {
			return nil, err
		}
		log := filepath.Join(site.Gateway.Dir(), "pcaprelay.log")
		if err := g.daemons[i].Wait(ctx, func() error {
			if text, err := os.ReadFile(log); err != nil || string(text) != "ready\n" {
				return errors.Join(errors.New("not ready"), err)
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *relayGateways) PIDs() []int     { return []int{g.daemons[0].PID(), g.daemons[1].PID()} }
func (g *relayGateways) Version() string { return g.version }

// Restart kills the first process and starts it again.
func (g *relayGateways) Restart(ctx context.Context) error { return g.daemons[0].Restart(ctx) }
