package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// Markdown is the report as text. Plots are linked by the names that Write gives them.
func Markdown(r Results, plots []Plot) string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Benchmarks of %s\n\n", r.Date.UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(&b, "%s, %d CPUs, %d MiB, kernel %s, %s%s, commit `%s`.%s\n\n", m.CPU, m.CPUs, m.MemoryMB, m.Kernel, m.Go, amd64(m), m.Commit, virtual(m))
	if len(m.NICs) > 0 {
		fmt.Fprintf(&b, "Over real interfaces: %s.\n\n", strings.Join(m.NICs, ", "))
	}
	if r.Quick {
		b.WriteString("**A trial run (`--quick`): few short slices. It shows that the harness works, not how fast anything is.**\n\n")
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "> **Note:** %s\n\n", w)
	}
	b.WriteString("Figures are medians; in brackets where 95 % of resampled medians are, or how many values there were if too few for that. A ratio above 1 means that the first one is better; " +
		"it is bold when the interval excludes 1, and has a question mark when more quads were left out than count. " +
		"How it was measured: package `bench/method`. Raw slices: the JSON file beside this one.\n")
	memory(&b, r)
	duels(&b, r)
	atLoad(&b, r)
	rates(&b, r)
	scales(&b, r)
	recoveries(&b, r)
	footprints(&b, r)
	if len(plots) > 0 {
		b.WriteString("\n## Plots\n\n")
		for _, p := range plots {
			fmt.Fprintf(&b, "![%s](%s-%s.svg)\n\n", p.Title, r.Name(), p.Name)
		}
	}
	if len(r.Unavailable) > 0 {
		b.WriteString("\n## Not measured here\n\n| contestant | what | why |\n|---|---|---|\n")
		for _, u := range r.Unavailable {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", u.Contestant, u.What, cell(u.Reason))
		}
	}
	if len(r.Versions) > 0 {
		b.WriteString("\n## Contestants\n\n")
		for _, v := range r.Versions {
			fmt.Fprintf(&b, "- %s: %s\n", v.Contestant, cell(v.Text))
		}
	}
	return b.String()
}

// cell keeps a table's or list's line one line.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}

func amd64(m Machine) string {
	if m.GOAMD64 == "" {
		return ""
	}
	return " (GOAMD64=" + m.GOAMD64 + ")"
}

func virtual(m Machine) string {
	if m.Virtual {
		return " A virtual machine with neighbours: read ratios, not absolute figures."
	}
	return ""
}

func memory(b *strings.Builder, r Results) {
	if len(r.Memory) == 0 {
		return
	}
	b.WriteString("\n## In memory, one core, no kernel\n\nCPU time for a packet, source and sink included.\n\n" +
		"| direction | IP packet | first | ns | second | ns | ratio | quads (left out) |\n|---|---:|---|---:|---|---:|---:|---:|\n")
	for _, m := range r.Memory {
		c := m.Comparison
		fmt.Fprintf(b, "| %s | %d B | %s | %.0f | %s | %.0f | %s | %s |\n", m.Direction, m.Size,
			c.A, c.FiguresA[method.PacketNs].Median, c.B, c.FiguresB[method.PacketNs].Median, ratio(c, method.PacketNs), left(c, method.PacketNs))
	}
}

// ours is the contestant of ours that encrypts, as a comparison has it.
const ours = "sluice"

// opponent is whom Sluice met, with what Sluice was where it was not what the table's head says.
func opponent(c method.Comparison) string {
	if c.A == ours {
		return c.B
	}
	return c.B + ", against " + c.A
}

// ratio in a table, with a question mark when more quads were left out than count.
func ratio(c method.Comparison, m method.Metric) string {
	e, ok := c.Ratios[m]
	if !ok {
		return "–"
	}
	text := e.String()
	if e.Excludes(1) && !c.Doubtful() {
		text = "**" + text + "**"
	}
	if c.Doubtful() {
		text += " ?"
	}
	return text
}

func left(c method.Comparison, m method.Metric) string {
	return fmt.Sprintf("%d (%d)", c.Ratios[m].N, c.Dirty+c.Drifted)
}

