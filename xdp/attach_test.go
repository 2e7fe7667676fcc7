package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attached is the mode that the kernel says, "" for none, and the id of the program.
func attached(t *testing.T, ifindex int) (string, uint32) {
	t.Helper()
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		t.Fatal(err)
	}
	x := l.Attrs().Xdp
	if x == nil || !x.Attached {
		return "", 0
	}
	return map[uint32]string{attachedDriver: "native", attachedStack: "generic"}[x.AttachMode], x.ProgId
}

// IFLA_XDP_ATTACHED of if_link.h.
const (
	attachedDriver = 1
	attachedStack  = 2
)

// waitFor waits until the counter of a verdict has grown by n since before.
func (h *harness) waitFor(t *testing.T, v Verdict, before Counters, n uint64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		now, err := h.Counters()
		if err != nil {
			t.Fatal(err)
		}
		if now[v]-before[v] == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not grow by %d: %v", v, n, difference(before, now))
		}
	}
}

func (h *harness) attach(t *testing.T, ifindex int, mode Mode) *Attachment {
	t.Helper()
	a, err := h.Attach(ifindex, mode)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheProgramSeesWhatComesInAndHandsItToTheSocket(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			inNamespace(t)
			port, far := newVeth(t, "sla", "slb", 1)
			s := stateOf(port)
			s.Ports = append(s.Ports, Port{Ifindex: port, VLAN: 20, InnerVLAN: 30, Routed: true, VNI: 200, MAC: portMAC})
			h := newHarness(t, Options{}, s)
			out := newSender(t, far)
			packets := map[Verdict][]byte{
				DivertTransport: transport(),
				DivertVXLAN:     build(stack(toUs("2001:db8::1", DefaultVXLANPort), []layer{vxlan(100)}, inner("fd10:2::4"))...),
				DivertRouted:    build(stack(ethernet(0x0800, 20, 30), innerIP("8.8.8.8"))...),
			}
			counters := func() Counters {
				c, err := h.Counters()
				if err != nil {
					t.Fatal(err)
				}
				return c
			}

			out.send(t, transport()) // before Attach nothing is seen
			a := h.attach(t, port, mode)
			if got, _ := attached(t, port); a.Mode() != mode || got != mode.String() || a.NativeError() != nil {
				t.Fatalf("asked for %s, got %s (%v), the kernel says %q", mode, a.Mode(), a.NativeError(), got)
			}
			before := counters()
			for range packets {
				out.send(t, transport())
			}
			h.waitFor(t, PassNoSocket, before, uint64(len(packets)))

			socket := newRawSocket(t, port, 0)
			if err := h.SetSocket(port, 0, socket.fd); err != nil {
				t.Fatal(err)
			}
			for v, packet := range packets {
				before := counters()
				out.send(t, packet)
				if got := socket.receive(t); !bytes.Equal(got, packet) {
					t.Errorf("%s: sent %x\nreceived %x", v, packet, got)
				}
				h.waitFor(t, v, before, 1)
			}

			before = counters()
			bad := build(stack(toUs("192.0.2.1", 51820), wireguard(9, 32))...)
			out.send(t, bad)
			h.waitFor(t, DropBadWireGuard, before, 1)

			for range 2 {
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if got, _ := attached(t, port); got != "" {
				t.Errorf("still attached: %s", got)
			}
			before = counters()
			out.send(t, bad)
			h.attach(t, port, mode)
			out.send(t, bad)
			h.waitFor(t, DropBadWireGuard, before, 1)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if got, _ := attached(t, port); got != "" {
				t.Errorf("attached after Close of the program: %s", got)
			}
		})
	}
}

func TestAutoTakesNativeWhereTheDriverCanAndSaysWhyNotElsewhere(t *testing.T) {
	inNamespace(t)
	port, _ := newVeth(t, "sla", "slb", 1)
	h := newHarness(t, Options{}, stateOf(port, loopback))
	if a := h.attach(t, port, Auto); a.Mode() != Native || a.NativeError() != nil {
		t.Errorf("veth: %s, %v", a.Mode(), a.NativeError())
	}
	a := h.attach(t, loopback, Auto) // the loopback has no native XDP
	const reason = "native mode: "
	if err := a.NativeError(); a.Mode() != Generic || !errors.Is(err, unix.EOPNOTSUPP) || !strings.HasPrefix(err.Error(), reason) ||
		!strings.HasSuffix(err.Error(), "(the driver has no native XDP)") {
		t.Errorf("loopback: %s, %v", a.Mode(), err)
	}
}

