package tune

import (
	"fmt"
	"math"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Limits of a trial's judgement.
const (
	// Significant is the rank among placebos at or below which a gain is believed at the last look; at the earlier ones
	// it is [Early], since each look is another chance to be fooled.
	Significant = 0.045
	// Early is the same for the first two looks.
	Early = 0.01
	// Gain is the least relative gain of the objective that is worth keeping a setting for.
	Gain = 0.02
	// Harm is the relative loss against the peers at which a trial is reverted at once.
	Harm = 0.25
	// History is how many samples of each member are kept.
	History = 64
	// placebos is the least number of them that a rank means anything with.
	placebos = 20
)

// Sample is the objective's figures of one member at one time, in the units of [ft.Figures].
type Sample struct {
	At     ft.Instant `json:"at"`
	Rate   float32    `json:"rate"`
	Errors float32    `json:"errors"`
	P50    float32    `json:"p50"`
	P99    float32    `json:"p99"`
	CPU    float32    `json:"cpu"`
}

// SampleOf keeps what trials need of the figures.
func SampleOf(at time.Time, f *ft.Figures) Sample {
	return Sample{ft.InstantOf(at), float32(f.Rate), float32(f.Errors), float32(f.P50), float32(f.P99), float32(f.CPU)}
}

// Trial is a setting under observation.
type Trial struct {
	Setting ft.Setting  `json:"setting"`
	Was     ft.Setting  `json:"was"`
	Since   time.Time   `json:"since"`
	Settle  ft.Duration `json:"settle"`
	// GiveBack: the setting was lowered to see whether it is still needed; it stays low unless that harms.
	GiveBack bool `json:"giveBack,omitempty"`
	// Fresh: figures came since the last look at them; Stage is the look they complete: 1, 2 or 4, else 0.
	Fresh bool `json:"fresh,omitempty"`
	Stage int  `json:"stage,omitempty"`
	Seen  int  `json:"seen,omitempty"` // the last stage completed
}

// Observed notes that figures of this time came.
func (t *Trial) Observed(at time.Time) {
	t.Fresh, t.Stage = true, 0
	for _, k := range []int{1, 2, 4} {
		if k > t.Seen && at.Sub(t.Since) >= time.Duration(k)*t.Settle.D() {
			t.Stage, t.Seen = k, k
		}
	}
}

// End is when the trial is over whatever it shows.
func (t *Trial) End() time.Time { return t.Since.Add(4 * t.Settle.D()) }

// Outcome is what a look says. While Ended is false the trial goes on.
type Outcome struct {
	Ended, Kept bool
	Effect, P   float64
	Text        string
}

// Look judges a trial by the member's samples and those of its untouched peers, each oldest first.
func Look(t *Trial, o *ft.Objective, member []Sample, peers [][]Sample) Outcome {
	since := ft.InstantOf(t.Since)
	if why := guard(t, o, member, peers); why != "" {
		return Outcome{Ended: true, Effect: finite(t.effect(o, since, 1, member, peers)), P: 1, Text: "reverted at once: " + why}
	}
	if t.Stage == 0 {
		return Outcome{}
	}
	final := t.Stage == 4
	effect := t.effect(o, since, t.Stage, member, peers)
	if math.IsNaN(effect) {
		return Outcome{Ended: final, P: 1, Text: "reverted: too few requests to tell whether it helped"}
	}
	p, n := t.rank(o, effect, member, peers)
	out := Outcome{Effect: effect, P: p}
	believe := Early
	if final {
		believe = Significant
	}
	name := fmt.Sprintf("%s %g -> %g", t.Setting.Knob, t.Was.Value, t.Setting.Value)
	switch {
	case t.GiveBack && final:
		out.Ended, out.Kept = true, effect < 2*Gain || p > 0.5
		out.Text = fmt.Sprintf("given back, %s: without it the objective changed by %+.0f %% against its peers", name, 100*effect)
		if !out.Kept {
			out.Text = fmt.Sprintf("still needed, %s: without it the objective changed by %+.0f %% against its peers", name, 100*effect)
		}
	case !t.GiveBack && effect <= -Gain && p <= believe && n >= placebos:
		out.Ended, out.Kept = true, true
		out.Text = fmt.Sprintf("kept %s: the objective changed by %+.0f %% against its peers (p = %.2f among %d placebos)", name, 100*effect, p, n)
	case final:
		out.Ended = true
		out.Text = fmt.Sprintf("reverted %s: no significant gain, %+.0f %% against its peers (p = %.2f among %d placebos)", name, 100*effect, p, n)
	}
	return out
}

// guard says what is plainly worse since the setting was changed: more failed requests than the objective allows, or
// a loss beyond [Harm] after half a settle time.
func guard(t *Trial, o *ft.Objective, member []Sample, peers [][]Sample) string {
	since := ft.InstantOf(t.Since)
	settle := ft.Instant(t.Settle)
	now := window(member, since, since+4*settle)
	if len(now) < 2 {
		return ""
	}
	before := window(member, since-2*settle, since)
	errs, was := mean(now, errorShare), mean(before, errorShare)
	if errs > o.Errors && errs > 2*was {
		return fmt.Sprintf("%.1f %% of its requests fail, %.1f %% before", 100*errs, 100*finite(was))
	}
	if now[len(now)-1].At < since+settle/2 {
		return ""
	}
	if e := t.effect(o, since, 1, member, peers); e > Harm {
		return fmt.Sprintf("the objective is %.0f %% worse against its peers", 100*e)
	}
	return ""
}

// effect is the relative change of the member's cost around a time, less the median change of its peers, over k settle
// times each side; the first third of a settle time after it is left out. NaN where too little was served.
func (t *Trial) effect(o *ft.Objective, at ft.Instant, k int, member []Sample, peers [][]Sample) float64 {
	own := t.change(o, at, k, member)
	var others []float64
	for _, p := range peers {
		if c := t.change(o, at, k, p); !math.IsNaN(c) {
			others = append(others, c)
		}
	}
	if len(others) > 0 {
		own -= median(others)
	}
	return own
}

func (t *Trial) change(o *ft.Objective, at ft.Instant, k int, s []Sample) float64 {
	w, skip := ft.Instant(k)*ft.Instant(t.Settle), ft.Instant(t.Settle)/3
	cost := func(s *Sample) float64 { return Cost(o, s) }
	return mean(window(s, at+skip, at+w), cost) - mean(window(s, at-w, at), cost)
}

// rank is the share of placebos whose effect is at least as good, counting the trial itself, and their number.
// Placebos are the same difference of the member and of each peer at past times.
func (t *Trial) rank(o *ft.Objective, effect float64, member []Sample, peers [][]Sample) (p float64, n int) {
	since, w := ft.InstantOf(t.Since), ft.Instant(t.Stage)*ft.Instant(t.Settle)
	better := 0
	count := func(s []Sample, others [][]Sample) {
		for i := range s {
			if s[i].At+w > since {
				return
			}
			if s[i].At-w < s[0].At {
				continue // less was seen before it than the trial has
			}
			e := t.effect(o, s[i].At, t.Stage, s, others)
			if math.IsNaN(e) {
				continue
			}
			n++
			if t.GiveBack && e >= effect || !t.GiveBack && e <= effect {
				better++
			}
		}
	}
	count(member, peers)
	for i := range peers {
		rest := make([][]Sample, 0, len(peers))
		rest = append(append(append(rest, peers[:i]...), peers[i+1:]...), member)
		count(peers[i], rest)
	}
	return float64(better+1) / float64(n+1), n
}

// Cost is the objective as one number, lower is better, on a logarithmic scale: a difference of 0.1 is about ten per
// cent. It is the latency quantile, plus ten times the error share, plus a quarter of the CPU for a request. NaN where
// nothing was served.
func Cost(o *ft.Objective, s *Sample) float64 {
	latency := s.P99
	if o.Quantile > 0 && o.Quantile < 0.75 {
		latency = s.P50
	}
	if s.Rate <= 0 || latency <= 0 {
		return math.NaN()
	}
	c := math.Log(float64(latency)) + 10*float64(s.Errors)
	if s.CPU > 0 {
		c += 0.25 * math.Log(float64(s.CPU)/float64(s.Rate))
	}
	return c
}

func errorShare(s *Sample) float64 {
	if s.Rate <= 0 {
		return math.NaN()
	}
	return float64(s.Errors)
}

// window is the part of the samples in (from, to].
func window(s []Sample, from, to ft.Instant) []Sample {
	i, _ := slices.BinarySearchFunc(s, from+1, func(s Sample, t ft.Instant) int { return int(min(max(s.At-t, -1), 1)) })
	j, _ := slices.BinarySearchFunc(s, to+1, func(s Sample, t ft.Instant) int { return int(min(max(s.At-t, -1), 1)) })
	return s[i:max(i, j)]
}

func mean(s []Sample, f func(*Sample) float64) float64 {
	sum, n := 0.0, 0
	for i := range s {
		if v := f(&s[i]); !math.IsNaN(v) {
			sum, n = sum+v, n+1
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

func median(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
