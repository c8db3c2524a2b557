package plan

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/mitigate"
	"github.com/fettle-dev/fettle/core/specialize"
	"github.com/fettle-dev/fettle/core/tune"
)

const (
	// lightWatch is how many times the persistence a light step is watched when the verdict is critical.
	lightWatch = 3
	// fallWatch is how many watch times a step is watched at most while the score falls.
	fallWatch = 4
	// softHolds is how many watch times a soft reset must hold: drift that is back sooner was not cured by it.
	softHolds = 10
	// vainFor is how many watch times a knob that did not help is left alone, and a ladder climbed in vain.
	vainFor = 10
	// giveBackAfter is how many watch times a kept raise is left before it is tried without.
	giveBackAfter = 20
)

// watch decides about a member in service without an operation: its trial, its drift, its recovery.
func (s *State) watch(t *tally, m *member) {
	if m.Trial != nil && s.look(t, m) {
		return
	}
	if m.Verdict.Level < ft.Low {
		s.calm(t, m)
		return
	}
	if m.Trial != nil {
		return // one trial an instance
	}
	for _, at := range []time.Time{m.LookAt.Time(), s.watchEnd(m)} {
		if t.now.Before(at) {
			t.wakeAt(at)
			return
		}
	}
	d := s.want(t, m)
	switch {
	case d.answer.Wait > 0:
		t.wakeAt(t.now.Add(d.answer.Wait))
		if d.answer.Rule != "persistence" {
			t.decline(m, d.answer.Rule, d.answer.Text)
		}
	case d.answer.Rebaseline:
		s.rebaseline(t, m, d)
	case d.answer.Do == ft.NoOperation:
		t.decline(m, d.answer.Rule, d.answer.Text)
	default:
		s.act(t, m, d)
	}
}

// desire is what the ladder wants for a member, with what the tuner chose where that is a setting.
type desire struct {
	answer mitigate.Answer
	choice tune.Choice
	reason ft.Reason
}

// want asks the ladder. It knows no brakes.
func (s *State) want(t *tally, m *member) desire {
	p := &s.d.Pool
	offer := specialize.Offered(p, m.In.Work)
	c := mitigate.Case{
		Verdict: m.Verdict, Forecast: m.Forecast, Leak: m.leaks(), Subject: m.subject(), Now: t.now,
		Age: t.now.Sub(m.In.Born), Lasted: m.lasted(m.Verdict.Level, t.now), Stable: t.now.Sub(m.Changed.Time()),
		Peers: s.peersOf(t, m), Room: s.room(t), Reload: offer.Reload, Soft: offer.SoftReset,
		Harmed: s.harmed(m), Tried: s.tried(m, t.now),
	}
	if t.preview {
		c.Lasted = max(c.Lasted, mitigate.Patience*p.Detect.Persist.D())
	}
	choice, fits := s.choose(t, m)
	c.Knob, c.NoKnob = fits, choice.String()
	d := desire{answer: mitigate.Step(p, &c), choice: choice}
	text := d.answer.Text
	if d.answer.Do == ft.Retune {
		text = fmt.Sprintf("%s: %s %g -> %g", text, choice.Knob.Name, choice.Was, choice.Now)
		if why := choice.String(); why != "" {
			text += "; rejected: " + why
		}
	}
	d.reason = ft.Reason{Rule: d.answer.Rule, Level: m.Verdict.Level, Cause: m.Verdict.Cause, Text: text}
	return d
}

// tried is what was already done against this drift. A ladder climbed in vain is climbed again after a while.
func (s *State) tried(m *member, now time.Time) (tried mitigate.Tried) {
	watch := s.d.Pool.Heal.Watch.D()
	if t := m.Story; t != nil && (t.Ended.IsZero() || now.Sub(t.Ended) < vainFor*watch) {
		tried = mitigate.Tried(t.Tried)
	}
	if m.SoftAt != 0 && now.Sub(m.SoftAt.Time()) < softHolds*watch {
		tried = tried.With(ft.SoftResetting)
	}
	return tried
}

