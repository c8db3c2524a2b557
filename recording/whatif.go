package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// ErrInert is wrapped by the error for a change that a replay can tell nothing of.
var ErrInert = errors.New("a replay cannot tell what that would change")

// NotDone is why an action that the recorded brain did not take ends as skipped.
const NotDone = "not done when this was recorded"

// mostRounds bounds how often the planner may answer to its own withdrawn actions within one step.
const mostRounds = 64

// whatIf replays under another policy. What was measured is as it was, so nothing that is decided here has an effect:
//
//   - An action that the recorded brain took in the same step (the same verb of the same operation on the same life of an
//     instance) ends when and as that ended, be it that brakes forbade it once its intent was durable.
//   - To admit an instance always succeeds: the recording says itself whether it got work.
//   - Every other action ends at once, as skipped and withdrawn: its operation is given up, and counts as tried without effect.
//   - Outcomes of recorded actions that are not taken here are facts that happen anyhow: an instance that was started or
//     fully reset is found, one that was stopped is gone, a setting that was changed is changed. One that was started to take
//     another's place is found when that is gone, so that the pool is not too large meanwhile.
//   - Each step is durable at once; that the journal failed is taken over as it was recorded.
//   - Rows of instances that are not known here are left out.
//
// All other facts (exits, probes, commands) come as they were recorded.
type whatIf struct {
	change func(*ft.Pool) error
	// taken are the actions under way that the recorded brain took too, by its number.
	taken map[uint64]ft.Action
	// offered are those that it intended in this step and nobody took yet.
	offered []ft.Action
	answers []ft.Event // of actions that end at once
	// successors are instances that were started to take another's place, until that is gone, by the recorded operation.
	successors map[ft.OperationID]*ft.Found
	rows       []ft.Row
	ins        []ft.Instance
	rowOf      map[ft.Life]int
	members    []plan.Member
	events     []ft.Event
}

// PlayChanged begins a replay under another policy: change is applied to the pool as it was recorded, and to each later
// configuration of it. With anew, and where how drift is judged changes, the judge learns anew from the recording.
func PlayChanged(r *Reader, anew bool, change func(*ft.Pool) error) (*Player, error) {
	p := &Player{r: r, what: &whatIf{change: change, taken: map[uint64]ft.Action{}, rowOf: map[ft.Life]int{}, successors: map[ft.OperationID]*ft.Found{}}}
	h := r.Header()
	b := h.base()
	b.Journal = false
	s, err := plan.Restore(b.State)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	was, pool, err := changed(s.Pool(), change)
	if err != nil {
		return nil, err
	}
	anew = anew || was.Detect.Learn != pool.Detect.Learn || was.Detect.FalseAlarms != pool.Detect.FalseAlarms
	if anew {
		b.Judge.Learn, b.Judge.FalseAlarms = pool.Detect.Learn.D(), pool.Detect.FalseAlarms
	}
	b.Judge.Persist, b.Judge.MemoryLimit = pool.Detect.Persist.D(), float64(pool.Limits.Memory)
	if err := p.begin(b, anew); err != nil {
		return nil, err
	}
	for _, a := range p.state.Pending(nil) {
		p.what.taken[a.ID] = a // it began before the recording did
	}
	if reflect.DeepEqual(*was, *pool) {
		return p, nil
	}
	if err := p.state.Apply(&ft.Configured{Stamp: ft.Stamp{At: h.At}, Pool: *pool}); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	return p, nil
}

// changed gives two copies of a pool that share nothing with it or each other: as it is, and with the change. One that
// changes what no decision about what was recorded rests on is refused.
func changed(p *ft.Pool, change func(*ft.Pool) error) (was, is *ft.Pool, err error) {
	if was, err = clone(p); err != nil {
		return nil, nil, err
	}
	if is, err = clone(p); err != nil {
		return nil, nil, err
	}
	if err := change(is); err != nil {
		return nil, nil, err
	}
	was.Defaults() // those that are newer than the recording are no change
	if path := inert(was, is); path != "" {
		return nil, nil, fmt.Errorf("%s: %w; it can of %s", path, ErrInert, Settable)
	}
	return was, is, nil
}

