package metric

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }

func rows(n int, segments ...Segment) []bool {
	out := make([]bool, n)
	for _, s := range segments {
		for i := s.First; i <= s.Last; i++ {
			out[i] = true
		}
	}
	return out
}

// draw makes scores with ties and labels in short segments.
func draw(rng *rand.Rand) ([]float64, []bool) {
	n := 20 + rng.IntN(120)
	scores, labels := make([]float64, n), make([]bool, n)
	on := false
	for i := range scores {
		if rng.Float64() < 0.15 {
			on = !on
		}
		labels[i] = on
		scores[i] = math.Floor(rng.Float64() * 30)
		if on {
			scores[i] += 6
		}
	}
	labels[rng.IntN(n)] = true
	return scores, labels
}

func TestSegments(t *testing.T) {
	want := []Segment{{0, 1}, {3, 3}, {5, 7}}
	if d := cmp.Diff(want, Segments([]bool{true, true, false, true, false, true, true, true})); d != "" {
		t.Error(d)
	}
	if got := Segments(make([]bool, 3)); got != nil {
		t.Errorf("segments of no label: %v", got)
	}
}

// Scores 4 3 3 2 1 with labels + - + - +: thresholds 4, 3, 2, 1 alarm 1, 3, 4, 5 rows and hit 1, 2, 2, 3.
func TestPointMetricsByHand(t *testing.T) {
	scores, labels := []float64{4, 3, 3, 2, 1}, []bool{true, false, true, false, true}
	if got, want := AveragePrecision(scores, labels), (1.0+2.0/3+3.0/5)/3; !near(got, want) {
		t.Errorf("average precision %g, want %g", got, want)
	}
	if f, u := BestF1(scores, labels); !near(f, 0.75) || u != 1 {
		t.Errorf("best F1 %g at %g, want 0.75 at 1", f, u)
	}
}

func TestRowsThatWereNotJudgedRankLast(t *testing.T) {
	labels := []bool{true, false, false, true}
	if got, want := AveragePrecision([]float64{2, math.NaN(), math.NaN(), -1}, labels), 1.0; !near(got, want) {
		t.Errorf("average precision %g, want %g", got, want)
	}
	if got, want := AveragePrecision([]float64{2, 1, 0, math.NaN()}, labels), (1+0.5)/2; !near(got, want) {
		t.Errorf("average precision %g, want %g", got, want)
	}
}

func TestRandomScoresHaveThePrecisionOfTheLabels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	labels := rows(20000, Segment{100, 1099}, Segment{9000, 9999})
	scores := make([]float64, len(labels))
	for i := range scores {
		scores[i] = rng.Float64()
	}
	if got := AveragePrecision(scores, labels); math.Abs(got-0.1) > 0.01 {
		t.Errorf("average precision of random scores %g with a tenth of the rows labelled", got)
	}
	if f, _ := BestF1(scores, labels); math.Abs(f-2*0.1/1.1) > 0.01 {
		t.Errorf("best F1 of random scores %g", f)
	}
}

func TestPointMetricsByBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	for range 200 {
		scores, labels := draw(rng)
		positives := float64(count(labels))
		area, before, best := 0.0, 0.0, 0.0
		for u := 40.0; u >= 0; u-- { // all scores are whole
			alarm := make([]bool, len(scores))
			hits, alarms := 0.0, 0.0
			for i, v := range scores {
				if alarm[i] = v >= u; alarm[i] {
					alarms++
					if labels[i] {
						hits++
					}
				}
			}
			if alarms > 0 {
				area += hits / alarms * (hits/positives - before)
				before = hits / positives
				best = max(best, 2*hits/(alarms+positives))
			}
			if o := Alarms(alarm, labels); !near(o.F1, 2*hits/(alarms+positives)) {
				t.Fatalf("F1 of alarms %g, want %g", o.F1, 2*hits/(alarms+positives))
			}
		}
		if got := AveragePrecision(scores, labels); !near(got, area) {
			t.Fatalf("average precision %g, want %g", got, area)
		}
		f, u := BestF1(scores, labels)
		alarm := make([]bool, len(scores))
		for i, v := range scores {
			alarm[i] = v >= u
		}
		if !near(f, best) || !near(Alarms(alarm, labels).F1, f) {
			t.Fatalf("best F1 %g at %g, which gives %g, want %g", f, u, Alarms(alarm, labels).F1, best)
		}
	}
}

func TestAlarmsByHand(t *testing.T) {
	labels := rows(20, Segment{5, 8}, Segment{12, 13}, Segment{16, 18})
	alarm := rows(20, Segment{0, 0}, Segment{4, 5}, Segment{7, 9}, Segment{18, 19})
	o := Alarms(alarm, labels)
	want := Outcome{
		Precision: 4.0 / 8, Recall: 4.0 / 9, F1: 2 * 4.0 / (8 + 9), Segments: 3, Delays: []int{0, 2},
		False: 2, Normal: 11, Alarmed: 4,
	}
	if d := cmp.Diff(want, o); d != "" {
		t.Error(d)
	}
	if !near(o.Found(), 2.0/3) || !near(o.NormalShare(), 4.0/11) || !near(o.Delay(), 1) {
		t.Errorf("found %g, normal time in alarm %g, delay %g", o.Found(), o.NormalShare(), o.Delay())
	}
	if o := Alarms(rows(20), labels); o.F1 != 0 || o.Found() != 0 || o.False != 0 || !math.IsNaN(o.Delay()) {
		t.Errorf("without an alarm: %+v", o)
	}
	if o := Alarms(alarm, rows(20)); !math.IsNaN(o.F1) || o.False != 4 {
		t.Errorf("without a label: %+v", o)
	}
}

func TestNoLabelNoNumber(t *testing.T) {
	scores, labels := []float64{1, 2, 3}, make([]bool, 3)
	f, _ := BestF1(scores, labels)
	for _, v := range []float64{f, AveragePrecision(scores, labels), VUSPR(scores, labels, 2)} {
		if !math.IsNaN(v) {
			t.Errorf("%g, want NaN", v)
		}
	}
}

func TestBufferIsThePeriod(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	series := func(n int, f func(i int) float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	wave := func(period float64) func(int) float64 {
		return func(i int) float64 { return math.Sin(2*math.Pi*float64(i)/period) + 0.01*rng.NormFloat64() }
	}
	for _, c := range []struct {
		name   string
		column []float64
		want   int
	}{
		{"a daily season of five minutes", series(7200, wave(288)), 288},
		{"noise on it does not matter, nor what comes after 20,000 rows", series(30000, func(i int) float64 {
			if i >= 20000 {
				return 100 * wave(37)(i)
			}
			return wave(60)(i)
		}), 60},
		{"too long", series(7200, wave(350)), 125},
		{"too short", series(7200, wave(5)), 5},
		{"constant", make([]float64, 500), 125},
		{"hardly any", []float64{1, 2}, 125},
		{"missing values", series(7200, func(i int) float64 {
			if i%100 == 3 {
				return math.NaN()
			}
			return wave(144)(i)
		}), 144},
	} {
		got := Buffer(c.column)
		if c.name == "too short" { // multiples of 5 are as good: the highest of them, never 5 itself
			if got%5 != 0 && got != 125 || got == 5 {
				t.Errorf("%s: buffer %d", c.name, got)
			}
			continue
		}
		if math.Abs(float64(got-c.want)) > 1 {
			t.Errorf("%s: buffer %d, want %d", c.name, got, c.want)
		}
	}
}
