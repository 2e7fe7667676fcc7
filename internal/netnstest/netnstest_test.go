package netnstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("NETNSTEST_LEAVE") != "" {
		leave()
	}
	goleak.VerifyTestMain(m)
}

// pair is two hosts that are connected by a veth pair.
func pair(t *testing.T) (*Scope, *Host, *Host, *Link, *Link) {
	s := New(t)
	a, b := s.NewHost("a"), s.NewHost("b")
	la, lb := s.Connect(
		End{Host: a, Name: "eth0", MAC: MAC("02:00:00:00:00:01"), MTU: 1400, Addrs: Prefixes("10.0.0.1/24", "fd00::1/64")},
		End{Host: b, Name: "eth0", Queues: 2, Addrs: Prefixes("10.0.0.2/24", "fd00::2/64")},
	)
	return s, a, b, la, lb
}

func TestHostsReachEachOtherAtOnce(t *testing.T) {
	_, a, b, _, _ := pair(t)
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		if err := Ping(t.Context(), a, netip.MustParseAddr(addr), PingOptions{}); err != nil {
			t.Errorf("ping: %v", err)
		}
	}
	if err := Ping(t.Context(), b, netip.MustParseAddr("10.0.0.3"), PingOptions{Count: 1, Timeout: 100 * time.Millisecond}); err == nil {
		t.Error("an address that nobody has answered a ping")
	}
}

func TestLinksAreAsAsked(t *testing.T) {
	_, a, b, la, _ := pair(t)
	if la.MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("MAC is %v", la.MAC)
	}
	err := a.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if link.MTU != 1400 || link.Index != la.Index {
			t.Errorf("interface is %+v, want MTU 1400 and index %d", link, la.Index)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	link, err := b.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if q := link.Attrs().NumRxQueues; q != 2 {
		t.Errorf("there are %d receive queues, want 2", q)
	}
	testenv.RequireTool(t, "ethtool")
	out, err := b.Command(t.Context(), "ethtool", "-k", "eth0").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"tx-checksumming: off", "tx-tcp-segmentation: off", "tx-tcp6-segmentation: off"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("ethtool does not report %q", line)
		}
	}
}

func TestRoutesAndSysctlsMakeARouter(t *testing.T) {
	s := New(t)
	a, r, b := s.NewHost("a"), s.NewHost("r"), s.NewHost("b")
	s.Connect(End{Host: a, Name: "eth0", Addrs: Prefixes("10.1.0.2/24", "fd01::2/64")},
		End{Host: r, Name: "eth0", Addrs: Prefixes("10.1.0.1/24", "fd01::1/64")})
	s.Connect(End{Host: b, Name: "eth0", Addrs: Prefixes("10.2.0.2/24", "fd02::2/64")},
		End{Host: r, Name: "eth1", Addrs: Prefixes("10.2.0.1/24", "fd02::1/64")})
	for host, net := range map[*Host]string{a: "1", b: "2"} {
		host.Route(netip.Prefix{}, netip.MustParseAddr("10."+net+".0.1"))
		host.Route(netip.Prefix{}, netip.MustParseAddr("fd0"+net+"::1"))
	}
	if err := Ping(t.Context(), a, netip.MustParseAddr("10.2.0.2"), PingOptions{Count: 1, Timeout: 200 * time.Millisecond}); err == nil {
		t.Error("a host that does not forward forwarded")
	}
	r.Sysctl("net.ipv4.ip_forward", "1")
	r.Sysctl("net.ipv6.conf.all.forwarding", "1")
	for _, addr := range []string{"10.2.0.2", "fd02::2"} {
		if err := Ping(t.Context(), a, netip.MustParseAddr(addr), PingOptions{}); err != nil {
			t.Errorf("ping through the router: %v", err)
		}
	}
}

func TestBridgeConnectsItsPorts(t *testing.T) {
	s := New(t)
	sw := s.NewHost("switch")
	br := sw.NewBridge("br0")
	var hosts []*Host
	for i := 1; i <= 3; i++ {
		h := s.NewHost(fmt.Sprint("h", i))
		s.Connect(End{Host: h, Name: "eth0", Addrs: Prefixes(fmt.Sprintf("10.0.0.%d/24", i), fmt.Sprintf("fd00::%d/64", i))},
			End{Host: sw, Name: fmt.Sprint("port", i), Bridge: br})
		hosts = append(hosts, h)
	}
	for _, addr := range []string{"10.0.0.2", "10.0.0.3", "fd00::3"} {
		if err := Ping(t.Context(), hosts[0], netip.MustParseAddr(addr), PingOptions{}); err != nil {
			t.Errorf("ping through the bridge: %v", err)
		}
	}
}

