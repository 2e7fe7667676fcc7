package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/internal/kubetest"
	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// wide is how many children the wide test has: SLUICE_WIDE (make wide: 1000), else few.
func wide(t *testing.T, few int) int {
	text := os.Getenv("SLUICE_WIDE")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SLUICE_WIDE %q: want a number", text)
	}
	return n
}

// What is written all the time: heartbeats, and what API servers write for themselves.
var (
	heartbeats = []string{"clusterreports", "edgeclusters/status"}
	serversOwn = []string{"leases", "endpointslices", "configmaps", "flowschemas/status", "prioritylevelconfigurations/status"}
)

// meter reads what a parent does: its processes, and what is written to its API
// server.
type meter struct {
	t     *testing.T
	s     *server
	agent *exec.Cmd // nil: nobody asks
	asks  *discovery.DiscoveryClient
}

// reading is a moment of a meter.
type reading struct {
	at     time.Time
	usage  map[string]kubetest.Usage
	writes map[string]int // by resource and subresource
}

func newMeter(t *testing.T, s *server, agent *exec.Cmd) *meter {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	asks, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &meter{t: t, s: s, agent: agent, asks: asks}
}

func (m *meter) read() reading {
	m.t.Helper()
	r := reading{at: time.Now(), writes: map[string]int{}}
	var err error
	if r.usage, err = m.s.Usage(); err != nil {
		m.t.Fatal(err)
	}
	if m.agent != nil {
		if r.usage["agent"], err = kubetest.UsageOf(m.agent.Process.Pid); err != nil {
			m.t.Fatal(err)
		}
	}
	text, err := m.asks.RESTClient().Get().AbsPath("/metrics").Do(m.t.Context()).Raw()
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		labels, ok := strings.CutPrefix(line, "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(strings.TrimSpace(labels), "} ")
		label := func(name string) string {
			_, rest, _ := strings.Cut(labels, name+`="`)
			v, _, _ := strings.Cut(rest, `"`)
			return v
		}
		if !slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, label("verb")) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			m.t.Fatalf("%s: %v", line, err)
		}
		name := label("resource")
		if sub := label("subresource"); sub != "" {
			name += "/" + sub
		}
		r.writes[name] += int(n)
	}
	return r
}

// since says what happened between two readings.
func (r reading) since(before reading) (writes map[string]int, words string) {
	var b strings.Builder
	took := r.at.Sub(before.at)
	fmt.Fprintf(&b, "%.1f s:", took.Seconds())
	for _, name := range slices.Sorted(maps.Keys(r.usage)) {
		fmt.Fprintf(&b, " %s %.2f s CPU (%.0f %%) %d MiB,", name, (r.usage[name].CPU - before.usage[name].CPU).Seconds(),
			100*(r.usage[name].CPU-before.usage[name].CPU).Seconds()/took.Seconds(), r.usage[name].Memory>>20)
	}
	writes = map[string]int{}
	sum := 0
	for name, n := range r.writes {
		if n -= before.writes[name]; n > 0 {
			writes[name] = n
			sum += n
		}
	}
	fmt.Fprintf(&b, " %d writes %v", sum, writes)
	return writes, b.String()
}

// rootProcess runs the root's agent as a process of its own, which can be measured.
func rootProcess(t *testing.T, s *server) (cmd *exec.Cmd, stop func()) {
	t.Helper()
	own, err := s.KubeconfigFor(agentUser)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{"kubeconfig": own})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = process(t, file)
	return cmd, func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
}

// swarm is many standalone sites, with the agents that real ones have, in this
// process. Their objects are in memory.
type swarm struct {
	names []string
	own   []client.Client
}

