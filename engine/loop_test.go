package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func pool(n int) ft.Pool {
	p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"server"}}}
	p.Size.Min = n
	p.Limits.Memory = 512 << 20
	p.Defaults()
	return p
}

// rig is a loop whose journal and executor only note what they are given.
type rig struct {
	t        *testing.T
	now      time.Time
	state    *plan.State
	loop     *engine.Loop
	appended []uint64
	done     []ft.Action
	events   []ft.Event
}

func newRig(t *testing.T, p ft.Pool) *rig {
	r := &rig{t: t, now: start, state: plan.New(p)}
	r.loop = engine.New(r.state, nil, r, r)
	r.loop.OnEvent(func(e ft.Event) { r.events = append(r.events, e) })
	return r
}

// Append implements engine.Journal.
func (r *rig) Append(batch uint64, _ []ft.Event) { r.appended = append(r.appended, batch) }

// Do implements engine.Executor.
func (r *rig) Do(a ft.Action, _ ft.Instance) { r.done = append(r.done, a) }

// step moves on by a second.
func (r *rig) step(in engine.Inputs) time.Time {
	r.now = r.now.Add(time.Second)
	return r.loop.Step(r.now, in)
}

// written answers all that was appended.
func (r *rig) written() (ws []engine.Written) {
	for _, b := range r.appended {
		ws = append(ws, engine.Written{Batch: b, Seq: b})
	}
	r.appended = nil
	return ws
}

// finish answers the actions done so far.
func (r *rig) finish() (es []ft.Event) {
	for _, a := range r.done {
		f := &ft.Finished{Stamp: ft.Stamp{At: r.now}, Action: a}
		if a.Verb == ft.Start {
			f.Instance = &ft.Instance{Ref: a.Ref, Work: a.Work, Born: r.now, Scope: ft.Scope{PID: 1}}
		}
		es = append(es, f)
	}
	r.done = nil
	return es
}

// ready brings all instances up and past the hold-off.
func (r *rig) ready() {
	r.t.Helper()
	in := engine.Inputs{Events: []ft.Event{&ft.Began{Stamp: ft.Stamp{At: r.now}}, &ft.Health{Stamp: ft.Stamp{At: r.now}}}}
	for range 30 {
		r.step(in)
		in = engine.Inputs{Events: append(r.finish(), &ft.Health{Stamp: ft.Stamp{At: r.now}}), Written: r.written()}
	}
	r.step(in)
	r.loop.Step(r.now, engine.Inputs{Written: r.written()})
	if s := r.state.Summary(r.now); s.Ready != s.Desired {
		r.t.Fatalf("%d ready of %d", s.Ready, s.Desired)
	}
	r.done, r.events = nil, nil
}

func (r *rig) verbs() string {
	var v []string
	for _, a := range r.done {
		v = append(v, fmt.Sprint(a.Verb))
	}
	return strings.Join(v, " ")
}

func command(kind string, id ft.InstanceID) ft.Event {
	return &ft.Commanded{Command: ft.Command{Kind: kind, Target: id, By: "test"}}
}

// said is the last event of a type.
func said[T ft.Event](es []ft.Event) (last T, ok bool) {
	for _, e := range es {
		if x, is := e.(T); is {
			last, ok = x, true
		}
	}
	return last, ok
}

func TestStartsAtOnceDisruptsWhenDurable(t *testing.T) {
	r := newRig(t, pool(2))
	r.step(engine.Inputs{})
	if got := r.verbs(); got != "start start" {
		t.Fatalf("done before anything is durable: %q, want both starts", got)
	}
	r = newRig(t, pool(2))
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	if got := r.verbs(); got != "" {
		t.Fatalf("done before its intent is durable: %q", got)
	}
	r.step(engine.Inputs{})
	if got := r.verbs(); got != "" {
		t.Fatalf("done before its intent is durable: %q", got)
	}
	r.step(engine.Inputs{Written: r.written()})
	if got := r.verbs(); got != "drain" {
		t.Errorf("done when its intent is durable: %q, want drain", got)
	}
}

func TestDisruptionIsValidatedAgain(t *testing.T) {
	r := newRig(t, pool(2))
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	r.step(engine.Inputs{
		Events:  []ft.Event{&ft.Exited{Stamp: ft.Stamp{At: r.now}, Ref: ft.Ref{ID: "web-2", Generation: 1}, Exit: ft.Exit{Code: 1, Known: true}}},
		Written: r.written(),
	})
	if strings.Contains(r.verbs(), "drain") {
		t.Error("the last instance in service was drained: the other died while the intent was written")
	}
	f, ok := said[*ft.Finished](r.events)
	if !ok || !f.Skipped || f.Action.Verb != ft.Drain || f.Err == "" {
		t.Errorf("what became of the intent: %+v, want it skipped with a reason", f)
	}
}

