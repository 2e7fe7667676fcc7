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
		{"between the sites", []func(context.Context){d.checkFirstPacket, d.checkPings, d.checkServices, d.checkSizes}},
		{"separation", []func(context.Context){d.checkTwins, d.checkBlueOnly, d.checkDefaultVPC}},
		{fmt.Sprintf("copies of %d MB", d.CopySize/1e6), []func(context.Context){d.checkCopies}},
		{"the WAN", []func(context.Context){d.checkControl, d.checkWAN}},
	} {
		if ctx.Err() != nil {
			return
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
		case isXDP && strings.HasPrefix(verdict, "divert_"), name == "relay/to_peer", name == "relay/to_site", name == "relay/answered":
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
			d.record("cross", fmt.Sprintf("ping %s, %s", vpc, family[f]), fmt.Sprintf("%d pairs, both ways", pairs), err)
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

// checkControl proves that the capture would see what must not be there: on a
// host's own link, it does. (Not on the gateway's ports: XDP takes packets away
// before a packet socket sees them.)
func (d *demo) checkControl(ctx context.Context) {
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	detail, err := func() (string, error) {
		c, err := newCapture(oslo.host.host, d.lab.wireRules(), "eth0")
		if err != nil {
			return "", err
		}
		talk := d.identify(ctx, oslo.host, bergen.host, "udp", bergen.host.addrs[0])
		seen, err := c.finish(ctx)
		if err := errors.Join(talk, err, c.close()); err != nil {
			return "", err
		}
		if seen.Marked == 0 || seen.Forbidden == 0 {
			return "", fmt.Errorf("the capture saw %d packets, and found nothing wrong with them", seen.Packets)
		}
		return fmt.Sprintf("%d packets, %d of them readable", seen.Packets, seen.Marked), nil
	}()
	d.record("wan", "the capture would notice: on the site's wire it does", detail, err)
}

// checkWAN judges what the WAN has seen since before the gateways started.
func (d *demo) checkWAN(ctx context.Context) {
	seen, err := d.capture.finish(ctx)
	if err != nil {
		d.record("wan", "only WireGuard on the WAN", "", err)
		return
	}
	total := 0
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(seen.Kinds)) {
		if strings.HasPrefix(kind, "WireGuard") {
			total += seen.Kinds[kind]
		}
		kinds = append(kinds, fmt.Sprintf("%d %s", seen.Kinds[kind], kind))
	}
	err = nil
	switch {
	case seen.Lost > 0:
		err = fmt.Errorf("the capture lost %d packets, so this is not known (%d were seen)", seen.Lost, seen.Packets)
	case seen.Forbidden > 0:
		err = fmt.Errorf("%d of %d packets are something else: %s", seen.Forbidden, seen.Packets, strings.Join(seen.Why, ", "))
	case total == 0:
		err = errors.New("no WireGuard was seen at all")
	}
	d.record("wan", "only WireGuard on the WAN", strings.Join(kinds, ", "), err)
	err = nil
	switch {
	case seen.Marked > 0:
		err = fmt.Errorf("%d packets carry the marker", seen.Marked)
	case int64(seen.Bytes) < d.moved():
		err = fmt.Errorf("the capture saw %d bytes, fewer than were copied", seen.Bytes)
	}
	d.record("wan", "nothing that the endpoints sent can be read there", fmt.Sprintf("marker in none of %d packets, %d MB", seen.Packets, seen.Bytes/1e6), err)
}

func (d *demo) moved() (n int64) {
	for _, c := range d.Copies {
		n += c.Bytes
	}
	return n
}

// wireRules: WireGuard between the gateways, and what links need.
func (l *lab) wireRules() wireRules {
	rules := wireRules{port: wireGuardPort, marker: l.marker}
	for _, s := range l.sites {
		for _, family := range []int{4, 6} {
			rules.gateways = append(rules.gateways, s.wan(2, family).Addr())
			rules.neighbours = append(rules.neighbours, s.wan(1, family).Addr(), s.wan(2, family).Addr())
		}
	}
	return rules
}
