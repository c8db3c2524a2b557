package plan

import (
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/tune"
)

func (s *State) closed(e *ft.Closed) error {
	o := s.op(e.ID)
	if o == nil || o.Pending != nil {
		return conflict(e, "operation %d is not at its end", e.ID)
	}
	i := slices.Index(s.d.Ops, o)
	s.d.Ops = slices.Delete(s.d.Ops, i, i+1)
	m, r := s.member(o.Ref.ID), s.member(o.Other.ID)
	if m != nil {
		m.Op = 0
		s.end(o, m, e)
	}
	if r != nil {
		r.Op, r.Replaces = 0, ""
		s.successor(o, m, r, e)
	}
	for _, x := range []*member{m, r} {
		switch {
		case x == nil:
		case x.Phase == ft.Gone:
			s.remove(x)
		default:
			s.touch(x)
		}
	}
	return nil
}

// The outcomes of operations.
const (
	outcomeDone      = "done"
	outcomeFailed    = "failed"
	outcomeAbandoned = "abandoned"
)

// end folds the end of an operation into its member.
func (s *State) end(o *operation, m *member, e *ft.Closed) {
	switch {
	case e.Outcome == outcomeAbandoned && !o.Begun && o.Withdrawn == "":
		m.Story = o.Prior // nothing was done
	case m.Story != nil && m.Story.Ended.IsZero():
		m.Story.Ended = e.At
	}
	m.LookAt = 0
	if o.Withdrawn != "" {
		s.bar(o, m, e)
	}
	switch o.Kind {
	case ft.Retune:
		s.endTune(o, m, e)
	case ft.SoftResetting:
		m.Escalate = e.Outcome == outcomeFailed && m.Alive
	case ft.Grow, ft.Replace:
		switch {
		case e.Outcome == outcomeDone || m.Alive:
		case o.Cleared:
			m.Phase = ft.Gone
		case e.Outcome == outcomeFailed:
			m.quarantine(e.At)
		}
	case ft.FullResetting, ft.Shrink:
		if e.Outcome == outcomeFailed {
			m.quarantine(e.At) // also where the front could not be told
		}
	case ft.Evict:
		if e.Outcome == outcomeFailed && o.Step > 2 {
			m.quarantine(e.At)
		}
	case ft.Respecialize, ft.NoOperation:
	}
}

// endTune starts the trial of a setting, or ends a declared one.
func (s *State) endTune(o *operation, m *member, e *ft.Closed) {
	if o.Reason.Rule == ruleRevert {
		m.Revert = nil
	}
	if e.Outcome != outcomeDone || o.Was == nil {
		if o.Goal.Knob != "" {
			m.Vain = append(m.Vain, vain{o.Goal.Knob, ft.InstantOf(e.At)})
		}
		return
	}
	switch o.Reason.Rule {
	case ruleRevert:
	case ruleManual, ruleForced:
		m.Turns++
		m.Raised = slices.DeleteFunc(m.Raised, func(r raise) bool { return r.Setting.Knob == o.Goal.Knob })
		if !slices.Contains(m.Pinned, o.Goal.Knob) {
			m.Pinned = append(m.Pinned, o.Goal.Knob)
		}
	default:
		m.Trial = &tune.Trial{
			Setting: o.Goal, Was: *o.Was, Since: e.At, Settle: s.d.Pool.Heal.Watch / 2,
			GiveBack: o.Reason.Rule == ruleGiveBack,
		}
	}
}

// successor folds the end of an eviction into the replacement.
func (s *State) successor(o *operation, m, r *member, e *ft.Closed) {
	switch {
	case e.Outcome == outcomeDone && m != nil:
		r.Story = m.Story
		r.Restarts, r.RestartAt = m.Restarts, m.RestartAt
	case r.Alive:
	case o.Cleared || o.Withdrawn != "":
		r.Phase = ft.Gone
	case e.Outcome == outcomeFailed:
		r.quarantine(e.At)
	}
}

// kept is how long an instance in quarantine is kept for inspection before it is cleared away.
const kept = time.Hour

func (m *member) quarantine(at time.Time) {
	m.Phase, m.Serves, m.Story = ft.Quarantined, 0, nil
	m.LookAt = ft.InstantOf(at.Add(kept))
}

func (s *State) trialEnded(e *ft.TrialEnded) error {
	m := s.life(e.Ref)
	if m == nil || m.Trial == nil || m.Trial.Setting != e.Setting {
		return conflict(e, "%s has no trial of %s", e.Ref, e.Setting.Knob)
	}
	t, at := m.Trial, ft.InstantOf(e.At)
	m.Trial = nil
	i := slices.IndexFunc(s.d.Knobs, func(k knobRecord) bool { return k.Knob == e.Setting.Knob })
	if i < 0 {
		i = len(s.d.Knobs)
		s.d.Knobs = append(s.d.Knobs, knobRecord{Knob: e.Setting.Knob})
	}
	s.d.Knobs[i].Trials++
	raised := slices.IndexFunc(m.Raised, func(r raise) bool { return r.Setting.Knob == e.Setting.Knob })
	switch {
	case e.Kept:
		s.d.Knobs[i].Kept++
		m.Turns++
		if raised >= 0 {
			m.Raised = slices.Delete(m.Raised, raised, raised+1)
		}
		if !t.GiveBack {
			m.Raised = append(m.Raised, raise{e.Setting, e.Was, at})
		}
	default:
		m.Revert = &e.Was
		if t.GiveBack && raised >= 0 {
			m.Raised[raised].At = at
		} else {
			m.Vain = append(m.Vain, vain{e.Setting.Knob, at})
		}
	}
	m.LookAt = 0
	s.touch(m)
	return nil
}
