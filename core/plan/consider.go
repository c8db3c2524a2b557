package plan

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// consider decides about one member: what its operation does next, or which operation it needs. Faults come first,
// then what was begun, then what people ask, then drift.
func (s *State) consider(t *tally, m *member) {
	if o := s.op(m.Op); o != nil {
		if m.Replaces == "" {
			s.proceed(t, o, m)
		}
		return
	}
	if at := m.Barred.Time(); t.now.Before(at) {
		t.wakeAt(at)
		return
	}
	if s.watched() {
		s.regard(t, m)
		return
	}
	inService := m.Phase == ft.Ready || m.Phase == ft.Leased
	switch {
	case m.Loose != 0:
	case s.d.Stop:
		t.begin(m, ft.Shrink, ft.Reason{Rule: "stop", Text: "the pool stops"})
	case m.Phase == ft.Quarantined:
		if !t.now.Before(m.LookAt.Time()) {
			t.begin(m, ft.Shrink, ft.Reason{Rule: "clear-away", Text: fmt.Sprintf("it was kept for inspection for %s", ft.Duration(kept))})
		}
	case !m.Alive:
		s.revive(t, m)
	case m.Silent != nil && !t.now.Before(m.Silent.Act):
		s.unhang(t, m)
	case m.Escalate:
		t.begin(m, ft.FullResetting, ft.Reason{Rule: ruleEscalate, Text: "its soft reset failed: full reset"})
	case !inService:
		t.begin(m, ft.Grow, ft.Reason{Rule: "admit", Text: "it runs and is not in service"})
	case m.Over != nil:
		s.limit(t, m)
	case m.Revert != nil:
		s.revert(t, m)
	case m.Wish != nil:
		s.grant(t, m)
	case m.Readmit:
		t.intend(ft.Action{Verb: ft.Admit, Ref: m.In.Ref, Work: m.In.Work, Weight: 1, Deadline: t.now.Add(admitTime), Reason: ft.Reason{Rule: "readmit", Text: "a new brain tells the router what is in service"}})
	case m.Rebase != "":
		t.intend(ft.Action{Verb: ft.Rebaseline, Ref: m.In.Ref, Deadline: t.now.Add(admitTime), Reason: ft.Reason{Rule: m.Rebase, Text: rebaseText(m.Rebase, m.RebaseBy)}})
	case m.Silent != nil:
		t.wakeAt(m.Silent.Act)
	default:
		s.watch(t, m)
	}
}

// revive starts what is dead anew, unless there are enough without it.
func (s *State) revive(t *tally, m *member) {
	if s.d.Journal != "" || t.counted > s.target() {
		return // size starts another, or clears this one away
	}
	if t.now.Before(m.RestartAt) {
		t.wakeAt(m.RestartAt)
		return
	}
	if t.running >= s.most() || !s.mayCreate(t) {
		return
	}
	text := "it is gone: started anew"
	if m.Dead != nil {
		text = ended(m.Dead) + ": started anew"
	}
	if n := len(m.Restarts); n > 1 {
		text += fmt.Sprintf(" (restart %d of this hour)", n)
	}
	t.starts++ // its start comes with the next asking
	t.lost--
	t.running++
	t.begin(m, ft.Replace, ft.Reason{Rule: ruleCrash, Text: text})
}

// unhang replaces an instance that does not answer: what is in flight in it is lost to the fault already. Not all at
// once: where many are silent the cause is often elsewhere.
func (s *State) unhang(t *tally, m *member) {
	switch {
	case t.now.Before(m.RestartAt):
		t.wakeAt(m.RestartAt)
		return
	case s.d.Journal != "":
		t.decline(m, brakePrefix+"journal", "the journal fails, nothing disruptive is done")
		return
	case t.faults >= s.tolerated():
		t.decline(m, brakePrefix+"silent", fmt.Sprintf("%d others that do not answer are being replaced first", t.faults))
		return
	}
	r := ft.Reason{Rule: ruleUnresponsive, Text: fmt.Sprintf("it does not answer (%s) for %s", m.Silent.Probe, ft.Duration(t.now.Sub(m.Silent.Since).Round(time.Second)))}
	if m.Silent.Detail != "" {
		r.Text += ", " + m.Silent.Detail
	}
	if s.d.Create.Fails == 0 && s.room(t) > 0 {
		r.Text += ": another takes its place"
		t.running++
		t.begin(m, ft.Evict, r)
		return
	}
	r.Text += ": full reset"
	t.begin(m, ft.FullResetting, r)
}

