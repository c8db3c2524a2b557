package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/tune"
)

// Apply folds an event: the only thing that changes State. Facts about instances that are gone, or about lives that
// have ended, come late by nature and are ignored. A decision or an outcome that does not fit is an error wrapping
// [ft.ErrConflict], and the state is as it was.
func (s *State) Apply(e ft.Event) error {
	switch e := e.(type) {
	case *ft.Began:
		s.began(e)
	case *ft.Configured:
		s.configured(e)
	case *ft.Found:
		return s.found(e)
	case *ft.Missing:
		s.missing(e)
	case *ft.Finished:
		return s.finished(e)
	case *ft.Exited:
		s.exited(e)
	case *ft.Unresponsive:
		s.unresponsive(e)
	case *ft.Responsive:
		s.responsive(e)
	case *ft.Exceeded:
		s.exceeded(e)
	case *ft.Judged:
		s.judged(e)
	case *ft.Health:
		s.health(e)
	case *ft.Commanded:
		s.commanded(e)
	case *ft.JournalState:
		s.d.Journal = e.Err
		s.touchAll()
	default:
		return s.decided(e)
	}
	s.settle(e.When())
	return nil
}

// conflict is the error of an event that does not fit.
func conflict(e ft.Event, format string, a ...any) error {
	return fmt.Errorf("apply %s: %s: %w", ft.EventKind(e), fmt.Sprintf(format, a...), ft.ErrConflict)
}

// settle notes since when few enough members look unhealthy for the breaker to open again.
func (s *State) settle(at time.Time) {
	switch {
	case s.sum.Unhealthy > s.tolerated():
		s.d.Calm = time.Time{}
	case s.d.Calm.IsZero():
		s.d.Calm = at
	}
}

func (s *State) touchAll() {
	for _, m := range s.d.Members {
		s.touch(m)
	}
}

// began: the hold-off begins anew, and the front is told again of all that is in service.
func (s *State) began(e *ft.Began) {
	s.d.Began, s.d.Seen, s.d.Stop = e.At, false, false
	for _, m := range s.d.Members {
		m.Readmit = !s.watched() && (m.Phase == ft.Ready || m.Phase == ft.Leased)
	}
	s.touchAll()
}

func (s *State) configured(e *ft.Configured) {
	old := s.d.Pool.Size
	s.d.Pool, s.d.Stop = e.Pool, false
	if old.Min != e.Pool.Size.Min {
		s.d.Desired = e.Pool.Size.Min
	}
	s.d.Desired = min(s.d.Desired, max(e.Pool.Size.Max, e.Pool.Size.Min))
	for _, m := range s.d.Members {
		m.LookAt, m.Rule = 0, ""
	}
	s.touchAll()
}

// found: adoption, and what the driver knows of a known instance.
func (s *State) found(e *ft.Found) error {
	in := e.Instance
	if in.ID.Serial() == 0 || in.ID.Pool() != s.d.Pool.Name {
		return conflict(e, "%s is no instance of pool %s", in.ID, s.d.Pool.Name)
	}
	m := s.member(in.ID)
	if m == nil {
		m = s.add(in.Ref, in.Work)
	} else if m.In.Generation != in.Generation {
		m.newLife()
	}
	m.set(in)
	if e.Knobs != nil {
		m.Knobs = slices.Clone(e.Knobs)
	}
	m.Group = s.group(&m.In)
	switch {
	case in.Exit != nil && m.Alive:
		s.die(m, e.At, *in.Exit)
	case in.Exit != nil:
		m.Dead = in.Exit
	default:
		m.Alive, m.Dead = true, nil
		if m.Phase == ft.Cold {
			m.Phase = ft.Warming
		}
		if s.watched() && m.Phase != ft.Ready {
			m.Phase, m.Serves = ft.Ready, ft.InstantOf(e.At) // it served before it was found
		}
	}
	s.touch(m)
	s.settle(e.At)
	return nil
}

func (s *State) missing(e *ft.Missing) {
	m := s.life(e.Ref)
	switch {
	case m == nil:
	case s.watched(), m.Op == 0 && (e.Gone || m.Phase == ft.Quarantined):
		s.remove(m)
	case m.Alive:
		s.die(m, e.At, ft.Exit{LastOutput: "it was gone when the brain looked", At: e.At})
		s.touch(m)
	}
}

