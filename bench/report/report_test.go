package report

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicegw/sluice/bench/method"
)

// comparison has six quads in which a is as many times better.
func comparison(t *testing.T, a, b string, metric method.Metric, va, vb float64) method.Comparison {
	t.Helper()
	side := func(name string, v float64) method.Side {
		return method.Side{Name: name, Measure: func(context.Context) (method.Sample, error) {
			return method.Sample{Values: map[method.Metric]float64{metric: v}}, nil
		}}
	}
	c, err := method.Compare(t.Context(), side(a, va), side(b, vb), method.Plan{Quads: 6})
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Slices { // as JSON has it
		c.Slices[i].At = c.Slices[i].At.UTC().Round(0)
	}
	return c
}

func example(t *testing.T) Results {
	t.Helper()
	routed := method.Scenario{Size: 64, Attachment: "routed"}
	return Results{
		Schema: Schema, Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine: Machine{CPU: "Example(R) CPU 9000 @ 3GHz", CPUs: 2, Flags: "fpu hypervisor", Virtual: true, Kernel: "6.18", Go: "go1.26", Commit: "abc"},
		Memory: []Memory{
			{Direction: "seal", Size: 64, Comparison: comparison(t, "relay", "wireguard-go", method.PacketNs, 250, 1000)},
			{Direction: "seal", Size: 64, Comparison: comparison(t, "reference", "relay", method.PacketNs, 200, 250)},
		},
		Duels: []Duel{
			{Scenario: method.Scenario{Size: 64}, Kind: Flood, Comparison: comparison(t, "sluice", "nebula", method.PPS, 600e3, 100e3)},
			{Scenario: method.Scenario{Size: 1420}, Kind: Flood, Comparison: comparison(t, "sluice", "nebula", method.PPS, 300e3, 100e3)},
			{Scenario: method.Scenario{Size: 1420}, Kind: Flood, Comparison: comparison(t, "sluice-direct", "kernel-vxlan", method.PPS, 900e3, 300e3)},
			{Scenario: method.Scenario{Size: 1420}, Kind: TCP, Comparison: comparison(t, "sluice", "nebula", method.Bits, 3e9, 1e9)},
			{Scenario: method.Scenario{Size: 512}, Kind: AtLoad, Rate: 20e3, Comparison: comparison(t, "sluice", "nebula", method.P999, 50e3, 200e3)},
			{Scenario: method.Scenario{Size: 1420, Native: true}, Kind: TCP, Comparison: comparison(t, "sluice", "kernel", method.Bits, 3e9, 30e9)},
		},
		Rates: []Rates{{Contestant: "sluice", Scenario: routed, PDR: method.Rate{PPS: 500e3, Confirmed: true}, Burst: 2048, Latency: []Latency{{
			Load: 0.5, Quantiles: []method.Quantile{{Of: 0.5, At: 30 * time.Microsecond}},
			Buckets: []method.Bucket{{UpTo: 30 * time.Microsecond, Count: 60}, {UpTo: 60 * time.Microsecond, Count: 40}}}}}},
		Scale: []Scale{
			{Contestant: "sluice", What: "routes", From: 10, To: 1000, Comparison: comparison(t, "10 routes", "1000 routes", method.DUTNs, 1000, 1100)},
			{Contestant: "sluice", What: "VNIs", From: 1, To: 256, Comparison: comparison(t, "1 VNIs", "256 VNIs", method.DUTNs, 1000, 1050)},
		},
		Recoveries: []Recovery{{Contestant: "sluice", Recovery: method.Recovery{Event: method.Kill, Outage: 200 * time.Millisecond, Recovered: true, Lost: 4000, Rate: 20e3,
			Timeline: []method.Point{{At: -time.Second, PPS: 20e3}, {At: time.Second, PPS: 20e3}}}}},
		Footprints:  []Footprint{{Contestant: "sluice", Processes: 2, RSS: 64 << 20, Peak: 65 << 20}},
		Unavailable: []Unavailable{{Contestant: "vpp", What: "all", Reason: "not\ninstalled | here"}},
	}
}

func TestResultsSurviveTheirFile(t *testing.T) {
	r := example(t)
	path, err := Write(t.TempDir(), r)
	if err != nil {
		t.Fatal(err)
	}
	if want := "2026-01-02-example-9000-3ghz-vm-2.json"; filepath.Base(path) != want {
		t.Errorf("file is %s, want %s", filepath.Base(path), want)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Error(d)
	}
	again, err := Newest(filepath.Dir(path))
	if err != nil || again != path {
		t.Errorf("newest is %q, %v", again, err)
	}
}

func TestReadRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"", "{", `{"schema": 99}`} {
		path := filepath.Join(t.TempDir(), "x.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestNewestLeavesTrialRunsOut(t *testing.T) {
	r := example(t)
	r.Quick = true
	dir := t.TempDir()
	if _, err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	if path, err := Newest(dir); err == nil {
		t.Errorf("newest is %s", path)
	}
}

func TestMarkdownHasEveryFigure(t *testing.T) {
	r := example(t)
	plots, err := Plots(r)
	if err != nil {
		t.Fatal(err)
	}
	text := Markdown(r, plots)
	for _, want := range []string{
		"| seal | 64 B | relay | 250 | wireguard-go | 1000 | **4.00 (4.00 to 4.00)** | 6 (0) |",
		"| 64 B | nebula | 600 | 100 | **6.00 (6.00 to 6.00)** |",
		"| 1420 B | kernel-vxlan, against sluice-direct | 900 | 300 | **3.00 (3.00 to 3.00)** |",
		"| 1420 B | nebula | 3.00 | 1.00 | **3.00 (3.00 to 3.00)** |",
		"| 512 B | nebula | 20.0 | p99.9 | 50 | 200 | **4.00 (4.00 to 4.00)** | 6 (0) |",
		"veth-native (a footnote",
		"| 64 B, routed | sluice | none | 500.0 | 2048 | 50 % | 30 | – | – | – | – |",
		"| sluice | routes | 10 | 1000 | 0 | 0 | 1000 | 1100 | 1.10 (1.10 to 1.10) |",
		"| sluice | kill and restart | 20.0 | 200ms | 4000 |",
		"| sluice | 2 | 64 | 65 |",
		"| vpp | all | not installed \\| here |",
		"read ratios, not absolute figures",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
			t.Errorf("line %q", line)
		}
	}
}

func TestTablesHaveAsManyCellsAsTheirHeads(t *testing.T) {
	cells := 0
	for line := range strings.Lines(Markdown(example(t), nil)) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, "\\|", ""), "|")
		if cells != 0 && n != cells {
			t.Errorf("%d bars instead of %d: %s", n, cells, line)
		}
		cells = n
	}
}

func TestPlotsAreSVG(t *testing.T) {
	plots, err := Plots(example(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range plots {
		names = append(names, p.Name)
		d := xml.NewDecoder(strings.NewReader(string(p.SVG)))
		elements := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", p.Name, err)
			}
			if _, ok := token.(xml.StartElement); ok {
				elements++
			}
		}
		if elements < 20 || strings.Contains(string(p.SVG), "NaN") {
			t.Errorf("%s has %d elements, or a NaN", p.Name, elements)
		}
	}
	if want := []string{"throughput", "memory", "latency", "scale-routes", "scale-vpcs", "recovery-kill"}; !cmp.Equal(names, want) {
		t.Errorf("plots %v, want %v", names, want)
	}
	if plots, err := Plots(Results{}); err != nil || len(plots) != 0 {
		t.Errorf("of nothing: %v, %v", plots, err)
	}
}

func TestReadmeReplacesWhatIsBetweenTheMarkers(t *testing.T) {
	text := "before\n" + readmeBegin + "\nold\n" + readmeEnd + "\nafter\n"
	once, err := Readme(text, example(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(once, "before\n") || !strings.HasSuffix(once, "\nafter\n") || strings.Contains(once, "old") ||
		!strings.Contains(once, "| nebula | veth | 64 B | 600 kpps | 100 kpps | **6.00 (6.00 to 6.00)** |") {
		t.Errorf("%s", once)
	}
	if !strings.Contains(once, "| nebula | veth, p99.9 at 20 kpps | 512 B | 50 µs | 200 µs | **4.00 (4.00 to 4.00)** |") {
		t.Errorf("no latency in %s", once)
	}
	if strings.Contains(once, "reference") {
		t.Error("the reference loop is in the headline")
	}
	if strings.Contains(once, "kernel | veth, TCP") {
		t.Error("a veth-native figure is in the headline")
	}
	twice, err := Readme(once, example(t))
	if err != nil || twice != once {
		t.Errorf("a second time changes it: %v", err)
	}
	if _, err := Readme("no markers", example(t)); !errors.Is(err, ErrNoMarkers) {
		t.Error(err)
	}
}

func TestThisMachineIsDescribed(t *testing.T) {
	m, err := ThisMachine("abc")
	if err != nil {
		t.Fatal(err)
	}
	if m.CPUs < 1 || m.Kernel == "" || m.MemoryMB < 64 || m.Go == "" || m.Slug() == "" {
		t.Errorf("%+v", m)
	}
	var x Machine
	x.cpu([]byte("processor\t: 0\nmodel name\t: X(TM) Processor 1\ncpu family\t: 6\nmodel\t\t: 7\nstepping\t: 1\nflags\t\t: a hypervisor b\n\nmodel name\t: other\n"))
	if x.CPU != "X(TM) Processor 1" || x.Family != "6/7/1" || !x.Virtual || x.Slug() != "x-1-vm-0" {
		t.Errorf("%+v %s", x, x.Slug())
	}
}
