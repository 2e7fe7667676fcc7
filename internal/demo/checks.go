package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// patience is how long an answer that is wanted may take; silence how long one
// that is not wanted is waited for.
const (
	patience = 3 * time.Second
	silence  = 700 * time.Millisecond
)

// family names what an endpoint's addrs holds at 0 and 1.
var family = [...]string{"IPv4", "IPv6"}

// check runs all checks, in an order that matters: local traffic comes before
// anything has asked the gateways for something.
func (d *demo) check(ctx context.Context) {
	for _, group := range []struct {
		title  string
		checks []func(context.Context)
	}{
		{"within a site", []func(context.Context){d.checkLocal}},
		{"between the sites", []func(context.Context){d.checkFirst, d.checkPings, d.checkServices, d.checkSizes}},
		{"separation", []func(context.Context){d.checkTwins, d.checkBlueOnly, d.checkDefaultVPC}},
		{fmt.Sprintf("copies of %d MB", d.CopySize/1e6), []func(context.Context){d.checkCopies}},
		{"two gateways at each site", d.survival()},
		{"the WAN", []func(context.Context){d.checkControl, d.checkWAN}},
	} {
		if ctx.Err() != nil {
			return
		}
		if len(group.checks) == 0 {
			continue
		}
		d.say("\n%s\n", group.title)
		for _, check := range group.checks {
			check(ctx)
		}
	}
}

// checkLocal: pods of one site meet as if there was no gateway, which sees their
// broadcasts and leaves them alone.
func (d *demo) checkLocal(ctx context.Context) {
	for _, s := range d.lab.sites {
		before, err := s.gateway.counters(ctx)
		if err == nil {
			err = d.localTraffic(ctx, s)
		}
		d.record("local", fmt.Sprintf("pods of %s meet across its nodes (%s)", s.name, s.overlay), "ping, TCP and UDP, both VPCs, both families, 4 MB", err)
		if err != nil {
			continue
		}
		after, err := s.gateway.counters(ctx)
		detail := ""
		if err == nil {
			detail, err = untouched(before, after)
		}
		d.record("local", "local traffic of "+s.name+" never touches the relay", detail, err)
	}
}

func (d *demo) localTraffic(ctx context.Context, s *site) error {
	for _, vpc := range vpcs {
		from, to := s.pick(vpc, 1), s.pick(vpc, 2)
		for _, addr := range to.addrs {
			if err := d.meet(ctx, from, to, addr); err != nil {
				return err
			}
			if _, err := from.copyTo(ctx, addr, 1e6); err != nil {
				return err
			}
		}
	}
	return nil
}

// untouched compares two readings of a gateway's counters between which no
// traffic was for it.
func untouched(before, after map[string]uint64) (string, error) {
	moved := 0
	var watched uint64
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(after)) {
		verdict, isXDP := strings.CutPrefix(name, "xdp/")
		switch {
		case verdict == "divert_handshake" || verdict == "divert_transport": // the gateways probe each other all the time
		case isXDP && strings.HasPrefix(verdict, "divert_"), name == "relay/to_peer", name == "relay/to_site":
			watched++
			if after[name] != before[name] {
				errs = append(errs, fmt.Errorf("%s grew by %d", name, after[name]-before[name]))
			}
		case isXDP && strings.HasPrefix(verdict, "pass_"):
			moved += int(after[name] - before[name])
		}
	}
	if watched < 4 {
		errs = append(errs, fmt.Errorf("only %d of the counters in question exist", watched))
	}
	return fmt.Sprintf("%d counters unchanged; %d packets passed to the kernel", watched, moved), errors.Join(errs...)
}

// meet tries all ways from one endpoint to another's address, and that it is him.
func (d *demo) meet(ctx context.Context, from, to *endpoint, addr netip.Addr) error {
	if err := netnstest.Ping(ctx, from.host, addr, d.ping()); err != nil {
		return err
	}
	for _, network := range []string{"tcp", "udp"} {
		if err := d.identify(ctx, from, to, network, addr); err != nil {
			return err
		}
	}
	return nil
}

// ping: Open vSwitch drops the first packet to a tunnel whose far end it has yet
// to resolve, so one of a few answers is enough.
func (d *demo) ping() netnstest.PingOptions {
	return netnstest.PingOptions{Count: 5, Timeout: d.patience / 3, Payload: d.lab.marker}
}

// identify asks whoever has an address, and wants a certain one to answer.
func (d *demo) identify(ctx context.Context, from, want *endpoint, network string, addr netip.Addr) error {
	name, err := from.who(ctx, network, addr, d.patience)
	if err == nil && name != want.name {
		err = fmt.Errorf("%s asked %s over %s for %s, and %s answered", from.name, addr, network, want.name, name)
	}
	return err
}

// checkFirstPacket: nothing has passed between the gateways yet, so the very
// first packet has to wait for the handshake, and must not be lost. Between the
// hosts nobody else can lose it.
func (d *demo) checkFirstPacket(ctx context.Context) {
	from, to := d.lab.sites[0].host, d.lab.sites[1].host
	began := time.Now()
	err := netnstest.Ping(ctx, from.host, to.addrs[0], netnstest.PingOptions{Count: 1, Timeout: 5 * time.Second, Payload: d.lab.marker})
	d.record("cross", "the first packet waits for the handshake and arrives", fmt.Sprintf("answered after %.1f ms", time.Since(began).Seconds()*1e3), err)
}