func TestAnMTUThatDoesNotFitAPageIsNamedAsTheLikelyReason(t *testing.T) {
	inNamespace(t)
	port, far := newVeth(t, "sla", "slb", 1)
	for _, ifindex := range []int{port, far} {
		l, err := netlink.LinkByIndex(ifindex)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetMTU(l, 9000); err != nil {
			t.Fatal(err)
		}
	}
	h := newHarness(t, Options{}, stateOf(port))
	a := h.attach(t, port, Auto)
	if err := a.NativeError(); a.Mode() != Generic || err == nil || !strings.Contains(err.Error(), "usually the MTU does not fit a page") {
		t.Errorf("%s, %v", a.Mode(), err)
	}
}

func TestWhatCannotBeAttachedIsRefusedWithTheReason(t *testing.T) {
	inNamespace(t)
	port, _ := newVeth(t, "sla", "slb", 1)
	h, other := newHarness(t, Options{}, stateOf(port)), newHarness(t, Options{}, stateOf(port))
	h.attach(t, port, Native)
	closed := newHarness(t, Options{}, State{})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		h       *harness
		ifindex int
		mode    Mode
		want    []string
	}{
		{"native on the loopback", h, loopback, Native, []string{"attach lo: native mode: ", "the driver has no native XDP"}},
		{"an interface that does not exist", h, 4711, Auto, []string{"attach ifindex 4711: ", "no such network interface"}},
		{"twice by one program", h, port, Native, []string{"attach sla: already attached"}},
		{"by two programs", other, port, Auto, []string{"attach sla: ", "native mode: ", "generic mode: ", "another XDP program"}},
		{"a mode that does not exist", h, loopback, 9, []string{"attach lo: mode 9 is none"}},
		{"a closed program", closed, loopback, Generic, []string{"attach lo: program is closed"}},
	} {
		_, err := c.h.Attach(c.ifindex, c.mode)
		if err == nil {
			t.Errorf("%s: attached", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q has no %q", c.name, err, want)
			}
		}
	}
}

func TestAnUpgradeReplacesTheProgramWithoutMissingAPacket(t *testing.T) {
	for _, c := range []struct {
		name string
		mode Mode
		end  func(*harness) error // of the first process, when the second has taken over
	}{
		{"native, the first process hands over", Native, func(h *harness) error { return h.Handover() }},
		{"generic, the first process hands over", Generic, func(h *harness) error { return h.Handover() }},
		{"native, the first process closes as if nothing had happened", Native, func(h *harness) error { return h.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			mode := c.mode
			inNamespace(t)
			dir := t.TempDir() + "/pins"
			port, far := newVeth(t, "sla", "slb", 1)
			first := newHarness(t, Options{PinPath: dir}, stateOf(port))
			first.attach(t, port, mode)
			_, firstID := attached(t, port)

			out := newSender(t, far)
			const n = 2000
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for range n {
					_, _ = unix.Write(out.fd, transport())
				}
			}()
			time.Sleep(time.Millisecond)
			second := newHarness(t, Options{PinPath: dir}, stateOf(port))
			a := second.attach(t, port, Auto) // takes what there is
			_, secondID := attached(t, port)
			if a.Mode() != mode || secondID == firstID {
				t.Errorf("mode %s, program %d after %d", a.Mode(), secondID, firstID)
			}
			<-sent
			total := func() (sum uint64) {
				for _, h := range []*harness{first, second} {
					c, err := h.Counters()
					if err != nil {
						t.Fatal(err)
					}
					sum += c[PassNoSocket]
				}
				return sum
			}
			for deadline := time.Now().Add(5 * time.Second); total() < n && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if got := total(); got != n {
				t.Errorf("%d of %d packets met a program", got, n)
			}

			if err := c.end(first); err != nil {
				t.Fatal(err)
			}
			checkPins(t, dir, pinNames(port, mode)...)
			if got, id := attached(t, port); got != mode.String() || id != secondID {
				t.Errorf("after the first process: %q, program %d", got, id)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			if got, _ := attached(t, port); got != "" {
				t.Errorf("still attached: %s", got)
			}
			checkPins(t, dir)
			if err := unix.Unmount(dir, 0); err != nil { // the first process mounted it, and handed it over
				t.Error(err)
			}
		})
	}
}

