// Package metric measures detectors of anomalies in time series against labels. It is pure: no I/O, no clock, nothing
// random, safe for concurrent use.
//
// A detector gives one score a row (higher is stranger; NaN, not judged, ranks last) and maybe one alarm a row; labels
// say which rows are anomalous. Slices given together have one length. Nothing here adjusts points: a labelled segment
// is never counted as found whole because one of its rows was (Kim et al., Towards a Rigorous Evaluation of Time-Series
// Anomaly Detection, AAAI 2022, show that random scores then reach high values).
package metric

import (
	"cmp"
	"math"
	"slices"
)

// Segment is a stretch of rows, both ends included.
type Segment struct{ First, Last int }

// Segments are the stretches of rows that are set.
func Segments(rows []bool) []Segment {
	var out []Segment
	for i, set := range rows {
		switch {
		case !set:
		case i > 0 && rows[i-1]:
			out[len(out)-1].Last = i
		default:
			out = append(out, Segment{i, i})
		}
	}
	return out
}

// ranked is the scores with NaN below all others.
func ranked(scores []float64) []float64 {
	out := slices.Clone(scores)
	for i, v := range out {
		if math.IsNaN(v) {
			out[i] = math.Inf(-1)
		}
	}
	return out
}

// thresholds walks the distinct scores from the highest down and tells how many rows are at or above each, and how many
// of them are labelled.
func thresholds(scores []float64, labels []bool, visit func(threshold float64, alarms, hits int)) {
	scores = ranked(scores)
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	hits := 0
	for i, row := range order {
		if labels[row] {
			hits++
		}
		if i+1 == len(order) || scores[order[i+1]] != scores[row] {
			visit(scores[row], i+1, hits)
		}
	}
}

// count is the number of rows that are set.
func count(rows []bool) int {
	n := 0
	for _, set := range rows {
		if set {
			n++
		}
	}
	return n
}
