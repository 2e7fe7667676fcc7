package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const nftablesGroup = 7

// watchAgain is how long to wait after listening has failed.
const watchAgain = time.Second

// Watch hears what others do to the kernel's network.
type Watch struct {
	table   uint32
	sockets []*nl.NetlinkSocket
	filters []func(*syscall.NetlinkMessage) bool
}

// OpenWatch listens from now on, in the namespace that it is called in.
func OpenWatch(c Config) (*Watch, error) {
	w := &Watch{table: uint32(c.Table)}
	for _, of := range []struct {
		protocol int
		groups   []uint
		filter   func(*syscall.NetlinkMessage) bool
	}{
		{unix.NETLINK_ROUTE, []uint{
			unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		}, w.concernsRouting},
		{unix.NETLINK_NETFILTER, []uint{nftablesGroup}, concernsTable},
	} {
		s, err := nl.Subscribe(of.protocol, of.groups...)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("listen to the kernel: %w", err)
		}
		w.sockets, w.filters = append(w.sockets, s), append(w.filters, of.filter)
	}
	return w, nil
}

// Close ends Run.
func (w *Watch) Close() {
	for _, s := range w.sockets {
		s.Close()
	}
}

// Run calls wake when something may have changed that a Plan is made of, or that it has made, until ctx is done.
func (w *Watch) Run(ctx context.Context, wake func()) {
	defer context.AfterFunc(ctx, w.Close)()
	var group sync.WaitGroup
	for i, s := range w.sockets {
		group.Go(func() {
			for ctx.Err() == nil {
				messages, from, err := s.Receive()
				switch {
				case ctx.Err() != nil:
					return
				case errors.Is(err, unix.ENOBUFS): // something was lost
					wake()
				case err != nil:
					wake()
					select {
					case <-ctx.Done():
					case <-time.After(watchAgain):
					}
				case from.Pid != 0: // not the kernel
				default:
					for j := range messages {
						if w.filters[i](&messages[j]) {
							wake()
							break
						}
					}
				}
			}
		})
	}
	group.Wait()
}

// concernsRouting is for links, addresses, rules, routes of our table and forwarding tables of links.
func (w *Watch) concernsRouting(m *syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return true
		}
		table := uint32(m.Data[4]) // struct rtmsg, rtm_table: the low byte at most
		if full := attribute(m.Data[unix.SizeofRtMsg:], unix.RTA_TABLE); len(full) == 4 {
			table = binary.NativeEndian.Uint32(full)
		}
		return table == w.table
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return len(m.Data) > 0 && m.Data[0] == unix.AF_BRIDGE // struct ndmsg, ndm_family
	}
	return true
}

// concernsTable is for our nftables table. Its name is the first attribute of messages about tables, chains, rules,
// sets and elements alike (NFTA_TABLE_NAME and the others are all 1).
func concernsTable(m *syscall.NetlinkMessage) bool {
	const header, name = 4, 1 // struct nfgenmsg
	if len(m.Data) < header {
		return false
	}
	return strings.TrimRight(string(attribute(m.Data[header:], name)), "\x00") == tableName
}

// attribute finds one among netlink attributes.
func attribute(b []byte, kind uint16) []byte {
	const header, typeMask = 4, 0x3fff // NLA_TYPE_MASK (linux/netlink.h)
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint16(b))
		if length < header || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&typeMask == kind {
			return b[header:length]
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}
