package xdp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// wire is a gateway's two ports, each with the far end of its link: what is sent from farSite comes in at site.
type wire struct{ site, farSite, wan, farWAN int }

func newWire(t *testing.T) wire {
	t.Helper()
	inNamespace(t)
	var w wire
	w.site, w.farSite = newVeth(t, "sla", "slb", 1)
	w.wan, w.farWAN = newVeth(t, "slc", "sld", 1)
	return w
}

// state forwards between the two ports: VPC 300, here 10.40.11 and fd40:11, there 10.30.1 and fd30:1.
func (w wire) state() State {
	s := directState()
	s.Ports = []Port{{Ifindex: w.site, Overlay: true, MAC: portMAC}, {Ifindex: w.wan, MAC: portMAC}}
	for i := range s.Hops {
		h := &s.Hops[i]
		switch {
		case !h.Resolved() || h.Ifindex != loopback:
		case h.Kind == ToPeer:
			h.Ifindex = w.wan
		default:
			h.Ifindex = w.site
		}
	}
	return s
}

// receiver takes what arrives at a far end. A veth hands redirected packets over only to an end that has a program (or
// GRO), so it has one: it counts packets and lets them pass.
type receiver struct {
	fd    int
	count *ebpf.Map
}

func newReceiver(t *testing.T, ifindex int) *receiver {
	t.Helper()
	count, program := counting(t, 2) // XDP_PASS
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: all}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	return &receiver{fd: fd, count: count}
}

// counting is a program that counts packets and does one thing with them all.
func counting(t testing.TB, action int32) (*ebpf.Map, *ebpf.Program) {
	t.Helper()
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = count.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, count.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, action),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return count, program
}

// receive says whether a frame arrives before the time is over; others are skipped.
func (r *receiver) receive(t *testing.T, want []byte, within time.Duration) bool {
	t.Helper()
	b := make([]byte, 4096)
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		n, _, err := unix.Recvfrom(r.fd, b, 0)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		if err == nil && bytes.Equal(b[:n], want) {
			return true
		}
	}
	return false
}

// total is how many packets have arrived.
func (r *receiver) total(t *testing.T) (n uint64) {
	t.Helper()
	if err := r.count.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A packet each way, and what becomes of it.
func outward() []byte { return inVXLAN(udpFlow("10.40.11.5", "10.30.1.5", 100)) }
func inward() []byte  { return fromPeer("2001:db8::88", tcpFlow("fd30:2::5", "fd40:13::5", false)) }

// forwarded is what a packet that comes in at an interface becomes.
func (w wire) forwarded(t *testing.T, ifindex int, packet []byte) []byte {
	t.Helper()
	s := w.state()
	for i := range s.Hops { // the reference believes in no other interface
		if s.Hops[i].Resolved() && s.Hops[i].Ifindex != 4711 {
			s.Hops[i].Ifindex = loopback
		}
	}
	v, out := referenceForward(s, ifindex, packet, reference(s, ifindex, true, packet))
	if !v.Direct() {
		t.Fatalf("reference: %s", v)
	}
	return out
}

const arrives = 10 * time.Second

func TestDirectPacketsLeaveThroughTheOtherPort(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWire(t)
			h := newHarness(t, Options{}, w.state())
			h.attach(t, w.site, mode)
			h.attach(t, w.wan, mode)
			atWAN, atSite := newReceiver(t, w.farWAN), newReceiver(t, w.farSite)
			for range 3 {
				newSender(t, w.farSite).send(t, outward())
				if !atWAN.receive(t, w.forwarded(t, w.site, outward()), arrives) {
					t.Fatal("nothing arrived at the WAN")
				}
				newSender(t, w.farWAN).send(t, inward())
				if !atSite.receive(t, w.forwarded(t, w.wan, inward()), arrives) {
					t.Fatal("nothing arrived at the site")
				}
			}
			counts, err := h.HopCounters()
			if err != nil {
				t.Fatal(err)
			}
			to, from := uint64(3*128), uint64(3*60) // bytes of the inner packets
			for id, want := range map[uint32]HopCount{
				1: {ToPackets: 3, ToBytes: to}, 11: {FromPackets: 3, FromBytes: to},
				13: {ToPackets: 3, ToBytes: from}, 2: {FromPackets: 3, FromBytes: from}, 12: {},
			} {
				if counts[id] != want {
					t.Errorf("hop %d: %+v, want %+v", id, counts[id], want)
				}
			}

			// The way changes under way: another next hop, none, and another place under the same ID.
			s := w.state()
			s.Hops[0].DstMAC = [6]byte{2, 9, 9, 9, 9, 9}
			slot := h.slotsOf()[1]
			if err := h.SetState(s); err != nil {
				t.Fatal(err)
			}
			want := w.forwarded(t, w.site, outward())
			copy(want, s.Hops[0].DstMAC[:])
			newSender(t, w.farSite).send(t, outward())
			if !atWAN.receive(t, want, arrives) || h.slotsOf()[1] != slot {
				t.Errorf("the new next hop does not get the packet; key %d after %d", h.slotsOf()[1], slot)
			}
			before, err := h.Counters()
			if err != nil {
				t.Fatal(err)
			}
			s.Hops[0].Ifindex = 0
			if err := h.SetState(s); err != nil {
				t.Fatal(err)
			}
			newSender(t, w.farSite).send(t, outward())
			h.waitFor(t, PassNoSocket, before, 1)
			s = w.state()
			s.Hops[0].Dst = netip.MustParseAddr("192.0.2.99")
			if err := h.SetState(s); err != nil {
				t.Fatal(err)
			}
			counts, err = h.HopCounters()
			if err != nil {
				t.Fatal(err)
			}
			if h.slotsOf()[1] == slot || counts[1] != (HopCount{}) {
				t.Errorf("another place has key %d and %+v", h.slotsOf()[1], counts[1])
			}
		})
	}
}

