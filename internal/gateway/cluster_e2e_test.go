package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// oneActive has the default VPC carried by one gateway at a time.
const oneActive = "  vpcs: [{name: default, priority: %[1]d}]\n"

// clusterVPC is a gateway's part in the only VPC.
func (s *site) clusterVPC(ctx context.Context) (*sluicev1.ClusterVPC, error) {
	r, err := s.client().Cluster(ctx, &sluicev1.ClusterRequest{})
	if err != nil {
		return nil, err
	}
	if len(r.GetVpcs()) != 1 {
		return nil, fmt.Errorf("%d VPCs", len(r.GetVpcs()))
	}
	return r.GetVpcs()[0], nil
}

// waitRole waits for a gateway to be, say, active and READY.
func (s *site) waitRole(t testing.TB, role, state string) {
	t.Helper()
	s.eventually(t, "it is "+role+" and "+state, func() error {
		v, err := s.clusterVPC(t.Context())
		if err == nil && (v.GetRole() != role || v.GetState() != state) {
			err = errors.New(v.String())
		}
		return err
	})
}

// settled waits until one gateway is active and the other a standby that is READY, for a second on end. It returns which.
func (p *pair) settled(t testing.TB) (active, standby int) {
	t.Helper()
	since, was := time.Now(), -1
	for deadline := since.Add(time.Minute); time.Since(since) < time.Second; time.Sleep(50 * time.Millisecond) {
		is, err := p.oneActive(t)
		if err == nil && is == was {
			continue
		}
		if since, was = time.Now(), is; since.After(deadline) {
			t.Fatalf("the cluster does not come to rest: %v", err)
		}
	}
	return was, 1 - was
}

// actives watches that never two gateways are active: one that is so before and after the other was, with the same claim,
// was so all the time.
type actives struct {
	mu    sync.Mutex
	twice []string
	seen  [2]int
}

func (p *pair) watchActives(t testing.TB) *actives {
	a := &actives{}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		var before [2]uint64 // epoch at the last look, 0: not active
		for ctx.Err() == nil {
			for i, s := range p.gates {
				// A gateway that is frozen does not answer, and must not hold up the look at the other.
				asking, stop := context.WithTimeout(ctx, 50*time.Millisecond)
				v, err := s.clusterVPC(asking)
				stop()
				epoch := uint64(0)
				if err == nil && v.GetRole() == "active" {
					epoch = v.GetEpoch()
				}
				a.mu.Lock()
				if epoch != 0 {
					a.seen[i]++
					if other := before[1-i]; other != 0 && before[i] == epoch {
						a.twice = append(a.twice, fmt.Sprintf("gateway %d with epoch %d, and the other with %d", s.number, epoch, other))
					}
				}
				a.mu.Unlock()
				before[i] = epoch
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if len(a.twice) > 0 {
			t.Errorf("two gateways were active at the same time, %d times: %s", len(a.twice), a.twice[0])
		}
	})
	return a
}

// startCluster starts all and waits until gateway 1 is active and gateway 3 can take over.
func (p *pair) startCluster(t testing.TB) *flowTest {
	t.Helper()
	for _, s := range []*site{p.far, p.gates[0], p.gates[1]} {
		s.start(t)
	}
	p.gates[0].waitRole(t, "active", "READY")
	p.gates[1].waitRole(t, "standby", "READY")
	f := newFlowTest(t, [2]*netnstest.Host{p.host, p.far.host}, [2]netip.Addr{netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("10.2.0.10")})
	f.observe(t, "gw1", p.links[0])
	f.observe(t, "gw3", p.links[1])
	p.ways(t, 1)
	f.settles(t)
	return f
}