func newSwarm(t *testing.T, parent *server, n int, beat time.Duration) *swarm {
	t.Helper()
	s := &swarm{}
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() {
		stop()
		group.Wait()
	})
	for i := range n {
		name := fmt.Sprintf("c%04d", i)
		if err := parent.admin.Create(t.Context(), &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
		file, err := parent.KubeconfigFor(v1alpha1.ClusterUser(name), v1alpha1.GroupClusters)
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Fatal(err)
		}
		site, err := standalone.Open(standalone.Options{})
		if err != nil {
			t.Fatal(err)
		}
		own, err := client.New(site.Config(), client.Options{Scheme: newScheme()})
		if err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Options{Name: name, Heartbeat: beat, Parent: config, Standalone: site, Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		s.names, s.own = append(s.names, name), append(s.own, own)
		group.Go(func() {
			if err := a.Run(ctx); err != nil {
				t.Errorf("agent of %s: %v", name, err)
			}
		})
	}
	return s
}

// reached counts the sites in which a VPC has a number; 0 counts those that have none.
func (s *swarm) reached(ctx context.Context, name string, vni int32) (n int) {
	for _, own := range s.own {
		var v v1alpha1.VPC
		err := own.Get(ctx, client.ObjectKey{Name: name}, &v)
		if err != nil && vni == 0 || err == nil && v.Spec.VNI != nil && *v.Spec.VNI == vni {
			n++
		}
	}
	return n
}

// Many children of one parent: all are heard of, all get what changes, and the
// parent writes no more than it has to.
func TestManyChildren(t *testing.T) {
	n := wide(t, 20)
	s := pool.take(t, 1)[0]
	clean := &site{server: s, t: t}
	t.Cleanup(clean.clean)
	limit := 20*time.Second + time.Duration(n)*300*time.Millisecond
	started := time.Now()
	parent, stop := rootProcess(t, s)
	defer stop()
	beat := heartbeat
	if n > 50 {
		beat = agent.DefaultHeartbeat
	}
	meter := newMeter(t, s, parent)
	first := meter.read()
	children := newSwarm(t, s, n, beat)
	soon(t, limit, "all report", func() error {
		var list v1alpha1.EdgeClusterList
		if err := s.admin.List(t.Context(), &list); err != nil {
			return err
		}
		healthy := 0
		for i := range list.Items {
			if list.Items[i].Status.Health == v1alpha1.Healthy {
				healthy++
			}
		}
		if healthy != n {
			return fmt.Errorf("%d of %d", healthy, n)
		}
		return nil
	})
	now := meter.read()
	_, words := now.since(first)
	t.Logf("%d children joined and healthy after %.1f s; %s", n, time.Since(started).Seconds(), words)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("a child: %d KiB, %d goroutines", int(memory.Sys)>>10/n, runtime.NumGoroutine()/n)

	// quiet waits until nothing but heartbeats is written.
	quiet := func(what string, window time.Duration) {
		t.Helper()
		var writes map[string]int
		soon(t, limit, what, func() error {
			before := meter.read()
			time.Sleep(window)
			after := meter.read()
			writes, words = after.since(before)
			beats := n * (int(window/beat) + 2)
			for name, count := range writes {
				if !slices.Contains(serversOwn, name) && (!slices.Contains(heartbeats, name) || count > beats) {
					return fmt.Errorf("%s", words)
				}
			}
			return nil
		})
		t.Logf("%s: %s", what, words)
	}
	window := 3 * time.Second
	if n > 50 {
		window = 2 * beat
	}
	quiet("at rest", window)

	spec := func(vni int) v1alpha1.MissionSpec { return v1alpha1.MissionSpec{Manifests: vpcYAML("wide", vni)} }
	ready := func() error {
		m, err := clean.mission("wide")
		if err != nil {
			return err
		}
		if m.Status.Totals.Ready != int32(n) || m.Status.ObservedGeneration != m.Generation {
			return fmt.Errorf("%+v", m.Status.Totals)
		}
		return nil
	}
	for step, vni := range []int{100, 101} {
		before := meter.read()
		began := time.Now()
		clean.submit("wide", spec(vni))
		var half, all time.Duration
		soon(t, limit, "all have it", func() error {
			reached := children.reached(t.Context(), "wide", int32(vni))
			if half == 0 && 2*reached >= n {
				half = time.Since(began)
			}
			if reached != n {
				return fmt.Errorf("%d of %d", reached, n)
			}
			all = time.Since(began)
			return nil
		})
		soon(t, limit, "the root knows of all", ready)
		known := time.Since(began)
		writes, words := meter.read().since(before)
		t.Logf("step %d: half of the children had it after %.1f s, all after %.1f s, the root knew of all after %.1f s; %s", step, half.Seconds(), all.Seconds(), known.Seconds(), words)
		if got := writes["missionreports"]; got > 5*n {
			t.Errorf("%d reports of a Mission to %d children", got, n)
		}
		if got := writes["missions/status"]; got > 10+int(known/(200*time.Millisecond)) {
			t.Errorf("the root has written the Mission's status %d times in %v", got, known)
		}
	}
	quiet("at rest with a Mission", window)
	before := meter.read()
	began := time.Now()
	clean.withdraw("wide")
	soon(t, limit, "gone everywhere", func() error {
		var list v1alpha1.MissionReportList
		if err := s.admin.List(t.Context(), &list); err != nil {
			return err
		}
		if reached := children.reached(t.Context(), "wide", 0); reached != n || len(list.Items) > 0 {
			return fmt.Errorf("gone from %d, %d reports", reached, len(list.Items))
		}
		return nil
	})
	_, words = meter.read().since(before)
	t.Logf("withdrawn everywhere after %.1f s; %s", time.Since(began).Seconds(), words)
}

