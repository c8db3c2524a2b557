package report

import (
	"math"
	"math/rand/v2"
	"slices"
)

// resamples of the bootstrap.
const resamples = 4000

// Median of the samples, NaN of none.
func Median(samples []float64) float64 { return quantile(slices.Sorted(slices.Values(samples)), 0.5) }

// Interval is the 95 % percentile bootstrap interval of the median (Efron and Tibshirani, An Introduction to the
// Bootstrap, 1993, chapter 13), with a fixed seed. Samples that were taken in pairs are given as one value a pair.
func Interval(samples []float64) (low, high float64) { return interval(samples, Median) }

// Mean of the samples, NaN of none.
func Mean(samples []float64) float64 {
	sum := 0.0
	for _, v := range samples {
		sum += v
	}
	return sum / float64(len(samples))
}

// interval is that of any statistic.
func interval(samples []float64, statistic func([]float64) float64) (low, high float64) {
	if len(samples) == 0 {
		return math.NaN(), math.NaN()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, resamples)
	again := make([]float64, len(samples))
	for i := range values {
		for j := range again {
			again[j] = samples[rng.IntN(len(samples))]
		}
		values[i] = statistic(again)
	}
	slices.Sort(values)
	return quantile(values, 0.025), quantile(values, 0.975)
}

// quantile of sorted samples, linear between two.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// Overheads turns runs in the order A B B A A B B A ..., A without and B with what is measured, into one value a pair of
// neighbours: by how many percent B is above A. Slow changes of the machine cancel out over two pairs.
func Overheads(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = (b[i]/a[i] - 1) * 100
	}
	return out
}
