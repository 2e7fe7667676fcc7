package neigh

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ethtool asks drivers what rtnetlink does not tell: their name, by ioctl, and the number of queues in use, by generic
// netlink (Linux 5.7). Both are extras: a driver or kernel that does not answer is normal.
type ethtool struct {
	generic  map[int]*nl.SocketHandle
	channels uint16 // the number of the family "ethtool"; 0: this kernel has none

	// Names of drivers, which never change, by interface: kept from one reading of the links to the next.
	drivers, seen map[device]string
}

type device struct {
	ifindex int
	name    string
}

func openEthtool(ns netns.NsHandle) (*ethtool, error) {
	generic, err := openRequests(ns, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	e := &ethtool{generic: generic, drivers: make(map[device]string)}
	if e.channels, err = e.family("ethtool"); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *ethtool) close() { e.generic[unix.NETLINK_GENERIC].Close() }

// begin and end frame one reading of all links: what was not asked for in between is gone.
func (e *ethtool) begin() { e.seen = make(map[device]string, len(e.drivers)) }
func (e *ethtool) end()   { e.drivers, e.seen = e.seen, nil }

// driver returns "" for interfaces that have none.
func (e *ethtool) driver(ifindex int, name string) string {
	d := device{ifindex, name}
	driver, known := e.drivers[d]
	if !known {
		// Any socket does for the ioctl: it names the namespace.
		if info, err := unix.IoctlGetEthtoolDrvinfo(e.generic[unix.NETLINK_GENERIC].Socket.GetFd(), name); err == nil {
			driver = unix.ByteSliceToString(info.Driver[:])
		}
	}
	e.seen[d] = driver
	return driver
}

// rxQueues returns 0 when the driver does not say.
func (e *ethtool) rxQueues(ifindex int) int {
	if e.channels == 0 {
		return 0
	}
	header := nl.NewRtAttr(unix.ETHTOOL_A_CHANNELS_HEADER|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(uint32(ifindex)))
	answer, err := e.request(e.channels, unix.ETHTOOL_MSG_CHANNELS_GET, 1, header)
	if err != nil || len(answer) == 0 {
		return 0
	}
	queues := 0
	err = attributes(answer, func(kind uint16, value []byte) error {
		if (kind == unix.ETHTOOL_A_CHANNELS_RX_COUNT || kind == unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT) && len(value) == 4 {
			queues += int(binary.NativeEndian.Uint32(value))
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return queues
}

// family asks for the number of a generic netlink family, 0 when there is none.
func (e *ethtool) family(name string) (id uint16, err error) {
	answer, err := e.request(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, 1, nl.NewRtAttr(unix.CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name)))
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("ask for generic netlink family %s: %w", name, err)
	}
	err = attributes(answer, func(kind uint16, value []byte) error {
		if kind == unix.CTRL_ATTR_FAMILY_ID && len(value) == 2 {
			id = binary.NativeEndian.Uint16(value)
		}
		return nil
	})
	return id, err
}

// request sends a generic netlink request and returns the attributes of the first answer.
func (e *ethtool) request(family uint16, command, version uint8, attr *nl.RtAttr) ([]byte, error) {
	req := nl.NewNetlinkRequest(int(family), 0)
	req.Sockets = e.generic
	// Not nl.Genlmsg (v1.3.1), which is two bytes long and serializes as four, whatever the other two are.
	req.AddRawData(append([]byte{command, version, 0, 0}, attr.Serialize()...))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < nl.SizeofGenlmsg {
		return nil, err
	}
	return answers[0][nl.SizeofGenlmsg:], nil
}
