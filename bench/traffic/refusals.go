package traffic

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// refusals is how many packets an interface of this namespace could not take.
func refusals(ifindex int) (uint64, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return 0, fmt.Errorf("read statistics of link %d: %w", ifindex, err)
	}
	s := l.Attrs().Statistics
	return s.TxDropped + s.TxErrors, nil
}
