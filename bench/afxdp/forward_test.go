package afxdp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluicegw/sluice/bench/traffic"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

var (
	quads = flag.Int("quads", 10, "how many times to measure ours, theirs, theirs, ours")
	limit = flag.Duration("limit", 25*time.Second, "how long to measure a size at most: on a busy machine there are fewer quads")
	slice = flag.Duration("slice", 200*time.Millisecond, "how long to measure each time")
)

// The two CPUs: the generator, with the softirq that copies packets into the UMEM, on
// one; the forwarder, with the softirq that counts and drops what it sends, on the other.
const (
	generatorCPU = 0
	forwarderCPU = 1
)

// ethernetLen is the length of a frame's header.
const ethernetLen = 14

// contestant is a forwarder, started anew for every slice with the same arguments.
type contestant struct {
	name    string
	command func(ctx context.Context, args ...string) *netnstest.Cmd
	pps     []float64 // per slice
	cost    []float64 // per slice: ns of CPU time for a packet, the softirqs in its system calls included
}

// BenchmarkForward floods one port and counts what arrives behind the other, with ours and another forwarder in turns.
func BenchmarkForward(b *testing.B) {
	testenv.RequireRoot(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, other := range rivals {
		b.Run(other.name, func(b *testing.B) {
			binary := other.build(b)
			for _, size := range []int{60, 1514} {
				b.Run(fmt.Sprintf("%dB", size+4), func(b *testing.B) { // with the frame check sequence, as sizes are counted
					w := newWire(b, size)
					w.compare(b, &contestant{name: "afxdp", command: func(ctx context.Context, args ...string) *netnstest.Cmd {
						cmd := w.gateway.Command(ctx, self, args...)
						cmd.Env = append(os.Environ(), roleVariable+"=forward")
						return cmd
					}}, &contestant{name: other.name, command: func(ctx context.Context, args ...string) *netnstest.Cmd {
						return w.gateway.Command(ctx, binary, append(args, other.args...)...)
					}})
				})
			}
		})
	}
}

// compare measures two forwarders in turns and reports what a packet costs with each.
func (w *wire) compare(b *testing.B, ours, theirs *contestant) {
	n := *quads
	if f := flag.Lookup("test.benchtime"); f != nil && f.Value.String() == "1x" {
		n = 1
	}
	var ratios, costs []float64 // of clean quads
	busy := 0
	for begin := time.Now(); len(ratios) < n && (len(ratios) == 0 || time.Since(begin) < *limit); {
		order := []*contestant{ours, theirs, theirs, ours}
		if rand.IntN(2) == 0 {
			order = []*contestant{theirs, ours, ours, theirs}
		}
		speed, cost, clean := map[*contestant]float64{}, map[*contestant]float64{}, true
		for _, who := range order {
			r := w.measureClean(b, who)
			clean = clean && r.clean
			speed[who] += math.Log(r.pps) / 2
			cost[who] += math.Log(r.cost) / 2
			who.pps, who.cost = append(who.pps, r.pps), append(who.cost, r.cost)
		}
		if !clean && (len(ratios) > 0 || time.Since(begin) < *limit) {
			busy++
			continue
		}
		if !clean {
			b.Log("no clean quad in all the time: the figures mean nothing")
		}
		ratios = append(ratios, math.Exp(speed[ours]-speed[theirs]))
		costs = append(costs, math.Exp(cost[theirs]-cost[ours]))
	}
	low, high := bootstrap(ratios)
	lowCost, highCost := bootstrap(costs)
	b.ReportMetric(0, "ns/op") // an op is nothing that has a duration
	b.ReportMetric(median(ours.pps), ours.name+"-pps")
	b.ReportMetric(median(theirs.pps), theirs.name+"-pps")
	b.ReportMetric(median(ours.cost), ours.name+"-ns/packet")
	b.ReportMetric(median(theirs.cost), theirs.name+"-ns/packet")
	b.ReportMetric(median(ratios), "pps-ratio")
	b.ReportMetric(median(costs), "cpu-ratio")
	b.Logf("%d quads of 4 x %v, %s/%s, median and 95 %% of resampled medians:\n"+
		"packets per second      %.3f (%.3f to %.3f) of %.3f\npackets per CPU second  %.3f (%.3f to %.3f) of %.3f",
		len(ratios), *slice, ours.name, theirs.name, median(ratios), low, high, ratios, median(costs), lowCost, highCost, costs)
	if busy > 0 {
		b.Logf("%d more quads do not count: the machine was busy with something else", busy)
	}
}

// wire is the way that packets take: generator host, gateway, sink host.
type wire struct {
	gateway     *netnstest.Host
	target      *netnstest.Link // the sink's
	left, right *ebpf.Map       // XSKMAPs of the gateway's two ports
	generator   *traffic.Generator
	sink        *traffic.Sink
}

func newWire(b *testing.B, size int) *wire {
	b.Helper()
	s := netnstest.New(b)
	left, gateway, right := s.NewHost("generator"), s.NewHost("gateway"), s.NewHost("sink")
	from, leftPort := s.Connect(netnstest.End{Host: left, Name: "eth0"}, netnstest.End{Host: gateway, Name: "left"})
	rightPort, target := s.Connect(netnstest.End{Host: gateway, Name: "right"}, netnstest.End{Host: right, Name: "eth0"})
	w := &wire{gateway: gateway, target: target, left: attachRedirect(b, leftPort), right: attachRedirect(b, rightPort)}
	var err error
	if w.sink, err = traffic.NewSink(traffic.SinkOptions{Host: right, Link: target.Name}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.sink.Close() })
	w.generator, err = traffic.NewGenerator(traffic.Options{Host: left, Link: from.Name, CPU: generatorCPU, Flow: traffic.Flow{
		Inner: traffic.Layer{Src: source, Dst: sink},
		Size:  size - ethernetLen,
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := w.generator.Run(ctx, time.Hour)
		ended <- err
	}()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, w.generator.Close()); err != nil {
			b.Error(err)
		}
		if c, err := w.sink.Read(); err != nil || c.BadSums+c.Malformed+c.Duplicates+c.Reordered > 0 {
			b.Errorf("not every packet was forwarded as it was: %+v, %v", c, err)
		}
	})
	return w
}

