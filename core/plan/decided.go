package plan

import (
	"slices"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// decided folds a decision of Next.
func (s *State) decided(e ft.Event) error {
	var err error
	switch e := e.(type) {
	case *ft.Opened:
		err = s.opened(e)
	case *ft.Intended:
		err = s.intended(e)
	case *ft.Closed:
		err = s.closed(e)
	case *ft.TrialEnded:
		err = s.trialEnded(e)
	case *ft.Declined:
		s.declined(e)
	case *ft.Recovered:
		s.recovered(e)
	case *ft.Braked:
		s.braked(e)
	default:
		err = conflict(e, "%T is not known", e)
	}
	if err == nil {
		s.settle(e.When())
	}
	return err
}

func (s *State) opened(e *ft.Opened) error {
	m := s.life(e.Ref)
	switch {
	case e.ID <= s.d.LastOp:
		return conflict(e, "operation %d is not new", e.ID)
	case m == nil && (e.Kind != ft.Grow || s.member(e.Ref.ID) != nil || e.Ref.ID.Serial() <= s.d.Serial):
		return conflict(e, "%s is not there", e.Ref)
	case m != nil && m.Op != 0:
		return conflict(e, "%s is under operation %d", e.Ref, m.Op)
	}
	if m == nil {
		m = s.add(e.Ref, e.Work)
		m.Surge = e.Reason.Rule == ruleSurge
	}
	o := &operation{ID: e.ID, Kind: e.Kind, Ref: e.Ref, Work: e.Work, Reason: e.Reason, Since: e.At, Score: m.Verdict.Score}
	s.d.LastOp = e.ID
	s.d.Ops = append(s.d.Ops, o)
	m.Op, m.Escalate, m.Quiet, m.Rule = o.ID, false, "", ""
	manual := e.Reason.Rule == ruleManual || e.Reason.Rule == ruleForced
	if manual {
		m.Wish = nil
	}
	if o.planned() {
		from := e.At.Add(-time.Hour)
		s.d.Spent = slices.DeleteFunc(s.d.Spent, func(d disruption) bool { return d.At.Before(from) })
		s.d.Spent = append(s.d.Spent, disruption{e.At, manual})
	}
	if e.Reason.Rule == ruleUnresponsive || strings.HasPrefix(e.Reason.Rule, ruleLimit) {
		s.restarted(m, e.At)
	}
	m.tell(o, e.At)
	s.touch(m)
	return nil
}

// tell adds the operation to the story of the member's drift or fault.
func (m *member) tell(o *operation, at time.Time) {
	if m.Story != nil {
		prior := *m.Story
		o.Prior = &prior
	}
	fault := hard(o.Reason.Rule) && o.Reason.Rule != ruleEscalate || m.Over != nil
	switch {
	case o.Kind == ft.Grow || o.Kind == ft.Shrink || declared(o.Reason.Rule) || o.Reason.Rule == ruleGiveBack:
		return
	case m.Story == nil:
		m.Story = &story{Of: m.In.Ref, Since: at, What: m.subject(), Fault: fault}
		if l := m.AtLeast[0]; !fault && l != 0 {
			m.Story.Since = l.Time()
		}
	case fault:
		m.Story.Fault, m.Story.What = true, m.subject()
	}
	t := m.Story
	t.Tried |= 1 << o.Kind
	t.Peak, t.Last, t.Acted, t.Ended = m.Verdict.Score, stepWords(o.Kind), at, time.Time{}
	t.Light = o.Kind == ft.Retune || o.Kind == ft.Respecialize
}

func (s *State) intended(e *ft.Intended) error {
	a := e.Action
	if a.ID <= s.d.Action {
		return conflict(e, "action %d is not new", a.ID)
	}
	if a.Operation == 0 {
		return s.intendedLoose(e)
	}
	o := s.op(a.Operation)
	if o == nil || o.Pending != nil {
		return conflict(e, "operation %d does not wait for an action", a.Operation)
	}
	st, at, ok := s.stepOf(o)
	if !ok || st.verb != a.Verb {
		return conflict(e, "%s is not the next step of operation %d", a.Verb, o.ID)
	}
	m := s.life(a.Ref)
	if m == nil && (a.Verb != ft.Start || !st.other || o.Other.ID != "" || a.Ref.ID.Serial() <= s.d.Serial) {
		return conflict(e, "%s is not there", a.Ref)
	}
	mv := moveOf(a.Verb)
	if m != nil && !mv.from.has(m.Phase) {
		return conflict(e, "%s is %s", a.Ref, m.Phase)
	}
	if m == nil {
		m = s.add(a.Ref, a.Work)
		m.Op, m.Replaces, o.Other = o.ID, o.Ref.ID, a.Ref
	}
	s.d.Action = a.ID
	if !o.Failing {
		o.Step = at
	}
	o.Pending, o.From = &a, m.Phase
	o.Before, o.Begun = o.Begun, o.Begun || a.Verb.Disruptive()
	if a.Verb == ft.Tune {
		o.Goal = a.Setting
	}
	if !mv.stays {
		m.Phase = mv.during
	}
	s.touch(m)
	s.touchPrimary(o)
	return nil
}

func (s *State) intendedLoose(e *ft.Intended) error {
	a := e.Action
	if a.Verb != ft.Rebaseline && a.Verb != ft.Admit {
		return conflict(e, "%s is a step of operations only", a.Verb)
	}
	if a.Ref.ID != "" {
		m := s.life(a.Ref)
		if m == nil || m.Op != 0 || m.Loose != 0 {
			return conflict(e, "%s is not free", a.Ref)
		}
		m.Loose = a.ID
		if a.Verb == ft.Admit {
			m.Readmit = false
		} else {
			m.Rebase, m.RebaseBy = "", ""
			m.adapting(e)
		}
		s.touch(m)
	} else {
		s.d.Rebase, s.d.Rebased = "", ""
	}
	s.d.Action = a.ID
	s.d.Loose = append(s.d.Loose, &a)
	return nil
}

// adapting notes in the member's story that what it does now is called normal.
func (m *member) adapting(e *ft.Intended) {
	if m.Verdict.Level < ft.Low {
		return
	}
	if m.Story == nil {
		m.Story = &story{Of: m.In.Ref, Since: m.AtLeast[0].Time(), What: m.subject()}
	}
	t := m.Story
	t.Last, t.Peak, t.Acted, t.Meant, t.Light = "calling it normal", m.Verdict.Score, e.At, e.At, true
	t.Means = min(t.Means+1, 100)
}

// declined notes what was said, so that it is said once.
func (s *State) declined(e *ft.Declined) {
	m := s.member(e.Ref.ID)
	switch {
	case e.Reason.Rule == ruleRefused && e.Ref.Generation > 0: // a wish; commands have no generation
		if m != nil {
			m.Wish = nil
			s.touch(m)
		}
	case e.Reason.Rule == ruleRefused:
		if len(s.d.Refused) > 0 {
			s.d.Refused = slices.Delete(s.d.Refused, 0, 1)
		}
	case e.Ref.ID == "":
		s.d.Said = e.Reason.Rule
	case m != nil:
		m.Quiet, m.Rule = e.Reason.Text, e.Reason.Rule
		if !braked(e.Reason.Rule) {
			m.LookAt = ft.InstantOf(e.At.Add(s.d.Pool.Heal.Watch.D()))
		}
		s.touch(m)
	}
}

func (s *State) recovered(e *ft.Recovered) {
	for _, m := range []*member{s.member(e.Ref.ID), s.storyOf(e.Ref)} {
		if m != nil && m.Story != nil {
			m.Story, m.Quiet, m.Rule = nil, "", ""
			s.touch(m)
		}
	}
}

// storyOf finds the replacement that carries on the story of an instance that is gone.
func (s *State) storyOf(ref ft.Ref) *member {
	i := slices.IndexFunc(s.d.Members, func(m *member) bool { return m.Story != nil && m.Story.Of == ref })
	if i < 0 {
		return nil
	}
	return s.d.Members[i]
}

func (s *State) braked(e *ft.Braked) {
	switch e.Brake {
	case brakeBreaker:
		s.d.Breaker = e.On
	case brakeHoldOff:
		s.d.HoldOff = e.On
	case brakeCreation:
		s.d.Create.On = e.On
	}
}

// stepOf is the next step of an operation and its place, passing over those that have nothing to do.
func (s *State) stepOf(o *operation) (st step, at int, ok bool) {
	if o.Failing {
		st, ok = o.current()
		return st, o.Step, ok
	}
	all := steps(o.Kind)
	for at = o.Step; at < len(all); at++ {
		if !s.needless(o, all[at]) {
			return all[at], at, true
		}
	}
	return step{}, at, false
}

// needless tells whether a step has nothing to do: what it would bring about is so.
func (s *State) needless(o *operation, st step) bool {
	m := s.targetOf(o, st)
	if m == nil {
		return false
	}
	inService := m.Phase == ft.Ready || m.Phase == ft.Leased
	switch st.verb {
	case ft.Start:
		return m.Alive
	case ft.Admit:
		return m.Alive && inService
	case ft.Drain:
		return !m.Alive || !inService && o.Fails == 0
	case ft.Specialize, ft.Stop, ft.Tune, ft.SoftReset, ft.FullReset, ft.Quarantine, ft.Rebaseline, ft.Weigh:
	}
	return false
}

// targetOf is the member that a step acts on; nil for a replacement that is not named yet.
func (s *State) targetOf(o *operation, st step) *member {
	if st.other {
		return s.member(o.Other.ID)
	}
	return s.member(o.Ref.ID)
}