func TestATakeOverLosesNoDirectPacket(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWire(t)
			dir := t.TempDir() + "/pins"
			first := newHarness(t, Options{PinPath: dir}, w.state())
			first.attach(t, w.site, mode)
			first.attach(t, w.wan, mode)
			atWAN := newReceiver(t, w.farWAN)
			out := newSender(t, w.farSite)
			before := atWAN.total(t)
			stop, sent := make(chan struct{}), make(chan uint64)
			go func() {
				for ok := uint64(0); ; {
					select {
					case <-stop:
						sent <- ok
						return
					case <-time.After(time.Millisecond):
					}
					for range 16 { // fewer than any queue on the way holds
						if _, err := unix.Write(out.fd, outward()); err == nil {
							ok++
						}
					}
				}
			}()
			time.Sleep(10 * time.Millisecond)
			if err := first.Handover(); err != nil {
				t.Fatal(err)
			}
			second := newHarness(t, Options{PinPath: dir}, w.state())
			second.attach(t, w.site, Auto)
			second.attach(t, w.wan, Auto)
			time.Sleep(10 * time.Millisecond)
			close(stop)
			ok := <-sent
			for deadline := time.Now().Add(arrives); atWAN.total(t)-before < ok && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if got := atWAN.total(t) - before; got != ok || ok == 0 {
				t.Errorf("%d of %d packets arrived", got, ok)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			checkPins(t, dir)
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// survivor names the variable that makes the test binary the process that dies: PinPath and the four interfaces.
const survivor = "SLUICE_XDP_TEST_SURVIVOR"

// beSurvivor loads and attaches, says so, and waits for the end.
func beSurvivor(what string) error {
	fields := strings.Fields(what)
	var w wire
	for i, to := range []*int{&w.site, &w.farSite, &w.wan, &w.farWAN} {
		n, err := strconv.Atoi(fields[i+1])
		if err != nil {
			return err
		}
		*to = n
	}
	p, err := Load(Options{PinPath: fields[0]})
	if err != nil {
		return err
	}
	if err := p.SetState(w.state()); err != nil {
		return err
	}
	for _, port := range []int{w.site, w.wan} {
		if _, err := p.Attach(port, Native); err != nil {
			return err
		}
	}
	fmt.Println("attached")
	select {}
}

func TestDirectTrafficOutlivesAKilledProcess(t *testing.T) {
	w := newWire(t)
	dir := t.TempDir() + "/pins"
	atWAN, atSite := newReceiver(t, w.farWAN), newReceiver(t, w.farSite)
	out, in := newSender(t, w.farSite), newSender(t, w.farWAN)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d %d %d", survivor, dir, w.site, w.farSite, w.wan, w.farWAN))
	child.Stderr = os.Stderr
	said, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil { // in our namespaces: this goroutine's thread is locked
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	killed := errors.Join(child.Process.Kill(), child.Wait())
	if line != "attached\n" {
		t.Fatalf("the other process says %q, %v, %v", line, err, killed)
	}

	both := func(within time.Duration) (toWAN, toSite bool) {
		out.send(t, outward())
		in.send(t, inward())
		return atWAN.receive(t, w.forwarded(t, w.site, outward()), within), atSite.receive(t, w.forwarded(t, w.wan, inward()), within)
	}
	for range 3 {
		if toWAN, toSite := both(arrives); !toWAN || !toSite {
			t.Fatalf("without the process: to the WAN %t, to the site %t", toWAN, toSite)
		}
	}
	if mode, _ := attached(t, w.site); mode != "native" {
		t.Errorf("the program is attached as %q", mode)
	}

	for range 2 {
		if err := RemovePins(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	for _, port := range []int{w.site, w.wan} {
		if mode, _ := attached(t, port); mode != "" {
			t.Errorf("still attached: %s", mode)
		}
	}
	if toWAN, toSite := both(200 * time.Millisecond); toWAN || toSite {
		t.Errorf("after RemovePins: to the WAN %t, to the site %t", toWAN, toSite)
	}
}

func TestRemovePinsLeavesAloneWhatIsNotOurs(t *testing.T) {
	inNamespace(t)
	plain := t.TempDir()
	if err := os.WriteFile(plain+"/ports", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{plain, plain + "/nowhere"} {
		if err := RemovePins(dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(plain + "/ports"); err != nil {
		t.Errorf("a file that is no pin: %v", err)
	}

	dir := t.TempDir() + "/pins"
	h := newHarness(t, Options{PinPath: dir}, State{})
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(dir + "/somebody_elses"); err != nil {
		t.Fatal(err)
	}
	if err := h.Handover(); err != nil {
		t.Fatal(err)
	}
	if err := RemovePins(dir); err != nil {
		t.Fatal(err)
	}
	checkPins(t, dir, "somebody_elses")
	if err := other.Unpin(); err != nil {
		t.Fatal(err)
	}
	if err := RemovePins(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}
