package plan

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/mitigate"
	"github.com/fettle-dev/fettle/core/tune"
)

// comparable is how many untouched peers a trial is compared with at most.
const comparable = 16

// look judges the member's trial where new figures came, or ends it where something more urgent or nothing at all
// comes; it tells whether it decided something.
func (s *State) look(t *tally, m *member) bool {
	trial := m.Trial
	end := func(o tune.Outcome) bool {
		t.say(&ft.TrialEnded{
			Stamp: t.stamp(), Ref: m.In.Ref, Setting: trial.Setting, Was: trial.Was,
			Kept: o.Kept, Effect: o.Effect, P: o.P, Text: o.Text,
		})
		return true
	}
	over := trial.End().Add(s.d.Pool.Heal.Watch.D())
	switch {
	case s.pressing(m, t.now):
		return end(tune.Outcome{P: 1, Text: fmt.Sprintf("reverted %s: the drift became %s meanwhile", trial.Setting.Knob, m.Verdict.Level)})
	case !t.now.Before(over):
		return end(tune.Outcome{P: 1, Text: "reverted " + trial.Setting.Knob + ": no figures came to judge it by"})
	case !trial.Fresh:
		t.wakeAt(over)
		return false
	}
	if o := tune.Look(trial, &s.d.Pool.Objective, m.History, s.untouched(m)); o.Ended {
		return end(o)
	}
	return false
}

// pressing tells whether mitigation should not wait for a trial. A changed workload is never that urgent.
func (s *State) pressing(m *member, now time.Time) bool {
	v := &m.Verdict
	adapts := v.Cause == ft.DependencyChanged || v.Cause == ft.WorkloadChanged && s.d.Pool.Heal.WorkloadDrift == ft.Adapt
	c := mitigate.Case{Verdict: *v, Forecast: m.Forecast, Now: now}
	return !adapts && v.Extent != ft.WholePool && mitigate.Urgent(&s.d.Pool, &c)
}

// untouched are the histories of members that do the same work and were not acted on, nearest serials after it first.
func (s *State) untouched(m *member) [][]tune.Sample {
	var peers [][]tune.Sample
	all := s.d.Members
	start := 0
	for i, o := range all {
		if o == m {
			start = i
		}
	}
	since := ft.InstantOf(m.Trial.Since.Add(-2 * m.Trial.Settle.D()))
	for i := 1; i < len(all) && len(peers) < comparable; i++ {
		o := all[(start+i)%len(all)]
		if o.Group == m.Group && o.serving() && o.Op == 0 && o.Trial == nil && o.Serves < since && o.Story == nil {
			peers = append(peers, o.History)
		}
	}
	return peers
}

// choose asks the tuner for a setting of the member.
func (s *State) choose(t *tally, m *member) (tune.Choice, bool) {
	if s.d.Pool.Serve == ft.None {
		return tune.Choice{Rejected: []tune.Rejection{{Knob: "any knob", Why: "could not be judged: this pool serves nothing to measure it by"}}}, false
	}
	w := tune.Want{
		Level: m.Verdict.Level, Evidence: m.Evidence, Growing: s.growing(m), Knobs: m.Knobs, Settings: m.In.Settings,
		Pinned: m.Pinned, Room: s.budgetOf(t).room,
	}
	from := ft.InstantOf(t.now.Add(-vainFor * s.d.Pool.Heal.Watch.D()))
	for _, v := range m.Vain {
		if v.At >= from {
			w.Vain = append(w.Vain, v.Knob)
		}
	}
	return tune.Choose(&w)
}

// leaks tells whether memory that grows leads the evidence.
func (m *member) leaks() bool { return tune.Leads(m.Evidence, ft.DimRSS, ft.DimAnon) }

// growing tells whether memory is forecast to reach its limit.
func (s *State) growing(m *member) bool {
	f := m.Forecast
	return f != nil && (f.Dimension == ft.DimRSS || f.Dimension == ft.DimAnon)
}

