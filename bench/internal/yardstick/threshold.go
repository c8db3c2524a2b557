package yardstick

import (
	"math"
	"slices"
)

// Threshold is the smallest of the scores, at least one, such that each score from it on, taken as the threshold, gave at
// most runs alarm runs over all rows: Fettle's own rule, on the exact scores. It is just above the highest where even that
// one gave more. An alarm is on at or above the threshold and off below release times it; see [Alarms].
func Threshold(scores []float64, release, runs float64) float64 {
	distinct := slices.Sorted(slices.Values(scores))
	distinct = slices.Compact(distinct)
	u := math.Nextafter(distinct[len(distinct)-1], math.Inf(1))
	for _, candidate := range slices.Backward(distinct) {
		if float64(begun(scores, candidate, release)) > runs {
			break
		}
		u = candidate
	}
	return u
}

// begun is the number of alarm runs.
func begun(scores []float64, u, release float64) int {
	n, on := 0, false
	for _, v := range scores {
		before := on
		if on = v >= u || on && v >= release*u; on && !before {
			n++
		}
	}
	return n
}

// Alarms tells which rows are in alarm: from a score at or above u on, until one below release times u.
func Alarms(scores []float64, u, release float64) []bool {
	out := make([]bool, len(scores))
	on := false
	for i, v := range scores {
		on = v >= u || on && v >= release*u
		out[i] = on
	}
	return out
}
