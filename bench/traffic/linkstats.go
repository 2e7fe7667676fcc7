package traffic

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// linkStats is what an interface says of what it was given.
type linkStats struct {
	veth    bool
	taken   uint64
	refused uint64
}

// readLink reads the statistics of an interface of this namespace.
func readLink(ifindex int) (linkStats, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return linkStats{}, fmt.Errorf("read statistics of link %d: %w", ifindex, err)
	}
	s := l.Attrs().Statistics
	return linkStats{veth: l.Type() == "veth", taken: s.TxPackets, refused: s.TxDropped + s.TxErrors}, nil
}