// giveBack tries a kept raise without it, once the member has long been steady.
func (s *State) giveBack(t *tally, m *member) {
	if m.Trial != nil || m.Calm == 0 || t.mode == ft.Observe {
		return
	}
	if _, held := s.policyBrake(t.now); held || t.trials >= max(1, s.sum.Running/3) {
		return
	}
	for _, r := range m.Raised {
		due := ft.Instant(int64(max(r.At, m.Calm)) + giveBackAfter*int64(s.d.Pool.Heal.Watch))
		if t.now.Before(due.Time()) {
			t.wakeAt(due.Time())
			continue
		}
		t.trials++
		why := ft.Reason{Rule: ruleGiveBack, Level: m.Verdict.Level, Text: fmt.Sprintf(
			"steady for long: is %s = %g still needed? tried with %g", r.Setting.Knob, r.Setting.Value, r.Was.Value)}
		id := t.begin(m, ft.Retune, why)
		t.intend(tuneAction(m, id, ft.Setting{Knob: r.Setting.Knob, Value: r.Was.Value}, why, t.now))
		return
	}
}

// budget is what is left for raises in one Next.
type budget struct{ room tune.Room }

func (b *budget) take(r ft.Resource, n float64) {
	switch r {
	case ft.Memory:
		b.room.Memory -= n
	case ft.CPU:
		b.room.CPU -= n
	case ft.NoResource:
	}
}

// unlimited stands for a budget that the pool does not declare: the knobs' own bounds hold.
const unlimited = 1e300

// budgetOf sums what the members draw, once for each Next that needs it. A setting under way draws the greater of its
// two values.
func (s *State) budgetOf(t *tally) *budget {
	if t.budget != nil {
		return t.budget
	}
	mem, cpu := s.drawn()
	b := &budget{tune.Room{Memory: unlimited, CPU: unlimited}}
	if p := s.d.Pool.Budget; p.Memory > 0 {
		b.room.Memory = float64(p.Memory) - mem
	}
	if p := s.d.Pool.Budget; p.CPU > 0 {
		b.room.CPU = p.CPU - cpu
	}
	t.budget = b
	return b
}

func (s *State) drawn() (mem, cpu float64) {
	for _, m := range s.d.Members {
		if !m.Alive {
			continue
		}
		for i := range m.Knobs {
			k := &m.Knobs[i]
			v := s.draws(m, k)
			switch k.Draws {
			case ft.Memory:
				mem += v
			case ft.CPU:
				cpu += v
			case ft.NoResource:
			}
		}
	}
	return mem, cpu
}

// draws is what a knob takes of the budget: also the value that is on its way, and the one that it may go back to.
func (s *State) draws(m *member, k *ft.Knob) float64 {
	v := tune.Value(*k, m.In.Settings)
	if o := s.op(m.Op); o != nil && o.Goal.Knob == k.Name {
		v = max(v, o.Goal.Value)
	}
	if m.Revert != nil && m.Revert.Knob == k.Name {
		v = max(v, m.Revert.Value)
	}
	if m.Trial != nil && m.Trial.GiveBack && m.Trial.Was.Knob == k.Name {
		v = max(v, m.Trial.Was.Value)
	}
	return v
}

// memoryHolds is how many more instances the memory budget holds beside those that run or are being made, each as large
// as the largest is.
func (s *State) memoryHolds(running int) int {
	limit := float64(s.d.Pool.Budget.Memory)
	if limit <= 0 {
		return s.d.Pool.Size.Max
	}
	var used, largest float64
	for _, m := range s.d.Members {
		if !m.Alive {
			continue
		}
		running--
		own := m.Memory
		for i := range m.Knobs {
			if k := &m.Knobs[i]; k.Draws == ft.Memory {
				own = max(own, s.draws(m, k))
			}
		}
		used += own
		largest = max(largest, own)
	}
	if largest <= 0 {
		return s.d.Pool.Size.Max
	}
	coming := float64(max(0, running)) * largest
	return int(max(0, (limit-used-coming)/largest))
}

// peersOf counts the other members in service that do the same work.
func (s *State) peersOf(t *tally, m *member) int {
	if t.peers == nil {
		t.peers = make([]int, len(s.d.Groups)+1)
		for _, o := range s.d.Members {
			if o.serving() && int(o.Group) < len(t.peers) {
				t.peers[o.Group]++
			}
		}
	}
	n := t.peers[min(int(m.Group), len(t.peers)-1)]
	if m.serving() {
		n--
	}
	return max(0, n)
}
