package gateway_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// restartConfig is the gateway's side of a session with its host, which is a router here.
const restartConfig = `bgp:
  asn: 65001
  routerID: 10.255.0.2
  policies: [{name: all, rules: [{}]}]
  neighbours:
    - name: tor
      port: host0
      address: 10.2.0.10
      asn: 65102
      import: all
      export: all
      connectRetry: 1s
      restartTime: 60s
`

const restartFRR = `
router bgp 65102
 bgp router-id 10.2.0.10
 no bgp ebgp-requires-policy
 neighbor 10.2.0.1 remote-as 65001
 neighbor 10.2.0.1 timers connect 1
 address-family ipv6 unicast
  neighbor 10.2.0.1 activate
 exit-address-family
`

const restartBIRD = `
router id 10.2.0.10;
protocol device { scan time 1; }
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
protocol bgp sluice {
  local 10.2.0.10 as 65102;
  neighbor 10.2.0.1 as 65001;
  graceful restart aware;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; next hop address fd10:2::10; };
}
`

// A gateway is killed, and another time stopped. What forwards is its program, in the kernel; the site's router, which has all
// its routes from the gateway's BGP, must go on sending, and must not lose them when the next process begins.
func TestTheSitesRouterGoesOnSendingWhileTheGatewayRestarts(t *testing.T) {
	netnstest.RequireRouters(t)
	for _, router := range []string{"FRR", "BIRD"} {
		t.Run(router, func(t *testing.T) {
			b := newDirectBed(t, 4)
			gateway := b.sites[1]
			run(t, b.host, "ip", "route", "del", "10.1.0.0/16")
			run(t, b.host, "ip", "-6", "route", "del", "fd10:1::/64")
			text, err := os.ReadFile(gateway.config())
			if err == nil {
				err = os.WriteFile(gateway.config(), append(text, restartConfig...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			var stale func() (string, error)
			if router == "FRR" {
				frr := b.host.StartFRR(restartFRR, "")
				stale = func() (string, error) {
					return frr.Do(t.Context(), "show bgp ipv4 unicast 10.1.0.0/16", "show bgp ipv6 unicast fd10:1::/64")
				}
			} else {
				bird := b.host.StartBIRD(restartBIRD)
				stale = func() (string, error) { return bird.Do(t.Context(), "show route all") }
			}
			b.start()
			b.settled()
			s4, s6 := startStream(t, b.host, b.pod, b.podAddr(4), twinsStream4, 1), startStream(t, b.host, b.pod, b.podAddr(6), twinsStream6, 1)
			back := startStream(t, b.pod, b.host, b.hostAddr(4), twinsStream4+1, 1)
			for _, end := range []func(){
				func() {
					if err := gateway.process.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					<-gateway.process.Done()
				},
				func() { gateway.stop(t) },
			} {
				end()
				time.Sleep(500 * time.Millisecond) // without a session
				gateway.start(t)
				gateway.wantNeighbour(t, "the router is back", func(n *sluicev1.BGPNeighbour) bool { return n.GetState() == "established" && n.GetAnnounced() == 2 })
				b.eventually("nothing is stale", func() error {
					out, err := stale()
					if low := strings.ToLower(out); err == nil && (strings.Contains(low, "stale") || !strings.Contains(low, "10.1.0.0") || !strings.Contains(low, "fd10:1::")) {
						err = fmt.Errorf("the router has %s", out)
					}
					return err
				})
				time.Sleep(200 * time.Millisecond)
			}
			// On a virtual port the program leaves one packet in 65536 to the relay, because its checksum looks unfinished, and there
			// is none for a second. A router that does not go on loses a thousand.
			for _, s := range []*netnstest.Stream{s4, s6, back} {
				if sent, lost := s.End(); lost > 2 || sent < 1000 {
					t.Errorf("%v: %d of %d packets lost: %s", s, lost, sent, s.Gaps())
				}
			}
		})
	}
}