func TestDoLeavesNoThreadInTheNamespace(t *testing.T) {
	s := New(t)
	h := s.NewHost("a")
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	var inside netns.NsHandle
	for range 50 {
		if err := h.Do(func() error {
			inside, err = netns.Get()
			if err == nil {
				inside.Close()
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	assertThreadsAt(t, home)
}

func assertThreadsAt(t *testing.T, home netns.NsHandle) {
	t.Helper()
	var want unix.Stat_t
	if err := unix.Fstat(int(home), &want); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("list threads: %v, %d", err, len(tasks))
	}
	for _, task := range tasks {
		var have unix.Stat_t
		if err := unix.Stat(task, &have); errors.Is(err, unix.ENOENT) {
			continue // the thread has ended
		} else if err != nil {
			t.Fatal(err)
		}
		if have.Ino != want.Ino {
			t.Errorf("thread %s is in another namespace", task)
		}
	}
}

func TestDoPassesOnWhatHappens(t *testing.T) {
	s := New(t)
	h := s.NewHost("a")
	cause := errors.New("cause")
	if err := h.Do(func() error { return cause }); !errors.Is(err, cause) {
		t.Errorf("the error is %v", err)
	}
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("the panic is %v", got)
			}
		}()
		h.Do(func() error { panic("boom") })
	}()
	done := make(chan string, 1)
	go func() {
		defer close(done)
		h.Do(func() error { runtime.Goexit(); return nil })
		done <- "went on"
	}()
	if got := <-done; got != "" {
		t.Error("Goexit inside did not reach the caller")
	}
}

func TestSocketsStayWhereTheyWereOpened(t *testing.T) {
	_, a, b, _, _ := pair(t)
	var l net.Listener
	if err := b.Do(func() (err error) { l, err = net.Listen("tcp", "10.0.0.2:7"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	err := a.Do(func() error {
		c, err := net.DialTimeout("tcp", "10.0.0.2:7", 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		got, err := io.ReadAll(c)
		if string(got) != "hello" {
			t.Errorf("read %q", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommandsRunInTheHost(t *testing.T) {
	_, a, _, _, _ := pair(t)
	out, err := a.Command(t.Context(), "sh", "-c", "readlink /proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	var inside unix.Stat_t
	if err := unix.Stat(a.Path(), &inside); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("net:[%d]", inside.Ino); strings.TrimSpace(string(out)) != want {
		t.Errorf("the command ran in %s, want %s", out, want)
	}
	if _, err := a.Command(t.Context(), "sh", "-c", "echo why >&2; exit 3").Output(); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("the error of a failing command is %v", err)
	}
	if err := a.Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("the error of a missing command is %v", err)
	}
}

func TestCommandEndsWithItsContextAndWithStop(t *testing.T) {
	s := New(t)
	a := s.NewHost("a")
	ctx, cancel := context.WithCancel(t.Context())
	byContext := a.Command(ctx, "sleep", "1000")
	byStop := a.Command(t.Context(), "sleep", "1000")
	byScope := a.Command(t.Context(), "sleep", "1000")
	for _, c := range []*Cmd{byContext, byStop, byScope} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := byContext.Wait(); err == nil {
		t.Error("a cancelled command ended well")
	}
	if err := byStop.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case <-byScope.Done():
	default:
		t.Error("a command outlived its scope")
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	s, a, _, _, _ := pair(t)
	order := ""
	s.Defer(func() error { order += "1"; return nil })
	s.Defer(func() error { order += "2"; return nil })
	// What daemonises has left our hands, and must go all the same.
	if err := a.Command(t.Context(), "sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &").Run(); err != nil {
		t.Fatal(err)
	}
	if n := processes(t, a); n != 1 {
		t.Fatalf("%d processes in the host before, want 1", n)
	}
	inode := inode(t, a)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if order != "21" {
		t.Errorf("deferred functions ran in order %q", order)
	}
	assertGone(t, s.ID(), inode)
}

func assertGone(t *testing.T, id string, inode uint64) {
	t.Helper()
	for _, pattern := range []string{netnsDir + "/" + id + "*", stateDir + "/" + id + "*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	for deadline := time.Now().Add(2 * time.Second); inside(t, inode) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", inside(t, inode))
		}
	}
}

func inode(t *testing.T, h *Host) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(h.Path(), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func processes(t *testing.T, h *Host) int { return inside(t, inode(t, h)) }

func inside(t *testing.T, inode uint64) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Ino == inode {
			n++
		}
	}
	return n
}

func TestFailedScopeKeepsItsFirstErrorAndDoesNothingMore(t *testing.T) {
	New(t) // skips without privilege
	s, err := Open(Options{Label: "failing"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := s.NewHost("a")
	a.NewBridge("a name that is too long for a link")
	first := s.Err()
	if first == nil || !strings.Contains(first.Error(), "too long") {
		t.Fatalf("the error is %v", first)
	}
	b := s.NewHost("b")
	s.Connect(End{Host: a, Name: "x"}, End{Host: b, Name: "x"})
	if err := b.Do(func() error { t.Error("ran"); return nil }); !errors.Is(err, first) {
		t.Errorf("Do in a failed scope: %v", err)
	}
	if !errors.Is(s.Err(), first) {
		t.Errorf("the error has become %v", s.Err())
	}
}