// Many Missions, eight children: all is everywhere, then nothing.
func TestManyMissions(t *testing.T) {
	n := min(wide(t, 10), 200)
	const children = 8
	s := pool.take(t, 1)[0]
	clean := &site{server: s, t: t}
	t.Cleanup(clean.clean)
	parent, stop := rootProcess(t, s)
	defer stop()
	meter := newMeter(t, s, parent)
	swarm := newSwarm(t, s, children, agent.DefaultHeartbeat)
	name := func(i int) string { return fmt.Sprintf("many%03d", i) }
	limit := 30*time.Second + time.Duration(n)*time.Second
	before, began := meter.read(), time.Now()
	for i := range n {
		clean.submit(name(i), v1alpha1.MissionSpec{Manifests: vpcYAML(name(i), i+1)})
	}
	written := time.Since(began)
	soon(t, limit, "all is ready everywhere", func() error {
		var list v1alpha1.MissionList
		if err := s.admin.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			if got := list.Items[i].Status.Totals; got.Ready != children {
				return fmt.Errorf("%s: %+v", list.Items[i].Name, got)
			}
		}
		return nil
	})
	writes, words := meter.read().since(before)
	t.Logf("%d Missions, written within %.1f s, were ready in %d sites after %.1f s; %s", n, written.Seconds(), children, time.Since(began).Seconds(), words)
	if got := writes["missionreports"]; got > 4*n*children {
		t.Errorf("%d reports, of %d Missions and %d sites", got, n, children)
	}
	before, began = meter.read(), time.Now()
	for i := range n {
		clean.withdraw(name(i))
	}
	soon(t, limit, "nothing is left", func() error {
		var reports v1alpha1.MissionReportList
		if err := s.admin.List(t.Context(), &reports); err != nil || len(reports.Items) > 0 {
			return fmt.Errorf("%d reports, %v", len(reports.Items), err)
		}
		for i, own := range swarm.own {
			var missions v1alpha1.MissionList
			var vpcs v1alpha1.VPCList
			if err := errors.Join(own.List(t.Context(), &missions), own.List(t.Context(), &vpcs)); err != nil || len(missions.Items)+len(vpcs.Items) > 0 {
				return fmt.Errorf("%s: %d Missions, %d VPCs, %v", swarm.names[i], len(missions.Items), len(vpcs.Items), err)
			}
		}
		return nil
	})
	_, words = meter.read().since(before)
	t.Logf("they were gone after %.1f s; %s", time.Since(began).Seconds(), words)
}