// act carries the ladder's step through mode and brakes.
func (s *State) act(t *tally, m *member, d desire) {
	do, r := d.answer.Do, d.reason
	light := do == ft.Retune || do == ft.Respecialize
	switch {
	case s.watched():
		t.decline(m, "observe", fmt.Sprintf("it is only watched; were it run by Fettle, in mode heal this would follow: %s, since %s", stepWords(do), r.Text))
		return
	case t.mode == ft.Observe:
		t.decline(m, "observe", fmt.Sprintf("mode observe, in mode heal this would follow: %s, since %s", stepWords(do), r.Text))
		return
	case t.mode == ft.AdjustOnly && !light:
		t.decline(m, "tune-only", fmt.Sprintf("mode tune, in mode heal this would follow: %s, since %s", stepWords(do), r.Text))
		return
	}
	if b, held := s.policyBrake(t.now); held {
		t.decline(m, b.rule, b.text)
		return
	}
	if light {
		s.lightly(t, m, d)
		return
	}
	if b, held := s.budgetBrake(t, do, false); held {
		t.decline(m, b.rule, b.text)
		return
	}
	s.disrupt(t, m, do, r)
}

// lightly re-specialises or tunes: nothing is taken out of service.
func (s *State) lightly(t *tally, m *member, d desire) {
	if d.answer.Do == ft.Respecialize {
		t.begin(m, ft.Respecialize, d.reason)
		return
	}
	if m.Verdict.Level <= ft.Medium && s.heldBack(m) {
		t.decline(m, "held-back", fmt.Sprintf("held back to measure what adjusting gains (a share of %g of such cases is left alone)", s.d.Pool.Heal.HoldBack))
		return
	}
	if most := max(1, s.sum.Running/3); t.trials >= most {
		t.decline(m, brakePrefix+"trials", fmt.Sprintf("%d trials are under way in this pool, at most %d may be", t.trials, most))
		return
	}
	t.trials++
	set := ft.Setting{Knob: d.choice.Knob.Name, Value: d.choice.Now}
	s.budgetOf(t).take(d.choice.Knob.Draws, d.choice.Now-d.choice.Was)
	id := t.begin(m, ft.Retune, d.reason)
	t.intend(tuneAction(m, id, set, d.reason, t.now))
}

// heldBack draws the cases that are left alone: by a hash of the instance and of when its drift began.
func (s *State) heldBack(m *member) bool {
	return fraction(uint64(m.serial())^uint64(m.AtLeast[0])) < s.d.Pool.Heal.HoldBack
}

// rebaseline tells the judge that what the member does now is normal.
func (s *State) rebaseline(t *tally, m *member, d desire) {
	if t.mode == ft.Observe {
		t.decline(m, d.answer.Rule, "its new workload is stable and harms nothing; mode observe leaves the baseline to learning")
		return
	}
	if s.d.Paused {
		t.decline(m, brakePrefix+"paused", "the pool is paused by "+s.d.By)
		return
	}
	if at := m.Story; at != nil && at.Means > 0 {
		// What changes again and again is called normal ever more rarely.
		again := at.Meant.Add(time.Duration(min(vainFor, 1<<min(at.Means, 4))) * s.d.Pool.Heal.Watch.D())
		if t.now.Before(again) {
			t.wakeAt(again)
			t.decline(m, "called-normal", "it was called normal already and still drifts: "+m.subject())
			return
		}
	}
	t.intend(ft.Action{Verb: ft.Rebaseline, Ref: m.In.Ref, Deadline: t.now.Add(admitTime), Reason: d.reason})
}