func TestJournalThatFailsHoldsDisruptionAndIsSaid(t *testing.T) {
	r := newRig(t, pool(2))
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	batch := r.appended[len(r.appended)-1]
	r.step(engine.Inputs{Written: []engine.Written{{Batch: batch, Err: errors.New("disk full")}}})
	if j, ok := said[*ft.JournalState](r.events); !ok || j.Err != "disk full" {
		t.Fatalf("said of the journal: %+v", j)
	}
	crash := &ft.Exited{Stamp: ft.Stamp{At: r.now}, Ref: ft.Ref{ID: "web-2", Generation: 1}, Exit: ft.Exit{Code: 1, Known: true}}
	r.step(engine.Inputs{Events: []ft.Event{crash}})
	for range 20 {
		r.step(engine.Inputs{})
	}
	if got := r.verbs(); got == "" || strings.Contains(got, "drain") {
		t.Errorf("done while the journal fails: %q; want the crashed one brought back and nobody drained", got)
	}
	restarts := r.finish()
	r.step(engine.Inputs{Events: restarts, Written: r.written()})
	r.step(engine.Inputs{Events: r.finish(), Written: r.written()})
	if j, _ := said[*ft.JournalState](r.events); j.Err != "" {
		t.Errorf("after all was written it is still said: %s", j)
	}
	n := 0
	for _, e := range r.events {
		if ft.EventKind(e) == "journal" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("the journal's state was said %d times, want twice: it fails, it works again", n)
	}
}

func TestJournalThatDoesNotAnswerIsSaidAfterFiveSeconds(t *testing.T) {
	r := newRig(t, pool(1))
	r.ready()
	wake := r.step(engine.Inputs{Events: []ft.Event{command("pause", "")}})
	if limit := r.now.Add(5 * time.Second); wake.After(limit) {
		t.Errorf("wants to wake at %s, after the journal's time is up at %s", wake, limit)
	}
	since := r.now
	for r.now.Sub(since) < 4*time.Second {
		r.step(engine.Inputs{})
	}
	if j, ok := said[*ft.JournalState](r.events); ok {
		t.Fatalf("said too early: %s", j)
	}
	r.step(engine.Inputs{})
	if j, ok := said[*ft.JournalState](r.events); !ok || !strings.Contains(j.Err, "no answer for 5s") {
		t.Errorf("after five seconds: %v", j)
	}
	r.step(engine.Inputs{Written: r.written()})
	if j, _ := said[*ft.JournalState](r.events); j.Err != "" {
		t.Errorf("after the answer: %s", j)
	}
}

func TestWaitingForTheJournalIsNotTakenFromADrain(t *testing.T) {
	r := newRig(t, pool(2))
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	intended := r.state.Pending(nil)
	for range 60 {
		if wake := r.step(engine.Inputs{}); !wake.IsZero() && !wake.After(r.now) {
			t.Fatalf("wants to be asked again at once while the journal hangs: %s at %s", wake, r.now)
		}
	}
	r.step(engine.Inputs{Written: r.written()})
	if len(intended) != 1 || len(r.done) != 1 || r.done[0].Verb != ft.Drain {
		t.Fatalf("intended %v, done %v", intended, r.done)
	}
	if was, is := intended[0].Deadline.Sub(start), r.done[0].Deadline.Sub(r.now); is < pool(2).Heal.Drain.D()-time.Second {
		t.Errorf("intended to end by %s, carried out with %s left: in flight is cut off", was, is)
	}
}

func TestLostIntentIsSkipped(t *testing.T) {
	r := newRig(t, pool(2))
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	batch := r.appended[len(r.appended)-1]
	r.appended = nil
	r.step(engine.Inputs{Written: []engine.Written{{Batch: batch, Err: errors.New("memory full"), Lost: true}}})
	f, ok := said[*ft.Finished](r.events)
	if !ok || !f.Skipped || f.Action.Verb != ft.Drain || r.verbs() != "" {
		t.Errorf("the action of a lost batch: %+v, done: %q; want it skipped", f, r.verbs())
	}
	r.step(engine.Inputs{Written: r.written()})
	if j, _ := said[*ft.JournalState](r.events); j == nil || j.Err != "" {
		t.Errorf("after the next batch was written: %v, want it to work again", j)
	}
}

// frames measures one instance of the rig by hand.
type frames struct {
	r *rig
	f *ft.Frame
}

func newFrames(t *testing.T, r *rig) *frames {
	t.Helper()
	var dims []ft.Dimension
	for _, n := range []string{ft.DimRequests, ft.DimInFlight, ft.DimBytesOut, ft.DimErrors, ft.DimP50, ft.DimP99, ft.DimCPU, ft.DimRSS} {
		d := ft.Dimension{Name: n, Role: ft.Response}
		if n == ft.DimRequests {
			d.Role = ft.Intake
		}
		dims = append(dims, d)
	}
	s, err := ft.NewSchema(dims)
	if err != nil {
		t.Fatal(err)
	}
	return &frames{r, &ft.Frame{Schema: s}}
}

