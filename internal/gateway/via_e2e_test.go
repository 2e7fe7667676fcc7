package gateway_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// unasked has a NAT take nothing from outside that nobody inside has asked for, as NATs with a firewall do: without it, what
// comes for a gateway before the gateway has sent anything there takes the port that its own mapping needs.
const unasked = `}
chain own {
	type filter hook input priority filter
	iifname "out0" meta l4proto udp drop`

// filter replaces the rules of a NAT's packet filter and leaves alone what it knows of flows.
func (u *behindNATs) filter(t testing.TB, nat int, rules string) {
	t.Helper()
	out, err := u.nats[nat].Command(t.Context(), "nft", "flush chain ip nat pass; "+rules).CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, rules)
	}
}

// apart keeps the sites' NATs from sending to each other, or lets them.
func (u *behindNATs) apart(t testing.TB, on bool) {
	t.Helper()
	for i := range u.nats {
		rule := ""
		if on {
			rule = fmt.Sprintf("add rule ip nat pass ip daddr 198.51.100.1%d drop", 2-i)
		}
		u.filter(t, i, rule)
	}
}

// waitPath waits until the path to the peer that is used is the one with this name, and works.
func (s *site) waitPath(t testing.TB, name string) {
	t.Helper()
	s.eventually(t, "path "+name+" is used", func() error {
		if p := s.paths(t)[name]; !p.GetUsed() || p.GetLiveness().GetState() != sluicev1.LiveState_LIVE_STATE_UP {
			return errors.New(p.String())
		}
		return nil
	})
}