// clone copies a pool as a recording holds it.
func clone(p *ft.Pool) (*ft.Pool, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("recording: pool: %w", err)
	}
	var c ft.Pool
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("recording: pool: %w", err)
	}
	return &c, nil
}

// Settable is what a replay can change of a pool, for people.
const Settable = "mode, size, limits, budget, objective, heal, detect without detect.interval, and route.slowStart"

// inert names a part of a pool that was changed and that no decision about what was recorded rests on; "" if there is none.
func inert(was, is *ft.Pool) string {
	a, b := *was, *is
	if a.Detect.Interval != b.Detect.Interval {
		return "detect.interval"
	}
	// What may be changed is made equal; the rest must be.
	a.Mode, a.Size, a.Limits, a.Budget, a.Objective, a.Detect, a.Heal = b.Mode, b.Size, b.Limits, b.Budget, b.Objective, b.Detect, b.Heal
	a.Route.SlowStart = b.Route.SlowStart
	return differs("", reflect.ValueOf(a), reflect.ValueOf(b))
}

// differs is the path of the first key in which two values differ, as in the pool file; "" if they are equal.
func differs(path string, a, b reflect.Value) string {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return ""
	}
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		return differs(path, a.Elem(), b.Elem())
	}
	if a.Kind() == reflect.Struct {
		for i := range a.NumField() {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			if path != "" {
				name = path + "." + name
			}
			if d := differs(name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
	}
	return path
}

// step replays one step.
func (w *whatIf) step(p *Player, s *Step) error {
	w.offered, w.answers = w.offered[:0], w.answers[:0]
	w.events = w.events[:0]
	for _, e := range s.Made {
		switch e := e.(type) {
		case *ft.Intended:
			w.offered = append(w.offered, e.Action)
		case *ft.JournalState:
			w.events = append(w.events, e)
		}
	}
	for _, e := range s.Events {
		es, err := w.fact(p, e)
		if err != nil {
			return err
		}
		w.events = append(w.events, es...)
	}
	for _, e := range s.Made {
		switch e := e.(type) {
		case *ft.Closed:
			w.events = append(w.events, w.succeed(e.ID)...)
		case *ft.Finished: // brakes forbade it once it was durable
			if a, ok := w.taken[e.Action.ID]; ok {
				delete(w.taken, e.Action.ID)
				f := *e
				f.Action = a
				w.events, p.made = append(w.events, &f), append(p.made, &f)
			}
		}
	}
	if s.Frame != nil {
		w.remap(p.state, s)
	}
	p.loop.Step(s.At, engine.Inputs{Frame: s.Frame, Events: w.events})
	for range mostRounds {
		if len(w.answers) == 0 {
			return nil
		}
		for _, e := range w.answers {
			e.(*ft.Finished).At = s.At.UTC()
		}
		in := slices.Clone(w.answers)
		w.answers = w.answers[:0]
		p.made = append(p.made, in...) // what was skipped is to be seen
		p.loop.Step(s.At, engine.Inputs{Events: in})
	}
	return errors.New("the planner does not come to rest under this policy")
}

// do is asked for an action. One that the recorded brain intended in this step, too, ends as that did.
func (w *whatIf) do(a *ft.Action) {
	i := slices.IndexFunc(w.offered, func(o ft.Action) bool { return o.Verb == a.Verb && o.Ref == a.Ref && o.Kind == a.Kind })
	switch {
	case i >= 0:
		w.taken[w.offered[i].ID] = *a
		w.offered = slices.Delete(w.offered, i, i+1)
	case a.Verb == ft.Admit || a.Verb == ft.Weigh:
		w.answers = append(w.answers, &ft.Finished{Action: *a})
	default:
		w.answers = append(w.answers, &ft.Finished{Action: *a, Skipped: true, Withdrawn: true, Err: NotDone})
	}
}

// succeed finds the instance that an operation started to take another's place.
func (w *whatIf) succeed(o ft.OperationID) []ft.Event {
	f := w.successors[o]
	if f == nil {
		return nil
	}
	delete(w.successors, o)
	return []ft.Event{f}
}

// fact is what an input is here.
func (w *whatIf) fact(p *Player, e ft.Event) ([]ft.Event, error) {
	switch e := e.(type) {
	case *ft.Configured:
		_, pool, err := changed(&e.Pool, w.change)
		if err != nil {
			return nil, fmt.Errorf("the pool was configured anew, and the change does not fit: %w", err)
		}
		return []ft.Event{&ft.Configured{Stamp: e.Stamp, Pool: *pool}}, nil
	case *ft.Finished:
		if a, ok := w.taken[e.Action.ID]; ok {
			delete(w.taken, e.Action.ID)
			f := *e
			f.Action = a
			return []ft.Event{&f}, nil
		}
		return w.anyhow(p.state, e), nil
	}
	return []ft.Event{e}, nil
}

// anyhow is what the outcome of a recorded action that was not taken here did to the world.
func (w *whatIf) anyhow(s *plan.State, e *ft.Finished) []ft.Event {
	a := &e.Action
	switch {
	case e.Err != "" || e.Skipped:
		return nil
	case e.Instance != nil:
		f := &ft.Found{Stamp: e.Stamp, Instance: *e.Instance, Knobs: e.Knobs}
		if a.Verb == ft.Start && a.Kind == ft.Evict {
			w.successors[a.Operation] = f
			return nil
		}
		return []ft.Event{f}
	case a.Verb == ft.Stop:
		return append([]ft.Event{&ft.Missing{Stamp: e.Stamp, Ref: a.Ref, Gone: true}}, w.succeed(a.Operation)...)
	case a.Verb != ft.Tune:
		return nil
	}
	w.members = s.Members(w.members[:0])
	for i := range w.members {
		if w.members[i].Ref != a.Ref {
			continue
		}
		in := w.members[i].Instance
		in.Settings = slices.DeleteFunc(slices.Clone(in.Settings), func(x ft.Setting) bool { return x.Knob == a.Setting.Knob })
		in.Settings = append(in.Settings, a.Setting)
		return []ft.Event{&ft.Found{Stamp: e.Stamp, Instance: in}}
	}
	return nil
}

// remap gives the rows the slots and groups that their instances have here, and leaves out those that are not known.
func (w *whatIf) remap(s *plan.State, step *Step) {
	f := step.Frame
	w.rows, w.ins = s.Rows(w.rows[:0], w.ins[:0], step.At)
	clear(w.rowOf)
	for i := range w.rows {
		w.rowOf[w.rows[i].Life] = i
	}
	n, d, c := 0, f.Schema.Len(), f.Schema.Categories()
	for r := range f.Rows {
		i, ok := w.rowOf[f.Rows[r].Life]
		if !ok {
			continue
		}
		f.Rows[n] = f.Rows[r]
		f.Rows[n].Slot, f.Rows[n].Group = w.rows[i].Slot, w.rows[i].Group
		copy(f.X[n*d:n*d+d], f.X[r*d:r*d+d])
		copy(f.Counts[n*c:n*c+c], f.Counts[r*c:r*c+c])
		f.Have[n], f.Span[n] = f.Have[r], f.Span[r]
		step.Rows[n] = step.Rows[r]
		n++
	}
	f.Rows, f.X, f.Counts, f.Have, f.Span = f.Rows[:n], f.X[:n*d], f.Counts[:n*c], f.Have[:n], f.Span[:n]
	step.Rows = step.Rows[:n]
}
