package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// entry is a route as the kernel has it.
type entry struct {
	dst    netip.Prefix
	metric int
	kind   int // unix.RTN_*
	index  int // of the link; 0 for one that refuses, which IPv6 has on the loopback
	source netip.Addr
}

// String is as ip(8) would say it.
func (e entry) String() string {
	var b strings.Builder
	if e.kind == unix.RTN_UNREACHABLE {
		b.WriteString("unreachable ")
	}
	fmt.Fprintf(&b, "%s metric %d", e.dst, e.metric)
	if e.source.IsValid() {
		fmt.Fprintf(&b, " src %s", e.source)
	}
	return b.String()
}

func (k *Kernel) routes(s State) error {
	wanted := map[entry]bool{}
	indexes := map[string]int{}
	for _, l := range s.Links {
		link, err := k.handle.LinkByName(l.Name)
		if err != nil {
			return err
		}
		indexes[l.Name] = link.Attrs().Index
	}
	for _, r := range s.Routes {
		wanted[entry{dst: r.Dst, metric: metricRefuse, kind: unix.RTN_UNREACHABLE}] = true
		if r.Link != "" {
			wanted[entry{dst: r.Dst, metric: metricGateway, kind: unix.RTN_UNICAST, index: indexes[r.Link], source: r.Source}] = true
		}
	}
	var problems []error
	for _, family := range families {
		have, err := k.handle.RouteListFiltered(family, &netlink.Route{Table: k.config.Table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("list routes of table %d: %w", k.config.Table, err)
		}
		var wrong []netlink.Route
		for i := range have {
			if e, ok := read(&have[i]); ok && wanted[e] {
				delete(wanted, e)
			} else {
				wrong = append(wrong, have[i])
			}
		}
		for e := range wanted { // before others go: what is replaced is never missing
			if familyOf(e.dst.Addr()) == family {
				problems = append(problems, k.did(k.handle.RouteReplace(k.write(e)), "add route %s", e))
			}
		}
		for i := range wrong {
			err := k.handle.RouteDel(&wrong[i])
			if errors.Is(err, unix.ESRCH) {
				continue // it was what another one replaced
			}
			problems = append(problems, k.did(err, "delete route %s", wrong[i].Dst))
		}
	}
	return errors.Join(problems...)
}

var families = []int{netlink.FAMILY_V4, netlink.FAMILY_V6}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// read is an entry out of a route; false: it has something that none of ours has.
func read(r *netlink.Route) (e entry, ok bool) {
	if r.Dst == nil || r.Protocol != protocol || len(r.MultiPath) > 0 || r.Via != nil || r.Encap != nil || r.Tos != 0 || r.MTU != 0 {
		return e, false
	}
	ip, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	e = entry{dst: netip.PrefixFrom(ip, bits), metric: r.Priority, kind: r.Type}
	if e.kind == unix.RTN_UNICAST {
		e.index = r.LinkIndex
		if !sameAddr(r.Gw, nextHop(ip)) {
			return e, false
		}
	}
	if r.Src != nil {
		source, _ := netip.AddrFromSlice(r.Src)
		e.source = source.Unmap()
	}
	return e, ok
}

func nextHop(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return nextHop4
	}
	return nextHop6
}

func (k *Kernel) write(e entry) *netlink.Route {
	r := &netlink.Route{
		Dst:   &net.IPNet{IP: e.dst.Addr().AsSlice(), Mask: net.CIDRMask(e.dst.Bits(), e.dst.Addr().BitLen())},
		Table: k.config.Table, Protocol: protocol, Priority: e.metric, Type: e.kind,
	}
	if e.kind == unix.RTN_UNICAST {
		r.LinkIndex, r.Gw, r.Flags = e.index, nextHop(e.dst.Addr()).AsSlice(), int(netlink.FLAG_ONLINK)
	}
	if e.source.IsValid() {
		r.Src = e.source.AsSlice()
	}
	return r
}

// rules sees to one rule for each family that has routes. Whatever no route of the table is for goes on to the next
// rule, so the rule needs to choose no packets.
func (k *Kernel) rules(s State) error {
	var problems []error
	for _, family := range families {
		wanted := false
		for _, r := range s.Routes {
			wanted = wanted || familyOf(r.Dst.Addr()) == family
		}
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Table, rule.Protocol = family, k.config.Priority, k.config.Table, protocol
		have, err := k.handle.RuleList(family)
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for i := range have {
			r := &have[i]
			if r.Table != k.config.Table {
				continue
			}
			if wanted && r.Priority == rule.Priority && r.Protocol == rule.Protocol && r.Src == nil && r.Dst == nil && r.Mark == 0 && r.IifName == "" && r.OifName == "" &&
				r.SuppressPrefixlen < 0 && !r.Invert {
				wanted = false // one of them is enough
				continue
			}
			problems = append(problems, k.did(k.handle.RuleDel(r), "delete %s", r))
		}
		if wanted {
			problems = append(problems, k.did(k.handle.RuleAdd(rule), "add a rule of priority %d for table %d", rule.Priority, rule.Table))
		}
	}
	return errors.Join(problems...)
}