func duels(b *strings.Builder, r Results) {
	for _, kind := range []struct {
		name, title, text string
		native            bool
	}{
		{Flood, "Forwarding, wire-faithful", "Flooded with packets; what arrives. CPU time: of the threads under test, and of the whole machine with generator and sink. " +
			"The kernel as a contestant has no threads: of it, read the machine ratio.", false},
		{TCP, "TCP, wire-faithful", "One connection by iperf3.", false},
		{Flood, "Forwarding, veth-native (a footnote: super-packets cross links uncut, as on no wire)", "", true},
		{TCP, "TCP, veth-native (a footnote: super-packets cross links uncut, as on no wire)", "", true},
	} {
		head := false
		for _, d := range r.Duels {
			if d.Kind != kind.name || d.Scenario.Native != kind.native {
				continue
			}
			c := d.Comparison
			if !head {
				head = true
				fmt.Fprintf(b, "\n## %s\n\n%s\n\n", kind.title, kind.text)
				if kind.name == TCP {
					b.WriteString("| scenario | other | " + ours + " Gb/s | other Gb/s | ratio | quads (left out) |\n|---|---|---:|---:|---:|---:|\n")
				} else {
					b.WriteString("| scenario | other | " + ours + " kpps | other kpps | ratio of pps | ns/packet | other | ratio | machine ratio | quads (left out) |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
				}
			}
			if kind.name == TCP {
				fmt.Fprintf(b, "| %s | %s | %.2f | %.2f | %s | %s |\n", d.Scenario, opponent(c),
					c.FiguresA[method.Bits].Median/1e9, c.FiguresB[method.Bits].Median/1e9, ratio(c, method.Bits), left(c, method.Bits))
				continue
			}
			fmt.Fprintf(b, "| %s | %s | %.0f | %.0f | %s | %s | %s | %s | %s | %s |\n", d.Scenario, opponent(c),
				c.FiguresA[method.PPS].Median/1e3, c.FiguresB[method.PPS].Median/1e3, ratio(c, method.PPS),
				figure(c.FiguresA[method.DUTNs]), figure(c.FiguresB[method.DUTNs]), ratio(c, method.DUTNs), ratio(c, method.MachineNs), left(c, method.PPS))
		}
	}
}

// atLoad is the latency of both at a load that both carry.
func atLoad(b *strings.Builder, r Results) {
	head := false
	for _, d := range r.Duels {
		if d.Kind != AtLoad {
			continue
		}
		c := d.Comparison
		if !head {
			head = true
			b.WriteString("\n## Latency at a load that both carry\n\nOne way, in µs, offered half of what the slower one carries.\n\n" +
				"| scenario | other | at kpps | quantile | " + c.A + " | other | ratio | quads (left out) |\n|---|---|---:|---|---:|---:|---:|---:|\n")
		}
		for _, q := range []struct {
			name   string
			metric method.Metric
		}{{"p50", method.P50}, {"p99", method.P99}, {"p99.9", method.P999}} {
			if c.Ratios[q.metric].N == 0 {
				continue
			}
			fmt.Fprintf(b, "| %s | %s | %.1f | %s | %.0f | %.0f | %s | %s |\n", d.Scenario, c.B, d.Rate/1e3, q.name,
				c.FiguresA[q.metric].Median/1e3, c.FiguresB[q.metric].Median/1e3, ratio(c, q.metric), left(c, q.metric))
		}
	}
}

func figure(e method.Estimate) string {
	if e.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", e.Median)
}

func rates(b *strings.Builder, r Results) {
	if len(r.Rates) == 0 {
		return
	}
	b.WriteString("\n## Rates without loss, and latency below them\n\nNDR: no packet lost; PDR: at most 0.5 %. Latency is one way, in µs, up to the upper end of its bucket; " +
		"a quantile without ten packets above it is left out.\n\n" +
		"| scenario | contestant | NDR kpps | PDR kpps | burst | load | p50 | p90 | p99 | p99.9 | p99.99 |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, x := range r.Rates {
		begin := fmt.Sprintf("| %s | %s | %s | %s | %s ", x.Scenario, x.Contestant, kpps(x.NDR), kpps(x.PDR), burst(x.Burst))
		if len(x.Latency) == 0 {
			b.WriteString(begin + "| – | – | – | – | – | – |\n")
		}
		for _, l := range x.Latency {
			fmt.Fprintf(b, "%s| %.0f %% ", begin, 100*l.Load)
			for i := range 5 {
				if i < len(l.Quantiles) {
					fmt.Fprintf(b, "| %.0f ", float64(l.Quantiles[i].At)/float64(time.Microsecond))
				} else {
					b.WriteString("| – ")
				}
			}
			b.WriteString("|\n")
			begin = "| | | | | "
		}
	}
}

func kpps(r method.Rate) string {
	switch {
	case r.PPS == 0:
		return "none"
	case !r.Confirmed:
		return fmt.Sprintf("%.1f ?", r.PPS/1e3)
	}
	return fmt.Sprintf("%.1f", r.PPS/1e3)
}

func burst(n int) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

func scales(b *strings.Builder, r Results) {
	if len(r.Scale) == 0 {
		return
	}
	b.WriteString("\n## Scale\n\nA packet's cost with many, as a multiple of its cost with few, measured in turns. Of workers: the rate with many over the rate with one.\n\n" +
		"| contestant | what | few | many | kpps | kpps | ns/packet | ns/packet | times | quads (left out) |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, s := range r.Scale {
		c := s.Comparison
		times := c.Ratios[method.DUTNs]
		if s.What == "workers" {
			times = c.Ratios[method.PPS].Inverse()
		}
		fmt.Fprintf(b, "| %s | %s | %d | %d | %.0f | %.0f | %s | %s | %s | %s |\n", s.Contestant, s.What, s.From, s.To,
			c.FiguresA[method.PPS].Median/1e3, c.FiguresB[method.PPS].Median/1e3, figure(c.FiguresA[method.DUTNs]), figure(c.FiguresB[method.DUTNs]), times, left(c, method.PPS))
	}
}

func recoveries(b *strings.Builder, r Results) {
	if len(r.Recoveries) == 0 {
		return
	}
	b.WriteString("\n## Recovery\n\n| contestant | event | at kpps | longest silence | packets lost |\n|---|---|---:|---:|---:|\n")
	for _, x := range r.Recoveries {
		silence := x.Outage.Round(time.Millisecond).String()
		if !x.Recovered {
			silence = "did not come back"
		}
		fmt.Fprintf(b, "| %s | %s | %.1f | %s | %d |\n", x.Contestant, x.Event, x.Rate/1e3, silence, x.Lost)
	}
}

func footprints(b *strings.Builder, r Results) {
	if len(r.Footprints) == 0 {
		return
	}
	b.WriteString("\n## Memory\n\nResident memory after load, of all processes of both gateways.\n\n| contestant | processes | MiB | at most |\n|---|---:|---:|---:|\n")
	for _, f := range r.Footprints {
		fmt.Fprintf(b, "| %s | %d | %.0f | %.0f |\n", f.Contestant, f.Processes, float64(f.RSS)/(1<<20), float64(f.Peak)/(1<<20))
	}
}
