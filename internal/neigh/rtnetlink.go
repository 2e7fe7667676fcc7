package neigh

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// requestTimeout: the kernel answers a request while it is being sent; this is for a kernel that is broken.
	requestTimeout = 5 * time.Second
	// receiveBuffer holds some 10000 neighbour events. What it cannot hold costs a resync.
	receiveBuffer = 4 << 20
)

var groups = []uint{
	unix.RTNLGRP_NEIGH, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
	unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP,
}

// rtnetlink holds the sockets of one network namespace: one for requests, one for what the kernel tells by itself. All
// groups share a socket, so that events come in the order in which they happened.
type rtnetlink struct {
	requests *netlink.Handle
	own      map[int]*nl.SocketHandle // for requests of our own making, as the netlink package wants it
	events   *nl.NetlinkSocket
	ethtool  *ethtool
}

// open opens the sockets in ns, or in the calling thread's namespace when ns is None.
func open(ns netns.NsHandle, buffer int) (_ *rtnetlink, err error) {
	n := new(rtnetlink)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.events, err = nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, groups...); err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	// Forcing it needs CAP_NET_ADMIN in the first user namespace; without, net.core.rmem_max is the limit.
	if err := n.events.SetReceiveBufferSize(buffer, true); err != nil {
		if err := n.events.SetReceiveBufferSize(buffer, false); err != nil {
			return nil, fmt.Errorf("subscribe to rtnetlink: set receive buffer: %w", err)
		}
	}
	if n.requests, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := n.requests.SetSocketTimeout(requestTimeout); err != nil {
		return nil, fmt.Errorf("open rtnetlink: set timeout: %w", err)
	}
	if n.own, err = openRequests(ns, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if n.ethtool, err = openEthtool(ns); err != nil {
		return nil, err
	}
	return n, nil
}

// openRequests opens a socket for requests of our own making.
func openRequests(ns netns.NsHandle, protocol int) (map[int]*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), protocol)
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(requestTimeout.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set timeout: %w", err)
	}
	return map[int]*nl.SocketHandle{protocol: {Socket: s}}, nil
}

func (n *rtnetlink) close() {
	if n.events != nil {
		n.events.Close() // ends a Receive
	}
	if n.requests != nil {
		n.requests.Close()
	}
	for _, s := range n.own {
		s.Close()
	}
	if n.ethtool != nil {
		n.ethtool.close()
	}
}

// route implements system.
func (n *rtnetlink) route(k Key) (routing, error) {
	answer, err := n.askRoute(k, 0)
	if err != nil {
		return noRoute(err)
	}
	return decodeRoute(answer, k.Dst)
}

// routed implements system. RTM_F_FIB_MATCH (Linux 4.13) asks for the route that matches instead of what becomes of it.
func (n *rtnetlink) routed(k Key) (bool, error) {
	_, err := n.askRoute(k, unix.RTM_F_FIB_MATCH)
	if err == nil {
		return true, nil
	}
	_, err = noRoute(err)
	return false, err
}

// askRoute is our own request because netlink.RouteGet does not tell of encapsulations that it does not know.
func (n *rtnetlink) askRoute(k Key, flags uint32) ([]byte, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	req.Sockets = n.own
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(k.Dst)), Dst_len: uint8(k.Dst.BitLen()), Flags: flags}})
	req.AddData(nl.NewRtAttr(unix.RTA_DST, k.Dst.AsSlice()))
	if k.Ifindex != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(k.Ifindex)))
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 {
		return nil, errors.New("empty answer")
	}
	return answers[0], nil
}

// noRoute tells the answers that mean no from the failures. The numbers are those of fib_props (IPv4) and
// ip6_rt_init_dst (IPv6).
func noRoute(err error) (routing, error) {
	no := func(reason string) (routing, error) { return routing{state: Unreachable, reason: reason}, nil }
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return no("no route")
	case errors.Is(err, unix.EHOSTUNREACH):
		return no("unreachable route")
	case errors.Is(err, unix.EINVAL):
		return no("blackhole route")
	case errors.Is(err, unix.EACCES):
		return no("prohibited by a route")
	case errors.Is(err, unix.ENODEV):
		return no("no such interface")
	case errors.Is(err, unix.ENETDOWN):
		return no("the interface is down")
	}
	return routing{}, fmt.Errorf("ask for route: %w", err)
}

// probe implements system. NTF_USE (Linux 2.6.32) makes the kernel do what it does when it sends a packet to the neighbour.
func (n *rtnetlink) probe(h hopKey) error {
	err := n.requests.NeighSet(&netlink.Neigh{
		LinkIndex: int(h.ifindex), Family: family(h.addr), IP: h.addr.AsSlice(), Flags: unix.NTF_USE,
	})
	if err != nil {
		return probeError(h, err)
	}
	return nil
}

func probeError(h hopKey, err error) error {
	if !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("resolve %v: %w", h.addr, err)
	}
	ip := "ipv4"
	if h.addr.Is6() {
		ip = "ipv6"
	}
	return fmt.Errorf("resolve %v: the kernel's neighbour table is full (raise net.%s.neigh.default.gc_thresh3): %w", h.addr, ip, err)
}

// neighbours reads the kernel's neighbour tables. A dump that a change has interrupted is good enough: the change is an
// event of the subscription, which is older than the dump.
func (n *rtnetlink) neighbours() ([]neighbourEvent, error) {
	var out []neighbourEvent
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		req.Sockets = n.own
		req.AddData(&netlink.Ndmsg{Family: family})
		answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("read neighbours: %w", err)
		}
		for _, a := range answers {
			ev, ok, err := decodeNeighbour(unix.RTM_NEWNEIGH, a)
			if err != nil {
				return nil, fmt.Errorf("read neighbours: %w", err)
			}
			if ok {
				out = append(out, ev)
			}
		}
	}
	return out, nil
}

// receive waits for the next messages of the subscription. After ENOBUFS messages are missing, and whoever reads everything
// anew then misses none.
func (n *rtnetlink) receive() ([]event, error) {
	for {
		messages, from, err := n.events.Receive()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			return nil, errors.Join(err, n.drain())
		case err != nil:
			return nil, err
		case from.Pid != 0:
			continue // any process of the host may send to a netlink socket; only 0 is the kernel
		}
		var out []event
		for _, m := range messages {
			ev, ok, err := decode(m.Header.Type, m.Data)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, ev)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
}

// drain empties the subscription. The kernel reports an overflow once, and no other until the queue was empty
// (netlink_overrun, netlink_rcv_wake): what is read anew before that could already be out of date without a word.
func (n *rtnetlink) drain() error {
	wait := unix.NsecToTimeval(time.Millisecond.Nanoseconds())
	if err := n.events.SetReceiveTimeout(&wait); err != nil {
		return err
	}
	for {
		_, _, err := n.events.Receive()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return n.events.SetReceiveTimeout(new(unix.Timeval))
		case err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
