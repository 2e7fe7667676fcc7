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
//	r, err := report.Read("2026-11-21-vm.json")
//	err = report.Write("bench/results", r) // .json, .md and .svg
package report
