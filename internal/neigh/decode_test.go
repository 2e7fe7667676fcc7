package neigh

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The messages are put together by hand: decode must not be right only together with an encoder of ours.

func attr(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func ndmsg(family byte, ifindex uint32, state uint16, flags byte, attrs ...[]byte) []byte {
	b := []byte{family, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, ifindex)
	b = append(binary.NativeEndian.AppendUint16(b, state), flags, 1)
	return append(b, slices.Concat(attrs...)...)
}

func rtmsg(family, bits byte, flags uint32, attrs ...[]byte) []byte {
	b := []byte{family, bits, 0, 0, 254, 3, 0, 1}
	b = binary.NativeEndian.AppendUint32(b, flags)
	return append(b, slices.Concat(attrs...)...)
}

var (
	v6    = netip.MustParseAddr("2001:db8::7")
	lla   = []byte{2, 0, 0, 0, 0, 7}
	dst4  = attr(unix.NDA_DST, 10, 0, 0, 7)
	dst6  = attr(unix.NDA_DST, v6.AsSlice()...)
	lladr = attr(unix.NDA_LLADDR, lla...)
)

func TestDecode(t *testing.T) {
	neighbour := func(addr string, nud uint16, m []byte, gone bool) event {
		ev := event{kind: neighbourEvents, neighbour: neighbourEvent{key: hopKey{3, ip(addr)}, nud: nud, gone: gone}}
		if m != nil {
			ev.neighbour.mac, ev.neighbour.hasMAC = [6]byte(m), true
		}
		return ev
	}
	route := func(p string) event { return event{kind: routeEvents, prefix: netip.MustParsePrefix(p)} }
	for _, c := range []struct {
		name string
		kind uint16
		data []byte
		want event
		ok   bool
	}{
		{"an IPv4 neighbour", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, unix.NUD_REACHABLE, 0, dst4, lladr), neighbour("10.0.0.7", unix.NUD_REACHABLE, lla, false), true},
		{"an IPv6 neighbour", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET6, 3, unix.NUD_STALE, unix.NTF_ROUTER, dst6, lladr), neighbour("2001:db8::7", unix.NUD_STALE, lla, false), true},
		{"a neighbour that did not answer", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, unix.NUD_FAILED, 0, dst4), neighbour("10.0.0.7", unix.NUD_FAILED, nil, false), true},
		{"a neighbour that is gone", unix.RTM_DELNEIGH, ndmsg(unix.AF_INET, 3, unix.NUD_STALE, 0, dst4, lladr), neighbour("10.0.0.7", unix.NUD_STALE, lla, true), true},
		{"a hardware address of another kind", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, unix.NUD_STALE, 0, dst4, attr(unix.NDA_LLADDR, make([]byte, 20)...)), neighbour("10.0.0.7", unix.NUD_STALE, nil, false), true},
		{"attributes that we do not know", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, unix.NUD_STALE, 0, attr(99, 1), dst4, lladr), neighbour("10.0.0.7", unix.NUD_STALE, lla, false), true},
		{"a bridge's forwarding entry", unix.RTM_NEWNEIGH, ndmsg(unix.AF_BRIDGE, 3, unix.NUD_PERMANENT, 0, lladr), event{kind: neighbourEvents}, false},
		{"a proxy entry", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, 0, unix.NTF_PROXY, dst4), event{kind: neighbourEvents}, false},
		{"a link", unix.RTM_NEWLINK, nil, event{kind: linkEvents}, true},
		{"an address that is gone", unix.RTM_DELADDR, nil, event{kind: linkEvents}, true},
		{"an IPv4 route", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET, 24, 0, attr(unix.RTA_DST, 192, 0, 2, 0)), route("192.0.2.0/24"), true},
		{"an IPv4 default route", unix.RTM_DELROUTE, rtmsg(unix.AF_INET, 0, 0), route("0.0.0.0/0"), true},
		{"an IPv6 default route", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET6, 0, 0), route("::/0"), true},
		{"an IPv6 route", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET6, 128, 0, attr(unix.RTA_DST, v6.AsSlice()...)), route("2001:db8::7/128"), true},
		{"a cached route", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET, 32, unix.RTM_F_CLONED, attr(unix.RTA_DST, 192, 0, 2, 1)), event{kind: routeEvents}, false},
		{"an MPLS route", unix.RTM_NEWROUTE, rtmsg(28, 20, 0), event{kind: routeEvents}, false},
		{"a rule", unix.RTM_NEWRULE, nil, event{kind: routeEvents}, true},
		{"a nexthop object", unix.RTM_DELNEXTHOP, nil, event{kind: routeEvents}, true},
		{"something else", unix.RTM_NEWQDISC, nil, event{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ev, ok, err := decode(c.kind, c.data)
			if err != nil || ok != c.ok || ev != c.want {
				t.Errorf("got %+v %v %v\nwant %+v %v", ev, ok, err, c.want, c.ok)
			}
		})
	}
}

