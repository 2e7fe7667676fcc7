package report

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluicegw/sluice/bench/method"
)

// The markers in README.md; what is between them is ours.
const (
	readmeBegin = "<!-- bench: begin (generated: go run ./bench/cmd/sluicebench readme) -->"
	readmeEnd   = "<!-- bench: end -->"
)

// reference is the loop of package memory that the gate measures against.
const reference = "reference"

// ErrNoMarkers says that a text has no place for the table.
var ErrNoMarkers = errors.New("no lines \"" + readmeBegin + "\" and \"" + readmeEnd + "\"")

// Readme replaces what is between the markers by the headline figures.
func Readme(text string, r Results) (string, error) {
	head, rest, ok := strings.Cut(text, readmeBegin)
	_, tail, ok2 := strings.Cut(rest, readmeEnd)
	if !ok || !ok2 {
		return "", ErrNoMarkers
	}
	return head + readmeBegin + "\n" + headline(r) + readmeEnd + tail, nil
}

// headline has what is measured on wire-faithful links, and in memory.
func headline(r Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, kernel %s, commit `%s`, %s%s\n\n", r.Machine.CPU, r.Machine.Kernel, r.Machine.Commit, r.Date.UTC().Format("2006-01-02"), virtual(r.Machine))
	b.WriteString("| Sluice against | where | packet | Sluice | other | times better (95 % interval) |\n|---|---|---:|---:|---:|---:|\n")
	for _, m := range r.Memory {
		c := m.Comparison
		if c.A == reference {
			continue // it is held against ourselves: of no interest to who compares us with others
		}
		fmt.Fprintf(&b, "| %s | memory, %s, %s | %d B | %.0f ns | %.0f ns | %s |\n", c.B, m.Direction, c.A, m.Size,
			c.FiguresA[method.PacketNs].Median, c.FiguresB[method.PacketNs].Median, ratio(c, method.PacketNs))
	}
	for _, d := range r.Duels {
		if d.Scenario.Native {
			continue
		}
		c := d.Comparison
		if d.Kind == AtLoad {
			fmt.Fprintf(&b, "| %s | veth, p99.9 at %.0f kpps | %s | %.0f µs | %.0f µs | %s |\n", c.B, d.Rate/1e3, d.Scenario,
				c.FiguresA[method.P999].Median/1e3, c.FiguresB[method.P999].Median/1e3, ratio(c, method.P999))
			continue
		}
		if d.Kind == TCP {
			fmt.Fprintf(&b, "| %s | veth, TCP | – | %.2f Gb/s | %.2f Gb/s | %s |\n", c.B, c.FiguresA[method.Bits].Median/1e9, c.FiguresB[method.Bits].Median/1e9, ratio(c, method.Bits))
			continue
		}
		fmt.Fprintf(&b, "| %s | veth | %s | %.0f kpps | %.0f kpps | %s |\n", opponent(c), d.Scenario, c.FiguresA[method.PPS].Median/1e3, c.FiguresB[method.PPS].Median/1e3, ratio(c, method.PPS))
	}
	return b.String()
}
