package metric

import (
	"math"
	"slices"
	"sort"
)

// Thresholds of the surface, spread evenly over the ranks of the scores.
const Thresholds = 250

// VUSPR is the volume under the surface of range precision and recall over all buffers from 0 to buffer rows
// (Paparrizos et al., Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection,
// PVLDB 15(11), 2022), as the authors' code computes it since 2024 (Liu and Paparrizos, The Elephant in the Room: Towards
// A Reliable Time-Series Anomaly Detection Benchmark, NeurIPS 2024). Tests hold it to values that their code gave.
//
// For a buffer of w rows each labelled segment is extended by w/2 rows at both ends, a row at distance d from it
// counting sqrt(1 - d/w), and 1 where two buffers overlap. At a threshold, TP is the weight of the rows at or above it,
// of P labelled ones and B beside them; precision is TP over the number of rows at or above; recall is TP/(P + B/2), at
// most 1, times the share of the extended segments (merged where they touch) in which there is an alarm. The area is the
// sum of precision times the gain in recall, and the volume is the mean area over the buffers. NaN without a labelled row.
//
// Rows are sorted into the thresholds once, so that a buffer costs the rows at most buffer/2 from a segment and no more.
func VUSPR(scores []float64, labels []bool, buffer int) float64 {
	return volume(scores, labels, buffer, Thresholds, rectangles)
}

// FirstVUSPR is the same as it was first published, in 2022: B is all rows beside the labelled ones, in alarm or not, so that
// who does not alarm around a segment cannot reach a recall of 1 at once; and the area is that of trapezoids from recall 0,
// precision 1 on. It is mostly the lower one.
func FirstVUSPR(scores []float64, labels []bool, buffer int) float64 {
	return volume(scores, labels, buffer, Thresholds, trapezoids)
}

func volume(scores []float64, labels []bool, buffer, thresholds int, area func(*surface) float64) float64 {
	segments := Segments(labels)
	if len(segments) == 0 {
		return math.NaN()
	}
	s := newSurface(ranked(scores), labels, segments, buffer/2, thresholds)
	sum := 0.0
	for w := range buffer + 1 {
		s.extend(w)
		sum += area(s)
	}
	return sum / float64(buffer+1)
}

// rectangles is the area below the curve as their sum.
func rectangles(s *surface) float64 {
	area, recall := 0.0, 0.0
	s.curve(func(alarmed, _ float64) float64 { return alarmed }, func(r, p float64) {
		area += (r - recall) * p
		recall = r
	})
	return area
}

// trapezoids is the same with straight lines between the points.
func trapezoids(s *surface) float64 {
	area, recall, precision := 0.0, 0.0, 1.0
	s.curve(func(_, all float64) float64 { return all }, func(r, p float64) {
		area += (r - recall) * (p + precision) / 2
		recall, precision = r, p
	})
	return area
}

// surface is what all buffers share.
type surface struct {
	step      []int     // by row: the highest threshold at which it is in alarm
	alarms    []float64 // by threshold: rows in alarm
	inside    []float64 // labelled rows by step
	positives float64
	margin    []margin
	segments  []Segment
	first     []int // by segment: the least step in it and as far around it as reach
	reach     int

	// Of the present buffer, by step.
	beside  []float64 // weight of the rows beside the labelled ones
	touched []float64 // extended segments that have their first alarm there
	regions float64   // extended segments
}

// margin is a row near a segment. Near and second are the distances from the nearest two.
type margin struct{ near, second, step int }

func newSurface(scores []float64, labels []bool, segments []Segment, reach, steps int) *surface {
	s := &surface{
		step: make([]int, len(scores)), alarms: make([]float64, steps), inside: make([]float64, steps),
		segments: segments, first: make([]int, len(segments)), beside: make([]float64, steps), touched: make([]float64, steps),
	}
	thresholds := spread(scores, steps)
	for i, v := range scores {
		s.step[i] = sort.Search(steps-1, func(j int) bool { return thresholds[j] <= v })
		s.alarms[s.step[i]]++
		if labels[i] {
			s.inside[s.step[i]]++
			s.positives++
		}
	}
	for j := 1; j < steps; j++ {
		s.alarms[j] += s.alarms[j-1]
	}
	for i, seg := range segments {
		s.first[i] = slices.Min(s.step[seg.First : seg.Last+1])
	}
	s.around(labels, reach)
	return s
}

// spread chooses thresholds at even steps of rank, highest first, rounded as numpy's linspace(...).astype(int) does.
func spread(scores []float64, steps int) []float64 {
	sorted := slices.Sorted(slices.Values(scores))
	slices.Reverse(sorted)
	out := make([]float64, steps)
	last := len(sorted) - 1
	step := float64(last) / float64(steps-1)
	for j := range out {
		out[j] = sorted[min(int(float64(j)*step), last)]
	}
	out[steps-1] = sorted[last]
	return out
}

// around collects the rows at most reach from a segment.
func (s *surface) around(labels []bool, reach int) {
	distances := map[int][]int{} // by row
	for _, seg := range s.segments {
		for d := 1; d <= reach; d++ {
			for _, row := range []int{seg.First - d, seg.Last + d} {
				if row >= 0 && row < len(labels) && !labels[row] {
					distances[row] = append(distances[row], d)
				}
			}
		}
	}
	rows := make([]int, 0, len(distances))
	for row := range distances {
		rows = append(rows, row)
	}
	slices.Sort(rows)
	for _, row := range rows {
		d := distances[row]
		slices.Sort(d)
		m := margin{d[0], math.MaxInt, s.step[row]}
		if len(d) > 1 {
			m.second = d[1]
		}
		s.margin = append(s.margin, m)
	}
}

// extend sets the buffer. Buffers are asked for in ascending order.
func (s *surface) extend(w int) {
	reach := w / 2
	clear(s.beside)
	for _, m := range s.margin {
		switch {
		case m.near > reach:
		case m.second <= reach: // two weights of at least sqrt(1/2)
			s.beside[m.step]++
		default:
			s.beside[m.step] += math.Sqrt(1 - float64(m.near)/float64(w))
		}
	}
	s.touch(reach)
}

// curve visits recall and precision at each threshold. counts says what of the weight beside the labels recall is
// measured by, to the half: that in alarm, or all.
func (s *surface) curve(counts func(alarmed, all float64) float64, visit func(recall, precision float64)) {
	all := 0.0
	for _, v := range s.beside {
		all += v
	}
	inside, beside, touched := 0.0, 0.0, 0.0
	for j := range s.beside {
		inside += s.inside[j]
		beside += s.beside[j]
		touched += s.touched[j]
		hits := inside + beside
		visit(min(hits/(s.positives+counts(beside, all)/2), 1)*touched/s.regions, hits/s.alarms[j])
	}
}

// touch extends the segments and merges those that touch.
func (s *surface) touch(reach int) {
	for ; s.reach < reach; s.reach++ {
		for i, seg := range s.segments {
			if row := seg.First - s.reach - 1; row >= 0 {
				s.first[i] = min(s.first[i], s.step[row])
			}
			if row := seg.Last + s.reach + 1; row < len(s.step) {
				s.first[i] = min(s.first[i], s.step[row])
			}
		}
	}
	clear(s.touched)
	s.regions = 0
	first := s.first[0]
	for i := range s.segments {
		first = min(first, s.first[i])
		if i+1 < len(s.segments) && s.segments[i].Last+reach >= s.segments[i+1].First-reach {
			continue
		}
		s.touched[first]++
		s.regions++
		if i+1 < len(s.segments) {
			first = s.first[i+1]
		}
	}
}
