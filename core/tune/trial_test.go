package tune

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	goal  = &ft.Objective{Quantile: 0.99, Errors: 0.01}
)

// bench makes histories of a member and its peers, a sample each five seconds, around a trial that begins at start.
// The latency is lognormal noise around a common walk; shift is what the setting does to the member's.
type bench struct {
	r      *rand.Rand
	before int
	common float64 // scatter of the walk that all share
	noise  float64
	shift  float64 // on the logarithm, from the trial on
	errors float64 // error share of the member from the trial on
}

func (b *bench) run(t *Trial, until time.Duration, peers int) ([]Sample, [][]Sample) {
	var member []Sample
	others := make([][]Sample, peers)
	walk := 0.0
	for i := -b.before; time.Duration(i)*5*time.Second <= until; i++ {
		at := start.Add(time.Duration(i) * 5 * time.Second)
		walk += b.common * b.r.NormFloat64()
		draw := func(shift, errs float64) Sample {
			p99 := 0.02 * math.Exp(walk+shift+b.noise*b.r.NormFloat64())
			return SampleOf(at, &ft.Figures{Rate: 100, P99: p99, P50: p99 / 4, CPU: 0.5, Errors: errs})
		}
		shift, errs := 0.0, 0.0
		if i > 0 {
			shift, errs = b.shift, b.errors
		}
		member = append(member, draw(shift, errs))
		for k := range others {
			others[k] = append(others[k], draw(0, 0))
		}
	}
	return member[max(0, len(member)-History):], others
}

func trial() *Trial {
	return &Trial{
		Setting: ft.Setting{Knob: "cpu", Value: 200}, Was: ft.Setting{Knob: "cpu", Value: 100},
		Since: start, Settle: ft.Duration(15 * time.Second),
	}
}

// play looks as the planner does, at each sample, until the trial ends.
func (b *bench) play(t *Trial, peers int) (Outcome, time.Duration) {
	member, others := b.run(t, 90*time.Second, peers)
	for d := 5 * time.Second; d <= 90*time.Second; d += 5 * time.Second {
		at := ft.InstantOf(start.Add(d))
		t.Observed(start.Add(d))
		cut := func(s []Sample) []Sample { return window(s, 0, at) }
		seen := make([][]Sample, len(others))
		for i := range others {
			seen[i] = cut(others[i])
		}
		if o := Look(t, goal, cut(member), seen); o.Ended {
			return o, d
		}
	}
	return Outcome{}, 0
}

func TestAGainIsKept(t *testing.T) {
	kept := 0
	for seed := range uint64(60) {
		b := bench{r: rand.New(rand.NewPCG(seed, 1)), before: 48, common: 0.05, noise: 0.1, shift: -0.4}
		if o, _ := b.play(trial(), 3); o.Kept {
			kept++
			if !strings.HasPrefix(o.Text, "kept cpu 100 -> 200: the objective changed by -") || o.Effect > -0.1 {
				t.Fatalf("%+v", o)
			}
		}
	}
	if kept < 54 {
		t.Fatalf("%d of 60 real gains were kept", kept)
	}
}

// TestNoEffectIsReverted: a walk that all share fools before/after comparisons; against peers and placebos it does not.
func TestNoEffectIsReverted(t *testing.T) {
	kept := 0
	const n = 200
	for seed := range uint64(n) {
		b := bench{r: rand.New(rand.NewPCG(seed, 2)), before: 48, common: 0.2, noise: 0.1}
		o, at := b.play(trial(), 3)
		if !o.Ended && at == 0 {
			t.Fatal("the trial never ended")
		}
		if o.Kept {
			kept++
		}
	}
	t.Logf("%d of %d trials without effect were kept", kept, n)
	if share := float64(kept) / n; share > 0.1 {
		t.Fatalf("%.3f of the trials without effect were kept", share)
	}
}

func TestWithoutPeersOnlyItsOwnPastCounts(t *testing.T) {
	b := bench{r: rand.New(rand.NewPCG(1, 3)), before: 60, noise: 0.05, shift: -0.7}
	if o, _ := b.play(trial(), 0); !o.Kept {
		t.Fatalf("%+v", o)
	}
}

func TestGuards(t *testing.T) {
	b := bench{r: rand.New(rand.NewPCG(1, 4)), before: 48, noise: 0.05, errors: 0.05}
	o, at := b.play(trial(), 3)
	if !o.Ended || o.Kept || at > 15*time.Second || !strings.Contains(o.Text, "reverted at once: 5.0 % of its requests fail, 0.0 % before") {
		t.Fatalf("errors: %s %+v", at, o)
	}
	b = bench{r: rand.New(rand.NewPCG(1, 5)), before: 48, noise: 0.05, shift: 0.7}
	o, at = b.play(trial(), 3)
	if !o.Ended || o.Kept || at > 20*time.Second || !strings.Contains(o.Text, "reverted at once: the objective is") {
		t.Fatalf("latency: %s %+v", at, o)
	}
}

func TestEveryTrialEndsAtItsLastLook(t *testing.T) {
	tr := trial()
	idle := []Sample{{At: ft.InstantOf(start.Add(-time.Minute))}}
	tr.Observed(start.Add(61 * time.Second))
	o := Look(tr, goal, idle, nil)
	if !o.Ended || o.Kept || !strings.Contains(o.Text, "too few requests") {
		t.Fatalf("%+v", o)
	}
}

func TestGiveBack(t *testing.T) {
	back := func(shift float64) Outcome {
		tr := trial()
		tr.Setting.Value, tr.Was.Value, tr.GiveBack = 100, 200, true
		b := bench{r: rand.New(rand.NewPCG(1, 6)), before: 48, noise: 0.05, shift: shift}
		o, _ := b.play(tr, 3)
		return o
	}
	if o := back(0); !o.Kept {
		t.Fatalf("not given back though it is not missed: %+v", o)
	}
	if o := back(0.15); o.Kept || !strings.Contains(o.Text, "still needed") {
		t.Fatalf("given back though it is missed: %+v", o)
	}
}

func TestLooksComeAtOneTwoAndFourSettleTimes(t *testing.T) {
	tr := trial()
	var stages []int
	for d := 5 * time.Second; d <= 70*time.Second; d += 5 * time.Second {
		tr.Observed(start.Add(d))
		if tr.Stage > 0 {
			stages = append(stages, int(d/time.Second))
		}
	}
	if len(stages) != 3 || stages[0] != 15 || stages[1] != 30 || stages[2] != 60 {
		t.Fatalf("looks at %v seconds", stages)
	}
}

func TestCost(t *testing.T) {
	base := Sample{Rate: 10, P50: 0.01, P99: 0.1, CPU: 1}
	worse := base
	worse.Errors = 0.02
	if d := Cost(goal, &worse) - Cost(goal, &base); math.Abs(d-0.2) > 1e-6 {
		t.Fatalf("2 %% errors cost %g", d)
	}
	if !math.IsNaN(Cost(goal, &Sample{})) {
		t.Fatal("no requests have a cost")
	}
	median := &ft.Objective{Quantile: 0.5}
	if d := Cost(goal, &base) - Cost(median, &base); math.Abs(d-math.Log(10)) > 1e-5 {
		t.Fatalf("p99 against p50: %g", d)
	}
}
