package metric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// byDefinition is VUS-PR row by row, buffer by buffer, threshold by threshold.
func byDefinition(scores []float64, labels []bool, buffer, steps int) float64 {
	segments := Segments(labels)
	volume := 0.0
	for w := range buffer + 1 {
		weight := extend(labels, segments, w)
		regions := []Segment{}
		for _, s := range segments { // extended, merged where they touch
			s = Segment{max(s.First-w/2, 0), min(s.Last+w/2, len(labels)-1)}
			if k := len(regions) - 1; k >= 0 && s.First <= regions[k].Last {
				regions[k].Last = s.Last
			} else {
				regions = append(regions, s)
			}
		}
		plain, extended := 0.0, 0.0
		for i, v := range weight {
			extended += v
			if labels[i] {
				plain++
			}
		}
		recall, precision := 0.0, 1.0
		for _, u := range spread(scores, steps) {
			hits, alarms, touched := 0.0, 0.0, 0.0
			for i, v := range scores {
				if v >= u {
					alarms++
					hits += weight[i]
				}
			}
			for _, s := range regions {
				for i := s.First; i <= s.Last; i++ {
					if scores[i] >= u {
						touched++
						break
					}
				}
			}
			r := min(hits/((plain+extended)/2), 1) * touched / float64(len(regions))
			volume += (r - recall) * (precision + hits/alarms) / 2
			recall, precision = r, hits/alarms
		}
	}
	return volume / float64(buffer+1)
}

func extend(labels []bool, segments []Segment, w int) []float64 {
	weight := make([]float64, len(labels))
	for i := range weight {
		if labels[i] {
			weight[i] = 1
		}
		for _, s := range segments {
			if d := max(s.First-i, i-s.Last); d > 0 && d <= w/2 {
				weight[i] = min(weight[i]+math.Sqrt(1-float64(d)/float64(w)), 1)
			}
		}
	}
	return weight
}

// One labelled row of six, five of them scored. Thresholds at each rank: the label comes second. For buffers 0 and 1
// recall is 0, 1, ...: the first row is missed, so the area is (1 - 0)(1/2 + 0)/2 = 1/4. For a buffer of 2 the rows beside it
// weigh sqrt(1/2): TP is s, 1+s, 1+s, 1+2s, ... of a recall's whole 1+s, with s = sqrt(1/2).
func TestVolumeByHand(t *testing.T) {
	scores, labels := []float64{1, 2, 6, 5, 3, 4}, rows(6, Segment{3, 3})
	s := math.Sqrt(0.5)
	wide := s/(1+s)*(1+s)/2 + (1-s/(1+s))*(s+(1+s)/2)/2
	if got, want := volume(scores, labels, 2, 6), (0.25+0.25+wide)/3; !near(got, want) {
		t.Errorf("volume %g, want %g", got, want)
	}
}

func TestVolumeByBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 150 {
		scores, labels := draw(rng)
		buffer, steps := rng.IntN(40), 2+rng.IntN(60)
		if got, want := volume(scores, labels, buffer, steps), byDefinition(scores, labels, buffer, steps); math.Abs(got-want) > 1e-9 {
			t.Fatalf("case %d, buffer %d, %d thresholds: %g, want %g", i, buffer, steps, got, want)
		}
	}
}

// Values that the published code of the paper (vus 0.0.5, RangeAUC_volume_opt) gave for the same series.
func TestVolumeIsThePublishedOne(t *testing.T) {
	for i, c := range []struct {
		rows, digits, buffer, steps int
		segments                    []Segment
		want                        float64
	}{
		{400, 0, 40, 250, []Segment{{50, 60}, {100, 100}, {104, 130}, {300, 320}}, 0.6926971119749497},
		{1000, 20, 125, 250, []Segment{{0, 9}, {200, 260}, {280, 290}, {640, 700}, {990, 999}}, 0.7114518263704672},
		{120, 10, 30, 250, []Segment{{30, 35}, {50, 52}}, 0.5822741521975053},
		{600, 0, 0, 250, []Segment{{10, 12}, {16, 16}, {19, 40}, {300, 301}}, 0.2914987133301648},
		{600, 0, 60, 100, []Segment{{10, 12}, {16, 16}, {19, 40}, {300, 301}}, 0.7302529779236048},
	} {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			labels := rows(c.rows, c.segments...)
			if got := volume(congruential(i+1, labels, c.digits), labels, c.buffer, c.steps); math.Abs(got-c.want) > 1e-10 {
				t.Errorf("volume %.12f, want %.12f", got, c.want)
			}
		})
	}
}

// congruential makes the same scores in any language; digits, if any, makes ties.
func congruential(seed int, labels []bool, digits int) []float64 {
	out := make([]float64, len(labels))
	for i := range out {
		seed = (1103515245*seed + 12345) % (1 << 31)
		out[i] = float64(seed) / (1 << 31)
		if labels[i] {
			out[i] += 0.4
		}
		if digits > 0 {
			out[i] = math.Floor(out[i]*float64(digits)) / float64(digits)
		}
	}
	return out
}

// A day of SMD's machines is 1,440 rows, a test half some 24,000.
func BenchmarkVUSPR(b *testing.B) {
	labels := make([]bool, 28000)
	for at := 500; at < len(labels)-200; at += 900 {
		for i := range 150 {
			labels[at+i] = true
		}
	}
	scores := congruential(1, labels, 0)
	for b.Loop() {
		VUSPR(scores, labels, 300)
	}
}
