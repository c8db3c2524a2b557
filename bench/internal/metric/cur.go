package metric

import "math"

// VUSPR2 is scratch.
func VUSPR2(scores []float64, labels []bool, buffer, steps int) float64 {
	segments := Segments(labels)
	s := newSurface(ranked(scores), labels, segments, buffer/2, steps)
	sum := 0.0
	for w := range buffer + 1 {
		sum += s.area2(w)
	}
	return sum / float64(buffer+1)
}

func (s *surface) area2(w int) float64 {
	reach := w / 2
	clear(s.weight)
	for _, m := range s.margin {
		switch {
		case m.near > reach:
		case m.second <= reach:
			s.weight[m.step]++
		default:
			s.weight[m.step] += math.Sqrt(1 - float64(m.near)/float64(w))
		}
	}
	regions := s.touch(reach)
	area, in, out, touched, recall := 0.0, 0.0, 0.0, 0.0, 0.0
	for j, v := range s.weight {
		out += v
		in += s.inside[j]
		touched += s.touched[j]
		r, p := min((in+out)/(s.positives+out/2), 1)*touched/regions, (in+out)/s.alarms[j]
		area += (r - recall) * p
		recall = r
	}
	return area
}
