package relay

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/internal/packet"
)

// maxACLEntries bounds what a VPC's rules may grow to when each combination of
// their prefixes and ranges is an entry of its own. Chosen: far beyond what can be
// read per packet, and a few MiB.
const maxACLEntries = 1 << 16

// acl compiles the access list of a VPC; nil when it would allow everything.
func (c *compiler) acl(v *VPC) *acl {
	if len(v.ACL.Rules) == 0 && v.ACL.Default == Allow {
		return nil
	}
	out, entries := new(acl), 0
	ids := make(map[string]bool, len(v.ACL.Rules))
	for i := range v.ACL.Rules {
		r := &v.ACL.Rules[i]
		if ids[r.ID] || r.ID == "" {
			c.problem("vpc %s acl rule %d: id %q is empty or occurs twice", v.Name, i, r.ID)
		}
		ids[r.ID] = true
		if why := r.contradiction(); why != "" {
			c.problem("vpc %s acl rule %d: %s", v.Name, i, why)
			continue
		}
		if entries += r.combinations(); entries <= maxACLEntries {
			out.add(r, int32(i))
		} else {
			c.problem("vpc %s: with rule %d the acl has more than %d combinations of prefixes and ranges", v.Name, i, maxACLEntries)
			return nil
		}
		out.actions = append(out.actions, r.Action)
		out.meters = append(out.meters, c.meter(MeterKey{Kind: RuleMeter, ID: v.VNI, Name: r.ID}))
	}
	out.actions = append(out.actions, v.ACL.Default)
	c.out.longACL = c.out.longACL || out.long()
	out.meters = append(out.meters, c.meter(MeterKey{Kind: RuleMeter, ID: v.VNI}))
	return out
}

// contradiction says why a rule cannot mean anything.
func (r *ACLRule) contradiction() string {
	tcp, udp := r.Protocol == packet.ProtoTCP, r.Protocol == packet.ProtoUDP
	switch {
	case r.Direction > DirectionToSite || r.Action > Reject:
		return "unknown direction or action"
	case len(r.SourcePorts)+len(r.DestinationPorts) > 0 && !tcp && !udp:
		return "ports need the protocol TCP or UDP"
	case len(r.ICMP) > 0 && r.Protocol != packet.ProtoICMP && r.Protocol != packet.ProtoICMPv6:
		return "ICMP types need the protocol ICMP or ICMPv6"
	case r.Established && !tcp:
		return "established needs the protocol TCP"
	}
	for _, p := range append(append([]PortRange(nil), r.SourcePorts...), r.DestinationPorts...) {
		if p.First > p.Last {
			return "a port range ends before it begins"
		}
	}
	for _, p := range append(append([]netip.Prefix(nil), r.Source...), r.Destination...) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return "a prefix is none, or IPv4 written as IPv6"
		}
	}
	return ""
}

// transport says that the rule asks for what is behind the IP header.
func (r *ACLRule) transport() bool {
	return len(r.SourcePorts)+len(r.DestinationPorts)+len(r.ICMP) > 0 || r.Established
}

// combinations is how many entries a rule grows to, in one list.
func (r *ACLRule) combinations() int {
	n := 1
	for _, alternatives := range []int{len(r.Source), len(r.Destination), len(r.SourcePorts), len(r.DestinationPorts), len(r.ICMP)} {
		if n *= max(alternatives, 1); n > maxACLEntries {
			return n
		}
	}
	return n
}

// add appends a rule's entries to the lists that they belong to.
func (a *acl) add(r *ACLRule, rule int32) {
	for way := range a.four {
		if !r.Direction.covers(origin(way)) {
			continue
		}
		for class := range aclClasses {
			add4(&a.four[way][class], r, r.rests(class, 4, rule))
			add6(&a.six[way][class], r, r.rests(class, 6, rule))
		}
	}
}

