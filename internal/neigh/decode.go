package neigh

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// event is what one message of the subscription means to us.
type event struct {
	kind      eventKind
	neighbour neighbourEvent // of neighbourEvents
	prefix    netip.Prefix   // of routeEvents; invalid: any destination may be concerned
}

type eventKind uint8

const (
	neighbourEvents eventKind = iota + 1
	linkEvents                // a link or an address: look at them again
	routeEvents
)

// decode reads a message of rtnetlink. ok is false for messages that mean nothing to us; an error is a message that is not
// formed as rtnetlink(7) says.
func decode(msgType uint16, data []byte) (ev event, ok bool, err error) {
	switch msgType {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		ev.kind = neighbourEvents
		ev.neighbour, ok, err = decodeNeighbour(msgType, data)
		return ev, ok, err
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return event{kind: linkEvents}, true, nil
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		ev.kind = routeEvents
		ev.prefix, ok, err = decodeRoutePrefix(data)
		return ev, ok, err
	case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		return event{kind: routeEvents}, true, nil
	}
	return event{}, false, nil
}

// decodeNeighbour reads a struct ndmsg: family, 3 bytes of padding, ifindex, state, flags, type. Forwarding entries of
// bridges (AF_BRIDGE) and proxy entries, which say what we answer for, are not neighbours.
func decodeNeighbour(msgType uint16, data []byte) (ev neighbourEvent, ok bool, err error) {
	if len(data) < unix.SizeofNdMsg {
		return ev, false, fmt.Errorf("neighbour message of %d bytes", len(data))
	}
	family, flags := data[0], data[10]
	if family != unix.AF_INET && family != unix.AF_INET6 || flags&unix.NTF_PROXY != 0 {
		return ev, false, nil
	}
	ev.key.ifindex = binary.NativeEndian.Uint32(data[4:])
	ev.nud = binary.NativeEndian.Uint16(data[8:])
	ev.gone = msgType == unix.RTM_DELNEIGH
	err = attributes(data[unix.SizeofNdMsg:], func(kind uint16, value []byte) error {
		switch kind {
		case unix.NDA_DST:
			a, err := address(family, value)
			ev.key.addr = a
			return err
		case unix.NDA_LLADDR:
			if len(value) == len(ev.mac) {
				ev.mac, ev.hasMAC = [6]byte(value), true
			}
		}
		return nil
	})
	if err != nil {
		return neighbourEvent{}, false, fmt.Errorf("neighbour message: %w", err)
	}
	return ev, ev.key.addr.IsValid(), nil
}

// decodeRoutePrefix reads of a struct rtmsg what destinations it is about: family, destination length, source length, TOS,
// table, protocol, scope, type, flags. A cached clone of a route changes nothing.
func decodeRoutePrefix(data []byte) (p netip.Prefix, ok bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return p, false, fmt.Errorf("route message of %d bytes", len(data))
	}
	family, bits, flags := data[0], int(data[1]), binary.NativeEndian.Uint32(data[8:])
	if family != unix.AF_INET && family != unix.AF_INET6 || flags&unix.RTM_F_CLONED != 0 {
		return p, false, nil
	}
	dst := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	err = attributes(data[unix.SizeofRtMsg:], func(kind uint16, value []byte) (err error) {
		if kind == unix.RTA_DST {
			dst, err = address(family, value)
		}
		return err
	})
	if err == nil {
		p, err = dst.Prefix(bits)
	}
	if err != nil {
		return netip.Prefix{}, false, fmt.Errorf("route message: %w", err)
	}
	return p, true, nil
}

// decodeRoute reads the answer to RTM_GETROUTE for dst: a struct rtmsg and its attributes.
func decodeRoute(data []byte, dst netip.Addr) (routing, error) {
	if len(data) < unix.SizeofRtMsg {
		return routing{}, fmt.Errorf("route message of %d bytes", len(data))
	}
	family, kind := data[0], data[7]
	answer := routing{state: Resolved, hop: dst}
	encap := uint16(0)
	err := attributes(data[unix.SizeofRtMsg:], func(kind uint16, value []byte) (err error) {
		switch kind {
		case unix.RTA_OIF:
			answer.egress, err = uint32Value(value)
		case unix.RTA_GATEWAY:
			answer.hop, err = address(family, value)
		case unix.RTA_PREFSRC:
			answer.src, err = address(family, value)
		case unix.RTA_VIA: // a gateway of another family (RFC 5549): struct rtvia is the family and the address
			if len(value) < 2 {
				return fmt.Errorf("gateway of %d bytes", len(value))
			}
			answer.hop, err = address(uint8(binary.NativeEndian.Uint16(value)), value[2:])
		case unix.RTA_ENCAP_TYPE:
			if len(value) == 2 {
				encap = binary.NativeEndian.Uint16(value)
			}
		case unix.RTA_METRICS:
			err = attributes(value, func(kind uint16, value []byte) error {
				if kind != unix.RTAX_MTU {
					return nil
				}
				mtu, err := uint32Value(value)
				answer.mtu = int(mtu)
				return err
			})
		}
		return err
	})
	no := func(s State, reason string) (routing, error) { return routing{state: s, reason: reason}, nil }
	switch {
	case err != nil:
		return routing{}, fmt.Errorf("route message: %w", err)
	case kind == unix.RTN_LOCAL:
		return no(Local, "an address of this host")
	case kind == unix.RTN_BROADCAST:
		return no(Unreachable, "broadcast")
	case kind != unix.RTN_UNICAST: // blackhole and its like are errors, see noRoute
		return no(Unreachable, fmt.Sprintf("route of type %d", kind))
	case encap != 0: // a light-weight tunnel (MPLS, SRv6, IP); sent as it is, the packet would go astray
		return no(Unreachable, fmt.Sprintf("route with encapsulation of type %d", encap))
	}
	return answer, nil
}

func uint32Value(value []byte) (uint32, error) {
	if len(value) != 4 {
		return 0, fmt.Errorf("number of %d bytes", len(value))
	}
	return binary.NativeEndian.Uint32(value), nil
}

// nlaTypeMask leaves out the flags of an attribute's type (NLA_TYPE_MASK in linux/netlink.h).
const nlaTypeMask = 0x3fff

// attributes calls f for each attribute: a struct rtattr (length, type), then the value, padded to four bytes. The padding
// of the last one may be missing.
func attributes(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("attribute of %d bytes where %d are left", n, len(b))
		}
		if err := f(binary.NativeEndian.Uint16(b[2:])&nlaTypeMask, b[unix.SizeofRtAttr:n]); err != nil {
			return err
		}
		b = b[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return nil
}

func address(family uint8, value []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(value)
	if !ok || a.Is4() != (family == unix.AF_INET) {
		return netip.Addr{}, fmt.Errorf("address of %d bytes in family %d", len(value), family)
	}
	return a, nil
}
