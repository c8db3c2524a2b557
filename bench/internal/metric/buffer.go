package metric

import "math"

// Lags of [Buffer].
const (
	leastLag   = 3
	mostLag    = 400
	widestLag  = 303 // three lags past 300
	bufferRows = 20000
	noBuffer   = 125 // where a series has no period
)

// Buffer is the widest buffer of [VUSPR] for a series, in rows: the lag of the highest local maximum of its
// autocorrelation between 3 and 400 rows over the first 20,000 rows, as published with VUS and TSB-UAD (Paparrizos et
// al., TSB-UAD: An End-to-End Benchmark Suite for Univariate Time-Series Anomaly Detection, PVLDB 15(8), 2022). It is 125
// where there is none, or where it is not within 6 and 303 rows. Missing values count as the mean.
func Buffer(column []float64) int {
	x := centred(column[:min(len(column), bufferRows)])
	at := func(lag int) float64 {
		sum := 0.0
		for i := lag; i < len(x); i++ {
			sum += x[i] * x[i-lag]
		}
		return sum
	}
	most := min(mostLag, len(x)-1)
	if most < leastLag {
		return noBuffer
	}
	best, highest := 0, math.Inf(-1)
	before, here := math.Inf(1), at(leastLag) // an end is no local maximum
	for lag := leastLag; lag < most; lag++ {
		next := at(lag + 1)
		if here > before && here > next && here > highest {
			best, highest = lag, here
		}
		before, here = here, next
	}
	if best < 2*leastLag || best > widestLag {
		return noBuffer
	}
	return best
}

// centred is the column less its mean.
func centred(column []float64) []float64 {
	sum, n := 0.0, 0.0
	for _, v := range column {
		if !math.IsNaN(v) {
			sum += v
			n++
		}
	}
	x := make([]float64, len(column))
	for i, v := range column {
		if !math.IsNaN(v) {
			x[i] = v - sum/n
		}
	}
	return x
}
