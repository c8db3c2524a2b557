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
// PVLDB 15(11), 2022), with the choices that the authors' published code makes where the paper leaves them open; tests
// hold it to values that their code gave.
//
// For a buffer of w rows each labelled segment is extended by w/2 rows at both ends, a row at distance d from it
// counting sqrt(1 - d/w), at most 1 where segments are close. At a threshold, TP is the weight of the rows at or above
// it; precision is TP over the number of those rows; recall is TP over the mean of the plain and the extended weight of all
// labels, at most 1, times the share of the extended segments (merged where they touch) in which there is an alarm. The
// area is that of trapezoids from recall 0, precision 1 on, and the volume is the mean area over the buffers. NaN without a
// labelled row.
//
// Rows are sorted into the thresholds once, so that a buffer costs the rows at most buffer/2 from a segment and no more.
func VUSPR(scores []float64, labels []bool, buffer int) float64 {
	return volume(scores, labels, buffer, Thresholds)
}

func volume(scores []float64, labels []bool, buffer, steps int) float64 {
	segments := Segments(labels)
	if len(segments) == 0 {
		return math.NaN()
	}
	s := newSurface(ranked(scores), labels, segments, buffer/2, steps)
	sum := 0.0
	for w := range buffer + 1 {
		sum += s.area(w)
	}
	return sum / float64(buffer+1)
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
	weight    []float64 // scratch, by threshold
	touched   []float64 // scratch, by threshold
}

// margin is a row near a segment. Near and second are the distances from the nearest two.
type margin struct{ near, second, step int }

func newSurface(scores []float64, labels []bool, segments []Segment, reach, steps int) *surface {
	s := &surface{
		step: make([]int, len(scores)), alarms: make([]float64, steps), inside: make([]float64, steps),
		segments: segments, first: make([]int, len(segments)), weight: make([]float64, steps), touched: make([]float64, steps),
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

// area is that below the curve of one buffer. Buffers are asked for in ascending order.
func (s *surface) area(w int) float64 {
	reach := w / 2
	copy(s.weight, s.inside)
	for _, m := range s.margin {
		switch {
		case m.near > reach:
		case m.second <= reach: // two weights of at least sqrt(1/2)
			s.weight[m.step]++
		default:
			s.weight[m.step] += math.Sqrt(1 - float64(m.near)/float64(w))
		}
	}
	regions := s.touch(reach)
	extended := 0.0
	for _, v := range s.weight {
		extended += v
	}
	whole := (s.positives + extended) / 2
	area, hits, touched, recall, precision := 0.0, 0.0, 0.0, 0.0, 1.0
	for j, v := range s.weight {
		hits += v
		touched += s.touched[j]
		r, p := min(hits/whole, 1)*touched/regions, hits/s.alarms[j]
		area += (r - recall) * (p + precision) / 2
		recall, precision = r, p
	}
	return area
}

// touch counts, by threshold, the extended segments that have their first alarm there, and gives the number of segments.
func (s *surface) touch(reach int) (regions float64) {
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
	first := s.first[0]
	for i := range s.segments {
		first = min(first, s.first[i])
		if i+1 < len(s.segments) && s.segments[i].Last+reach >= s.segments[i+1].First-reach {
			continue
		}
		s.touched[first]++
		regions++
		if i+1 < len(s.segments) {
			first = s.first[i+1]
		}
	}
	return regions
}
