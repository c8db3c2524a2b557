package plan

import (
	"fmt"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// How long verbs may take before the executor gives up, beyond what the pool says.
const (
	admitTime  = 10 * time.Second
	tuneTime   = 10 * time.Second
	hookTime   = 10 * time.Second // of a hook that declares none
	warmUpTime = time.Minute
	slack      = 5 * time.Second
	hangDrain  = time.Second // of an instance that does not answer
)

// proceed takes the next step of an operation, or closes it.
func (s *State) proceed(t *tally, o *operation, m *member) {
	if o.Pending != nil {
		return
	}
	if why := s.abandon(t, o, m); why != "" {
		s.close(t, o, outcomeAbandoned, why)
		return
	}
	if t.now.Before(o.RetryAt) {
		t.wakeAt(o.RetryAt)
		return
	}
	st, _, ok := s.stepOf(o)
	if !ok {
		s.finish(t, o)
		return
	}
	if creates(st.verb) && !s.mayCreate(t) {
		return
	}
	if o.Kind == ft.Grow && !m.Alive && t.running > s.most() {
		if t.counted <= s.target() { // a brain that took over found more than there may be
			s.clearAway(t)
		}
		return
	}
	if s.d.Journal != "" && st.verb.Disruptive() && !o.Begun && o.Kind != ft.Grow && o.Reason.Rule != "stop" {
		return
	}
	if st.verb == ft.Drain {
		if m.serving() {
			t.ready--
			if !o.Begun && o.Kind != ft.Evict {
				t.leaving--
			}
		}
	}
	t.intend(s.action(t, o, st))
}

// action is a step made concrete.
func (s *State) action(t *tally, o *operation, st step) ft.Action {
	a := ft.Action{Operation: o.ID, Kind: o.Kind, Verb: st.verb, Work: o.Work, Reason: o.Reason}
	m := s.targetOf(o, st)
	if m != nil {
		a.Ref, a.Work = m.In.Ref, m.In.Work
	} else {
		t.serial++
		a.Ref, a.Work = ft.Ref{ID: ft.NewInstanceID(s.d.Pool.Name, t.serial), Generation: 1}, s.work()
	}
	p := &s.d.Pool
	hooks := p.Hooks(a.Work)
	limit := admitTime
	switch st.verb {
	case ft.Start:
		limit = s.startTime()
	case ft.FullReset:
		limit = p.Heal.Grace.D() + s.startTime()
	case ft.Drain:
		if limit = p.Heal.Drain.D(); o.Reason.Rule == ruleUnresponsive {
			limit = min(limit, hangDrain)
		}
	case ft.Stop, ft.Quarantine:
		limit = p.Heal.Grace.D() + slack
	case ft.SoftReset:
		limit = hookLimit(hooks.SoftReset) + hookLimit(hooks.Verify) + slack
	case ft.Specialize:
		limit = hookLimit(hooks.Reload) + slack
	case ft.Tune:
		a.Setting, limit = o.Goal, tuneTime
	case ft.Admit:
		a.Weight = 1
	case ft.Rebaseline, ft.Weigh:
	}
	a.Deadline = t.now.Add(limit)
	return a
}

func hookLimit(h *ft.Hook) time.Duration {
	switch {
	case h == nil:
		return 0
	case h.Timeout > 0:
		return h.Timeout.D()
	}
	return hookTime
}

// startTime is what the startup probe allows, and as much for the warm-up as is usual.
func (s *State) startTime() time.Duration {
	d := warmUpTime
	if p := s.d.Pool.Probes.Startup; p != nil {
		d += time.Duration(p.Failures) * (p.Every.D() + p.Timeout.D())
	}
	return d
}

// abandon says why an operation is to be given up before its end; empty if it is not.
func (s *State) abandon(t *tally, o *operation, m *member) string {
	if s.d.Stop {
		if o.Kind != ft.Shrink {
			return "the pool stops"
		}
		return ""
	}
	if o.Withdrawn != "" {
		return o.Withdrawn
	}
	if o.Failing {
		return ""
	}
	st, _, ok := s.stepOf(o)
	if !ok {
		return ""
	}
	switch o.Kind {
	case ft.SoftResetting, ft.Respecialize, ft.Retune:
		if !m.Alive {
			return "it exited"
		}
	case ft.Grow, ft.Replace, ft.FullResetting:
		if st.verb == ft.Admit && !m.Alive {
			return "it exited before it was in service"
		}
	case ft.Shrink, ft.Evict, ft.NoOperation:
	}
	if o.Kind == ft.Retune && o.Goal.Knob == "" {
		return "it was interrupted before it began"
	}
	return s.unwanted(o, m, st.verb, t.ready, t.now)
}

// unwanted says why a planned operation that disturbed nothing yet should not go on with a verb. ready counts those in
// service.
func (s *State) unwanted(o *operation, m *member, verb ft.Verb, ready int, now time.Time) string {
	if o.Begun || !planned(o.Kind) && o.Kind != ft.Shrink {
		return ""
	}
	others := ready
	if m.serving() {
		others--
	}
	if verb == ft.Drain && others < 1 && m.serving() && s.spare(o) && !hard(o.Reason.Rule) {
		return "it is the last one in service"
	}
	if !byDrift(o.Reason.Rule) || o.Kind == ft.Evict && o.Other.ID != "" {
		return ""
	}
	if b, held := s.policyBrake(now); held && b.rule != brakePrefix+"journal" {
		return b.text
	}
	v := &m.Verdict
	switch {
	case v.Level < ft.High:
		return "it is better by itself: " + v.Level.String()
	case v.Extent == ft.WholePool:
		return "the whole pool drifts"
	case v.Cause == ft.WorkloadChanged && s.d.Pool.Heal.WorkloadDrift == ft.Adapt:
		return "it is the workload that changed"
	case v.Cause == ft.DependencyChanged:
		return "it is something it depends on that changed"
	}
	return ""
}

// spare tells whether the last instance in service need not be taken: another could be started.
func (s *State) spare(o *operation) bool {
	switch {
	case o.Reason.Rule == ruleForced:
		return false
	case o.Kind == ft.Shrink:
		return s.target() > 0
	}
	return s.roomBeside(s.sum.Running, s.sum.Lost) > 0
}

func byDrift(rule string) bool {
	return strings.HasPrefix(rule, "drift-") || strings.HasPrefix(rule, "leak-")
}

// finish closes an operation that is at its end, done or failed.
func (s *State) finish(t *tally, o *operation) {
	if !o.Failing {
		text := "after " + ft.Duration(t.now.Sub(o.Since).Round(time.Millisecond)).String()
		if o.Kind == ft.Evict {
			text = fmt.Sprintf("%s serves in its place, %s", o.Other, text)
		}
		s.close(t, o, outcomeDone, text)
		return
	}
	text := o.Err
	switch o.Kind {
	case ft.SoftResetting:
		text = "the soft reset failed, full reset next: " + text
	case ft.FullResetting:
		text = "quarantined, another is started: " + text
	case ft.Evict:
		text = "it stays in service, no replacement came up: " + text
	case ft.Grow, ft.Replace:
		text = "cleared away: " + text
	case ft.Shrink, ft.Respecialize, ft.Retune, ft.NoOperation:
	}
	s.close(t, o, outcomeFailed, text)
}

func (s *State) close(t *tally, o *operation, outcome, text string) {
	t.say(&ft.Closed{Stamp: t.stamp(), ID: o.ID, Kind: o.Kind, Ref: o.Ref, Outcome: outcome, Text: text})
}

// Valid is asked again right before an action is carried out, when its intent is durable: is it still the one under
// way, is its instance still that life, and does nothing forbid it by now? The error wraps [ft.ErrConflict],
// [ft.ErrNotFound] or [ft.ErrBusy].
func (s *State) Valid(a *ft.Action, now time.Time) error {
	if a.Operation == 0 {
		for _, l := range s.d.Loose {
			if l.ID == a.ID {
				return nil
			}
		}
		return fmt.Errorf("%s: not under way: %w", a, ft.ErrConflict)
	}
	o := s.op(a.Operation)
	if o == nil || o.Pending == nil || o.Pending.ID != a.ID {
		return fmt.Errorf("%s: not under way: %w", a, ft.ErrConflict)
	}
	m := s.life(a.Ref)
	switch {
	case m == nil:
		return fmt.Errorf("%s: the instance is gone: %w", a, ft.ErrNotFound)
	case !m.Alive && (a.Verb == ft.Tune || a.Verb == ft.Specialize || a.Verb == ft.SoftReset || a.Verb == ft.Admit):
		return fmt.Errorf("%s: its process is gone: %w", a, ft.ErrNotFound)
	case a.Verb != ft.Drain || !o.planned():
		return nil
	}
	if why := s.undone(o, m, now); why != "" {
		return fmt.Errorf("%s: %s: %w", a, why, ft.ErrBusy)
	}
	return nil
}

// undone is unwanted for an operation whose first disruptive action is intended but not carried out.
func (s *State) undone(o *operation, m *member, now time.Time) string {
	if o.Step > 2 || o.Kind != ft.Evict && o.Step > 0 {
		return ""
	}
	before := *o
	before.Pending, before.Begun = nil, o.Before
	was := *m
	was.Phase = o.From
	ready := s.sum.Ready
	if was.serving() {
		ready++
	}
	return s.unwanted(&before, &was, ft.Drain, ready, now)
}
