// Package method is how we measure: what a contestant is, in what order slices
// are taken, which of them count, and what may be said about the result.
//
// It knows no packets and starts no process: contestants do (bench/scenario), and
// what is measured in memory comes from bench/memory. Nothing here keeps state
// between calls, and every function may be called from one goroutine at a time.
//
// Two contestants are compared in quads: A B B A, or B A A B by the toss of a coin,
// so that a drift of the machine meets both alike. Of each quad one ratio remains;
// the result is the median of the ratios with a bootstrap interval, and a claim
// needs an interval that excludes one. Slices that the machine disturbed, and quads in which it changed its pace, do not
// count, and how many did not is part of the result.
//
//	result, err := method.Compare(ctx, sluice, other, method.Plan{Quads: 20})
//	fmt.Println(result.Ratios[method.PPS]) // 8.31 (8.02 to 8.60)
package method
