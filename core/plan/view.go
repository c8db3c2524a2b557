package plan

import (
	"fmt"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/tune"
)

// Member is one instance that is not gone, as views see it. Its slices are not to be changed.
type Member struct {
	ft.Instance
	Serial       uint32
	Slot         ft.Slot
	Phase        ft.Phase
	Verdict      ft.Verdict
	Text         string // the verdict in words
	Evidence     []ft.Evidence
	Forecast     *ft.Foreseen
	Weight       float64 // share of traffic: 1 in service, 0 not
	Trial        *tune.Trial
	Operation    ft.Operation // under way
	Quiet        string       // why nothing is done about its drift
	Unresponsive bool
	Restarts     int    // by faults, in the last hour
	LastError    string // with the last output where a start failed
	Knobs        []ft.Knob
}

// Summary is the pool at a glance.
type Summary struct {
	Mode                              ft.Mode
	Desired, Running, Ready, Drifting int
	Paused, Degraded                  bool
	DegradedWhy                       string
	NextStart                         time.Time // when a start is tried again; zero where none waits
	Breaker, HoldOff, Journal         string    // why they hold, empty where they do not
	DisruptionsLastHour               int
	Operations                        []OperationView
	Verdict                           ft.Verdict // the pool's own
	VerdictText                       string
	Evidence                          []ft.Evidence // of the verdict
	Figures                           ft.Figures
	Demand                            ft.Demand
}

// OperationView is an operation under way.
type OperationView struct {
	ID     ft.OperationID
	Kind   ft.Operation
	Ref    ft.Ref
	Step   string // "2 of 3: soft-reset web-3"
	Since  time.Time
	Reason ft.Reason
}

// Rows appends the rows of a frame, and the instances that they are of, for all that have a process.
func (s *State) Rows(dst []ft.Row, in []ft.Instance, now time.Time) ([]ft.Row, []ft.Instance) {
	slow := s.d.Pool.Route.SlowStart.D()
	for slot, m := range s.slots {
		if m == nil || !m.Alive {
			continue
		}
		dst = append(dst, ft.Row{
			Slot: ft.Slot(slot), Life: m.In.Life(), Group: m.Group, Settings: m.Turns,
			Age: float32(now.Sub(m.In.Born).Seconds()), Held: s.held(m, now, slow), Serving: m.serving(),
		})
		in = append(in, m.In)
	}
	return dst, in
}

// held tells whether an action is under way or settling: an operation, a trial's first settle time, the slow start.
func (s *State) held(m *member, now time.Time, slow time.Duration) bool {
	switch {
	case m.Op != 0, m.Revert != nil:
		return true
	case m.Trial != nil && now.Sub(m.Trial.Since) < m.Trial.Settle.D():
		return true
	}
	return m.Serves != 0 && now.Sub(m.Serves.Time()) < slow
}

// RefOf is the life in a slot.
func (s *State) RefOf(slot ft.Slot) (ft.Ref, bool) {
	if int(slot) >= len(s.slots) || s.slots[slot] == nil {
		return ft.Ref{}, false
	}
	return s.slots[slot].In.Ref, true
}

// Members appends the instances that are not gone, by serial.
func (s *State) Members(dst []Member) []Member {
	for _, m := range s.d.Members {
		v := Member{
			Instance: m.In, Serial: m.serial(), Slot: m.slot, Phase: m.Phase, Verdict: m.Verdict, Text: m.Text,
			Evidence: m.Evidence, Forecast: m.Forecast, Quiet: m.Quiet, Unresponsive: m.Silent != nil,
			Restarts: len(m.Restarts), LastError: m.Error, Knobs: m.Knobs,
		}
		v.Exit = m.Dead
		if m.serving() {
			v.Weight = 1
		}
		if m.Trial != nil {
			trial := *m.Trial
			v.Trial = &trial
		}
		if o := s.op(m.Op); o != nil {
			v.Operation = o.Kind
		}
		dst = append(dst, v)
	}
	return dst
}

// Summary is the pool at a glance.
func (s *State) Summary(now time.Time) Summary {
	v := Summary{
		Mode: s.d.Pool.Mode, Desired: s.target(), Running: s.sum.Running, Ready: s.sum.Ready, Drifting: s.sum.Drifting,
		Paused: s.d.Paused, HoldOff: s.holdOff(now), Journal: s.d.Journal, Verdict: s.d.Verdict, VerdictText: s.d.Text, Evidence: s.d.Evidence,
		Figures: s.d.Figures, Demand: s.d.Demand,
		DisruptionsLastHour: s.spent(now, false) + s.spent(now, true),
	}
	if s.watched() {
		v.Desired, v.HoldOff = s.sum.Ready, "" // there are as many as there are, and nothing is held off
	} else if s.breakerOn(now) {
		v.Breaker = fmt.Sprintf("%d instances look unhealthy, at most %d may", s.sum.Unhealthy, s.tolerated())
	}
	v.Degraded, v.DegradedWhy = s.degraded(now)
	if v.Degraded && now.Before(s.d.Create.Until) {
		v.NextStart = s.d.Create.Until
	}
	for _, o := range s.d.Ops {
		v.Operations = append(v.Operations, OperationView{
			ID: o.ID, Kind: o.Kind, Ref: o.Ref, Step: s.stepText(o, now), Since: o.Since, Reason: o.Reason,
		})
	}
	return v
}

