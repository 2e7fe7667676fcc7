package report

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sluicegw/sluice/bench/method"
)

// Plot is a picture.
type Plot struct {
	Name  string // of the file
	Title string
	SVG   []byte
}

// line is one curve.
type line struct {
	name   string
	points plotter.XYs
}

// Plots draws what there are figures for.
func Plots(r Results) ([]Plot, error) {
	var out []Plot
	for _, p := range []struct {
		name, title, x, y string
		lines             []line
		logX              bool
	}{
		{"throughput", "Throughput by packet size", "IP packet, bytes", "kpps", throughput(r), false},
		{"memory", "One core in memory", "IP packet, bytes", "ns of CPU time for a packet", inMemory(r), false},
		{"latency", "One-way latency", "µs", "share of packets, %", latencies(r), true},
		{"scale-routes", "Cost by routes", "routes", "ns of CPU time for a packet", scale(r, "routes"), true},
		{"scale-peers", "Cost by peers", "peers", "ns of CPU time for a packet", scale(r, "peers"), true},
		{"scale-flows", "Cost by flows", "flows", "ns of CPU time for a packet", scale(r, "flows"), true},
		{"scale-vpcs", "Cost by VPCs", "VPCs", "ns of CPU time for a packet", scale(r, "VNIs"), true},
		{"scale-workers", "Cost by workers", "workers", "ns of CPU time for a packet", scale(r, "workers"), false},
		{"recovery-kill", "Killed and started again", "seconds after it", "kpps", timelines(r, method.Kill), false},
		{"recovery-flap", "The WAN link was down for a second", "seconds after it went down", "kpps", timelines(r, method.LinkFlap), false},
		{"recovery-rekey", "New session keys under load", "seconds after they were due", "kpps", timelines(r, method.Rekey), false},
	} {
		if len(p.lines) == 0 {
			continue
		}
		svg, err := drawLines(p.title, p.x, p.y, p.lines, p.logX)
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", p.name, err)
		}
		out = append(out, Plot{Name: p.name, Title: p.title, SVG: svg})
	}
	return out, nil
}

func drawLines(title, x, y string, lines []line, logX bool) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, l := range lines {
		curve, points, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return nil, err
		}
		curve.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		curve.Dashes, points.Shape = plotutil.Dashes(i/7), plotutil.Shape(i)
		if len(l.points) > 20 {
			p.Add(curve)
		} else {
			p.Add(curve, points)
		}
		p.Legend.Add(l.name, curve)
	}
	if logX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		if p.X.Min == p.X.Max {
			p.X.Max = 2 * p.X.Min // a logarithmic axis needs a length
		}
	}
	p.Y.Min = min(p.Y.Min, 0)
	canvas := vgsvg.New(18*vg.Centimeter, 11*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// curves collects points by name, in order of first appearance.
type curves struct{ lines []line }

func (c *curves) add(name string, x, y float64) {
	i := slices.IndexFunc(c.lines, func(l line) bool { return l.name == name })
	if i < 0 {
		i = len(c.lines)
		c.lines = append(c.lines, line{name: name})
	}
	// The first contestant is in every duel: the same place keeps its first figure.
	if !slices.ContainsFunc(c.lines[i].points, func(p plotter.XY) bool { return p.X == x }) {
		c.lines[i].points = append(c.lines[i].points, plotter.XY{X: x, Y: y})
	}
}

func (c *curves) sorted() []line {
	for _, l := range c.lines {
		slices.SortFunc(l.points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
	}
	return c.lines
}

func throughput(r Results) []line {
	var c curves
	for _, d := range r.Duels {
		s := d.Scenario.Normal()
		if d.Kind != Flood || s.Native || s.IMIX || s.Direction != method.Through {
			continue
		}
		c.add(d.Comparison.A, float64(s.Size), d.Comparison.FiguresA[method.PPS].Median/1e3)
		c.add(d.Comparison.B, float64(s.Size), d.Comparison.FiguresB[method.PPS].Median/1e3)
	}
	return c.sorted()
}

func inMemory(r Results) []line {
	var c curves
	for _, m := range r.Memory {
		x := m.Comparison
		c.add(x.A+", "+m.Direction, float64(m.Size), x.FiguresA[method.PacketNs].Median)
		c.add(x.B+", "+m.Direction, float64(m.Size), x.FiguresB[method.PacketNs].Median)
	}
	return c.sorted()
}

// latencies are cumulative distributions at half of the rate.
func latencies(r Results) (lines []line) {
	for _, x := range r.Rates {
		for _, l := range x.Latency {
			if l.Load != 0.5 {
				continue
			}
			one := line{name: x.Contestant + ", " + x.Scenario.String()}
			var sum, total uint64
			for _, b := range l.Buckets {
				total += b.Count
			}
			for _, b := range l.Buckets {
				sum += b.Count
				if us := float64(b.UpTo) / float64(time.Microsecond); us > 0 && b.Count > 0 {
					one.points = append(one.points, plotter.XY{X: us, Y: 100 * float64(sum) / float64(total)})
				}
			}
			if len(one.points) > 0 {
				lines = append(lines, one)
			}
		}
	}
	return lines
}

func scale(r Results, what string) []line {
	var c curves
	for _, s := range r.Scale {
		if s.What == what {
			c.add(s.Contestant, float64(s.From), s.Comparison.FiguresA[method.DUTNs].Median)
			c.add(s.Contestant, float64(s.To), s.Comparison.FiguresB[method.DUTNs].Median)
		}
	}
	return c.sorted()
}

// timelines are what arrived before and after an event.
func timelines(r Results, event method.Event) (lines []line) {
	for _, x := range r.Recoveries {
		if x.Event != event {
			continue
		}
		one := line{name: x.Contestant}
		for _, p := range x.Timeline {
			one.points = append(one.points, plotter.XY{X: p.At.Seconds(), Y: p.PPS / 1e3})
		}
		if len(one.points) > 0 {
			lines = append(lines, one)
		}
	}
	return lines
}
