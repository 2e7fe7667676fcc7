package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// harm is something bad that happens to a gateway, and how it ends.
type harm struct {
	name      string
	act, mend func(t testing.TB, s *site)
}

var harms = []harm{
	{"killed", func(_ testing.TB, s *site) { _ = s.process.Process.Kill(); <-s.process.Done() }, func(t testing.TB, s *site) { s.start(t) }},
	{"frozen", func(_ testing.TB, s *site) { _ = s.process.Process.Signal(syscall.SIGSTOP) }, func(_ testing.TB, s *site) { _ = s.process.Process.Signal(syscall.SIGCONT) }},
	{"cut off from the WAN", func(_ testing.TB, s *site) { s.wan.SetUp(false) }, func(_ testing.TB, s *site) { s.wan.SetUp(true) }},
	{"cut off from the site", func(_ testing.TB, s *site) { s.inside.SetUp(false) }, func(_ testing.TB, s *site) { s.inside.SetUp(true) }},
	{"stopped", func(_ testing.TB, s *site) { _ = s.process.Process.Signal(syscall.SIGTERM); <-s.process.Done() }, func(t testing.TB, s *site) { s.start(t) }},
}

// TestSoakCluster harms the gateways of a site at random: one at a time, or all at once as when its power is cut. Never are two
// active; soon after, nothing leads to the one that is harmed; and once all is well again one is active (or all have their share), nothing is lost, and only the active one has the address that moves.
// A few times in every run, fifty with SLUICE_SOAK. SLUICE_SEED repeats a run.
func TestSoakCluster(t *testing.T) {
	for _, c := range []struct {
		name    string
		seldom  bool
		gates   int
		cluster string
	}{
		{"two gateways, one active", false, 2, oneActiveWithAddress},
		{"two gateways that share", true, 2, ""},
		{"three gateways, one active", true, 3, oneActiveWithAddress},
	} {
		if c.seldom && os.Getenv("SLUICE_SOAK") == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) { soakCluster(t, newGateways(t, c.gates, c.cluster), c.cluster != "") })
	}
}

// oneActiveWithAddress has an address that the active gateway has.
const oneActiveWithAddress = "  vpcs: [{name: default, priority: %[1]d, addresses: [{port: site0, address: 172.20.0.254/24}]}]\n"

func soakCluster(t *testing.T, p *pair, single bool) {
	events, seed := 4, uint64(time.Now().UnixNano())
	if os.Getenv("SLUICE_SOAK") != "" {
		events = 50
	}
	if text := os.Getenv("SLUICE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SLUICE_SEED: %v", err)
		}
	}
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("SLUICE_SEED=%d", seed)
	var f *flowTest
	if single {
		f = p.startCluster(t)
		p.watchActives(t)
	} else {
		p.far.start(t)
		for _, s := range p.gates {
			s.start(t)
		}
		f = p.flows(t)
	}
	for n := range events {
		i := r.IntN(len(p.gates))
		s, h := p.gates[i], harms[r.IntN(len(harms))]
		long := r.IntN(3) > 0
		pause := time.Duration(r.IntN(1000)) * time.Millisecond
		switch what := r.IntN(10); {
		case what == 0: // the site's power is cut
			t.Logf("%d: all are killed", n)
			for _, s := range p.gates {
				harms[0].act(t, s)
			}
			for _, i := range r.Perm(len(p.gates)) {
				p.gates[i].launch(t)
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
			}
		case what == 1 && single: // refused where the gateway is not active
			_, err := s.client().MoveVPC(t.Context(), &sluicev1.MoveVPCRequest{Vpc: "default"})
			t.Logf("%d: gateway %d is told to hand over: %v", n, s.number, err)
		default:
			t.Logf("%d: gateway %d is %s", n, s.number, h.name)
			h.act(t, s)
			if long {
				p.leftAlone(t, s)
			}
			time.Sleep(pause)
			h.mend(t, s)
		}
		time.Sleep(pause)
		if n%5 == 4 || n == events-1 { // all is well
			p.whole(t, f, single)
		}
	}
}

// whole waits until everything is as it should be.
func (p *pair) whole(t testing.TB, f *flowTest, single bool) {
	t.Helper()
	if !single {
		p.ways(t, len(p.gates))
		f.settles(t)
		return
	}
	p.settled(t)
	p.ways(t, 1)
	f.settles(t)
	p.gates[0].eventually(t, "one gateway has the address that moves: the active one, which the router sends to", func() error {
		active, err := p.oneActive(t)
		if err != nil {
			return err
		}
		for i, s := range p.gates {
			out, err := s.gateway.Command(t.Context(), "ip", "-o", "address", "show", "dev", "site0").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w", out, err)
			}
			if has := strings.Contains(string(out), " 172.20.0.254/"); has != (i == active) {
				return fmt.Errorf("gateway %d is active, and gateway %d has the address: %v", p.gates[active].number, s.number, has)
			}
		}
		return p.leadsTo(t, p.gates[active], true)
	})
}

// leftAlone waits until nothing leads to a gateway that is harmed: neither at the router, nor at the other site.
func (p *pair) leftAlone(t testing.TB, s *site) {
	t.Helper()
	p.far.eventually(t, fmt.Sprintf("nothing leads to gateway %d", s.number), func() error { return p.leadsTo(t, s, false) })
}

// leadsTo says whether the router and the other site send to a gateway.
func (p *pair) leadsTo(t testing.TB, s *site, want bool) error {
	out, err := p.tor.Command(t.Context(), "ip", "route", "show", "10.2.0.0/16").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	if is := strings.Contains(string(out), fmt.Sprintf("via 172.20.0.%d ", s.number)); is != want {
		return fmt.Errorf("the router: %s", out)
	}
	routes, err := p.far.client().Routes(t.Context(), &sluicev1.RoutesRequest{})
	if err != nil {
		return err
	}
	is := false
	for _, r := range routes.GetRoutes() {
		for _, hop := range r.GetNextHops() {
			is = is || hop.GetPeer() == fmt.Sprint("gw", s.number)
		}
	}
	if is != want {
		return fmt.Errorf("the other site: %v", routes.GetRoutes())
	}
	return nil
}
