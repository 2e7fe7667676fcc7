package demo

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// kernelGateways makes the gateways' kernels forward, in clear text: the hosts'
// traffic, and that of one VXLAN segment of each site. What the checks say of
// such gateways is known.
func kernelGateways(d *demo, osloVNI, bergenVNI uint32) {
	for i, s := range d.lab.sites {
		g := s.gateway.host
		g.Sysctl("net.ipv4.ip_forward", "1")
		g.Sysctl("net.ipv6.conf.all.forwarding", "1")
		g.NewVXLAN(netnstest.VXLAN{
			Name: "vx", VNI: []uint32{osloVNI, bergenVNI}[i], Local: s.vtep(0).Addr(),
			Remote: []netip.Addr{s.vtep(1).Addr(), s.vtep(2).Addr()}, MTU: d.lab.podMTU,
			Addrs: s.prefixes("10.%d.0.1/16", "fd10:%d::1/64"),
		})
		for _, p := range s.prefixes("172.16.%d.0/24", "fd16:%d::/64", "10.%d.0.0/16", "fd10:%d::/64") {
			via := s.wan(2, 4)
			if p.Addr().Is6() {
				via = s.wan(2, 6)
			}
			d.lab.wan.Route(p, via.Addr())
		}
	}
	// The WAN carries no more than the tunnels would.
	(&netnstest.Link{Host: d.lab.wan, Name: "bergen"}).SetMTU(d.lab.hostMTU)
	(&netnstest.Link{Host: d.lab.sites[1].gateway.host, Name: "wan0"}).SetMTU(d.lab.hostMTU)
}

// settled waits until the kernels on the way solicit IPv6 neighbours: they do not before their interfaces have link-local
// addresses, a second or two after they were made.
func settled(t *testing.T, d *demo) {
	t.Helper()
	from, to := d.lab.sites[0].host, d.lab.sites[1].host
	if err := netnstest.Ping(t.Context(), from.host, to.addrs[1], netnstest.PingOptions{Count: 1, Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
}

// find returns the outcome of the check whose name begins so.
func (r *report) find(t *testing.T, name string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Name, name) {
			return c
		}
	}
	t.Fatalf("no check %q", name)
	return Check{}
}

func assertOutcome(t *testing.T, d *demo, want map[string]bool) {
	t.Helper()
	for name, ok := range want {
		if c := d.find(t, name); c.OK != ok {
			t.Errorf("check %q: %v, want %v (%s)", name, c.OK, ok, c.Detail)
		}
	}
}

