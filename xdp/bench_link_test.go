package xdp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BenchmarkThroughTheGateway takes a plain IP packet in at one port and out of the other in a tunnel: by the program, and by
// the kernel that routes it into a VXLAN device. The frames come from a program that BPF_PROG_TEST_RUN runs on the far side
// of the site's link (live: its redirects are done), which costs little; one processor does everything in turn.
func BenchmarkThroughTheGateway(b *testing.B) {
	packet := func(mac [6]byte, size int) []byte {
		l := udpFlow("10.40.11.5", "10.30.1.5", size)
		return build(stack(ethernetTo(mac, typeOf(l)), l)...)
	}
	b.Run("nothing", func(b *testing.B) { // what of the others is the way to the gateway
		w := benchWire(b)
		count := dropAll(b, w.site)
		generate(b, w.farSite, packet(portMAC, 18))
		mustArrive(b, func() uint64 { return lookupCount(b, count) })
	})
	for _, size := range []int{18, 1300} {
		b.Run(map[int]string{18: "direct/small", 1300: "direct/large"}[size], func(b *testing.B) {
			w := benchWire(b)
			s := w.state()
			s.Ports[0].Routed, s.Ports[0].VNI = true, directVNI
			h := newHarness(b, Options{}, s)
			if _, err := h.Attach(w.site, Native); err != nil {
				b.Fatal(err)
			}
			far := dropAll(b, w.farWAN)
			generate(b, w.farSite, packet(portMAC, size))
			mustArrive(b, func() uint64 { return lookupCount(b, far) })
		})
		b.Run(map[int]string{18: "kernel vxlan/small", 1300: "kernel vxlan/large"}[size], func(b *testing.B) {
			w := benchWire(b)
			mac := kernelVXLAN(b, w)
			pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
			if err != nil {
				b.Fatal(err)
			}
			defer pass.Close()
			l, err := link.AttachXDP(link.XDPOptions{Program: pass, Interface: w.site, Flags: link.XDPDriverMode}) // or the veth takes no frames
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			generate(b, w.farSite, packet(mac, size))
			mustArrive(b, func() uint64 { return received(b, w.farWAN) })
		})
	}
}

func benchWire(b *testing.B) (w wire) {
	inNamespace(b)
	w.site, w.farSite = newVeth(b, "sla", "slb", 1)
	w.wan, w.farWAN = newVeth(b, "slc", "sld", 1)
	return w
}

// generate sends b.N copies of a packet from an interface. Buffers come back with what was written over them on their
// way, so that the headers are written anew each time.
func generate(b *testing.B, ifindex int, packet []byte) {
	b.Helper()
	const headers = 44 // Ethernet, IPv4, UDP, and two bytes to a whole word
	code := asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),                   // XDP_ABORTED, for a packet without headers
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, headers),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
	}
	for at := 0; at < headers; at += 4 {
		code = append(code, asm.StoreImm(asm.R2, int16(at), int64(int32(binary.LittleEndian.Uint32(packet[at:]))), asm.Word))
	}
	code = append(code,
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return().WithSymbol("out"),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: code})
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	b.ResetTimer()
	_, err = program.Run(&ebpf.RunOptions{Data: packet, Repeat: uint32(b.N), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		Context: context{DataEnd: uint32(len(packet)), IngressIfindex: loopback}})
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
}

// mustArrive refuses a figure of packets that went nowhere: nearly all must have come to the far end.
func mustArrive(b *testing.B, count func() uint64) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Second); count() < uint64(b.N)*9/10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d packets arrived", count(), b.N)
		}
	}
}

func received(b *testing.B, ifindex int) uint64 {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		b.Fatal(err)
	}
	return l.Attrs().Statistics.RxPackets
}

func lookupCount(b *testing.B, m *ebpf.Map) (n uint64) {
	if err := m.Lookup(uint32(0), &n); err != nil {
		b.Fatal(err)
	}
	return n
}

// dropAll ends what arrives at a far end, counted.
func dropAll(b *testing.B, ifindex int) *ebpf.Map {
	b.Helper()
	count, program := counting(b, 1) // XDP_DROP
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return count
}

// kernelVXLAN makes the kernel route 10.30.0.0/16 into a VXLAN device over the WAN port, and returns the site port's MAC.
func kernelVXLAN(b *testing.B, w wire) (mac [6]byte) {
	b.Helper()
	try := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	site, err := netlink.LinkByIndex(w.site)
	try(err)
	wan, err := netlink.LinkByIndex(w.wan)
	try(err)
	address := func(l netlink.Link, text string) {
		b.Helper()
		a, err := netlink.ParseAddr(text)
		try(err)
		try(netlink.AddrAdd(l, a))
	}
	neighbour := func(l netlink.Link, text string) {
		b.Helper()
		try(netlink.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.IP(netip.MustParseAddr(text).AsSlice()), HardwareAddr: hostMAC[:]}))
	}
	address(site, "10.40.0.1/16")
	address(wan, "198.18.0.1/24")
	neighbour(wan, "198.18.0.2")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "slv"
	tunnel := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: directVNI, VtepDevIndex: w.wan, SrcAddr: net.IP{198, 18, 0, 1}, Group: net.IP{198, 18, 0, 2}, Port: 4789}
	try(netlink.LinkAdd(tunnel))
	try(netlink.LinkSetUp(tunnel))
	address(tunnel, "10.255.0.1/30")
	neighbour(tunnel, "10.255.0.2")
	try(netlink.RouteAdd(&netlink.Route{LinkIndex: tunnel.Attrs().Index, Gw: net.IP{10, 255, 0, 2}, Dst: &net.IPNet{IP: net.IP{10, 30, 0, 0}, Mask: net.CIDRMask(16, 32)}}))
	try(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	return [6]byte(site.Attrs().HardwareAddr)
}
