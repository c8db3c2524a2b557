package plan

import (
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Next reads only. It appends decisions, stamped now, in the order in which they are to be journaled and applied, and
// says when it next wants to be asked. It visits the instances that are due, not all. Asked again after its decisions
// were applied it goes on where it stopped; it returns none once there is nothing left to decide at that time.
func (s *State) Next(dst []ft.Event, now time.Time) ([]ft.Event, time.Time) {
	t := s.tally(dst, now)
	if !s.watched() {
		s.brakes(t)
	}
	s.answer(t)
	due, next := s.heap.dueBy(nil, now)
	for _, m := range due {
		s.consider(t, m)
	}
	s.resize(t)
	if next != never {
		t.wakeAt(time.Unix(0, next).UTC())
	}
	if len(t.out) > len(dst) {
		return t.out, now
	}
	return t.out, t.wake
}

// idle is when Next wants to be asked at the latest.
const idle = time.Minute

// tally is the scratch paper of one Next: what is decided in it counts at once towards its own brakes.
type tally struct {
	now  time.Time
	out  []ft.Event
	wake time.Time
	mode ft.Mode

	op      ft.OperationID
	action  uint64
	serial  uint32
	open    int // planned operations under way
	faults  int // operations against silent instances under way
	starts  int // processes being made
	leaving int // members in service that an open operation will take out
	ready   int
	running int
	lost    int
	counted int
	trials  int
	budget  *budget
	peers   []int // members in service by group, once needed
	preview bool
}

func (s *State) tally(dst []ft.Event, now time.Time) *tally {
	t := &tally{
		now: now, out: dst, wake: now.Add(idle), mode: s.d.Pool.Mode,
		op: s.d.LastOp, action: s.d.Action, serial: s.d.Serial,
		ready: s.sum.Ready, running: s.sum.Running, lost: s.sum.Lost, counted: s.sum.Counted, trials: s.sum.Trials,
	}
	for _, o := range s.d.Ops {
		if o.planned() {
			t.open++
		}
		if o.Reason.Rule == ruleUnresponsive {
			t.faults++
		}
		if o.Pending != nil && creates(o.Pending.Verb) {
			t.starts++
		}
		if !o.Begun && (o.Kind == ft.SoftResetting || o.Kind == ft.FullResetting || o.Kind == ft.Shrink) {
			if m := s.member(o.Ref.ID); m != nil && m.serving() {
				t.leaving++
			}
		}
	}
	return t
}

func (t *tally) wakeAt(at time.Time) {
	if at.After(t.now) && at.Before(t.wake) {
		t.wake = at
	}
}

func (t *tally) say(e ft.Event) { t.out = append(t.out, e) }

func (t *tally) stamp() ft.Stamp { return ft.Stamp{At: t.now} }

// begin opens an operation on a member that is there.
func (t *tally) begin(m *member, k ft.Operation, r ft.Reason) ft.OperationID {
	return t.beginOn(m.In.Ref, m.In.Work, k, r)
}

func (t *tally) beginOn(ref ft.Ref, w ft.Work, k ft.Operation, r ft.Reason) ft.OperationID {
	t.op++
	if planned(k) && !hard(r.Rule) {
		t.open++
	}
	if r.Rule == ruleUnresponsive {
		t.faults++
	}
	t.say(&ft.Opened{Stamp: t.stamp(), ID: t.op, Kind: k, Ref: ref, Work: w, Reason: r})
	return t.op
}

// intend decides the next action of an operation.
func (t *tally) intend(a ft.Action) {
	t.action++
	a.ID = t.action
	if creates(a.Verb) {
		t.starts++
	}
	t.say(&ft.Intended{Stamp: t.stamp(), Action: a})
}

// decline says once that nothing is done about a member.
func (t *tally) decline(m *member, rule, text string) {
	if m.Rule == rule {
		return
	}
	t.say(&ft.Declined{Stamp: t.stamp(), Ref: m.In.Ref, Reason: ft.Reason{Rule: rule, Level: m.Verdict.Level, Cause: m.Verdict.Cause, Text: text}})
}

// dueAt is when Next must look at a member, as far as the member alone tells; brakes may make it wait longer. Zero is
// at once. It may be too early but never too late.
func (s *State) dueAt(m *member) int64 {
	if o := s.op(m.Op); o != nil {
		switch {
		case m.Replaces != "" || o.Pending != nil:
			return never
		case s.d.Stop:
			return 0
		}
		return nanos(o.RetryAt)
	}
	switch {
	case m.Loose != 0:
		return never
	case s.d.Stop:
		return 0
	case m.Phase == ft.Quarantined:
		return int64(m.LookAt)
	case !m.Alive:
		return nanos(m.RestartAt)
	case m.Escalate, m.Over != nil, m.Wish != nil, m.Readmit, m.Rebase != "", m.Revert != nil,
		m.Phase != ft.Ready && m.Phase != ft.Leased:
		return 0
	}
	due := int64(never)
	if m.Silent != nil {
		due = max(nanos(m.Silent.Act), nanos(m.RestartAt))
	}
	if m.Trial != nil {
		due = min(due, nanos(m.Trial.End().Add(s.d.Pool.Heal.Watch.D())))
		if m.Trial.Fresh || m.Verdict.Level == ft.Critical {
			return 0
		}
	}
	if m.Verdict.Level >= ft.Low {
		return min(due, s.driftDue(m))
	}
	return min(due, s.calmDue(m))
}

// driftDue is when the ladder may have something to say of a drifting member.
func (s *State) driftDue(m *member) int64 {
	since := max(m.AtLeast[m.Verdict.Level-ft.Low], m.Same)
	due := max(int64(since)+int64(s.d.Pool.Detect.Persist), int64(m.LookAt))
	return max(due, nanos(s.watchEnd(m)))
}

// calmDue is when a steady member may be called recovered, or may give a setting back.
func (s *State) calmDue(m *member) int64 {
	due := int64(never)
	if at, ok := s.recoveryAt(m); ok {
		due = nanos(at)
	}
	if m.Calm != 0 && m.Trial == nil {
		for _, r := range m.Raised {
			due = min(due, int64(max(r.At, m.Calm))+giveBackAfter*int64(s.d.Pool.Heal.Watch))
		}
	}
	return due
}

// nanos is a time as the heap orders it; the zero time is at once.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// tolerated is how many unhealthy members the breaker puts up with.
func (s *State) tolerated() int {
	n := max(s.d.Desired, s.sum.Counted)
	return max(1, int(math.Ceil(s.d.Pool.Heal.Breaker*float64(n))))
}
