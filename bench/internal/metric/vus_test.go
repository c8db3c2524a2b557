package metric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// byDefinition is VUS-PR row by row, buffer by buffer, threshold by threshold, and the same as first published.
func byDefinition(scores []float64, labels []bool, buffer, steps int) (today, first float64) {
	segments := Segments(labels)
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
		recall, firstRecall, precision := 0.0, 0.0, 1.0
		for _, u := range spread(scores, steps) {
			hits, alarms, beside, touched := 0.0, 0.0, 0.0, 0.0
			for i, v := range scores {
				if v >= u {
					alarms++
					hits += weight[i]
					if !labels[i] {
						beside += weight[i]
					}
				}
			}
			for _, s := range regions {
				for i := s.First; i <= s.Last; i++ {
					if scores[i] >= u {
						touched += 1 / float64(len(regions))
						break
					}
				}
			}
			r := min(hits/((plain+plain+beside)/2), 1) * touched
			today += (r - recall) * hits / alarms
			recall = r
			r = min(hits/((plain+extended)/2), 1) * touched
			first += (r - firstRecall) * (precision + hits/alarms) / 2
			firstRecall, precision = r, hits/alarms
		}
	}
	return today / float64(buffer+1), first / float64(buffer+1)
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

// One labelled row of six, and the label has the second best score. Thresholds are at each rank. For buffers 0 and 1 recall
// goes from 0 to 1 at the second threshold, where precision is 1/2: an area of 1/2, or of 1/4 with a straight line from
// recall 0, precision 0 (the first row alone). For a buffer of 2 the rows beside the label weigh s = sqrt(1/2), and the best row is
// one of them: recall is s/(1+s/2), then 1, with precision s and (1+s)/2; as first published it is s/(1+s), then 1.
func TestVolumeByHand(t *testing.T) {
	scores, labels := []float64{1, 2, 6, 5, 3, 4}, rows(6, Segment{3, 3})
	s := math.Sqrt(0.5)
	r := s / (1 + s/2)
	if got, want := volume(scores, labels, 2, 6, rectangles), (0.5+0.5+r*s+(1-r)*(1+s)/2)/3; !near(got, want) {
		t.Errorf("volume %g, want %g", got, want)
	}
	r = s / (1 + s)
	wide := r*(1+s)/2 + (1-r)*(s+(1+s)/2)/2
	if got, want := volume(scores, labels, 2, 6, trapezoids), (0.25+0.25+wide)/3; !near(got, want) {
		t.Errorf("volume as first published %g, want %g", got, want)
	}
}

func TestVolumeByBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 150 {
		scores, labels := draw(rng)
		buffer, thresholds := rng.IntN(40), 2+rng.IntN(60)
		today, first := byDefinition(scores, labels, buffer, thresholds)
		if got := volume(scores, labels, buffer, thresholds, rectangles); math.Abs(got-today) > 1e-9 {
			t.Fatalf("case %d, buffer %d, %d thresholds: %g, want %g", i, buffer, thresholds, got, today)
		}
		if got := volume(scores, labels, buffer, thresholds, trapezoids); math.Abs(got-first) > 1e-9 {
			t.Fatalf("case %d, buffer %d, %d thresholds, as first published: %g, want %g", i, buffer, thresholds, got, first)
		}
	}
}

// Values that the authors' code gave for the same series: RangeAUC_volume_opt of TheDatumOrg/VUS at 5b39812 (2024-11) and at
// 3653887 (2024-01), which is that of 2022.
func TestVolumeIsThePublishedOne(t *testing.T) {
	for i, c := range []struct {
		rows, digits, buffer, thresholds int
		segments                         []Segment
		today, first                     float64
	}{
		{400, 0, 40, 250, []Segment{{50, 60}, {100, 100}, {104, 130}, {300, 320}}, 0.6926971119749497, 0.6115009125455695},
		{1000, 20, 125, 250, []Segment{{0, 9}, {200, 260}, {280, 290}, {640, 700}, {990, 999}}, 0.7114518263704672, 0.6471142125644841},
		{120, 10, 30, 250, []Segment{{30, 35}, {50, 52}}, 0.5822741521975053, 0.5137266211611964},
		{600, 0, 0, 250, []Segment{{10, 12}, {16, 16}, {19, 40}, {300, 301}}, 0.2914987133301648, 0.295227736732815},
		{600, 0, 60, 100, []Segment{{10, 12}, {16, 16}, {19, 40}, {300, 301}}, 0.7302529779236048, 0.5146941708343327},
	} {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			labels := rows(c.rows, c.segments...)
			scores := congruential(i+1, labels, c.digits)
			if got := volume(scores, labels, c.buffer, c.thresholds, rectangles); math.Abs(got-c.today) > 1e-10 {
				t.Errorf("volume %.12f, want %.12f", got, c.today)
			}
			if got := volume(scores, labels, c.buffer, c.thresholds, trapezoids); math.Abs(got-c.first) > 1e-10 {
				t.Errorf("volume as first published %.12f, want %.12f", got, c.first)
			}
		})
	}
}

// The lowest threshold is the lowest score whatever the number of rows: else rows below it would count nowhere.
func TestThresholdsReachTheLowestScore(t *testing.T) {
	for n := 1; n < 3000; n++ {
		scores := make([]float64, n)
		for i := range scores {
			scores[i] = float64(i)
		}
		u := spread(scores, Thresholds)
		if u[0] != float64(n-1) || u[Thresholds-1] != 0 {
			t.Fatalf("%d rows: thresholds from %g to %g", n, u[0], u[Thresholds-1])
		}
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
