package netnstest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
)

// site builds two nodes with a pod each in two segments, both with the same
// addresses in the two, and returns the pods: [node][segment].
func site(t *testing.T, build func(*Scope, NodeOptions) *Node) (nodes [2]*Node, pods [2][2]*Host) {
	s := New(t)
	sw := s.NewSwitch("switch")
	segments := []Segment{{Name: "red", VNI: 100}, {Name: "blue", VNI: 200}}
	for i := range nodes {
		nodes[i] = build(s, NodeOptions{
			Name: fmt.Sprint("node", i), Switch: sw,
			VTEP: netip.MustParsePrefix(fmt.Sprintf("192.168.1.1%d/24", i)),
			// One more than there are: what nobody answers must do no harm.
			Remotes:  []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.168.1.1%d", 1-i)), netip.MustParseAddr("192.168.1.1")},
			Segments: segments,
		})
		for j, segment := range segments {
			pods[i][j] = nodes[i].NewPod(PodOptions{
				Name: fmt.Sprintf("pod%d-%s", i, segment.Name), Segment: segment.Name, MTU: 1400,
				Addrs: Prefixes(fmt.Sprintf("10.1.1.1%d/16", i), fmt.Sprintf("fd10:1::1%d/64", i)),
			})
		}
	}
	return nodes, pods
}

func assertPodsMeet(t *testing.T, pods [2][2]*Host) {
	t.Helper()
	for j := range 2 {
		for i, addr := range []string{"10.1.1.1%d", "fd10:1::1%d"} {
			to := netip.MustParseAddr(fmt.Sprintf(addr, 1))
			if err := Ping(t.Context(), pods[0][j], to, PingOptions{Count: 5}); err != nil {
				t.Errorf("ping in segment %d, family %d: %v", j, i, err)
			}
			// A whole packet of the pods' MTU fits the tunnel.
			big := PingOptions{Size: 1400 - 20 - 8 - 20*i, DontFragment: true, Payload: []byte("marker")}
			if err := Ping(t.Context(), pods[0][j], to, big); err != nil {
				t.Errorf("large ping in segment %d, family %d: %v", j, i, err)
			}
		}
	}
}

func TestPodsOfVXLANNodesMeetInTheirSegments(t *testing.T) {
	nodes, pods := site(t, (*Scope).NewVXLANNode)
	assertPodsMeet(t, pods)
	testenv.RequireTool(t, "bridge")
	out, err := nodes[0].Command(t.Context(), "bridge", "fdb", "show", "dev", "vx-red").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"00:00:00:00:00:00 dst 192.168.1.11", "00:00:00:00:00:00 dst 192.168.1.1 "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the forwarding table:\n%s", want, out)
		}
	}
}

func TestPodsOfOVSNodesMeetInTheirSegments(t *testing.T) {
	testenv.RequireTool(t, OVSTools...)
	start := time.Now()
	nodes, pods := site(t, (*Scope).NewOVSNode)
	t.Logf("two nodes with Open vSwitch built in %v", time.Since(start).Round(time.Millisecond))
	assertPodsMeet(t, pods)
	out, err := nodes[0].OVSControl("ovs-appctl", "fdb/show", "br-red").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "\n"); n < 3 {
		t.Errorf("the switch has not learned both pods:\n%s", out)
	}
}

func TestOVSCheckAgreesWithTheNodes(t *testing.T) {
	New(t)
	testenv.RequireTool(t, OVSTools...)
	if err := CheckOVS(); err != nil {
		t.Error(err)
	}
}

func TestSegmentsAreSeparate(t *testing.T) {
	_, pods := site(t, (*Scope).NewVXLANNode)
	blueOnly := netip.MustParseAddr("10.1.1.99")
	link := &Link{Host: pods[1][1], Name: "eth0"}
	if _, err := link.read(); err != nil {
		t.Fatal(err)
	}
	link.AddAddr(netip.PrefixFrom(blueOnly, 16))
	if err := Ping(t.Context(), pods[0][1], blueOnly, PingOptions{}); err != nil {
		t.Errorf("within the segment: %v", err)
	}
	if err := Ping(t.Context(), pods[0][0], blueOnly, PingOptions{Count: 1, Timeout: 200 * time.Millisecond}); err == nil {
		t.Error("a pod reached an address of another segment")
	}
}

func TestPodOfUnknownSegmentIsAnError(t *testing.T) {
	New(t)
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := s.NewVXLANNode(NodeOptions{Name: "node", Switch: s.NewSwitch("switch"), VTEP: netip.MustParsePrefix("192.168.1.1/24")})
	n.NewPod(PodOptions{Name: "pod", Segment: "green"})
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), `"green"`) {
		t.Errorf("the error is %v", err)
	}
}
