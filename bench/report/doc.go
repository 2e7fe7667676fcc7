// Package report writes down what was measured: JSON with every raw slice,
// Markdown tables, SVG plots, and the table in the README.
//
// It measures nothing. Everything but the JSON is made from the JSON, so that a
// report can be made again, and a reader can compute it himself.
//
// # The JSON
//
// A file is one Results, whose fields are its schema; Schema is its number, which grows when the
// meaning of a field changes. Times are in nanoseconds where the name ends in Ns, rates per second, sizes
// in bytes. A comparison holds each slice with its values and whether it counts; "ratios" are
// derived from those as package method describes.
//
// # The plots
//
// gonum/plot draws them: it is kept well (2026), writes plain SVG with text as text, and has logarithmic axes.
// It brings svgo (CC BY 4.0), freetype (FTL) and the Liberation fonts (OFL), all of which may be used for this, and
// none of which is in the shipped program (TestTheShippedProgramLinksNoBenchmarkHarness). Considered and left:
// wcharczuk/go-chart, MIT itself but with the same freetype and a font of its own, and last released in
// 2024; go-echarts, which makes pages with JavaScript, that no Markdown shows.
//
//	r, err := report.Read("2026-11-21-vm.json")
//	err = report.Write("bench/results", r) // .json, .md and .svg
package report
