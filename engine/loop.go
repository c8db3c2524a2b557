package engine

import (
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// maxRounds bounds how often the planner is asked within one step: each round may at most enable the next, and no
// operation has that many steps that need no outcome.
const maxRounds = 16

// journalPatience is how long a batch may stay unanswered before the journal is said to fail.
const journalPatience = 5 * time.Second

// Loop is one pool. The zero Loop is of no use; see [New]. Step is for one goroutine; Post, Ask, Written, View,
// Checkpoint and Stalled may be called from any while Run runs.
type Loop struct {
	state   *plan.State
	judge   *drift.Judge // nil where verdicts come from elsewhere
	journal Journal      // nil: every batch counts as durable at once
	exec    Executor
	onEvent func(ft.Event)

	now    time.Time
	events []ft.Event  // folded in this step, in order: the next batch
	todo   []ft.Action // intended in this step
	ready  []ft.Action // disruptive, durable and valid: to be done at the end of this step
	batch  uint64      // the last one appended
	out    []pending
	lost   string // why a batch was lost; until the next success
	bad    string // what the last JournalState said
	meter  meter
	limits limits

	taps  []Tap
	input bool        // what is folded now came from outside
	made  []ft.Event  // folded in this step beyond the inputs, for the taps
	did   []ft.Action // given to the executor in this step, for the taps

	decisions []ft.Event
	verdicts  []ft.Verdict
	rows      []ft.Row
	rowOf     []int32 // slot to index into rows, plus 1
	instances []ft.Instance
	members   []plan.Member

	run   running
	mu    sync.Mutex
	asked map[ft.Event]chan error // guarded by mu
}

// pending is a batch that is not durable yet, with the disruptive actions that wait for it.
type pending struct {
	batch uint64
	at    time.Time
	err   string
	acts  []ft.Action
}

// New makes the loop of a pool. j may be nil where verdicts come as events, r where nothing is kept.
func New(s *plan.State, j *drift.Judge, r Journal, x Executor) *Loop {
	l := &Loop{state: s, judge: j, journal: r, exec: x, asked: map[ft.Event]chan error{}}
	l.run.init()
	return l
}

// OnEvent sets the function that gets every event as it is folded. It is called in the loop and must not block; the
// event must not be changed. Set it before Run.
func (l *Loop) OnEvent(f func(ft.Event)) { l.onEvent = f }

// Step does one turn: folds what happened, judges the frame, plans to a fixpoint, journals, acts. It returns when it
// wants to be called again at the latest.
func (l *Loop) Step(now time.Time, in Inputs) (wake time.Time) {
	l.now = now.UTC().Round(0) // as it comes back from the journal
	l.before(in)
	l.input = true
	for _, e := range in.Events {
		_ = l.fold(e) // who asked is told by fold
	}
	l.input = false
	for _, w := range in.Written {
		l.settle(w)
	}
	if in.Frame != nil {
		l.observe(in.Frame)
	}
	l.watchJournal()
	wake = l.decide()
	l.record()
	l.act()
	if patience := l.patience(); !patience.IsZero() {
		wake = earlier(wake, patience)
	}
	l.run.journalSince.Store(l.oldest())
	l.after()
	return wake
}

// fold applies an event; only what the state took is journaled and shown.
func (l *Loop) fold(e ft.Event) error {
	err := l.state.Apply(e)
	l.answer(e, err)
	if err != nil {
		return err
	}
	l.events = append(l.events, e)
	if len(l.taps) > 0 && !l.input {
		l.made = append(l.made, e)
	}
	if l.onEvent != nil {
		l.onEvent(e)
	}
	return nil
}

// answer tells the one that asked.
func (l *Loop) answer(e ft.Event, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.asked[e]; ok {
		c <- err
		delete(l.asked, e)
	}
}

func (l *Loop) stamp() ft.Stamp { return ft.Stamp{At: l.now} }

// observe judges a frame and folds what follows from it.
func (l *Loop) observe(f *ft.Frame) {
	l.refresh(f)
	if l.judge != nil {
		l.verdicts = l.judge.Observe(l.verdicts[:0], f)
		for i := range l.verdicts {
			l.judged(f, &l.verdicts[i])
		}
	}
	pool := l.state.Pool()
	for _, e := range l.limits.check(f, pool, l.state.RefOf, l.now) {
		_ = l.fold(e) // of an instance that went meanwhile: nothing to do
	}
	if h := l.meter.add(f, l.state.RefOf); h != nil {
		h.Stamp = l.stamp()
		_ = l.fold(h)
	}
}

// refresh brings the rows up to now: what was folded since the frame was begun may have put an instance under an
// action, and such a row trains nothing.
func (l *Loop) refresh(f *ft.Frame) {
	l.rows, l.instances = l.state.Rows(l.rows[:0], l.instances[:0], l.now)
	for i := range l.rows {
		s := int(l.rows[i].Slot)
		for len(l.rowOf) <= s {
			l.rowOf = append(l.rowOf, 0)
		}
		l.rowOf[s] = int32(i + 1)
	}
	for i := range f.Rows {
		r := &f.Rows[i]
		at := int32(0)
		if int(r.Slot) < len(l.rowOf) {
			at = l.rowOf[r.Slot]
		}
		if at == 0 || l.rows[at-1].Life != r.Life {
			r.Held, r.Serving = true, false
			continue
		}
		r.Held = r.Held || l.rows[at-1].Held
		r.Serving = r.Serving && l.rows[at-1].Serving
	}
	clear(l.rowOf)
}

// judged folds a changed verdict in its form with names.
func (l *Loop) judged(f *ft.Frame, v *ft.Verdict) {
	e := &ft.Judged{Stamp: l.stamp(), Verdict: *v}
	name := "pool " + string(l.state.Pool().Name)
	if !v.Pool {
		ref, ok := l.state.RefOf(v.Slot)
		if !ok || ref.Life() != v.Life {
			return
		}
		e.Ref, name = ref, ref.String()
	}
	e.Text, e.Evidence, e.Forecast = drift.Explain(f.Schema, f.Labels, name, v)
	_ = l.fold(e)
}

// decide asks the planner until it has nothing more to say, and carries out what concerns the judge.
func (l *Loop) decide() (wake time.Time) {
	for range maxRounds {
		l.decisions, wake = l.state.Next(l.decisions[:0], l.now)
		if len(l.decisions) == 0 {
			l.run.fault.Store(nil)
			return wake
		}
		for _, d := range l.decisions {
			if err := l.fold(d); err != nil {
				// A decision that does not fit its own state would be made again for ever.
				l.run.say("the planner's own decision does not fit: " + d.String() + ": " + err.Error())
				return l.now.Add(l.state.Pool().Detect.Interval.D())
			}
			if i, ok := d.(*ft.Intended); ok {
				l.intend(&i.Action)
			}
		}
	}
	l.run.say("the planner does not come to rest")
	return l.now.Add(l.state.Pool().Detect.Interval.D())
}

// intend sorts an action: for the judge at once, for the executor after the batch was appended, or after it was
// written.
func (l *Loop) intend(a *ft.Action) {
	if a.Verb == ft.Rebaseline {
		l.rebaseline(a)
		_ = l.fold(&ft.Finished{Stamp: l.stamp(), Action: *a})
		return
	}
	l.todo = append(l.todo, *a)
}

// rebaseline tells the judge. A reason with the rule "forget" drops what was learnt, all others accept what is; an
// action without an instance is for the whole pool.
func (l *Loop) rebaseline(a *ft.Action) {
	if l.judge == nil {
		return
	}
	forget := a.Reason.Rule == "forget"
	if a.Ref.ID == "" {
		if forget {
			l.judge.ForgetAll()
		} else {
			l.judge.AcceptAll()
		}
		return
	}
	m := l.member(a.Ref)
	if m == nil {
		return
	}
	if forget {
		l.judge.Forget(m.Slot)
	} else {
		l.judge.Accept(m.Slot)
	}
}

// member finds a live instance by its Ref; the result is good until the next call.
func (l *Loop) member(ref ft.Ref) *plan.Member {
	l.members = l.state.Members(l.members[:0])
	for i := range l.members {
		if l.members[i].Ref == ref {
			return &l.members[i]
		}
	}
	return nil
}

// act does what has become durable, and at once all that is not disruptive.
func (l *Loop) act() {
	for i := range l.ready {
		l.do(&l.ready[i])
	}
	for i := range l.todo {
		l.do(&l.todo[i])
	}
	l.ready, l.todo = l.ready[:0], l.todo[:0]
}

func (l *Loop) do(a *ft.Action) {
	in := ft.Instance{Ref: a.Ref, Work: a.Work}
	if m := l.member(a.Ref); m != nil {
		in = m.Instance
	}
	if len(l.taps) > 0 {
		l.did = append(l.did, *a)
	}
	l.exec.Do(*a, in)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
