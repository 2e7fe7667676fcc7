package xdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(survivor); what != "" {
		fmt.Fprintln(os.Stderr, beSurvivor(what)) // it only comes back with an error
		os.Exit(1)
	}
	before := openFiles()
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	// Go itself keeps a few (epoll, its eventfd, the kernel's BTF); a program not closed leaves more than ten.
	if after := openFiles(); status == 0 && after > before+8 {
		fmt.Fprintf(os.Stderr, "%d descriptors open after the tests, %d before\n", after, before)
		status = 1
	}
	os.Exit(status)
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(entries)
}

// loopback is the interface that test runs happen on when nothing else is said. Nothing is attached to it: the program
// is only told that the packet came from there.
const loopback = 1

var (
	portMAC = [6]byte{0x02, 0, 0, 0, 0, 0x01}
	hostMAC = [6]byte{0x02, 0, 0, 0, 0, 0x02}
)

// testState has something of everything. Each VLAN of the loopback is another kind of port.
func testState() State {
	return State{
		Ports: []Port{
			{Ifindex: loopback, Overlay: true, Routed: true, MAC: portMAC},
			{Ifindex: loopback, VLAN: 10, Overlay: true, MAC: portMAC},
			{Ifindex: loopback, VLAN: 20, InnerVLAN: 30, Routed: true, VNI: 200, MAC: portMAC},
			{Ifindex: loopback, VLAN: 40, MAC: portMAC},
		},
		Local:     addrs("192.0.2.1", "198.51.100.1", "2001:db8::1"),
		Geneve:    []uint16{DefaultGenevePort, 16081},
		VXLAN:     []uint16{DefaultVXLANPort, LegacyVXLANPort},
		WireGuard: []uint16{51820},
		VNIs:      []uint32{100, 200, maxVNI},
		Learn:     []uint32{200},
		Bounce:    []uint32{maxVNI},
		Remote: []Prefix{
			{VNI: 0, Prefix: netip.MustParsePrefix("172.16.2.0/24")},
			{VNI: 0, Prefix: netip.MustParsePrefix("fd16:2::/64")},
			{VNI: 100, Prefix: netip.MustParsePrefix("10.2.0.0/16")},
			{VNI: 100, Prefix: netip.MustParsePrefix("10.9.9.9/32")},
			{VNI: 100, Prefix: netip.MustParsePrefix("fd10:2::/64")},
			{VNI: 200, Prefix: netip.MustParsePrefix("0.0.0.0/0")},
			{VNI: 200, Prefix: netip.MustParsePrefix("::/0")},
			{VNI: maxVNI, Prefix: netip.MustParsePrefix("10.2.0.0/16")},
		},
		Site: []Prefix{
			{VNI: 100, Prefix: netip.MustParsePrefix("10.2.77.0/24")}, // inside a remote prefix
			{VNI: 100, Prefix: netip.MustParsePrefix("10.9.9.0/24")},  // around one
			{VNI: 200, Prefix: netip.MustParsePrefix("fd77::/16")},
		},
		Groups: []Prefix{
			{VNI: 100, Prefix: netip.MustParsePrefix("239.1.0.0/16")},
			{VNI: 100, Prefix: netip.MustParsePrefix("ff08::/16")},
			{VNI: 200, Prefix: netip.MustParsePrefix("239.2.0.0/16")},
		},
		Gateways: []Gateway{
			{VNI: 0, Addr: netip.MustParseAddr("172.16.9.1")},
			{VNI: 100, Addr: netip.MustParseAddr("10.1.0.1")},
			{VNI: 100, Addr: netip.MustParseAddr("10.2.0.1")}, // inside a remote prefix
			{VNI: 100, Addr: netip.MustParseAddr("fd10:1::1")},
			{VNI: 100, Addr: netip.MustParseAddr("fe80::1")},
			{VNI: 200, Addr: netip.MustParseAddr("10.1.0.1")},
		},
	}
}

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParseAddr(text)
	}
	return out
}

// harness runs packets through the loaded program with BPF_PROG_TEST_RUN.
type harness struct{ *Program }

func newHarness(t testing.TB, o Options, s State) *harness {
	t.Helper()
	testenv.RequireRoot(t)
	p, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.SetState(s); err != nil {
		t.Fatal(err)
	}
	return &harness{p}
}

// openSocket sets an AF_XDP socket for a queue. Test runs do not execute the redirect, so it need not be bound.
func (h *harness) openSocket(t testing.TB, ifindex, queue int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := h.SetSocket(ifindex, queue, fd); err != nil {
		t.Fatal(err)
	}
}

// context is struct xdp_md as BPF_PROG_TEST_RUN takes it.
type context struct{ Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32 }

// run is process for packets that come out as they went in.
func (h *harness) run(t testing.TB, packet []byte, ifindex, queue int) Verdict {
	t.Helper()
	verdict, out := h.process(t, packet, ifindex, queue)
	if !bytes.Equal(out, packet) {
		t.Fatalf("%s: packet changed:\n in %x\nout %x", verdict, packet, out)
	}
	return verdict
}

// process checks what holds for every packet: exactly one counter counts exactly one, and the action is that of the
// verdict. It returns the verdict, and the packet as it comes out.
func (h *harness) process(t testing.TB, packet []byte, ifindex, queue int) (Verdict, []byte) {
	t.Helper()
	before, err := h.Counters()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(packet)+256) // room, so that a longer packet would show
	opts := ebpf.RunOptions{Data: packet, DataOut: out}
	if ifindex != loopback || queue != 0 { // that is what a test run has by itself; another context needs Linux 5.15
		opts.Context = context{DataEnd: uint32(len(packet)), IngressIfindex: uint32(ifindex), RxQueueIndex: uint32(queue)}
	}
	action, err := h.objs.Sluice.Run(&opts)
	if err != nil {
		t.Fatalf("run packet of %d bytes: %v", len(packet), err)
	}
	after, err := h.Counters()
	if err != nil {
		t.Fatal(err)
	}
	verdict, total := Verdict(NumVerdicts), uint64(0)
	for v := range after {
		if n := after[v] - before[v]; n > 0 {
			verdict, total = Verdict(v), total+n
		}
	}
	if total != 1 {
		t.Fatalf("%d counts for one packet: %v", total, difference(before, after))
	}
	if want := actionOf(verdict); action != want {
		t.Fatalf("%s: action %d, want %d", verdict, action, want)
	}
	return verdict, opts.DataOut
}

func difference(before, after Counters) map[string]uint64 {
	out := make(map[string]uint64)
	for v, n := range after.All() {
		if d := n - before[v]; d > 0 {
			out[v.String()] = d
		}
	}
	return out
}

// actionOf is XDP_PASS, XDP_REDIRECT or XDP_DROP.
func actionOf(v Verdict) uint32 {
	switch {
	case v >= DropBadWireGuard:
		return 1
	case v >= DivertGeneve:
		return 4
	}
	return 2
}

// inNamespace moves the rest of the test to network and mount namespaces of its own, which end with the test: its thread
// stays locked, so that the runtime ends the thread, and with it the namespaces, when the test's goroutine ends.
func inNamespace(t testing.TB) {
	t.Helper()
	testenv.RequireNamespaces(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatalf("make namespaces: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("keep mounts private: %v", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatalf("keep ipv6 silent: %v", err)
	}
}

// slotsOf is the key of every hop.
func (h *harness) slotsOf() map[uint32]uint32 {
	out := make(map[uint32]uint32)
	for id, p := range h.hops.byID {
		out[id] = p.slot
	}
	return out
}