// checkPings pings every endpoint's counterparts at the other site.
func (d *demo) checkPings(ctx context.Context) {
	for _, vpc := range append([]string{config.DefaultVPC}, vpcs[:]...) {
		for f := range family {
			pairs, err := d.eachPair(vpc, func(from, to *endpoint) error {
				return netnstest.Ping(ctx, from.host, to.addrs[f], d.ping())
			})
			d.record("cross", fmt.Sprintf("ping %s, %s", vpc, family[f]), fmt.Sprintf("%d pairs of sender and receiver", pairs), err)
		}
	}
}

// checkServices: TCP and UDP, whose sums the sender's kernel may leave unfinished.
func (d *demo) checkServices(ctx context.Context) {
	for _, network := range []string{"tcp", "udp"} {
		total := 0
		var err error
		for _, vpc := range append([]string{config.DefaultVPC}, vpcs[:]...) {
			pairs, e := d.eachPair(vpc, func(from, to *endpoint) error {
				return first(
					func() error { return d.identify(ctx, from, to, network, to.addrs[0]) },
					func() error { return d.identify(ctx, from, to, network, to.addrs[1]) })
			})
			total += 2 * pairs
			err = cmp.Or(err, e)
		}
		d.record("cross", "services over "+strings.ToUpper(network)+", all VPCs, both families", fmt.Sprintf("%d exchanges, the right one answered", total), err)
	}
}

// eachPair calls f for every endpoint of a VPC with each one at the other site,
// until it fails.
func (d *demo) eachPair(vpc string, f func(from, to *endpoint) error) (pairs int, err error) {
	for _, from := range d.lab.endpoints() {
		for _, to := range d.lab.endpoints() {
			if from.site == to.site || from.vpc != vpc || to.vpc != vpc {
				continue
			}
			if err := f(from, to); err != nil {
				return pairs, err
			}
			pairs++
		}
	}
	if pairs == 0 {
		return 0, fmt.Errorf("no endpoints in VPC %s", vpc)
	}
	return pairs, nil
}

// checkSizes: the longest packets fit, and who sends longer ones is told.
func (d *demo) checkSizes(ctx context.Context) {
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	full := func(from, to *endpoint, mtu int) func() error {
		return func() error {
			for f, header := range []int{20 + 8, 40 + 8} {
				o := d.ping()
				o.Size, o.DontFragment = mtu-header, true
				if err := netnstest.Ping(ctx, from.host, to.addrs[f], o); err != nil {
					return err
				}
			}
			return nil
		}
	}
	d.record("cross", "a pod's full packets fit, IPv4 and IPv6", fmt.Sprintf("%d bytes, not fragmented", d.lab.podMTU),
		first(full(oslo.pick("red", 1), bergen.pick("red", 2), d.lab.podMTU), full(bergen.pick("blue", 1), oslo.pick("blue", 2), d.lab.podMTU)))
	d.record("cross", "a host's full packets fit, IPv4 and IPv6", fmt.Sprintf("%d bytes, not fragmented", d.lab.hostMTU),
		first(full(oslo.host, bergen.host, d.lab.hostMTU), full(bergen.host, oslo.host, d.lab.hostMTU)))
	told := func(f int) func() error {
		return func() error {
			mtu, err := oslo.host.pathMTU(ctx, bergen.host.addrs[f], wireMTU, d.patience)
			if err == nil && mtu != d.lab.hostMTU {
				err = fmt.Errorf("%s was told that the path to %s carries %d bytes, not %d", oslo.host.name, bergen.host.addrs[f], mtu, d.lab.hostMTU)
			}
			return err
		}
	}
	d.record("cross", "a host that sends longer ones is told (ICMP too big)", fmt.Sprintf("it learned %d from the gateway", d.lab.hostMTU), first(told(0), told(1)))
}

// first runs steps until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// checkCopies: bulk data each way, of a VPC and of the hosts, over both families.
func (d *demo) checkCopies(ctx context.Context) {
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	for _, c := range []struct {
		what     string
		from, to *endpoint
		family   int
	}{
		{"VPC red", oslo.pick("red", 1), bergen.pick("red", 1), 0},
		{"VPC red", bergen.pick("red", 2), oslo.pick("red", 2), 1},
		{"hosts", oslo.host, bergen.host, 0},
		{"hosts", bergen.host, oslo.host, 1},
	} {
		name := fmt.Sprintf("TCP copy, %s, %s to %s, %s", c.what, c.from.site.name, c.to.site.name, family[c.family])
		d.step("  ....  " + name)
		result, err := c.from.copyTo(ctx, c.to.addrs[c.family], d.CopySize)
		detail := ""
		if err == nil {
			result.Name = name
			d.Copies = append(d.Copies, result)
			detail = fmt.Sprintf("SHA-256 %s… on both ends, %s", result.SHA256[:12], result.rate())
		}
		d.record("copy", name, detail, err)
	}
}