// One gateway at a time carries the VPC, in both directions. A planned move and an orderly stop lose nothing; when it dies the
// other has taken over after a lease, and the router has turned away when BFD says so.
func TestOneGatewayAtATimeIsActive(t *testing.T) {
	p := newPair(t, oneActive)
	f := p.startCluster(t)
	p.watchActives(t)
	active, standby := p.settled(t)
	for _, c := range []struct {
		name   string
		seldom bool
		most   time.Duration
		act    func(s *site)
		after  func(s *site)
	}{
		{"moved", false, 0, func(s *site) {
			if _, err := s.client().MoveVPC(t.Context(), &sluicev1.MoveVPCRequest{Vpc: "default"}); err != nil {
				t.Error(err)
			}
		}, func(*site) {}},
		{"stopped", false, 0, func(s *site) { _ = s.process.Process.Signal(syscall.SIGTERM) }, func(s *site) { <-s.process.Done(); s.start(t) }},
		{"killed", false, mostLost(t), func(s *site) { _ = s.process.Process.Kill() }, func(s *site) { <-s.process.Done(); s.start(t) }},
		{"frozen", true, mostLost(t), func(s *site) { _ = s.process.Process.Signal(syscall.SIGSTOP) }, func(s *site) { _ = s.process.Process.Signal(syscall.SIGCONT) }},
		{"cut off from the WAN", true, mostLost(t), func(s *site) { s.wan.SetUp(false) }, func(s *site) { s.wan.SetUp(true) }},
	} {
		if c.seldom && seldom() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s, heir := p.gates[active], p.gates[standby]
			r := f.run(t, mostLost(t)+1500*time.Millisecond, func() { c.act(s) })
			names := [2]string{fmt.Sprint("gw", s.number), fmt.Sprint("gw", heir.number)}
			flows, lost, worst := r.of(names[0])
			t.Logf("%d flows of the active gateway lost %d packets, the worst of them %v", flows, lost, worst)
			if others, _, _ := r.of(names[1]); flows != 2*f.flows || others != 0 {
				t.Errorf("before, %d flows pass the active gateway and %d the standby", flows, others)
			}
			if worst > c.most {
				t.Errorf("a flow lost %v, at most %v is allowed", worst, c.most)
			}
			heir.waitRole(t, "active", "READY")
			c.after(s)
			active, standby = p.settled(t)
			p.ways(t, 1)
			f.settles(t)
		})
	}
}

// TestSoakCluster kills, freezes, cuts off and restarts the gateways of a site at random: never are two active, and when all is
// well again there is one, and nothing is left behind. A few times in every run, fifty with SLUICE_SOAK.
func TestSoakCluster(t *testing.T) {
	events := 5
	if os.Getenv("SLUICE_SOAK") != "" {
		events = 50
	}
	p := newPair(t, oneActive)
	f := p.startCluster(t)
	a := p.watchActives(t)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for n := range events {
		i := r.IntN(2)
		s := p.gates[i]
		what := []string{"kill", "freeze", "cut", "stop", "move"}[r.IntN(5)]
		t.Logf("%d: %s gateway %d", n, what, s.number)
		pause := func() { time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond) }
		switch what {
		case "kill":
			_ = s.process.Process.Kill()
			<-s.process.Done()
			pause()
			s.start(t)
		case "freeze":
			_ = s.process.Process.Signal(syscall.SIGSTOP)
			pause()
			_ = s.process.Process.Signal(syscall.SIGCONT)
		case "cut":
			s.wan.SetUp(false)
			pause()
			s.wan.SetUp(true)
		case "stop":
			_ = s.process.Process.Signal(syscall.SIGTERM)
			<-s.process.Done()
			pause()
			s.start(t)
		case "move": // refused where the gateway is not active
			_, _ = s.client().MoveVPC(t.Context(), &sluicev1.MoveVPCRequest{Vpc: "default"})
		}
		pause()
	}
	// All is well: there is one active gateway, the router goes to it, and so does the other site.
	p.settled(t)
	p.ways(t, 1)
	f.settles(t)
	a.mu.Lock()
	defer a.mu.Unlock()
	t.Logf("seen active: %v", a.seen)
}

// oneActive says which gateway is active, while the other is a standby that is READY.
func (p *pair) oneActive(t testing.TB) (int, error) {
	var roles [2]string
	for i, s := range p.gates {
		v, err := s.clusterVPC(t.Context())
		if err != nil {
			return -1, err
		}
		if roles[i] = v.GetRole(); v.GetState() != "READY" {
			return -1, errors.New(v.String())
		}
	}
	switch roles {
	case [2]string{"active", "standby"}:
		return 0, nil
	case [2]string{"standby", "active"}:
		return 1, nil
	}
	return -1, fmt.Errorf("the gateways are %v", roles)
}