func (s *site) peer(t testing.TB, name string) *sluicev1.Peer {
	t.Helper()
	r, err := s.client().Peers(t.Context(), &sluicev1.PeersRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetPeers()[0]
}

// Two gateways behind NATs that cannot reach each other talk through a third, which passes on what they have sealed, if it is
// told to; when they can reach each other, they do, and come back when that ends.
func TestTwoGatewaysBehindNATsTalkThroughAThird(t *testing.T) {
	u := newBehindNATs(t)
	defer u.explain(t)
	a, c, hub := u.sites[0], u.sites[1], u.hub
	for i, s := range u.sites {
		s.configure(t, natPeer("hub", hub, "    endpoint: 198.51.100.3:51820\n")+
			natPeer("peer", u.sites[1-i], fmt.Sprintf(`    pathHold: 500ms
    paths:
      - {name: direct, endpoint: "198.51.100.1%d:51820"}
      - {name: relayed, via: hub}
`, 2-i)))
	}
	// One NAT gives every flow another port: nobody outside can know it.
	u.masquerade(t, 0, "", unasked)
	u.masquerade(t, 1, "random", unasked)
	hub.configure(t, natPeer("site1", a, "")+natPeer("site2", c, ""))
	for _, s := range []*site{hub, a, c} {
		s.start(t)
	}
	for _, s := range []*site{a, c} {
		s.pings(t, hub)
	}
	hub.eventually(t, "messages are refused by name", func() error {
		if hub.counter(t, "relay", "relay_refused") == 0 {
			return errors.New(hub.nonZero(t))
		}
		return nil
	})
	if err := netnstest.Ping(t.Context(), a.host, c.addr4(), netnstest.PingOptions{Count: 2, Timeout: time.Second}); err == nil {
		t.Error("the hub passed messages on that it should not have")
	}
	hub.rewrite(t, "  - name: site1\n", "  - name: site1\n    relayTo: [site2]\n    relayLimit: {rate: 1G}\n")
	hub.rewrite(t, "  - name: site2\n", "  - name: site2\n    relayLimit: {rate: 1G}\n")
	hub.reload(t)
	a.pings(t, c)
	c.pings(t, a)
	for i, s := range u.sites {
		s.waitPath(t, "relayed")
		if p := s.paths(t); p["relayed"].GetVia() != "hub" || p["direct"].GetLiveness().GetState() == sluicev1.LiveState_LIVE_STATE_UP {
			t.Errorf("site %d: %v", i+1, p)
		}
		// 1500 less 60 for each of the two tunnels.
		s.eventually(t, "the MTU through the hub is found", func() error {
			if p := s.peer(t, "peer"); p.GetMtu() != 1380 || p.GetMtuState() != sluicev1.MTUState_MTU_STATE_CONFIRMED {
				return fmt.Errorf("%d, %v", p.GetMtu(), p.GetMtuState())
			}
			return nil
		})
	}
	if err := copyBetween(t.Context(), a.host, c.host, c.addr4(), 2<<20); err != nil {
		t.Errorf("%v; %s; %s; %s", err, a.nonZero(t), hub.nonZero(t), c.nonZero(t))
	}
	if n := hub.counter(t, "relay", "passed_on"); n < 1500 {
		t.Errorf("%d messages were passed on", n)
	}
	if r := hub.peer(t, "site1").GetRelayed(); len(r.GetWith()) != 1 || r.GetWith()[0] != "site2" || r.GetSentBytes() < 2<<20 || r.GetReceivedPackets() < 100 {
		t.Errorf("the hub says of site 1: %v", r)
	}
	for _, name := range []string{"too_big", "relay_no_message", "relay_limited"} {
		if n := hub.counter(t, "relay", name); n > 0 {
			t.Errorf("%d packets are %s at the hub", n, name)
		}
	}

	// Both NATs keep ports now, and let the gateways' packets to each other through, or do not. The port is named: if not, a flow
	// may be given the one that another flow of its host had before, if that one goes on while it is forgotten.
	for i := range u.nats {
		u.masquerade(t, i, "to :51820", unasked)
	}
	u.apart(t, true)
	const each = 500 * time.Microsecond // three gateways share the machine
	floods := [2]*flood{{from: a, to: c, every: each}, {from: c, to: a, every: each}}
	for _, f := range floods {
		f.listen(t)
	}
	during := func(d time.Duration, do func()) (lost [2]loss) {
		var wait sync.WaitGroup
		for i, f := range floods {
			wait.Go(func() { lost[i] = f.run(t, d) })
		}
		time.Sleep(d / 2)
		do()
		wait.Wait()
		return lost
	}
	for _, s := range u.sites {
		s.waitPath(t, "relayed")
	}
	a.eventually(t, "stream is on", func() error {
		if lost := during(200*time.Millisecond, func() {}); max(lost[0].packets, lost[1].packets) > 100 {
			return fmt.Errorf("%v lost", lost)
		}
		return nil
	})
	passed := func(path string) {
		t.Helper()
		for _, s := range u.sites {
			s.waitPath(t, path)
		}
		hub.eventually(t, "messages take path "+path, func() error {
			before := hub.counter(t, "relay", "passed_on")
			during(200*time.Millisecond, func() {})
			if n := hub.counter(t, "relay", "passed_on") - before; (n > 400) != (path == "relayed") {
				return fmt.Errorf("%d messages of 800 were passed on", n)
			}
			return nil
		})
	}
	// A machine that does other things loses packets by itself, but not each time.
	for try := 1; ; try++ {
		there := during(2*time.Second, func() { u.apart(t, false) })
		passed("direct")
		back := during(2*time.Second, func() { u.apart(t, true) })
		passed("relayed")
		t.Logf("they reach each other: lost %v and %v; they do no more: lost %v and %v", there[0], there[1], back[0], back[1])
		// Both paths work when the direct one is taken: nothing is lost by that. When it fails, 300 ms may be; here, on any machine, a second's.
		if max(there[0].row, there[1].row) <= int(100*time.Millisecond/each) && max(back[0].row, back[1].row) <= int(time.Second/each) {
			break
		}
		if try == 5 {
			t.Errorf("more than 100 ms were lost by going over, or more than a second when the direct path failed, %d times", try)
			break
		}
	}
}
