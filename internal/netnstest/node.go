package netnstest

import (
	"fmt"
	"net"
	"net/netip"
)

// Switch is a host that is nothing but a bridge: the wire of a site.
type Switch struct {
	*Host
	bridge *Link
	ports  int
}

// NewSwitch makes a switch without ports.
func (s *Scope) NewSwitch(name string) *Switch {
	h := s.NewHost(name)
	return &Switch{Host: h, bridge: h.NewBridge("br0")}
}

// Plug connects a link of another host with the switch; the switch's end has the
// same MTU, queues and offload.
func (sw *Switch) Plug(e End) *Link {
	sw.ports++
	link, _ := sw.scope.Connect(e, End{Host: sw.Host, Name: fmt.Sprint("port", sw.ports), MTU: e.MTU, Queues: e.Queues, Bridge: sw.bridge, Offload: e.Offload})
	return link
}

// NewRouter makes a host that forwards IPv4 and IPv6.
func (s *Scope) NewRouter(name string) *Host {
	h := s.NewHost(name)
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	return h
}

// Segment is a VPC as the nodes of a site know it: an Ethernet with a VNI.
type Segment struct {
	Name string // at most 8 bytes: links are named after it
	VNI  uint32
}

// NodeOptions describe a node: a host that carries pods, and tunnels their
// segments over the site's switch.
type NodeOptions struct {
	Name     string
	Switch   *Switch
	VTEP     netip.Prefix // the address of the tunnels on the site's network
	MAC      net.HardwareAddr
	Remotes  []netip.Addr // the other VTEPs: nodes, gateways
	Segments []Segment
	Offload  bool // of its link, as in End
}

// Node carries pods. Its tunnels are the kernel's VXLAN (NewVXLANNode) or Open
// vSwitch's Geneve (NewOVSNode).
type Node struct {
	*Host
	ports  int
	attach map[string]func(podPort End, pod End) // by segment
	ovs    *openVSwitch
}

// NewVXLANNode makes a node with a kernel VXLAN device and a bridge per segment.
// Broadcast goes to all remotes; addresses are learned.
func (s *Scope) NewVXLANNode(o NodeOptions) *Node {
	n := &Node{Host: s.NewHost(o.Name), attach: make(map[string]func(End, End))}
	o.Switch.Plug(End{Host: n.Host, Name: "eth0", MAC: o.MAC, Addrs: []netip.Prefix{o.VTEP}, Offload: o.Offload})
	for _, segment := range o.Segments {
		bridge := n.NewBridge("br-" + segment.Name)
		n.NewVXLAN(VXLAN{
			Name: "vx-" + segment.Name, VNI: segment.VNI, Bridge: bridge,
			Local: o.VTEP.Addr(), Remote: o.Remotes,
		})
		n.attach[segment.Name] = func(port, pod End) {
			port.Bridge = bridge
			s.Connect(pod, port)
		}
	}
	return n
}

// PodOptions describe a pod.
type PodOptions struct {
	Name     string
	Segment  string
	MAC      net.HardwareAddr
	MTU      int
	Addrs    []netip.Prefix
	Gateways []netip.Addr // default routes, by family
	Offload  bool         // of its link, as in End
}

// NewPod makes a pod: a host with one link, eth0, in a segment of the node.
func (n *Node) NewPod(o PodOptions) *Host {
	n.helper()
	pod := n.scope.NewHost(o.Name)
	n.ports++
	attach, ok := n.attach[o.Segment]
	if !ok {
		n.scope.try(func() error { return fmt.Errorf("pod %s: node %s has no segment %q", o.Name, n.name, o.Segment) })
		return pod
	}
	attach(End{Host: n.Host, Name: fmt.Sprint("pod", n.ports), MTU: o.MTU},
		End{Host: pod, Name: "eth0", MAC: o.MAC, MTU: o.MTU, Addrs: o.Addrs, Offload: o.Offload})
	for _, gateway := range o.Gateways {
		pod.Route(netip.Prefix{}, gateway)
	}
	return pod
}
