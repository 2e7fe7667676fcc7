package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/k8s/network"
)

// plainNode is a machine with an address on a LAN and a bridge of pods, as a network plugin leaves it.
func plainNode(t *testing.T) (*netnstest.Host, *Kernel) {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireTool(t, "nft", "ip")
	scope := netnstest.New(t)
	host := scope.NewRouter("node")
	scope.Connect(
		netnstest.End{Host: host, Name: "eth0", MTU: 1500, Addrs: netnstest.Prefixes("172.20.0.2/24", "fd20::2/64")},
		netnstest.End{Host: scope.NewHost("lan"), Name: "eth0"},
	)
	bridge := host.NewBridge("cni0")
	bridge.AddAddr(netip.MustParsePrefix("10.1.1.1/24"))
	bridge.AddAddr(netip.MustParsePrefix("fd01:1:1::1/64"))
	host.Route(netip.Prefix{}, netip.MustParseAddr("172.20.0.254"))
	must(t, host, "nft", "add table ip theirs; add chain ip theirs masq { type nat hook postrouting priority srcnat; }; add rule ip theirs masq ip saddr 10.1.1.0/24 masquerade")
	var kernel *Kernel
	if err := host.Do(func() (err error) {
		kernel, err = OpenKernel(Config{Table: defaultTable, Priority: defaultPriority})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close() })
	return host, kernel
}

func must(t *testing.T, host *netnstest.Host, name string, args ...string) string {
	t.Helper()
	out, err := host.Command(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// everything is all that somebody could find of us, as the system's own tools say it.
func everything(t *testing.T, host *netnstest.Host) string {
	t.Helper()
	return must(t, host, "sh", "-c", "ip link; ip -details link show type vxlan; ip -4 rule; ip -6 rule; "+
		"ip -4 route show table all; ip -6 route show table all; bridge fdb; nft list ruleset")
}

func wantedState() State {
	local := netip.MustParseAddr("172.20.0.2")
	return State{
		Links: []Link{{Name: "sluice100", VNI: 100, UDPPort: 4789, Local: local, LocalMAC: network.NodeMAC(local), Gateway: netip.MustParseAddr("172.20.0.1"), MTU: 1450}},
		Routes: []Route{
			{Dst: netip.MustParsePrefix("10.2.0.0/16"), Link: "sluice100", Source: netip.MustParseAddr("10.1.1.1")},
			{Dst: netip.MustParsePrefix("10.3.0.0/16"), Link: "sluice100"},
			{Dst: netip.MustParsePrefix("fd02::/16"), Link: "sluice100", Source: netip.MustParseAddr("fd01:1:1::1")},
		},
		Pods:   netnstest.Prefixes("10.1.1.0/24", "fd01:1:1::/64"),
		Remote: netnstest.Prefixes("10.2.0.0/16", "10.3.0.0/16", "fd02::/16"),
		MTU:    1450,
	}
}

func apply(t *testing.T, k *Kernel, s State) []string {
	t.Helper()
	changes, err := k.Apply(s)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestTheKernelIsBroughtToAStateAndBack(t *testing.T) {
	host, k := plainNode(t)
	before := everything(t, host)
	if changes := apply(t, k, State{}); len(changes) > 0 {
		t.Errorf("nothing is wanted, and it did %q", changes)
	}
	first := apply(t, k, wantedState())
	wanted := everything(t, host)
	if changes := apply(t, k, wantedState()); len(changes) > 0 {
		t.Errorf("all is there after %q, and it did %q", first, changes)
	}

	for name, breaks := range map[string][]string{
		"a route to the gateway":        {"ip", "route", "del", "10.2.0.0/16", "table", "8451", "metric", "1024"},
		"an IPv6 route":                 {"ip", "-6", "route", "del", "fd02::/16", "table", "8451", "metric", "1024"},
		"a route that refuses":          {"ip", "route", "del", "unreachable", "10.3.0.0/16", "table", "8451"},
		"all routes":                    {"ip", "route", "flush", "table", "8451"},
		"a route of somebody else":      {"ip", "route", "add", "10.9.0.0/16", "via", "172.20.0.9", "table", "8451"},
		"a route that leads elsewhere":  {"ip", "route", "replace", "10.2.0.0/16", "via", "172.20.0.9", "metric", "1024", "table", "8451"},
		"an IPv6 route elsewhere":       {"ip", "-6", "route", "replace", "fd02::/16", "via", "fd20::9", "metric", "1024", "table", "8451"},
		"the rule":                      {"ip", "rule", "del", "priority", "300"},
		"the IPv6 rule":                 {"ip", "-6", "rule", "del", "priority", "300"},
		"a second rule":                 {"ip", "rule", "add", "priority", "9", "table", "8451"},
		"the link":                      {"ip", "link", "del", "sluice100"},
		"the link down":                 {"ip", "link", "set", "sluice100", "down"},
		"its MTU":                       {"ip", "link", "set", "sluice100", "mtu", "1300"},
		"its MAC address":               {"ip", "link", "set", "sluice100", "address", "02:00:00:00:00:09"},
		"ARP on it":                     {"ip", "link", "set", "sluice100", "arp", "on"},
		"another gateway":               {"bridge", "fdb", "replace", network.NodeMAC(netip.MustParseAddr("172.20.0.2")).String(), "dev", "sluice100", "dst", "172.20.0.9", "self", "permanent"},
		"a flood":                       {"bridge", "fdb", "add", "00:00:00:00:00:00", "dev", "sluice100", "dst", "172.20.0.9", "self", "permanent"},
		"a link of an old VPC":          {"ip", "link", "add", "sluice7", "type", "vxlan", "id", "7", "dstport", "4789"},
		"the nftables table":            {"nft", "delete table inet sluice_node"},
		"all nftables rules of a chain": {"nft", "flush chain inet sluice_node keep-source"},
		"a rule among ours":             {"nft", "insert rule inet sluice_node keep-source accept"},
		"a prefix of a set":             {"nft", "delete element inet sluice_node remote4 { 10.2.0.0/16 }"},
		"a set emptied":                 {"nft", "flush set inet sluice_node pods6"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, host, breaks[0], breaks[1:]...)
			if everything(t, host) == wanted {
				t.Fatal("it is as it was: this case breaks nothing")
			}
			changes := apply(t, k, wantedState())
			if got := everything(t, host); withoutNumbers(got) != withoutNumbers(wanted) {
				t.Errorf("after %q:\n%s", changes, got)
			}
			if changes := apply(t, k, wantedState()); len(changes) > 0 {
				t.Errorf("it was repaired, and it did %q", changes)
			}
		})
	}

	t.Run("another gateway", func(t *testing.T) {
		s := wantedState()
		s.Links[0].Gateway = netip.MustParseAddr("172.20.0.3")
		if changes := apply(t, k, s); len(changes) != 1 {
			t.Errorf("it did %q", changes)
		}
		if out := must(t, host, "bridge", "fdb", "show", "dev", "sluice100"); strings.Count(out, "dst") != 1 || !strings.Contains(out, "dst 172.20.0.3 ") {
			t.Errorf("its forwarding table: %s", out)
		}
	})
	t.Run("without a gateway all is refused", func(t *testing.T) {
		s := wantedState()
		s.Links = nil
		for i := range s.Routes {
			s.Routes[i].Link = ""
		}
		apply(t, k, s)
		for _, to := range []string{"10.2.0.1", "fd02::1"} {
			if out, err := host.Command(t.Context(), "ip", "route", "get", to).CombinedOutput(); err == nil || !strings.Contains(string(out), "unreachable") && !strings.Contains(string(out), "No route to host") {
				t.Errorf("%s: %v %s", to, err, out)
			}
		}
	})
	t.Run("the link of somebody else is left alone", func(t *testing.T) {
		must(t, host, "ip", "link", "add", "sluice100", "type", "bridge")
		if _, err := k.Apply(wantedState()); err == nil || !strings.Contains(err.Error(), "sluice100") {
			t.Errorf("error %v", err)
		}
		must(t, host, "ip", "link", "del", "sluice100")
	})
	apply(t, k, wantedState())
	if _, err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := everything(t, host); got != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, got)
	}
}