// step gives the same values to all instances; a value left out is missing.
func (f *frames) step(values map[string]float64) {
	f.f.At = f.r.now
	f.f.Rows, _ = f.r.state.Rows(f.f.Rows[:0], nil, f.r.now)
	f.f.Reset(len(f.f.Rows))
	for i := range f.f.Rows {
		f.f.Span[i] = 1
		for n, v := range values {
			f.f.X[i*f.f.Schema.Len()+f.f.Schema.Index(n)] = v
		}
	}
	f.f.Demand = ft.Demand{Arrivals: 10, InFlight: 2}
	f.r.step(engine.Inputs{Frame: f.f, Events: f.r.finish(), Written: f.r.written()})
}

func TestHealthIsWeightedByRequests(t *testing.T) {
	r := newRig(t, pool(1))
	r.ready()
	f := newFrames(t, r)
	idle := map[string]float64{ft.DimRequests: 0, ft.DimCPU: 0.1, ft.DimRSS: 100}
	for range 4 {
		f.step(idle)
	}
	if h, ok := said[*ft.Health](r.events); ok {
		t.Fatalf("after four frames: %s", h)
	}
	f.step(map[string]float64{ft.DimRequests: 10, ft.DimP50: 0.1, ft.DimP99: 0.4, ft.DimErrors: 0.5, ft.DimCPU: 0.6, ft.DimRSS: 200})
	h, ok := said[*ft.Health](r.events)
	if !ok || len(h.Members) != 1 {
		t.Fatalf("after five frames: %+v", h)
	}
	want := ft.Figures{Rate: 2, Errors: 0.5, P50: 0.1, P99: 0.4, CPU: 0.2, Memory: 120}
	for name, got := range map[string]ft.Figures{"member": h.Members[0].Figures, "pool": h.Pool} {
		if fmt.Sprintf("%.6g", got) != fmt.Sprintf("%.6g", want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if fmt.Sprintf("%.6g", h.Demand) != "{10 0 2 0}" {
		t.Errorf("demand: %+v", h.Demand)
	}
}

func TestLimitsAreCheckedOnFrames(t *testing.T) {
	const mib = 1 << 20
	answering := map[string]float64{ft.DimRequests: 5, ft.DimInFlight: 1, ft.DimBytesOut: 9, ft.DimP50: 0.1, ft.DimRSS: 100 * mib}
	hung := map[string]float64{ft.DimRequests: 5, ft.DimInFlight: 4, ft.DimBytesOut: 0, ft.DimRSS: 100 * mib}
	ejected := map[string]float64{ft.DimRequests: 0, ft.DimInFlight: 4, ft.DimBytesOut: 0, ft.DimRSS: 100 * mib}
	fat := map[string]float64{ft.DimRequests: 5, ft.DimInFlight: 1, ft.DimBytesOut: 9, ft.DimP50: 0.1, ft.DimRSS: 600 * mib}
	for _, c := range []struct {
		name  string
		steps []map[string]float64
		limit string
		at    int // frames until it is said
	}{
		{"all is well", slices.Repeat([]map[string]float64{answering}, 60), "", 0},
		{"memory above its limit", slices.Repeat([]map[string]float64{fat}, 10), "memory", 4},
		{"memory above it for a moment", []map[string]float64{fat, fat, answering, fat, fat, answering}, "", 0},
		{"no answer to requests", slices.Repeat([]map[string]float64{hung}, 20), "silence", 11},
		{"no answer, and no more requests", append([]map[string]float64{hung}, slices.Repeat([]map[string]float64{ejected}, 20)...), "silence", 11},
		{"an open connection without requests", append([]map[string]float64{answering}, slices.Repeat([]map[string]float64{ejected}, 60)...), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pool(1))
			r.ready()
			f := newFrames(t, r)
			at := 0
			for i, v := range c.steps {
				f.step(v)
				if e, ok := said[*ft.Exceeded](r.events); ok && at == 0 {
					if at = i + 1; e.Limit != c.limit {
						t.Errorf("limit %q, want %q", e.Limit, c.limit)
					}
				}
			}
			if at != c.at {
				t.Errorf("said at frame %d, want %d", at, c.at)
			}
		})
	}
}

func TestReplayedWithoutJournalDisruptsAtOnce(t *testing.T) {
	r := newRig(t, pool(2))
	r.loop = engine.New(r.state, nil, nil, r)
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{command("reset-full", "web-1")}})
	r.step(engine.Inputs{})
	if got := r.verbs(); got != "drain" {
		t.Errorf("done: %q, want drain", got)
	}
}