func TestDecodeRefusesWhatIsNotFormedWell(t *testing.T) {
	for _, c := range []struct {
		name string
		kind uint16
		data []byte
		want string
	}{
		{"a short neighbour", unix.RTM_NEWNEIGH, make([]byte, 11), "neighbour message of 11 bytes"},
		{"a short route", unix.RTM_NEWROUTE, make([]byte, 11), "route message of 11 bytes"},
		{"an attribute longer than the message", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, 2, 0, []byte{12, 0, 1, 0, 10, 0, 0, 7}), "neighbour message: attribute of 12 bytes where 8 are left"},
		{"an attribute shorter than its head", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET, 8, 0, []byte{3, 0, 1, 0}), "route message: attribute of 3 bytes where 4 are left"},
		{"an IPv6 address in an IPv4 message", unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 3, 2, 0, dst6), "neighbour message: address of 16 bytes in family 2"},
		{"an address of no family", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET6, 8, 0, attr(unix.RTA_DST, 1, 2, 3)), "route message: address of 3 bytes in family 10"},
		{"a prefix longer than an address", unix.RTM_NEWROUTE, rtmsg(unix.AF_INET, 33, 0, attr(unix.RTA_DST, 192, 0, 2, 0)), "route message: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok, err := decode(c.kind, c.data); err == nil || ok || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v %v, want %s", ok, err, c.want)
			}
		})
	}
}

func TestDecodeRoute(t *testing.T) {
	rt := func(kind byte, attrs ...[]byte) []byte {
		b := rtmsg(unix.AF_INET, 32, 0, append([][]byte{attr(unix.RTA_DST, 192, 0, 2, 1)}, attrs...)...)
		b[7] = kind
		return b
	}
	num := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	oif, src := attr(unix.RTA_OIF, num(3)...), attr(unix.RTA_PREFSRC, 10, 0, 0, 1)
	dst := ip("192.0.2.1")
	for _, c := range []struct {
		name string
		data []byte
		want routing
	}{
		{"on the link", rt(unix.RTN_UNICAST, oif, src), routing{state: Resolved, egress: 3, hop: dst, src: ip("10.0.0.1")}},
		{"through a gateway", rt(unix.RTN_UNICAST, oif, attr(unix.RTA_GATEWAY, 10, 0, 0, 2)), routing{state: Resolved, egress: 3, hop: ip("10.0.0.2")}},
		{"through an IPv6 gateway", rt(unix.RTN_UNICAST, oif, attr(unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), v6.AsSlice()...)...)),
			routing{state: Resolved, egress: 3, hop: v6}},
		{"with an MTU", rt(unix.RTN_UNICAST, oif, attr(unix.RTA_METRICS, slices.Concat(attr(unix.RTAX_HOPLIMIT, num(9)...), attr(unix.RTAX_MTU, num(1400)...))...)),
			routing{state: Resolved, egress: 3, hop: dst, mtu: 1400}},
		{"local", rt(unix.RTN_LOCAL, oif), routing{state: Local, reason: "an address of this host"}},
		{"broadcast", rt(unix.RTN_BROADCAST, oif), routing{state: Unreachable, reason: "broadcast"}},
		{"anycast", rt(unix.RTN_ANYCAST, oif), routing{state: Unreachable, reason: "route of type 4"}},
		{"with an encapsulation that only the kernel can do", rt(unix.RTN_UNICAST, oif, attr(unix.RTA_ENCAP_TYPE, 2, 0)), routing{state: Unreachable, reason: "route with encapsulation of type 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := decodeRoute(c.data, dst); err != nil || got != c.want {
				t.Errorf("got %+v %v, want %+v", got, err, c.want)
			}
		})
	}
	for name, data := range map[string][]byte{
		"short message":           make([]byte, 11),
		"short interface":         rt(unix.RTN_UNICAST, attr(unix.RTA_OIF, 1, 2)),
		"IPv6 gateway of IPv4":    rt(unix.RTN_UNICAST, attr(unix.RTA_GATEWAY, v6.AsSlice()...)),
		"gateway without address": rt(unix.RTN_UNICAST, attr(unix.RTA_VIA, 10, 0)),
		"gateway without family":  rt(unix.RTN_UNICAST, attr(unix.RTA_VIA, 10)),
		"broken metrics":          rt(unix.RTN_UNICAST, attr(unix.RTA_METRICS, 9, 0, 2, 0)),
	} {
		if got, err := decodeRoute(data, dst); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// FuzzDecode: whatever comes, decode neither panics nor lets pass an event that the cache could not work with.
func FuzzDecode(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWNEIGH), ndmsg(unix.AF_INET, 3, unix.NUD_REACHABLE, 0, dst4, lladr))
	f.Add(uint16(unix.RTM_DELNEIGH), ndmsg(unix.AF_INET6, 3, unix.NUD_STALE, 0, dst6, lladr[:10]))
	f.Add(uint16(unix.RTM_NEWROUTE), rtmsg(unix.AF_INET6, 64, 0, attr(unix.RTA_DST, v6.AsSlice()...)))
	f.Add(uint16(unix.RTM_NEWROUTE), rtmsg(unix.AF_INET, 0, 0))
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		ev, ok, err := decode(kind, data)
		if r, err := decodeRoute(data, v6); err == nil && r.state == Resolved && !r.hop.IsValid() {
			t.Fatalf("a route without a next hop: %+v", r)
		}
		if ok && err != nil {
			t.Fatalf("both an event and an error: %v", err)
		}
		if !ok {
			return
		}
		n := ev.neighbour
		if ev.kind == neighbourEvents && (!n.key.addr.IsValid() || n.key.addr.Is4In6() && data[0] == unix.AF_INET || n.key.addr.Zone() != "") {
			t.Fatalf("neighbour %+v", n)
		}
		if ev.kind == routeEvents && ev.prefix.IsValid() && ev.prefix != ev.prefix.Masked() {
			t.Fatalf("route %v", ev.prefix)
		}
	})
}
