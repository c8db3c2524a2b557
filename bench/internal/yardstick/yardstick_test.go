package yardstick

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// plane makes rows whose second column is twice the first one, but for noise, and whose third one never varies.
func plane(n int) [][]float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([][]float64, n)
	for i := range out {
		v := 10 + rng.NormFloat64()
		out[i] = []float64{v, 2*v + 0.1*rng.NormFloat64(), 7}
	}
	return out
}

func fit(t *testing.T, name string, train [][]float64) Model {
	t.Helper()
	for _, m := range Methods() {
		if m.Name == name {
			model, err := m.Fit(train)
			if err != nil {
				t.Fatal(err)
			}
			return model
		}
	}
	t.Fatalf("there is no method %q", name)
	return nil
}

func TestMahalanobisSeesTheBreakOfARelation(t *testing.T) {
	m := fit(t, "ridge Mahalanobis", plane(5000))
	usual, along, across := m.Score([]float64{10, 20, 7}), m.Score([]float64{12, 24, 7}), m.Score([]float64{11, 18, 7})
	if usual > 0.2 || math.Abs(along-2) > 0.2 || across < 5*along {
		t.Errorf("at the middle %.2f, two deviations along %.2f, across %.2f", usual, along, across)
	}
}

func TestResidualSeesWhatIsOffThePlaneOnly(t *testing.T) {
	m := fit(t, "PCA residual", plane(5000))
	along, across := m.Score([]float64{15, 30, 7}), m.Score([]float64{11, 18, 7})
	if along > 0.2 || across < 1 {
		t.Errorf("five deviations along %.2f, across %.2f", along, across)
	}
}

func TestBandsSeeOneColumnByItself(t *testing.T) {
	m := fit(t, "z bands", plane(5000))
	if across, out := m.Score([]float64{11, 18, 7}), m.Score([]float64{10, 26, 7}); math.Abs(across-1) > 0.1 || math.Abs(out-3) > 0.1 {
		t.Errorf("one deviation each in two columns: %.2f, three in one: %.2f", across, out)
	}
}

// A column that never varied moves by 1 % of its value for one deviation; missing values are usual ones.
func TestConstantAndMissing(t *testing.T) {
	for _, method := range Methods() {
		if method.Fit == nil {
			continue
		}
		m := fit(t, method.Name, plane(5000))
		usual := m.Score([]float64{10, 20, 7})
		if got := m.Score([]float64{math.NaN(), math.NaN(), math.NaN()}); math.Abs(got-usual) > 0.2 {
			t.Errorf("%s: nothing known %.2f, usual %.2f", method.Name, got, usual)
		}
		got := m.Score([]float64{10, 20, 7.7})
		if got < 9 || got > 11 {
			t.Errorf("%s: a constant column moved by a tenth: %.2f", method.Name, got)
		}
	}
	if _, err := Methods()[0].Fit([][]float64{{1, 2}}); err == nil {
		t.Error("one train row was enough")
	}
}

// One column that is missing throughout does no harm.
func TestNothingKnownOfAColumn(t *testing.T) {
	train := plane(100)
	for _, row := range train {
		row[2] = math.NaN()
	}
	for _, method := range Methods() {
		if method.Fit == nil {
			continue
		}
		if got := fit(t, method.Name, train).Score([]float64{10, 20, math.NaN()}); math.IsNaN(got) || got > 1 {
			t.Errorf("%s: %g", method.Name, got)
		}
	}
}

func TestThresholdByHand(t *testing.T) {
	scores := []float64{0, 9, 0, 5, 4, 5, 0, 7, 1, 7, 0}
	for _, c := range []struct {
		release, runs, want float64
	}{
		{1, 1, 9}, // two more at 7
		{1, 3, 7},
		{1, 4, 7},   // at 5 there are five
		{0.6, 4, 0}, // at 5 there are four, since 4 holds the alarm, and further down they run together
		{0.6, 3, 7},
		{1, 0.5, math.Nextafter(9, 10)},
	} {
		if got := Threshold(scores, c.release, c.runs); got != c.want {
			t.Errorf("release %g, %g runs: threshold %g, want %g", c.release, c.runs, got, c.want)
		}
	}
	want := []bool{false, false, false, true, true, true, false, true, false, true, false}
	got := Alarms([]float64{0, 4, 0, 5, 4, 5, 0, 7, 1, 7, 0}, 5, 0.6)
	if !slices.Equal(got, want) {
		t.Errorf("alarms %v, want %v", got, want)
	}
}

// Scores that fall and rise again below a threshold that few runs reach: the rule asks for each threshold above, so that a
// low one with few, since all runs there are one, is not taken.
func TestThresholdHoldsForEachAbove(t *testing.T) {
	scores := []float64{3, 5, 3, 5, 3, 5, 3, 8}
	if got := Threshold(scores, 1, 1); got != 8 {
		t.Errorf("threshold %g, want 8: at 5 there are four runs, though at 3 there is one", got)
	}
}
