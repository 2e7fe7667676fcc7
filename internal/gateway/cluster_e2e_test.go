package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

// settled waits until one gateway is active and the others are standbys that are READY, for a second on end. It returns which.
func (p *pair) settled(t testing.TB) (active int) {
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
	return was
}

// oneActive says which gateway is active, while the others are standbys that are READY.
func (p *pair) oneActive(t testing.TB) (int, error) {
	active := -1
	var roles []string
	for i, s := range p.gates {
		v, err := s.clusterVPC(t.Context())
		if err != nil {
			return -1, err
		}
		if v.GetState() != "READY" {
			return -1, errors.New(v.String())
		}
		if roles = append(roles, v.GetRole()); v.GetRole() == "active" {
			active = i
		}
	}
	want := slices.Repeat([]string{"standby"}, len(p.gates))
	if active >= 0 {
		want[active] = "active"
	}
	if active < 0 || !slices.Equal(roles, want) {
		return -1, fmt.Errorf("the gateways are %v", roles)
	}
	return active, nil
}

// actives watches that never two gateways are active: one that is so before and after another was, with the same claim,
// was so all the time.
type actives struct {
	mu    sync.Mutex
	twice []string
	seen  []int
}

func (p *pair) watchActives(t testing.TB) *actives {
	a := &actives{seen: make([]int, len(p.gates))}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		before := make([]uint64, len(p.gates)) // epoch at the last look, 0: not active
		for ctx.Err() == nil {
			for i, s := range p.gates {
				// A gateway that is frozen does not answer, and must not hold up the look at the others.
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
				}
				for j, other := range before {
					if j != i && epoch != 0 && other != 0 && before[i] == epoch {
						a.twice = append(a.twice, fmt.Sprintf("gateway %d with epoch %d, and gateway %d with %d", s.number, epoch, p.gates[j].number, other))
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

// startCluster starts all and waits until gateway 1 is active and the others can take over.
func (p *pair) startCluster(t testing.TB) *flowTest {
	t.Helper()
	p.far.start(t)
	for _, s := range p.gates {
		s.start(t)
	}
	p.gates[0].waitRole(t, "active", "READY")
	p.settled(t)
	f := p.flows(t)
	p.ways(t, 1)
	f.settles(t)
	return f
}

// flows are between the two sites' hosts.
func (p *pair) flows(t testing.TB) *flowTest {
	f := newFlowTest(t, [2]*netnstest.Host{p.host, p.far.host}, [2]netip.Addr{netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("10.2.0.10")})
	for i, s := range p.gates {
		f.observe(t, fmt.Sprint("gw", s.number), p.links[i])
	}
	return f
}

// One gateway at a time carries the VPC, in both directions. A planned move and an orderly stop lose nothing; when it dies the
// other has taken over after a lease, and the router has turned away when BFD says so.
func TestOneGatewayAtATimeIsActive(t *testing.T) {
	p := newPair(t, oneActive)
	f := p.startCluster(t)
	p.watchActives(t)
	stages := p.watchStages(t)
	active := p.settled(t)
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
		{"cut off from the site", true, mostLost(t), func(s *site) { s.inside.SetUp(false) }, func(s *site) { s.inside.SetUp(true) }},
	} {
		if c.seldom && seldom() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s, heir := p.gates[active], p.gates[1-active]
			var then time.Time
			r := f.run(t, mostLost(t)+1500*time.Millisecond, func() { then = time.Now(); c.act(s) })
			stages.since(t, then)
			names := [2]string{fmt.Sprint("gw", s.number), fmt.Sprint("gw", heir.number)}
			flows, lost, worst := r.of(names[0])
			t.Logf("%d flows of the active gateway lost %d packets, the worst of them %v; by direction %v", flows, lost, worst, r.worst())
			if others, _, _ := r.of(names[1]); flows != 2*f.flows || others != 0 {
				t.Errorf("before, %d flows pass the active gateway and %d the standby", flows, others)
			}
			if worst > c.most {
				t.Errorf("a flow lost %v, at most %v is allowed", worst, c.most)
			}
			heir.waitRole(t, "active", "READY")
			c.after(s)
			active = p.settled(t)
			p.ways(t, 1)
			f.settles(t)
		})
	}
}