// watchEnd is until when the last step is watched before the next one: less long where a limit is near, or where a
// light step did not keep the verdict from becoming critical; longer while the score keeps falling, since it is smoothed
// and falls slowly after a cure.
func (s *State) watchEnd(m *member) time.Time {
	if m.Story == nil || m.Story.Ended.IsZero() {
		return time.Time{}
	}
	watch, persist := s.d.Pool.Heal.Watch.D(), s.d.Pool.Detect.Persist.D()
	d, ended := watch, m.Story.Ended
	if m.Story.Light && m.Verdict.Level == ft.Critical && m.Story.Meant.IsZero() {
		d = min(d, lightWatch*persist)
	}
	if f := m.Forecast; f != nil && !f.At.IsZero() {
		return ended.Add(min(d, max(persist, f.At.Sub(ended)/mitigate.Near)))
	}
	if fell := m.Fell.Time(); fell.After(ended) && m.Verdict.Score < m.Story.Peak*3/4 {
		d = max(d, min(fell.Sub(ended)+watch/2, fallWatch*watch))
	}
	return ended.Add(d)
}

// harmed says how the objective is violated by the member's latest figures; empty if it is not.
func (s *State) harmed(m *member) string {
	if len(m.History) == 0 {
		return ""
	}
	o, f := &s.d.Pool.Objective, &m.History[len(m.History)-1]
	switch {
	case f.Rate > 0 && float64(f.Errors) > o.Errors:
		return fmt.Sprintf("%.1f %% of its requests fail, at most %.1f %% may", 100*f.Errors, 100*o.Errors)
	case f.Rate > 0 && o.Latency > 0 && float64(f.P99) > o.Latency.D().Seconds() && o.Quantile >= 0.75:
		return fmt.Sprintf("its p99 is %.0f ms, above the objective's %s", 1e3*f.P99, o.Latency)
	}
	return ""
}

// recoveryAt is when a member that was acted on may be called recovered: steady for the time that drift must persist,
// or, where its new life is not judged yet, undisturbed for a watch time.
func (s *State) recoveryAt(m *member) (time.Time, bool) {
	t := m.Story
	switch {
	case t == nil || t.Ended.IsZero() || m.Trial != nil || m.Serves == 0:
		return time.Time{}, false
	case m.Calm != 0:
		at := m.Calm.Time()
		if t.Ended.After(at) {
			at = t.Ended
		}
		return at.Add(s.d.Pool.Detect.Persist.D()), true
	case m.Verdict.Level == ft.Learning:
		at := m.Serves.Time()
		if t.Ended.After(at) {
			at = t.Ended
		}
		return at.Add(s.d.Pool.Heal.Watch.D()), true
	}
	return time.Time{}, false
}

// calm ends the story of a member that is steady again, or tries a kept raise without it.
func (s *State) calm(t *tally, m *member) {
	if at, ok := s.recoveryAt(m); ok {
		if t.now.Before(at) {
			t.wakeAt(at)
			return
		}
		t.say(&ft.Recovered{Stamp: t.stamp(), Ref: m.Story.Of, Text: s.recovery(m, t.now)})
		return
	}
	s.giveBack(t, m)
}

// recovery tells the story.
func (s *State) recovery(m *member, now time.Time) string {
	t := m.Story
	took := ft.Duration(now.Sub(t.Acted).Round(time.Second))
	who := ""
	if m.In.ID != t.Of.ID {
		who = fmt.Sprintf(", %s serves in its place", m.In.ID)
	}
	switch {
	case t.Fault:
		return fmt.Sprintf("%s: in order again by %s%s, after %s", t.What, t.Last, who, ft.Duration(now.Sub(t.Since).Round(time.Second)))
	case m.Verdict.Level == ft.Learning:
		return fmt.Sprintf("%s: cured by %s%s: score %.1f before, nothing amiss in %s since", t.What, t.Last, who, t.Peak, took)
	}
	return fmt.Sprintf("%s: cured by %s%s: score %.1f -> %.1f within %s", t.What, t.Last, who, t.Peak, m.Verdict.Score, took)
}