// limit resets an instance that crossed an absolute limit. That needs no verdict and no mode, but the turn is waited
// for and the last one in service is replaced first: it still serves.
func (s *State) limit(t *tally, m *member) {
	if t.now.Before(m.RestartAt) {
		t.decline(m, brakePrefix+"restarts", fmt.Sprintf("it was reset or restarted %d times within an hour and waits until %s", len(m.Restarts), m.RestartAt.Format("15:04:05")))
		t.wakeAt(m.RestartAt)
		return
	}
	if s.d.Journal != "" {
		t.decline(m, brakePrefix+"journal", "the journal fails, nothing disruptive is done")
		return
	}
	if b, held := s.turnBrake(t); held {
		t.decline(m, b.rule, b.text)
		return
	}
	s.disrupt(t, m, ft.FullResetting, ft.Reason{Rule: ruleLimit + m.Over.Limit, Text: m.subject() + ": drained and fully reset"})
}

// disrupt begins a planned operation, minding that none takes the last instance out of service: another is started
// first where there is room, else requests wait in the router's queue.
func (s *State) disrupt(t *tally, m *member, k ft.Operation, r ft.Reason) {
	forced := r.Rule == ruleForced
	if k != ft.Evict && t.last(m) && !forced {
		switch {
		case s.room(t) > 0 && k == ft.FullResetting:
			k = ft.Evict
			r.Text += "; it is the last one in service, so another takes its place first"
		case s.room(t) > 0 || s.sum.Surge > 0 && s.coming():
			s.surge(t, m)
			return
		case s.d.Pool.Serve == ft.HTTP:
			r.Text += "; it is the last one in service and there is no room for another: requests wait in the queue meanwhile"
		default:
			r.Text += "; it is the last one and there is no room for another: its work waits meanwhile"
		}
	}
	if k == ft.Evict {
		t.running++
	} else if m.serving() {
		t.leaving++
	}
	t.begin(m, k, r)
}

// surge starts one more, which stands in for the last one in service.
func (s *State) surge(t *tally, m *member) {
	t.decline(m, brakePrefix+"last", "it is the last one in service: one more is started first")
	if s.coming() || s.room(t) < 1 || !s.mayCreate(t) {
		return
	}
	t.serial++
	t.running++
	t.counted++
	t.starts++
	t.beginOn(ft.Ref{ID: ft.NewInstanceID(s.d.Pool.Name, t.serial), Generation: 1}, s.work(), ft.Grow, ft.Reason{
		Rule: ruleSurge, Text: fmt.Sprintf("stands in for %s while that is worked on", m.In.Ref),
	})
}

// coming tells whether an instance is about to be in service.
func (s *State) coming() bool {
	for _, o := range s.d.Ops {
		if o.Kind == ft.Grow && !o.Failing {
			return true
		}
	}
	return false
}

func (s *State) revert(t *tally, m *member) {
	set := *m.Revert
	r := ft.Reason{Rule: ruleRevert, Text: fmt.Sprintf("%s goes back to %g", set.Knob, set.Value)}
	id := t.begin(m, ft.Retune, r)
	t.intend(tuneAction(m, id, set, r, t.now))
}

func tuneAction(m *member, id ft.OperationID, set ft.Setting, r ft.Reason, now time.Time) ft.Action {
	return ft.Action{Operation: id, Kind: ft.Retune, Verb: ft.Tune, Ref: m.In.Ref, Work: m.In.Work, Setting: set, Deadline: now.Add(tuneTime), Reason: r}
}