func (s *State) exited(e *ft.Exited) {
	m := s.member(e.Ref.ID)
	switch {
	case m == nil || e.Ref.Generation < m.In.Generation:
	case s.watched():
		s.remove(m)
	case e.Ref.Generation > m.In.Generation, !m.Alive && m.Phase == ft.Warming:
		m.Early = e // before the outcome of the verb that made this life
	case m.Alive:
		s.die(m, e.At, e.Exit)
		s.touch(m)
	}
}

// die notes that the process is gone. Where that was on its way anyhow, it counts as no restart.
func (s *State) die(m *member, at time.Time, exit ft.Exit) {
	m.Alive, m.Dead, m.Error = false, &exit, exit.String()
	m.Silent, m.Over, m.Trial, m.Revert, m.Readmit, m.Escalate = nil, nil, nil, nil, false, false
	m.Serves, m.Raised, m.Rebase, m.Surge, m.Barred = 0, nil, "", false, 0
	m.unjudged()
	if w := m.Wish; w != nil {
		m.Wish = nil
		s.d.Refused = append(s.d.Refused, refusal{m.In.ID, fmt.Sprintf("%s asked by %s: meanwhile %s", w.Asked, w.By, ended(&exit))})
	}
	if out := strings.TrimSpace(exit.LastOutput); out != "" {
		m.Error += "\nlast output:\n" + out
	}
	o := s.op(m.Op)
	wanted := o != nil && (o.Kind == ft.Shrink || o.Kind == ft.FullResetting && o.Step < 2 || o.Kind == ft.Evict && m.Replaces == "")
	if m.Phase != ft.Quarantined && (o == nil || o.Pending == nil || o.Pending.Ref.ID != m.In.ID) {
		m.Phase = ft.Cold
	}
	if wanted || m.Phase == ft.Quarantined {
		return
	}
	if o != nil && o.Kind == ft.Evict && o.Step < 3 && !o.Begun {
		o.Failing, o.Fails, o.Err = true, 0, "the replacement "+exit.String()
		if old := s.member(o.Ref.ID); old != nil {
			s.touch(old)
		}
	}
	s.restarted(m, at)
}

// restarted counts a restart by a fault and says when the next may be: at once, then after growing pauses.
func (s *State) restarted(m *member, at time.Time) {
	m.Restarts = append(recent(m.Restarts, at), ft.InstantOf(at))
	if keep := 4 * max(s.d.Pool.Limits.Restarts, 4); len(m.Restarts) > keep {
		m.Restarts = slices.Delete(m.Restarts, 0, len(m.Restarts)-keep)
	}
	n := len(m.Restarts)
	switch {
	case n > s.d.Pool.Limits.Restarts:
		m.RestartAt = at.Add(jitter(longPause, m.serial(), n))
	case n > 1:
		m.RestartAt = at.Add(backoff(n-1, m.serial()))
	default:
		m.RestartAt = at
	}
}

// recent is the part of the last hour.
func recent(v []ft.Instant, at time.Time) []ft.Instant {
	from := ft.InstantOf(at.Add(-time.Hour))
	return slices.DeleteFunc(v, func(t ft.Instant) bool { return t < from })
}

func (s *State) unresponsive(e *ft.Unresponsive) {
	m := s.life(e.Ref)
	if m == nil || !m.Alive || s.watched() {
		return
	}
	since := e.At.Add(-e.Silent.D())
	act := since.Add(s.d.Pool.Limits.Silence.D())
	if e.Probe == "liveness" {
		act = e.At
	}
	if q := m.Silent; q != nil {
		if since.After(q.Since) {
			since = q.Since
		}
		if act.After(q.Act) {
			act = q.Act
		}
	}
	m.Silent = &silence{Since: since, Probe: e.Probe, Detail: e.Detail, Act: act}
	m.Error = e.String()
	s.touch(m)
}

func (s *State) responsive(e *ft.Responsive) {
	if m := s.life(e.Ref); m != nil {
		m.Silent = nil
		s.touch(m)
	}
}

