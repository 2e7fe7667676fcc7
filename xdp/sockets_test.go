package xdp

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newVeth makes a pair of links, both up, in the namespace of the test's thread, and returns their indexes.
func newVeth(t testing.TB, name, peer string, queues int) (int, int) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = name, queues, queues
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNumTxQueues: uint32(queues), PeerNumRxQueues: uint32(queues)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("add veth %s: %v", name, err)
	}
	var indexes []int
	for _, n := range []string{name, peer} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, l.Attrs().Index)
	}
	return indexes[0], indexes[1]
}

func stateOf(ifindexes ...int) State {
	s := testState()
	s.Ports = nil
	for _, i := range ifindexes {
		s.Ports = append(s.Ports, Port{Ifindex: i, Overlay: true, MAC: portMAC})
	}
	return s
}

func transport() []byte { return build(stack(toUs("192.0.2.1", 51820), wireguard(4, 32))...) }

func TestEachQueueOfEachInterfaceHasItsOwnSocket(t *testing.T) {
	inNamespace(t)
	a, b := newVeth(t, "sla", "slb", 4)
	h := newHarness(t, Options{}, stateOf(a, b))
	check := func(ifindex, queue int, want Verdict) {
		t.Helper()
		if got := h.run(t, transport(), ifindex, queue); got != want {
			t.Errorf("ifindex %d queue %d: %s, want %s", ifindex, queue, got, want)
		}
	}
	h.openSocket(t, a, 1)
	h.openSocket(t, b, 3)
	for queue := range 4 {
		check(a, queue, map[bool]Verdict{true: DivertTransport, false: PassNoSocket}[queue == 1])
		check(b, queue, map[bool]Verdict{true: DivertTransport, false: PassNoSocket}[queue == 3])
	}

	for range 2 { // clearing what is clear is no error
		if err := h.ClearSocket(a, 1); err != nil {
			t.Fatal(err)
		}
	}
	check(a, 1, PassNoSocket)
	check(b, 3, DivertTransport)

	// An interface leaves the state and another takes its slot: the sockets do not stay.
	if err := h.SetState(stateOf(a)); err != nil {
		t.Fatal(err)
	}
	check(b, 3, PassNoPort)
	if err := h.SetState(stateOf(a, loopback)); err != nil {
		t.Fatal(err)
	}
	if err := h.SetState(stateOf(a, b)); err != nil {
		t.Fatal(err)
	}
	check(b, 3, PassNoSocket)
}

func TestFewerQueuesClearTheSocketsOfTheRest(t *testing.T) {
	inNamespace(t)
	a, _ := newVeth(t, "sla", "slb", 4)
	s := stateOf(a)
	h := newHarness(t, Options{}, s)
	h.openSocket(t, a, 0)
	h.openSocket(t, a, 3)
	s.Ports[0].Queues = 2
	if err := h.SetState(s); err != nil {
		t.Fatal(err)
	}
	for queue, want := range map[int]Verdict{0: DivertTransport, 3: PassNoSocket} {
		if got := h.run(t, transport(), a, queue); got != want {
			t.Errorf("queue %d: %s, want %s", queue, got, want)
		}
	}
}

func TestAQueueAboveTheLimitIsNotTakenForAnotherInterfaces(t *testing.T) {
	inNamespace(t)
	a, b := newVeth(t, "sla", "slb", MaxQueues+4)
	h := newHarness(t, Options{}, stateOf(a, b)) // slots 0 and 1, in this order
	for queue := range 4 {
		h.openSocket(t, b, queue)
	}
	for queue := MaxQueues; queue < MaxQueues+4; queue++ {
		if got := h.run(t, transport(), a, queue); got != PassNoSocket {
			t.Errorf("queue %d: %s", queue, got)
		}
	}
}

func TestAClosedSocketGetsNoPackets(t *testing.T) {
	h := newHarness(t, Options{}, testState())
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SetSocket(loopback, 0, fd); err != nil {
		t.Fatal(err)
	}
	if got := h.run(t, transport(), loopback, 0); got != DivertTransport {
		t.Fatal(got)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if got := h.run(t, transport(), loopback, 0); got != PassNoSocket {
		t.Error(got)
	}
}

func TestSocketsThatCannotBeSetAreRefused(t *testing.T) {
	s := stateOf(loopback)
	s.Ports[0].Queues = 2
	h := newHarness(t, Options{}, s)
	for _, c := range []struct {
		name           string
		ifindex, queue int
		fd             int
		want           string
	}{
		{"an interface that is no port", 77, 0, 0, "set socket of ifindex 77 queue 0: no port of the state is on this interface"},
		{"a queue too many", loopback, 2, 0, "set socket of ifindex 1 queue 2: the port has queues 0 to 1"},
		{"a negative queue", loopback, -1, 0, "set socket of ifindex 1 queue -1: the port has queues 0 to 1"},
		{"a descriptor that is no socket", loopback, 0, 1 << 20, "set socket of ifindex 1 queue 0: "},
	} {
		if err := h.SetSocket(c.ifindex, c.queue, c.fd); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
	}
	if err := h.ClearSocket(77, 0); err == nil {
		t.Error("clearing a socket of no port is no error")
	}
}
