package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
			if s.second != nil {
				rules.gateways = append(rules.gateways, s.wanSecond(2, family).Addr())
				rules.neighbours = append(rules.neighbours, s.wanSecond(1, family).Addr(), s.wanSecond(2, family).Addr())
			}
		}
	}
	return rules
}

// wanLinks are the WAN router's links to the gateways.
func (l *lab) wanLinks() (links []string) {
	for _, s := range l.sites {
		links = append(links, s.name)
		if s.second != nil {
			links = append(links, s.secondLink())
		}
	}
	return links
}
