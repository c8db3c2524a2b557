package yardstick

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// daily makes rows of five minutes that follow the time of day, the second column as twice the first one; the third follows
// nothing.
func daily(rng *rand.Rand, from, n int) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		v := 10*math.Sin(2*math.Pi*float64(from+i)/288) + rng.NormFloat64()
		out[i] = []float64{v, 2*v + 0.1*rng.NormFloat64(), 5 + rng.NormFloat64()}
	}
	return out
}

const trainRows = 10 * 288

func trained(t *testing.T, without Part) (*Streams, []float64, *rand.Rand) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	s, scores, err := NewStreams(daily(rng, 0, trainRows), 5*time.Minute, without)
	if err != nil {
		t.Fatal(err)
	}
	return s, scores, rng
}

// followed gives what Streams says of rows.
func followed(s *Streams, rows [][]float64) (scores, alarms []float64) {
	for _, row := range rows {
		score, alarm := s.Next(row)
		scores, alarms = append(scores, score), append(alarms, alarm)
	}
	return scores, alarms
}

func TestStreamsSeeTheBreakOfARelation(t *testing.T) {
	s, before, rng := trained(t, Whole)
	healthy, _ := followed(s, daily(rng, trainRows, 288))
	sick := daily(rng, trainRows+288, 24)
	for _, row := range sick {
		row[1] += 20 // about one standard deviation of the day's wave, and far off its relation to the first column
	}
	scores, _ := followed(s, sick)
	if most := slices.Max(before); slices.Max(healthy) > 1.5*most || scores[23] < 4*most {
		t.Errorf("healthy at most %.2f, in train %.2f, after two hours of sickness %.2f", slices.Max(healthy), most, scores[23])
	}
}

// The usual value of one time of day is strange at another.
func TestStreamsKnowTheTimeOfDay(t *testing.T) {
	strange := func(without Part) float64 {
		s, before, rng := trained(t, without)
		rows := daily(rng, trainRows, 288)
		for _, row := range rows[200:224] { // at the bottom of the day's wave, what is usual at its middle
			row[0], row[1] = 0, 0
		}
		scores, _ := followed(s, rows)
		return scores[223] / slices.Max(before)
	}
	if with, without := strange(Whole), strange(Season); with < 0.5 || with < without+0.5 {
		t.Errorf("with season %.2f of the most in train, without %.2f", with, without)
	}
}

// A level that stays is adopted: the alarm ends, the score to rank by does not. Back at the old level, both are calm.
func TestStreamsAdoptALevelThatStays(t *testing.T) {
	s, before, rng := trained(t, Whole)
	u := Threshold(before, release, float64(len(before))/288)
	shifted := daily(rng, trainRows, 3*288)
	for _, row := range shifted {
		row[2] += 10
	}
	scores, alarms := followed(s, shifted)
	on := Alarms(alarms, u, release)
	if !on[12] || !on[120] || on[len(on)-1] {
		t.Errorf("alarm after an hour %t, ten hours %t, three days %t", on[12], on[120], on[len(on)-1])
	}
	if last := scores[len(scores)-1]; last < u {
		t.Errorf("the anchor was lost: %.2f, threshold %.2f", last, u)
	}
	after, _ := followed(s, daily(rng, trainRows+3*288, 2*288))
	if last := after[len(after)-1]; last > u {
		t.Errorf("back at the old level: %.2f, threshold %.2f", last, u)
	}
}

// Rows to come have no say: the scores of the first rows are the same whatever follows.
func TestStreamsAreCausal(t *testing.T) {
	a, _, rng := trained(t, Whole)
	b, _, _ := trained(t, Whole)
	rows := daily(rng, trainRows, 100)
	one, _ := followed(a, rows)
	two, _ := followed(b, rows[:50])
	if !slices.Equal(one[:50], two) {
		t.Error("scores of the same rows differ")
	}
}

func TestStreamsOfMissingAndConstantColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	rows := daily(rng, 0, trainRows+288)
	for i, row := range rows {
		row[2] = 7
		if i%3 == 0 {
			row[0] = math.NaN()
		}
	}
	s, before, err := NewStreams(rows[:trainRows], 5*time.Minute, Whole)
	if err != nil {
		t.Fatal(err)
	}
	scores, _ := followed(s, rows[trainRows:])
	if most := slices.Max(scores); !(most < 2*slices.Max(before)) {
		t.Errorf("at most %g, in train %g", most, slices.Max(before))
	}
	if _, _, err := NewStreams(rows[:20], 5*time.Minute, Whole); err == nil {
		t.Error("20 train rows were enough")
	}
}

// A form whitens: the distance of a row of what it learnt is one, whatever its columns have in common.
func TestFormWhitens(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	f := newForm(3, 0)
	sum, n := 0.0, 0.0
	for i, row := range daily(rng, 0, trainRows) {
		row[0] = 10 + rng.NormFloat64()
		row[1] = 2*row[0] + 0.5*rng.NormFloat64()
		if q := f.distance(row, math.Inf(1)); i > 1000 {
			sum += q
			n++
		}
		f.learn(make([]float64, 3), false)
	}
	if mean := sum / n; math.Abs(mean-1) > 0.05 {
		t.Errorf("mean distance %.3f, want 1", mean)
	}
	// (12, 23): one is two deviations, and across, (23 - 2·12)/0.5 are two more.
	if q := 3 * f.distance([]float64{12, 23, f.mean[2]}, math.Inf(1)); math.Abs(q-8) > 1 {
		t.Errorf("squared distance %.2f, want 8", q)
	}
}

// What a row of 32 columns costs, judged and learnt.
func BenchmarkStreamsRow(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	rows := make([][]float64, trainRows)
	for i := range rows {
		rows[i] = make([]float64, 32)
		for c := range rows[i] {
			rows[i][c] = rng.NormFloat64()
		}
	}
	s, _, err := NewStreams(rows, 5*time.Minute, Whole)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Next(rows[i%len(rows)])
	}
}