func startCapture(t *testing.T, d *demo) {
	t.Helper()
	var err error
	if d.capture, err = newCapture(d.lab.wan, d.lab.wireRules(), "oslo", "bergen"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.capture.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingCrossesWithoutGateways(t *testing.T) {
	d := testLab(t, labOptions{bergen: config.VXLAN})
	startCapture(t, d)
	ctx := t.Context()
	d.checkLocal(ctx)
	d.checkFirstPacket(ctx)
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	for _, vpc := range []string{"red", "blue"} {
		for _, addr := range bergen.pick(vpc, 1).addrs {
			if err := d.unreachable(ctx, oslo.pick(vpc, 1), addr); err != nil {
				t.Error(err)
			}
		}
	}
	d.checkControl(ctx)
	d.checkWAN(ctx)
	assertOutcome(t, d, map[string]bool{
		"pods of oslo meet":          false, // for want of counters
		"the first packet":           false,
		"the capture would notice":   false,
		"only WireGuard on the WAN":  false, // for want of any
		"nothing that the endpoints": true,
	})
}

func TestClearTextGatewaysPassWhatCrossesAndFailTheWAN(t *testing.T) {
	d := testLab(t, labOptions{bergen: config.VXLAN})
	kernelGateways(d, d.lab.sites[0].vnis["red"], d.lab.sites[1].vnis["red"])
	settled(t, d)
	startCapture(t, d)
	ctx := t.Context()
	d.checkFirstPacket(ctx)
	d.checkPings(ctx)
	d.checkSizes(ctx)
	d.checkTwins(ctx)
	d.checkCopies(ctx)
	d.checkControl(ctx)
	d.checkWAN(ctx)
	assertOutcome(t, d, map[string]bool{
		"the first packet":                        true,
		"ping default, IPv4":                      true,
		"ping default, IPv6":                      true,
		"ping red, IPv4":                          true,
		"ping red, IPv6":                          true,
		"ping blue, IPv4":                         false,
		"ping blue, IPv6":                         false,
		"a host's full packets":                   true,
		"a host that sends longer":                true,
		"from oslo, the same":                     false, // blue gets no answers
		"TCP copy, VPC red, oslo to bergen, IPv4": true,
		"TCP copy, VPC red, bergen to oslo, IPv6": true,
		"TCP copy, hosts, oslo to bergen, IPv4":   true,
		"TCP copy, hosts, bergen to oslo, IPv6":   true,
		"the capture would notice":                true,
		"only WireGuard on the WAN":               false,
		"nothing that the endpoints":              false,
	})
	if c := d.find(t, "nothing that the endpoints"); !strings.Contains(c.Detail, "marker") {
		t.Errorf("the marker was not what gave it away: %s", c.Detail)
	}
}

func TestGatewaysThatMixUpVPCsFailTheSeparation(t *testing.T) {
	d := testLab(t, labOptions{bergen: config.VXLAN})
	// Red of oslo is connected with blue of bergen.
	kernelGateways(d, d.lab.sites[0].vnis["red"], d.lab.sites[1].vnis["blue"])
	ctx := t.Context()
	d.checkTwins(ctx)
	d.checkBlueOnly(ctx)
	d.checkDefaultVPC(ctx)
	assertOutcome(t, d, map[string]bool{
		"from oslo, the same":      false,
		"an address of blue alone": false,
		"hosts (default VPC) and":  false,
	})
	if c := d.find(t, "from oslo, the same"); !strings.Contains(c.Detail, "and bergen-blue1 answered") {
		t.Errorf("the wrong pod was not recognised: %s", c.Detail)
	}
	if c := d.find(t, "an address of blue alone"); !strings.Contains(c.Detail, "oslo-red1 reached") {
		t.Errorf("the leak was not recognised: %s", c.Detail)
	}
}

func TestUntouchedLooksAtWhatTheRelayGets(t *testing.T) {
	before := map[string]uint64{"xdp/divert_vxlan": 1, "xdp/divert_geneve": 0, "xdp/pass_inner_arp": 1, "relay/to_peer": 5, "relay/to_site": 5}
	tests := []struct {
		name    string
		changed string
		ok      bool
	}{
		{"nothing has changed", "", true},
		{"packets passed", "xdp/pass_inner_arp", true},
		{"a packet was diverted", "xdp/divert_vxlan", false},
		{"the relay sent something to a peer", "relay/to_peer", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := map[string]uint64{}
			for name, n := range before {
				after[name] = n
			}
			after[tt.changed]++
			if detail, err := untouched(before, after); (err == nil) != tt.ok {
				t.Errorf("%v, %q", err, detail)
			}
		})
	}
	if _, err := untouched(map[string]uint64{}, map[string]uint64{"xdp/pass_local": 1}); err == nil {
		t.Error("counters that do not exist were taken for unchanged")
	}
}

func TestConfigurationsAreValidAndOfOneMind(t *testing.T) {
	d := testLab(t, labOptions{bergen: config.Geneve})
	var files [2]*config.Config
	for i, s := range d.lab.sites {
		text, err := os.ReadFile(s.gateway.configFile())
		if err != nil {
			t.Fatal(err)
		}
		if files[i], err = config.Parse(text, s.name); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	vnis := func(c *config.Config) map[string]uint32 {
		all := make(map[string]uint32)
		for _, v := range c.VPCs {
			all[v.Name] = v.VNI
		}
		return all
	}
	for i, c := range files {
		other := files[1-i]
		key, err := wireguard.ReadPrivateKey(other.WireGuard.KeyFile) // refuses a file that others may read
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wireguard.ReadPresharedKey(c.Peers[0].PresharedKeyFile); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(c.Peers[0].PublicKey), fmt.Sprint(key.PublicKey()); got != want {
			t.Errorf("%s has public key %s for its peer, want %s", c.Gateway, got, want)
		}
		for _, v := range c.Peers[0].VPCs {
			if v.VNI != vnis(other)[v.Name] {
				t.Errorf("%s believes that %s has VNI %d at its peer", c.Gateway, v.Name, v.VNI)
			}
		}
	}
	if vnis(files[0])["blue"] != vnis(files[1])["red"] {
		t.Error("oslo's blue and bergen's red have different VNIs: a missing translation would go unnoticed")
	}
}