// rests are what the rule asks of packets of a class and family: one element
// for each combination of ranges, none when it matches no such packet.
func (r *ACLRule) rests(class aclClass, version uint8, rule int32) []entryRest {
	proto, all := r.Protocol, entryRest{aSpan: 0xffff, bSpan: 0xffff, rule: rule}
	own := [...]uint8{classTCP: packet.ProtoTCP, classUDP: packet.ProtoUDP, classICMP: packet.ProtoICMP}
	if version == 6 {
		own[classICMP] = packet.ProtoICMPv6
	}
	switch {
	case class == classOther || class == classLater:
		if r.transport() || class == classOther && slices.Contains(own[:], proto) {
			return nil
		}
		if proto != 0 {
			all.a, all.aSpan = uint16(proto), 0
		}
		return []entryRest{all}
	case proto != 0 && proto != own[class]:
		return nil
	}
	if r.Established {
		all.need = 1
	}
	list := []entryRest{all}
	list = ranges(list, r.SourcePorts, func(e *entryRest, p PortRange) { e.a, e.aSpan = p.First, p.Last-p.First })
	list = ranges(list, r.DestinationPorts, func(e *entryRest, p PortRange) { e.b, e.bSpan = p.First, p.Last-p.First })
	return ranges(list, r.ICMP, func(e *entryRest, m ICMPMatch) {
		e.a, e.aSpan = uint16(m.Type), 0
		if !m.AnyCode {
			e.b, e.bSpan = uint16(m.Code), 0
		}
	})
}

// ranges multiplies a list: each element once with every range, as it is when
// there are none.
func ranges[T any](list []entryRest, with []T, set func(*entryRest, T)) []entryRest {
	if len(with) == 0 {
		return list
	}
	out := make([]entryRest, 0, len(list)*len(with))
	for _, e := range list {
		for _, r := range with {
			combined := e
			set(&combined, r)
			out = append(out, combined)
		}
	}
	return out
}

// ofFamily returns the prefixes of a family; one that holds all when none are asked for.
func ofFamily(prefixes []netip.Prefix, version uint8) []netip.Prefix {
	if len(prefixes) == 0 {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if version == 6 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return []netip.Prefix{all}
	}
	var out []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is4() == (version == 4) {
			out = append(out, p.Masked())
		}
	}
	return out
}

func add4(list *[]entry4, r *ACLRule, rests []entryRest) {
	for _, s := range ofFamily(r.Source, 4) {
		for _, d := range ofFamily(r.Destination, 4) {
			for _, rest := range rests {
				if l := *list; len(l) > 0 && l[len(l)-1].everything() {
					return // nothing gets past that one
				}
				src, dst := s.Addr().As4(), d.Addr().As4()
				*list = append(*list, entry4{binary.BigEndian.Uint32(src[:]), uint32(prefixMask(s.Bits(), 32)),
					binary.BigEndian.Uint32(dst[:]), uint32(prefixMask(d.Bits(), 32)), rest})
			}
		}
	}
}

func add6(list *[]entry6, r *ACLRule, rests []entryRest) {
	for _, s := range ofFamily(r.Source, 6) {
		for _, d := range ofFamily(r.Destination, 6) {
			for _, rest := range rests {
				if l := *list; len(l) > 0 && l[len(l)-1].everything() {
					return
				}
				*list = append(*list, entry6{words(s.Addr()), mask6(s.Bits()), words(d.Addr()), mask6(d.Bits()), rest})
			}
		}
	}
}

func (e *entry4) everything() bool {
	return e.srcMask|e.dstMask == 0 && e.rest.everything()
}

func (e *entry6) everything() bool {
	return e.srcMask == [2]uint64{} && e.dstMask == [2]uint64{} && e.rest.everything()
}

func (e *entryRest) everything() bool { return e.aSpan == 0xffff && e.bSpan == 0xffff && e.need == 0 }

// prefixMask has the first n of size bits set.
func prefixMask(n, size int) uint64 {
	if n <= 0 {
		return 0
	}
	return ^uint64(0) << (size - min(n, size)) & (^uint64(0) >> (64 - size))
}

func mask6(n int) [2]uint64 { return [2]uint64{prefixMask(n, 64), prefixMask(n-64, 64)} }

func words(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}
