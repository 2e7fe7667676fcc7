package netnstest

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// LeafSegment is an Ethernet of a leaf that spans a fabric, with the leaf's own addresses in it.
type LeafSegment struct {
	Segment
	MAC   net.HardwareAddr // of the leaf; default: the kernel's choice
	Addrs []netip.Prefix
}

// NewLeaf makes a node as a leaf of an EVPN fabric: its tunnels learn no addresses, as a routing daemon (StartFRR) puts
// into the kernel where they are. What is sent to everybody goes to whom the daemon says.
func (s *Scope) NewLeaf(name string, sw *Switch, vtep netip.Prefix, segments ...LeafSegment) *Node {
	n := &Node{Host: s.NewHost(name), attach: make(map[string]func(End, End))}
	sw.Plug(End{Host: n.Host, Name: "eth0", Addrs: []netip.Prefix{vtep}})
	for _, segment := range segments {
		bridge := n.NewBridge("br-" + segment.Name)
		if segment.MAC != nil {
			bridge.SetMAC(segment.MAC)
		}
		for _, a := range segment.Addrs {
			bridge.AddAddr(a)
		}
		tunnel := n.NewVXLAN(VXLAN{Name: "vx-" + segment.Name, VNI: segment.VNI, Bridge: bridge, Local: vtep.Addr(), NoLearning: true})
		tunnel.change("learning", func(link netlink.Link) error {
			if err := n.handle.LinkSetLearning(link, false); err != nil {
				return fmt.Errorf("bridge port: %w", err)
			}
			return nil
		})
		n.attach[segment.Name] = func(port, pod End) {
			port.Bridge = bridge
			s.Connect(pod, port)
		}
	}
	return n
}