// A slice is clean when nothing but the contestant decided its result: it had its CPU for itself, and was
// offered more than it could forward. Others are repeated, up to maxTries.
const (
	minShare   = 0.95
	minOffered = 1.1
	maxTries   = 4
)

// result is of one slice.
type result struct {
	pps, cost float64
	clean     bool
}

// measureClean repeats a slice until it is clean, but not for ever.
func (w *wire) measureClean(b *testing.B, who *contestant) (r result) {
	b.Helper()
	for try := 1; !r.clean && (try <= maxTries || r.pps == 0 && try <= 5*maxTries); try++ {
		r = w.measure(b, who)
	}
	if r.pps == 0 {
		b.Fatalf("%s forwarded nothing", who.name)
	}
	return r
}

// measure runs a contestant for a slice.
func (w *wire) measure(b *testing.B, who *contestant) result {
	b.Helper()
	cmd := start(b, func() *netnstest.Cmd {
		return who.command(context.Background(), "left", mapID(b, w.left), "right", mapID(b, w.right), strconv.Itoa(forwarderCPU))
	})
	time.Sleep(50 * time.Millisecond)
	before, begin := w.take(b, cmd.Process.Pid), time.Now()
	time.Sleep(*slice)
	after, wall := w.take(b, cmd.Process.Pid), time.Since(begin)
	select {
	case <-cmd.Done():
		b.Fatalf("%s ended early: %v", who.name, cmd.Wait())
	default:
	}
	if err := cmd.Stop(); err != nil {
		b.Fatalf("%s: %v", who.name, err)
	}
	forwarded, cpu := float64(after.forwarded-before.forwarded), float64(after.cpu-before.cpu)
	return result{
		pps:   forwarded / wall.Seconds(),
		cost:  cpu / forwarded,
		clean: cpu >= minShare*float64(wall) && float64(after.offered-before.offered) >= minOffered*forwarded && forwarded > 0,
	}
}

// reading is what is counted at one time.
type reading struct {
	offered   uint64 // packets that were sent
	forwarded uint64 // packets that came to the sink
	cpu       uint64 // nanoseconds that the forwarder's threads have run, the softirqs in its system calls included
}

func (w *wire) take(b *testing.B, pid int) reading {
	b.Helper()
	sent, err := w.generator.Sent()
	if err != nil {
		b.Fatal(err)
	}
	arrived, err := w.sink.Read()
	if err != nil {
		b.Fatal(err)
	}
	return reading{offered: sent.Packets, forwarded: arrived.Packets, cpu: cpuTime(b, pid)}
}

// tasks are the folders of a process's threads.
func tasks(b *testing.B, pid int) []string {
	b.Helper()
	found, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(found) == 0 {
		b.Fatalf("process %d has no threads (%v)", pid, err)
	}
	return found
}

// cpuTime is how long the threads of a process have run, in nanoseconds. With neighbours on the machine it says
// more than the wall clock.
func cpuTime(b *testing.B, pid int) (sum uint64) {
	b.Helper()
	for _, task := range tasks(b, pid) {
		text, err := os.ReadFile(filepath.Join(task, "schedstat"))
		if err != nil {
			b.Fatal(err)
		}
		onCPU, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseUint(onCPU, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ns
	}
	return sum
}

// start starts a program and waits until it says that it is ready.
func start(b *testing.B, command func() *netnstest.Cmd) *netnstest.Cmd {
	b.Helper()
	for try := 1; ; try++ {
		cmd := command()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if strings.TrimSpace(line) == "ready" {
			return cmd
		}
		// The kernel gives up the queues of a process some time after it has ended.
		ended := cmd.Wait()
		if try == 100 {
			b.Fatalf("%s is not ready: %v, %v\n%s", cmd.Path, err, ended, &stderr)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// bootstrap is where the medians of 95 % of resamples are.
func bootstrap(values []float64) (low, high float64) {
	medians := make([]float64, 2000)
	resample := make([]float64, len(values))
	for i := range medians {
		for j := range resample {
			resample[j] = values[rand.IntN(len(values))]
		}
		medians[i] = median(resample)
	}
	slices.Sort(medians)
	return medians[len(medians)*25/1000], medians[len(medians)*975/1000]
}
