package scenario

import (
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// NICs is what a lab of real interfaces takes, in the order in which a packet meets them. Each pair is joined by a cable.
var NICs = []string{"the first end's", "site of the first gateway", "WAN of the first gateway", "WAN of the second gateway", "site of the second gateway", "the second end's"}

// usable reports why a lab cannot be made of these interfaces. Interfaces that something depends on are refused, and no
// other interface is ever touched.
func usable(s method.Scenario, nics []string) error {
	if len(nics) == 0 {
		return nil
	}
	if len(nics) != len(NICs) {
		return fmt.Errorf("a lab takes %d interfaces (%q), not %d", len(NICs), NICs, len(nics))
	}
	if s.Direction != method.Through {
		return fmt.Errorf("%w: over real interfaces packets go from end to end", method.ErrUnavailable)
	}
	for i, name := range nics {
		if slices.Contains(nics[:i], name) {
			return fmt.Errorf("interface %s is named twice", name)
		}
		if err := netnstest.Idle(name); err != nil {
			return err
		}
		queues, err := netnstest.ReceiveQueues(name)
		if err != nil {
			return err
		}
		if queues != s.Workers { // what comes in by a queue without a worker is not forwarded
			return fmt.Errorf("interface %s has %d receive queues for %d workers: `ethtool -L %[1]s combined %[3]d`", name, queues, s.Workers)
		}
	}
	return nil
}

// firstNIC is the number of the first one of the pair between a site's end and its gateway.
func (s *Site) firstNIC() int { return 4 * (s.Number - 1) }

// connect joins two hosts by a veth pair, or by the cable between two interfaces, of which first has the lower number.
// At the first site the end comes first on the way, at the second one the gateway does.
func (l *Lab) connect(first int, a, b netnstest.End) (*netnstest.Link, *netnstest.Link) {
	if len(l.nics) == 0 {
		return l.Scope.Connect(a, b)
	}
	i, j := first, first+1
	if first == 4 {
		i, j = j, i
	}
	return l.Scope.Borrow(l.nics[i], a), l.Scope.Borrow(l.nics[j], b)
}

// carriers waits until all cables carry.
func (l *Lab) carriers() error {
	if len(l.nics) == 0 {
		return nil
	}
	for _, s := range l.Ends {
		for _, link := range []*netnstest.Link{s.EndLink, s.Inside, s.WAN} {
			if err := link.Carrier(); err != nil {
				return err
			}
		}
	}
	return nil
}
