package contestants

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/testenv"
)

// What VPP is told has every neighbour, route and key of the lab, where VPP itself cannot be asked.
func TestVPPIsToldTheWholeLab(t *testing.T) {
	testenv.RequireRoot(t)
	s := method.Scenario{Routes: 20}.Normal()
	s.Attachment = scenario.Routed
	lab, err := scenario.NewLab(s, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, site := range lab.Ends {
		setup := vppSetup(lab, i)
		key := lab.PrivateKey(i)
		lines := []string{
			"create interface af_xdp host-if site0 name vpp-site0 num-rx-queues 1 no-zero-copy",
			fmt.Sprintf("set ip neighbor static vpp-wan0 %s %s", scenario.WAN(2-i), scenario.WANMAC(2-i)),
			fmt.Sprintf("set ip neighbor static vpp-site0 %s %s", scenario.Inner(site.Number, scenario.Routed), scenario.EndMAC(site.Number)),
			fmt.Sprintf("wireguard create listen-port 51820 private-key %s src %s", key.RevealBase64(), scenario.WAN(site.Number)),
		}
		for _, p := range lab.RoutesTo(1 - i) {
			lines = append(lines, fmt.Sprintf("ip route add %s via %s wg0", p, lab.Peers(i)[0].Tunnel))
			if !bytes.Contains(setup, []byte(" allowed-ip "+p.String()+" ")) {
				t.Errorf("site %d: the peer may not send from %s", site.Number, p)
			}
		}
		for _, want := range lines {
			if !strings.Contains(string(setup), want+"\n") {
				t.Errorf("site %d: no line %q", site.Number, want)
			}
		}
	}
}
