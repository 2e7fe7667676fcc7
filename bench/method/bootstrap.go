package method

import (
	"math/rand/v2"
	"slices"
)

// resamples is how many the interval is made from: enough that its ends do not
// move by more than the last printed digit from run to run.
const resamples = 10_000

// Bootstrap is the median of the values with its 95 % percentile interval. The
// resampling is seeded with a constant, so that the same values give the same
// interval: a report made again from raw results says the same.
func Bootstrap(values []float64) Estimate {
	if len(values) == 0 {
		return Estimate{}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, resamples)
	resample := make([]float64, len(values))
	for i := range medians {
		for j := range resample {
			resample[j] = values[rng.IntN(len(values))]
		}
		slices.Sort(resample)
		medians[i] = middle(resample)
	}
	slices.Sort(medians)
	return Estimate{Median: Median(values), Low: medians[resamples*25/1000], High: medians[resamples*975/1000-1], N: len(values)}
}

// Median of the values; of an even number the mean of the two in the middle. 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return middle(slices.Sorted(slices.Values(values)))
}

func middle(sorted []float64) float64 {
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