// withoutNumbers takes out the numbers of links, which a link that is made again has not, and the order of what is listed.
func withoutNumbers(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if number, rest, ok := strings.Cut(line, ": sluice"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
			lines[i] = ": sluice" + rest
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestWhatOthersDoIsHeard(t *testing.T) {
	host, k := plainNode(t)
	apply(t, k, wantedState())
	var w *Watch
	if err := host.Do(func() (err error) {
		w, err = OpenWatch(k.config)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(t.Context(), func() { heard <- struct{}{} })
	}()
	quiet := func() {
		for {
			select {
			case <-heard:
			case <-time.After(300 * time.Millisecond):
				return
			}
		}
	}
	quiet()
	for _, c := range []string{
		"ip route add 10.77.0.0/16 via 172.20.0.9", "ip route add 10.77.0.0/16 via 172.20.0.9 table 77", "nft add table inet other",
		"nft add rule ip theirs masq ip saddr 10.1.2.0/24 masquerade",
	} {
		words := strings.Fields(c)
		must(t, host, words[0], words[1:]...)
		select {
		case <-heard:
			t.Errorf("%s: is no business of ours", c)
			quiet()
		case <-time.After(200 * time.Millisecond):
		}
	}
	for _, c := range []string{
		"ip route del 10.2.0.0/16 table 8451", "ip -6 route del fd02::/16 table 8451", "ip rule del priority 300", "ip -6 rule del priority 300",
		"nft flush chain inet sluice_node keep-source", "nft flush set inet sluice_node pods4", "nft flush ruleset",
		"bridge fdb add 00:00:00:00:00:00 dev sluice100 dst 172.20.0.9", "ip link set sluice100 mtu 1300", "ip link del sluice100",
		"ip addr del 10.1.1.1/24 dev cni0",
	} {
		words := strings.Fields(c)
		must(t, host, words[0], words[1:]...)
		select {
		case <-heard:
			quiet()
		case <-time.After(10 * time.Second):
			t.Errorf("%s: was not heard", c)
		}
	}
	w.Close()
}