// checkPins compares the names in a directory, which may not exist when there are none. The kernel itself may put
// iterators into a new bpffs (CONFIG_BPF_PRELOAD): maps.debug and progs.debug.
func checkPins(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !(errors.Is(err, os.ErrNotExist) && len(want) == 0) {
		t.Error(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".debug") {
			got = append(got, e.Name())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("pins %v, want %v", got, want)
	}
}

// pinNames is the map pins, and the link's when there is a mode, as a directory lists them.
func pinNames(ifindex int, mode Mode) []string {
	names := []string{"counters", "direct_peers", "egress", "handshake_sources", "hop_counts", "hops", "local_addresses", "peer_addresses", "ports", "routes4",
		"routes6", "sockets", "stranger_handshakes", "udp_ports", "vnis"}
	if mode != Auto {
		names = slices.Insert(names, 6, fmt.Sprintf("link-%d-%s", ifindex, mode))
	}
	return names
}

func TestPinsOutliveTheProcessOnlyAfterAHandover(t *testing.T) {
	inNamespace(t)
	dir := t.TempDir() + "/pins"
	port, _ := newVeth(t, "sla", "slb", 1)
	h := newHarness(t, Options{PinPath: dir}, stateOf(port))
	all, withLink := pinNames(port, Auto), pinNames(port, Native)
	checkPins(t, dir, all...)
	a := h.attach(t, port, Native)
	checkPins(t, dir, withLink...)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	checkPins(t, dir, all...)
	h.attach(t, port, Native)
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	checkPins(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}

	h = newHarness(t, Options{PinPath: dir}, stateOf(port))
	h.attach(t, port, Native)
	for range 2 {
		if err := h.Handover(); err != nil {
			t.Fatal(err)
		}
	}
	checkPins(t, dir, withLink...)
	if got, _ := attached(t, port); got != "native" {
		t.Errorf("after the handover: %q", got)
	}
	last := newHarness(t, Options{PinPath: dir}, stateOf(port))
	last.attach(t, port, Auto)
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	checkPins(t, dir)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}

func TestAPinnedLinkThatDoesNotFitIsReplaced(t *testing.T) {
	inNamespace(t)
	dir := t.TempDir() + "/pins"
	port, _ := newVeth(t, "sla", "slb", 1)
	keeper := newHarness(t, Options{PinPath: dir}, State{}) // mounts, and so unmounts at the end

	handOver := func(mode Mode) {
		t.Helper()
		h := newHarness(t, Options{PinPath: dir}, stateOf(port))
		h.attach(t, port, mode)
		if err := h.Handover(); err != nil {
			t.Fatal(err)
		}
	}
	next := func(mode, want Mode) {
		t.Helper()
		h := newHarness(t, Options{PinPath: dir}, stateOf(port))
		a := h.attach(t, port, mode)
		if got, _ := attached(t, port); a.Mode() != want || got != want.String() {
			t.Errorf("mode %s, the kernel says %q, want %s", a.Mode(), got, want)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}

	handOver(Native)
	next(Generic, Generic) // another mode is asked for
	handOver(Generic)
	next(Native, Native)

	handOver(Native) // the interface goes, and its index comes back with another
	if err := netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: port}}); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = "slc", port
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "sld"}); err != nil {
		t.Fatal(err)
	}
	next(Auto, Native)

	handOver(Native) // the interface is no port any more
	h := newHarness(t, Options{PinPath: dir}, stateOf(loopback))
	h.attach(t, loopback, Generic)
	if err := h.Prune(); err != nil {
		t.Fatal(err)
	}
	if got, _ := attached(t, port); got != "" {
		t.Errorf("still %s after Prune", got)
	}
	if got, _ := attached(t, loopback); got != "generic" {
		t.Errorf("Prune detached our own: %q", got)
	}
	for _, h := range []*harness{h, keeper} {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPinsGoIntoADirectoryOfABPFFileSystemThatIsMounted(t *testing.T) {
	inNamespace(t)
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	}()
	h := newHarness(t, Options{PinPath: root + "/a/b"}, State{})
	checkPins(t, root+"/a", "b")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	checkPins(t, root+"/a")
}

func TestWherePinsCannotBeTheErrorSaysWhere(t *testing.T) {
	inNamespace(t)
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(Options{PinPath: file + "/pins"})
	if err == nil || !strings.HasPrefix(err.Error(), "pin maps in "+file+"/pins: ") || !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("error %v", err)
	}
}
