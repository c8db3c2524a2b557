package plan

import (
	"slices"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// finished folds the outcome of an action.
func (s *State) finished(e *ft.Finished) error {
	a := &e.Action
	if a.Operation == 0 {
		return s.finishedLoose(e)
	}
	o := s.op(a.Operation)
	if o == nil || o.Pending == nil || o.Pending.ID != a.ID {
		return conflict(e, "action %d is not under way", a.ID)
	}
	m := s.member(o.Pending.Ref.ID)
	if m == nil {
		return conflict(e, "%s is gone", a.Ref)
	}
	a, o.Pending = o.Pending, nil
	switch {
	case e.Skipped && e.Withdrawn:
		s.withdrawn(o, m, e)
	case e.Skipped:
		s.skipped(o, m, e)
	case e.Err != "" && !(a.Verb == ft.Drain && !e.At.Before(a.Deadline)):
		s.failed(o, m, a.Verb, e)
	default:
		s.done(o, m, a, e)
	}
	s.touch(m)
	s.touchPrimary(o)
	s.settle(e.At)
	return nil
}

func (s *State) touchPrimary(o *operation) {
	if m := s.member(o.Ref.ID); m != nil {
		s.touch(m)
	}
}

// skipped: it was not carried out and is considered anew.
func (s *State) skipped(o *operation, m *member, e *ft.Finished) {
	s.restore(o, m)
	o.Skips++
	o.Err = e.Err
	o.RetryAt = e.At.Add(skipPause << min(o.Skips-1, 6))
	if o.Skips >= 8 {
		o.Failing, o.Fails = true, 0
	}
	m.early()
}

// restore takes the member back to where it was before the action.
func (s *State) restore(o *operation, m *member) {
	m.Phase, o.Begun = o.From, o.Before
	switch {
	case !m.Alive && m.Phase != ft.Quarantined:
		m.Phase = ft.Cold
	case m.Alive && m.Phase == ft.Cold: // found running meanwhile
		m.Phase = ft.Warming
	}
}

// failed: the step is tried again after a pause, or the operation goes to its last resort.
func (s *State) failed(o *operation, m *member, v ft.Verb, e *ft.Finished) {
	o.Err = strings.TrimSpace(e.Err)
	m.Error = o.Err
	if out := strings.TrimSpace(e.Output); out != "" && !strings.Contains(m.Error, out) {
		m.Error += "\nlast output:\n" + out
	}
	if mv := moveOf(v); !mv.stays {
		m.Phase = mv.failed
	}
	if creates(v) {
		m.Alive = false
		if v == ft.FullReset {
			m.Dead = &ft.Exit{LastOutput: e.Output, At: e.At}
		}
		s.d.Create.failed(e.At, m)
	}
	if !m.Alive && m.Phase != ft.Quarantined {
		m.Phase = ft.Cold
	}
	m.Early = nil
	o.Fails++
	o.RetryAt = e.At.Add(backoff(o.Fails, m.serial()))
	if o.Fails < tries(v) || o.Failing {
		return
	}
	if v == ft.Drain { // the front cannot be told: what waits for it would wait for ever
		o.Step, o.Fails = o.Step+1, 0
		return
	}
	o.Failing, o.Fails = true, 0
}

// creates tells whether a verb makes a process.
func creates(v ft.Verb) bool { return v == ft.Start || v == ft.FullReset }

// failed counts a failed start, pool-wide. Those that were under way when an earlier one failed count as one with it.
func (c *creation) failed(at time.Time, m *member) {
	c.Why = m.Error
	if at.Before(c.Until) {
		return
	}
	c.Fails++
	c.Until = at.Add(backoff(c.Fails, m.serial()))
}

// done: the verb's effect, and on to the next step.
func (s *State) done(o *operation, m *member, a *ft.Action, e *ft.Finished) {
	if o.Failing {
		o.Cleared = a.Verb == ft.Stop || a.Verb == ft.Quarantine
	} else {
		o.Step++
	}
	o.Fails, o.Skips, o.RetryAt = 0, 0, time.Time{}
	switch a.Verb {
	case ft.Start, ft.FullReset:
		s.made(m, a, e)
	case ft.Admit:
		if m.Alive {
			m.Phase, m.Serves = ft.Ready, ft.InstantOf(e.At)
		}
	case ft.SoftReset:
		m.SoftAt = ft.InstantOf(e.At)
		if m.Alive {
			m.Phase = ft.Warming
		}
	case ft.Stop:
		m.Phase, m.Alive = ft.Gone, false
	case ft.Quarantine:
		m.Phase, m.Serves = ft.Quarantined, 0
	case ft.Tune:
		was := ft.Setting{Knob: a.Setting.Knob, Value: m.value(a.Setting.Knob)}
		if e.Was != nil {
			was = *e.Was
		}
		o.Was = &was
		m.turn(a.Setting)
	case ft.Drain:
		m.Serves = 0
	case ft.Specialize, ft.Rebaseline, ft.Weigh:
	}
	if e.Instance != nil && !creates(a.Verb) && e.Instance.Ref == m.In.Ref {
		exit := m.In.Exit
		m.set(*e.Instance)
		m.In.Exit = exit
		m.Group = s.group(&m.In)
	}
	if m.Phase != ft.Gone && m.Phase != ft.Quarantined && !m.Alive {
		m.Phase = ft.Cold
	}
}

// made takes a new life in.
func (s *State) made(m *member, a *ft.Action, e *ft.Finished) {
	in := ft.Instance{Ref: a.Ref, Work: a.Work, Born: e.At}
	if a.Verb == ft.FullReset {
		in = m.In
		in.Generation, in.Born, in.Exit = a.Ref.Generation+1, e.At, nil
	}
	if e.Instance != nil {
		in = *e.Instance
	}
	if in.Born.IsZero() {
		in.Born = e.At
	}
	m.newLife()
	m.set(in)
	if e.Knobs != nil {
		m.Knobs = slices.Clone(e.Knobs)
	}
	m.Group = s.group(&m.In)
	m.Alive, m.Phase, m.Error = true, ft.Warming, ""
	s.d.Create.Fails, s.d.Create.Until, s.d.Create.Why = 0, time.Time{}, ""
	if x := m.early(); x != nil {
		s.die(m, x.At, x.Exit)
	}
}

// early takes out an exit of the present life that was reported too soon.
func (m *member) early() *ft.Exited {
	x := m.Early
	m.Early = nil
	if x == nil || x.Ref.Generation != m.In.Generation {
		return nil
	}
	return x
}

// value is the present value of a knob, 0 where it is not known.
func (m *member) value(knob string) float64 {
	for _, x := range m.In.Settings {
		if x.Knob == knob {
			return x.Value
		}
	}
	for _, k := range m.Knobs {
		if k.Name == knob {
			return k.Value
		}
	}
	return 0
}

// turn notes the value of a setting. The slice is replaced, since views may hold the old one.
func (m *member) turn(set ft.Setting) {
	settings := slices.Clone(m.In.Settings)
	i := slices.IndexFunc(settings, func(x ft.Setting) bool { return x.Knob == set.Knob })
	if i < 0 {
		settings = append(settings, set)
	} else {
		settings[i] = set
	}
	m.In.Settings = settings
}

// finishedLoose folds the outcome of an action outside of operations: a Rebaseline, or telling a front again.
func (s *State) finishedLoose(e *ft.Finished) error {
	i := slices.IndexFunc(s.d.Loose, func(a *ft.Action) bool { return a.ID == e.Action.ID })
	if i < 0 {
		return conflict(e, "action %d is not under way", e.Action.ID)
	}
	a := s.d.Loose[i]
	s.d.Loose = slices.Delete(s.d.Loose, i, i+1)
	m := s.member(a.Ref.ID)
	if m == nil {
		return nil
	}
	m.Loose = 0
	if e.Err != "" && a.Verb == ft.Admit && m.Phase == ft.Ready {
		m.Phase, m.Error = ft.Warming, e.Err // admitted anew by an operation, with its retries
	}
	if a.Verb == ft.Rebaseline {
		m.Rule, m.Quiet, m.LookAt = "", "", 0
		if m.Story != nil {
			m.Story.Ended = e.At
		}
	}
	s.touch(m)
	s.settle(e.At)
	return nil
}