func (s *State) exceeded(e *ft.Exceeded) {
	m := s.life(e.Ref)
	switch {
	case m == nil || !m.Alive:
	case s.watched():
		m.Error = e.String() // told, and that is all
	case e.Limit == "silence":
		m.Silent = &silence{Since: e.At, Probe: "silence", Detail: e.String(), Act: e.At}
		s.touch(m)
	default:
		m.Over, m.Error = e, e.String()
		s.touch(m)
	}
}

// judged keeps the part of a verdict that a journal keeps, so that replay is equal.
func (s *State) judged(e *ft.Judged) {
	v := e.Verdict
	v.Slot, v.Life, v.Why, v.Forecast = 0, 0, [4]ft.Contribution{}, ft.Forecast{}
	s.d.Seen = true
	if v.Pool || e.Ref.ID == "" {
		s.d.Verdict, s.d.Text, s.d.Evidence = v, e.Text, e.Evidence
		return
	}
	m := s.life(e.Ref)
	if m == nil || !m.Alive {
		return
	}
	at, was := ft.InstantOf(e.At), m.Verdict
	for l := ft.Low; l <= ft.Critical; l++ {
		switch since := &m.AtLeast[l-ft.Low]; {
		case v.Level < l:
			*since = 0
		case *since == 0:
			*since = at
		}
	}
	switch {
	case v.Score < was.Score:
		m.Fell = at
	case v.Score > was.Score:
		m.Fell = 0
	}
	switch {
	case v.Level != ft.Steady:
		m.Calm = 0
	case m.Calm == 0:
		m.Calm = at
	}
	if v.Cause != was.Cause || was.Level < ft.Low {
		m.Same = at
	}
	if v.Level != was.Level || v.Cause != was.Cause || v.Extent != was.Extent || v.Channel != was.Channel || (e.Forecast == nil) != (m.Forecast == nil) {
		m.LookAt = 0
	}
	m.Verdict, m.Text, m.Evidence, m.Forecast, m.Changed = v, e.Text, e.Evidence, e.Forecast, at
	if v.Level < ft.Low {
		m.Quiet, m.Rule = "", ""
	}
	s.touch(m)
}

// health keeps figures for sizing and trials.
func (s *State) health(e *ft.Health) {
	s.d.Seen, s.d.Demand, s.d.Figures = true, e.Demand, e.Pool
	s.d.Floor = s.d.Floor.Observe(&s.d.Pool, e.At, e.Demand)
	for i := range e.Members {
		f := &e.Members[i]
		m := s.life(f.Ref)
		if m == nil {
			continue
		}
		if len(m.History) >= tune.History {
			m.History = m.History[:copy(m.History, m.History[1:])]
		}
		m.History = append(m.History, tune.SampleOf(e.At, &f.Figures))
		m.Memory = f.Memory
		m.Restarts = recent(m.Restarts, e.At)
		if m.Trial != nil {
			m.Trial.Observed(e.At)
			s.touch(m)
		}
	}
}

// set takes what the driver knows, keeping the work where the driver does not say.
func (m *member) set(in ft.Instance) {
	if in.Work == (ft.Work{}) {
		in.Work = m.In.Work
	}
	m.In, m.Barred = in, 0
}

// newLife forgets all that was known of the life that ended.
func (m *member) newLife() {
	m.unjudged()
	m.SoftAt, m.Serves = 0, 0
	m.Dead, m.Silent, m.Over, m.Escalate = nil, nil, nil, false
	m.Trial, m.Revert, m.Raised, m.Vain, m.Pinned, m.History = nil, nil, nil, nil, nil, nil
	m.Turns++
}

// unjudged forgets the verdict.
func (m *member) unjudged() {
	m.Verdict, m.Text, m.Evidence, m.Forecast = ft.Verdict{}, "", nil, nil
	m.AtLeast, m.Same, m.Changed, m.Fell, m.Calm = [4]ft.Instant{}, 0, 0, 0, 0
	m.Quiet, m.Rule, m.LookAt = "", "", 0
}

// group interns work and digest.
func (s *State) group(in *ft.Instance) uint32 {
	g := group{in.Work, in.Digest}
	i := slices.Index(s.d.Groups, g)
	if i < 0 {
		i = len(s.d.Groups)
		s.d.Groups = append(s.d.Groups, g)
	}
	return uint32(i)
}
