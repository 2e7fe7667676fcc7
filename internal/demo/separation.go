package demo

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// checkTwins: an address that both VPCs have is answered by the asker's own.
func (d *demo) checkTwins(ctx context.Context) {
	for i, s := range d.lab.sites {
		asked, err := d.twins(ctx, s, d.lab.sites[1-i])
		d.record("separation", fmt.Sprintf("from %s, the same address is red's or blue's pod", s.name),
			fmt.Sprintf("%d questions, each VPC got its own pod", asked), err)
	}
}

func (d *demo) twins(ctx context.Context, s, other *site) (asked int, err error) {
	for node := 1; node <= 2; node++ {
		red, blue := other.pick("red", node), other.pick("blue", node)
		if !slices.Equal(red.addrs, blue.addrs) {
			return asked, fmt.Errorf("%s and %s have different addresses: this checks nothing", red.name, blue.name)
		}
		for _, addr := range red.addrs {
			for _, network := range []string{"tcp", "udp"} {
				for _, want := range []*endpoint{red, blue} {
					if err := d.identify(ctx, s.pick(want.vpc, 1), want, network, addr); err != nil {
						return asked, err
					}
					asked++
				}
			}
		}
	}
	return asked, nil
}

// checkBlueOnly: an address that exists in blue only is no one's in red.
func (d *demo) checkBlueOnly(ctx context.Context) {
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	i := slices.IndexFunc(bergen.pods, func(e *endpoint) bool { return e.only })
	only := bergen.pods[i]
	var err error
	for _, addr := range only.addrs {
		err = cmp.Or(err, first(
			func() error { return d.unreachable(ctx, oslo.pick("red", 1), addr) },
			func() error { return d.meet(ctx, oslo.pick("blue", 1), only, addr) }))
	}
	d.record("separation", "an address of blue alone cannot be reached from red", fmt.Sprintf("%s, %s: blue gets answers, red none", only.addrs[0], only.addrs[1]), err)
}

// checkDefaultVPC: the routed hosts are in no tenant's VPC.
func (d *demo) checkDefaultVPC(ctx context.Context) {
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	var err error
	for f := range family {
		err = cmp.Or(err, first(
			func() error { return d.unreachable(ctx, oslo.host, bergen.pick("red", 1).addrs[f]) },
			func() error { return d.unreachable(ctx, oslo.pick("red", 1), bergen.host.addrs[f]) }))
	}
	d.record("separation", "hosts (default VPC) and pods cannot reach each other", "no answers either way", err)
}

// unreachable makes sure that nothing answers.
func (d *demo) unreachable(ctx context.Context, from *endpoint, addr netip.Addr) error {
	err := netnstest.Ping(ctx, from.host, addr, netnstest.PingOptions{Count: 1, Timeout: d.silence, Payload: d.lab.marker})
	if err == nil {
		return fmt.Errorf("%s reached %s", from.name, addr)
	}
	for _, network := range []string{"tcp", "udp"} {
		if name, err := from.who(ctx, network, addr, d.silence/3); err == nil {
			return fmt.Errorf("%s reached %s at %s over %s", from.name, name, addr, network)
		}
	}
	return ctx.Err()
}