// degraded tells whether the pool cannot be what it should, and why.
func (s *State) degraded(now time.Time) (bool, string) {
	if s.d.Create.Fails > 0 && s.sum.Ready < s.target() {
		return true, s.d.Create.Why
	}
	for _, m := range s.d.Members {
		n := 0
		for _, at := range m.Restarts {
			if now.Sub(at.Time()) < time.Hour {
				n++
			}
		}
		if n > s.d.Pool.Limits.Restarts {
			why := fmt.Sprintf("%s was restarted %d times within an hour, at most %d", m.In.ID, n, s.d.Pool.Limits.Restarts)
			if m.Error != "" {
				why += ": " + m.Error
			}
			return true, why
		}
	}
	return false, ""
}

func (s *State) stepText(o *operation, now time.Time) string {
	st, at, ok := s.stepOf(o)
	if o.Pending != nil {
		return fmt.Sprintf("%d of %d: %s", min(o.Step+1, len(steps(o.Kind))), len(steps(o.Kind)), o.Pending)
	}
	if !ok {
		return "ends"
	}
	text := fmt.Sprintf("%d of %d: %s next", min(at+1, len(steps(o.Kind))), len(steps(o.Kind)), st.verb)
	if now.Before(o.RetryAt) {
		text += fmt.Sprintf(", again in %s after: %s", ft.Duration(o.RetryAt.Sub(now).Round(100*time.Millisecond)), o.Err)
	}
	return text
}

// Pending appends the actions that were intended and did not finish, by ID.
func (s *State) Pending(dst []ft.Action) []ft.Action {
	from := len(dst)
	for _, o := range s.d.Ops {
		if o.Pending != nil {
			dst = append(dst, *o.Pending)
		}
	}
	for _, a := range s.d.Loose {
		dst = append(dst, *a)
	}
	slices.SortFunc(dst[from:], func(a, b ft.Action) int { return int(a.ID) - int(b.ID) })
	return dst
}

// Preview is what mode heal would do now about drift, step by step, also where the mode allows less. Persistence counts
// as given. What holds it back is in the reason.
func (s *State) Preview(now time.Time) []ft.Action {
	t := s.tally(nil, now)
	t.mode, t.preview = ft.HealAutomatic, true
	var plan []ft.Action
	for _, m := range s.d.Members {
		if m.Verdict.Level < ft.Low || m.Op != 0 || !m.serving() {
			continue
		}
		d := s.want(t, m)
		if d.answer.Rebaseline {
			plan = append(plan, ft.Action{Verb: ft.Rebaseline, Ref: m.In.Ref, Work: m.In.Work, Reason: d.reason})
		}
		d.reason.Text += s.heldBy(t, m, d.answer.Do)
		for _, st := range steps(d.answer.Do) {
			a := ft.Action{Kind: d.answer.Do, Verb: st.verb, Ref: m.In.Ref, Work: m.In.Work, Reason: d.reason}
			if st.other {
				a.Ref = ft.Ref{ID: ft.NewInstanceID(s.d.Pool.Name, t.serial+1), Generation: 1}
			}
			if st.verb == ft.Tune {
				a.Setting = ft.Setting{Knob: d.choice.Knob.Name, Value: d.choice.Now}
			}
			plan = append(plan, a)
		}
		if d.answer.Do == ft.Evict {
			t.serial++
			t.running++
		}
	}
	return plan
}

// heldBy names the brake that holds an operation now.
func (s *State) heldBy(t *tally, m *member, k ft.Operation) string {
	if k == ft.NoOperation || s.watched() {
		return ""
	}
	if b, held := s.policyBrake(t.now); held {
		return " (held: " + b.text + ")"
	}
	if planned(k) {
		if b, held := s.budgetBrake(t, k, false); held {
			return " (held: " + b.text + ")"
		}
		t.open++
	}
	if end := s.watchEnd(m); t.now.Before(end) {
		return fmt.Sprintf(" (after the last step it is watched for %s more)", ft.Duration(end.Sub(t.now).Round(time.Second)))
	}
	return ""
}
