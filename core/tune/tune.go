// Package tune chooses settings and judges trials of them. It knows no instances and no clock: the planner gives it a
// verdict, the knobs and what the pool can afford, later the figures of the member and of its untouched peers.
//
// After an alarm without any action the score falls again nearly always, so "drift went down" proves nothing. What
// counts is the objective: its change of the member minus the median of its peers, ranked among placebos, which are the
// same difference at past times without action.
package tune

import (
	"fmt"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Want is what a setting is chosen for.
type Want struct {
	Level    ft.Level
	Evidence []ft.Evidence // strongest first
	Growing  bool          // an unbounded column grows towards its limit: memory is never fed
	Knobs    []ft.Knob
	Settings []ft.Setting // the present values; a knob without one has its own Value
	Pinned   []string     // knobs that a person set: declared values win
	Vain     []string     // knobs whose trial did not help lately
	Room     Room
}

// Room is what is left of the pool's budgets: bytes and weight.
type Room struct{ Memory, CPU float64 }

// Choice is a knob with its present and its new value.
type Choice struct {
	Knob     ft.Knob
	Was, Now float64
	Rejected []Rejection
}

// Rejection is why another knob was not chosen.
type Rejection struct{ Knob, Why string }

// String joins the rejections for a person.
func (c *Choice) String() string {
	parts := make([]string, 0, len(c.Rejected))
	for _, r := range c.Rejected {
		parts = append(parts, r.Knob+" "+r.Why)
	}
	return strings.Join(parts, "; ")
}

// pressure is what shows that an instance lacks memory for the data it touches. Growth is no such sign: it is what a
// leak looks like, and a leak is never fed.
var pressure = []string{ft.DimRefaults, ft.DimMajor, ft.DimPressMem}

// growth are the columns whose rise leads the evidence of a leak.
var growth = []string{ft.DimRSS, ft.DimAnon}

// Choose picks the least disruptive knob that relieves what explains the verdict and that the pool can afford; ok is
// false where none fits, and Rejected says why for each.
func Choose(w *Want) (c Choice, ok bool) {
	best, fit := -1, 0.0
	for i := range w.Knobs {
		k := &w.Knobs[i]
		f, why := w.fits(k)
		if why == "" {
			switch {
			case best < 0:
			case k.Disruption > w.Knobs[best].Disruption, k.Disruption == w.Knobs[best].Disruption && f <= fit:
				why = "fits no better than " + w.Knobs[best].Name
			default:
				c.Rejected = append(c.Rejected, Rejection{w.Knobs[best].Name, "fits no better than " + k.Name})
			}
		}
		if why != "" {
			c.Rejected = append(c.Rejected, Rejection{k.Name, why})
			continue
		}
		best, fit = i, f
	}
	if best < 0 {
		if len(w.Knobs) == 0 {
			c.Rejected = append(c.Rejected, Rejection{"nothing", "can be adjusted here"})
		}
		return c, false
	}
	c.Knob = w.Knobs[best]
	c.Was = Value(w.Knobs[best], w.Settings)
	c.Now = Up(c.Knob, c.Was)
	return c, true
}

// fits gives the share of the evidence that the knob relieves, or why it is out of the question.
func (w *Want) fits(k *ft.Knob) (share float64, why string) {
	if k.Rung > w.Level {
		return 0, fmt.Sprintf("waits for level %s", k.Rung)
	}
	if slices.Contains(w.Pinned, k.Name) {
		return 0, "was set by a person"
	}
	if slices.Contains(w.Vain, k.Name) {
		return 0, "was tried lately and did not help"
	}
	if k.Draws == ft.Memory && (w.Growing || Leads(w.Evidence, growth...)) {
		return 0, "would feed a leak: memory grows"
	}
	if share = w.share(k); share <= 0 {
		return 0, "does not relieve what drifts"
	}
	was := Value(*k, w.Settings)
	now := Up(*k, was)
	if now <= was {
		return 0, fmt.Sprintf("is at its maximum, %g", k.Max)
	}
	switch k.Draws {
	case ft.Memory:
		if now-was > w.Room.Memory {
			return 0, "does not fit the pool's memory budget"
		}
	case ft.CPU:
		if now-was > w.Room.CPU {
			return 0, "does not fit the pool's CPU budget"
		}
	case ft.NoResource:
	}
	return share, ""
}

// share is how much of the raised evidence the knob relieves, 0 to 1.
func (w *Want) share(k *ft.Knob) float64 {
	var hit, all float64
	for _, e := range w.Evidence {
		if e.Z <= 0 {
			continue
		}
		all += e.Z
		relieves := slices.Contains(k.Relieves, e.Dimension)
		if k.Draws == ft.Memory {
			relieves = relieves && slices.Contains(pressure, e.Dimension)
		}
		if relieves {
			hit += e.Z
		}
	}
	if all == 0 {
		return 0
	}
	return hit / all
}

// Leads tells whether the strongest evidence is a rise of one of the dimensions.
func Leads(ev []ft.Evidence, dims ...string) bool {
	return len(ev) > 0 && ev[0].Z > 0 && slices.Contains(dims, ev[0].Dimension)
}

// Value is the present value of a knob: its setting, else what it had at the start.
func Value(k ft.Knob, settings []ft.Setting) float64 {
	for _, s := range settings {
		if s.Knob == k.Name {
			return s.Value
		}
	}
	return k.Value
}

// Up is one step up from v, within the knob's bounds.
func Up(k ft.Knob, v float64) float64 {
	if k.Additive {
		return min(v+k.Step, k.Max)
	}
	return min(v*max(k.Step, 1), k.Max)
}
