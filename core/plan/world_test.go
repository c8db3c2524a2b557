package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// start is when tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// reporter is testing.TB or rapid.T.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a driver, a front and a clock around a State: it carries out what is decided and checks what must hold.
type world struct {
	t    reporter
	s    *State
	now  time.Time
	wake time.Time
	log  []ft.Event
	jobs []job
	seq  int

	procs   map[ft.InstanceID]uint32 // generation that runs
	service map[ft.Ref]bool
	busy    map[ft.InstanceID]string
	values  map[string]float64 // id/knob
	knobs   []ft.Knob
	serials map[ft.InstanceID]bool // ever started
	cleared map[ft.InstanceID]bool // stopped for good

	delay func(a *ft.Action) time.Duration
	fail  func(a *ft.Action) string
	early func(a *ft.Action) bool // what the verb makes exits before its outcome is known
}

type job struct {
	at  time.Time
	seq int
	a   ft.Action
}

func newWorld(t reporter, p ft.Pool) *world {
	p.Defaults()
	return &world{
		t: t, s: New(p), now: start, wake: start,
		procs: map[ft.InstanceID]uint32{}, service: map[ft.Ref]bool{}, busy: map[ft.InstanceID]string{},
		values: map[string]float64{}, serials: map[ft.InstanceID]bool{}, cleared: map[ft.InstanceID]bool{},
		delay: func(*ft.Action) time.Duration { return time.Second },
		fail:  func(*ft.Action) string { return "" },
		early: func(*ft.Action) bool { return false },
	}
}

func webPool(n int, change ...func(*ft.Pool)) ft.Pool {
	p := ft.Pool{
		Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Size: ft.Sizing{Min: n},
		Image: ft.Image{Command: []string{"server"}, Hooks: ft.Hooks{SoftReset: &ft.Hook{Signal: "HUP"}}},
	}
	for _, c := range change {
		c(&p)
	}
	p.Defaults()
	return p
}

// do folds facts and lets the planner come to rest.
func (w *world) do(events ...ft.Event) {
	w.t.Helper()
	for _, e := range events {
		w.apply(e)
	}
	w.think()
}

func (w *world) apply(e ft.Event) {
	w.t.Helper()
	if err := w.s.Apply(e); err != nil {
		w.t.Fatalf("at %s: %s: %v\n%s", w.now.Sub(start), e, err, w.story())
	}
	w.log = append(w.log, e)
}

func (w *world) think() {
	w.t.Helper()
	var out []ft.Event
	for round := range 17 {
		out, w.wake = w.s.Next(out[:0], w.now)
		if len(out) == 0 {
			return
		}
		if round == 16 {
			w.t.Fatalf("the planner does not come to rest: %v\n%s", out, w.story())
		}
		for _, e := range out {
			if !e.When().Equal(w.now) {
				w.t.Fatalf("%s is stamped %s, not %s", e, e.When(), w.now)
			}
			w.check(e)
			w.apply(e)
			if i, ok := e.(*ft.Intended); ok {
				w.seq++
				w.jobs = append(w.jobs, job{w.now.Add(w.delay(&i.Action)), w.seq, i.Action})
			}
		}
	}
}

// check asserts what must hold of a decision when it is made.
func (w *world) check(e ft.Event) {
	w.t.Helper()
	i, ok := e.(*ft.Intended)
	if !ok {
		return
	}
	a := &i.Action
	if a.Ref.ID == "" {
		return
	}
	if was := w.busy[a.Ref.ID]; was != "" {
		w.t.Fatalf("%s while %s is under way\n%s", a, was, w.story())
	}
	if w.cleared[a.Ref.ID] {
		w.t.Fatalf("%s, which is gone\n%s", a, w.story())
	}
	if !w.serials[a.Ref.ID] && a.Verb != ft.Start && a.Verb != ft.Stop {
		w.t.Fatalf("%s, which was never started\n%s", a, w.story())
	}
	w.busy[a.Ref.ID] = a.String()
	switch a.Verb {
	case ft.Start:
		w.serials[a.Ref.ID] = true
		w.checkSize(a)
	case ft.Drain:
		w.checkLast(a)
	case ft.Tune:
		w.checkBudget(a)
	case ft.Specialize, ft.Admit, ft.Stop, ft.SoftReset, ft.FullReset, ft.Quarantine, ft.Rebaseline, ft.Weigh:
	}
}

func (w *world) checkSize(a *ft.Action) {
	w.t.Helper()
	n := len(w.procs)
	for _, what := range w.busy {
		if strings.HasPrefix(what, "start ") {
			n++
		}
	}
	if most := w.s.d.Pool.Size.Max; n > most {
		w.t.Fatalf("%s: %d run, size.max is %d\n%s", a, n, most, w.story())
	}
}

// checkLast: a planned action takes the last one in service only where no other can be started, or by force.
func (w *world) checkLast(a *ft.Action) {
	w.t.Helper()
	if !w.service[a.Ref] || a.Reason.Rule == ruleForced || a.Reason.Rule == "stop" || hard(a.Reason.Rule) {
		return
	}
	if m := w.s.life(a.Ref); m == nil || !m.serving() || a.Kind == ft.Shrink && w.s.target() == 0 {
		return
	}
	others := 0
	for _, m := range w.s.d.Members {
		if m.In.ID != a.Ref.ID && m.serving() {
			others++
		}
	}
	if others == 0 && w.s.roomBeside(w.s.sum.Running, w.s.sum.Lost) > 0 {
		w.t.Fatalf("%s takes the last one in service (%s)\n%s", a, a.Reason.Text, w.story())
	}
}

// checkBudget: a raise by the tuner stays within the pool's budgets.
func (w *world) checkBudget(a *ft.Action) {
	w.t.Helper()
	k := w.knob(a.Setting.Knob)
	if k == nil {
		w.t.Fatalf("%s: no such knob", a)
	}
	key := string(a.Ref.ID) + "/" + k.Name
	if a.Setting.Value < k.Min || a.Setting.Value > k.Max {
		w.t.Fatalf("%s is out of bounds", a)
	}
	before := w.value(key, k)
	if a.Setting.Value <= before || a.Reason.Rule == ruleForced {
		return
	}
	mem, cpu := w.s.drawn()
	b := w.s.d.Pool.Budget
	if k.Draws == ft.Memory && b.Memory > 0 && mem+a.Setting.Value-before > float64(b.Memory)+1 && a.Reason.Rule != ruleRevert ||
		k.Draws == ft.CPU && b.CPU > 0 && cpu+a.Setting.Value-before > b.CPU+1e-6 && a.Reason.Rule != ruleRevert {
		w.t.Fatalf("%s does not fit the budget: memory %g of %d, cpu %g of %g drawn before\n%s", a, mem, b.Memory, cpu, b.CPU, w.story())
	}
}

func (w *world) knob(name string) *ft.Knob {
	i := slices.IndexFunc(w.knobs, func(k ft.Knob) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &w.knobs[i]
}

func (w *world) value(key string, k *ft.Knob) float64 {
	if v, ok := w.values[key]; ok {
		return v
	}
	return k.Value
}

// run advances the clock by d, carrying out what is due and asking the planner when it wants to be asked.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		next := w.wake
		for _, j := range w.jobs {
			if j.at.Before(next) {
				next = j.at
			}
		}
		if next.After(end) {
			w.now = end
			return
		}
		if next.After(w.now) {
			w.now = next
		}
		slices.SortFunc(w.jobs, func(a, b job) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) })
		if len(w.jobs) > 0 && !w.jobs[0].at.After(w.now) {
			j := w.jobs[0]
			w.jobs = w.jobs[1:]
			f := w.perform(&j.a)
			if f.Instance != nil && w.early(&j.a) {
				w.apply(w.exit(f.Instance.Ref))
			}
			w.apply(f)
		}
		w.think()
	}
}

// perform carries an action out.
func (w *world) perform(a *ft.Action) *ft.Finished {
	w.t.Helper()
	f := &ft.Finished{Stamp: w.stamp(), Action: *a}
	delete(w.busy, a.Ref.ID)
	if err := w.s.Valid(a, w.now); err != nil {
		f.Skipped, f.Err = true, err.Error()
		return f
	}
	gen, runs := w.procs[a.Ref.ID]
	if f.Err = w.fail(a); f.Err != "" {
		if a.Verb == ft.FullReset {
			delete(w.procs, a.Ref.ID)
			delete(w.service, a.Ref)
		}
		if a.Verb == ft.Start {
			f.Output = "boom"
		}
		return f
	}
	switch a.Verb {
	case ft.Start:
		if runs && gen != a.Ref.Generation {
			w.t.Fatalf("%s: runs already as generation %d", a, gen)
		}
		w.procs[a.Ref.ID] = a.Ref.Generation
		f.Instance, f.Knobs = w.instance(a.Ref), w.knobs
	case ft.FullReset:
		next := ft.Ref{ID: a.Ref.ID, Generation: a.Ref.Generation + 1}
		delete(w.service, a.Ref)
		w.procs[a.Ref.ID] = next.Generation
		for _, k := range w.knobs {
			delete(w.values, string(a.Ref.ID)+"/"+k.Name)
		}
		f.Instance, f.Knobs = w.instance(next), w.knobs
	case ft.Stop:
		delete(w.procs, a.Ref.ID)
		delete(w.service, a.Ref)
		w.cleared[a.Ref.ID] = true
	case ft.Admit:
		w.service[a.Ref] = true
	case ft.Drain, ft.Quarantine:
		delete(w.service, a.Ref)
	case ft.Tune:
		if !runs {
			f.Err = "no process"
			return f
		}
		key := string(a.Ref.ID) + "/" + a.Setting.Knob
		f.Was = &ft.Setting{Knob: a.Setting.Knob, Value: w.value(key, w.knob(a.Setting.Knob))}
		w.values[key] = a.Setting.Value
	case ft.SoftReset, ft.Specialize:
		if !runs {
			f.Err = "no process"
		}
	case ft.Rebaseline, ft.Weigh:
	}
	return f
}

func (w *world) instance(ref ft.Ref) *ft.Instance {
	return &ft.Instance{
		Ref: ref, Digest: "d1", Born: w.now, Endpoint: ft.Endpoint{Network: "tcp", Address: "127.0.0.1:1"},
		Scope: ft.Scope{PID: 100 + int(ref.ID.Serial())},
	}
}

func (w *world) stamp() ft.Stamp { return ft.Stamp{At: w.now} }

func (w *world) ref(serial uint32) ft.Ref {
	id := ft.NewInstanceID(w.s.d.Pool.Name, serial)
	if m := w.s.member(id); m != nil {
		return m.In.Ref
	}
	return ft.Ref{ID: id, Generation: 1}
}

func (w *world) exit(ref ft.Ref) *ft.Exited {
	delete(w.procs, ref.ID)
	delete(w.service, ref)
	return &ft.Exited{Stamp: w.stamp(), Ref: ref, Exit: ft.Exit{Code: 1, Known: true, LastOutput: "panic: boom", At: w.now}}
}

// judge says a verdict of an instance.
func (w *world) judge(serial uint32, l ft.Level, c ft.Cause, change ...func(*ft.Judged)) *ft.Judged {
	score := map[ft.Level]float32{ft.Steady: 0.4, ft.Low: 1.2, ft.Medium: 2.1, ft.High: 4.3, ft.Critical: 7.1}[l]
	ref := w.ref(serial)
	j := &ft.Judged{
		Stamp: w.stamp(), Ref: ref, Text: fmt.Sprintf("%s is %s", ref, l),
		Verdict: ft.Verdict{Level: l, Cause: c, Score: score, Extent: ft.ThisInstance, Channel: ft.Peers},
	}
	if l >= ft.Low {
		j.Evidence = []ft.Evidence{{Dimension: ft.DimP99, Unit: "s", Z: 8, Value: 0.2, Usual: 0.02}}
	}
	for _, f := range change {
		f(j)
	}
	return j
}

// story is all that happened, for messages and goldens.
func (w *world) story() string {
	var b strings.Builder
	for _, e := range w.log {
		if _, ok := e.(*ft.Health); ok {
			continue
		}
		fmt.Fprintf(&b, "%9s %-9s %s\n", e.When().Sub(start), ft.EventKind(e), e)
	}
	return b.String()
}

// said counts events whose kind and text match.
func (w *world) said(kind, text string) int {
	n := 0
	for _, e := range w.log {
		if ft.EventKind(e) == kind && strings.Contains(e.String(), text) {
			n++
		}
	}
	return n
}

func (w *world) want(kind, text string, n int) {
	w.t.Helper()
	if got := w.said(kind, text); got != n {
		w.t.Fatalf("%s %q: %d times, want %d\n%s", kind, text, got, n, w.story())
	}
}

// up starts the pool and judges all of it steady.
func (w *world) up() {
	w.t.Helper()
	w.do()
	w.run(5*time.Second + time.Duration(w.s.d.Desired/5)*time.Second)
	for _, m := range w.s.d.Members {
		w.do(w.judge(m.serial(), ft.Steady, ft.CauseUnknown))
	}
	if w.s.sum.Ready != w.s.d.Desired {
		w.t.Fatalf("%d of %d are in service\n%s", w.s.sum.Ready, w.s.d.Desired, w.story())
	}
}

// replayed folds the log anew, as a journal gives it back, and compares.
func (w *world) replayed(p ft.Pool) {
	w.t.Helper()
	p.Defaults()
	again := New(p)
	for _, e := range w.log {
		b, err := ft.MarshalEvent(e)
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		e, err = ft.UnmarshalEvent(ft.EventKind(e), b)
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		if err := again.Apply(e); err != nil {
			w.t.Fatalf("replay %s: %v", e, err)
		}
	}
	live, replay := w.snapshot(w.s), w.snapshot(again)
	if !bytes.Equal(live, replay) {
		w.t.Fatalf("replay differs:\n%s\n%s", live, replay)
	}
	restored, err := Restore(live)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	if b := w.snapshot(restored); !bytes.Equal(live, b) {
		w.t.Fatalf("restored differs:\n%s\n%s", live, b)
	}
	if restored.sum != w.s.sum {
		w.t.Fatalf("restored counts differ: %+v, %+v", restored.sum, w.s.sum)
	}
	a, wakeA := w.s.Next(nil, w.now)
	b, wakeB := restored.Next(nil, w.now)
	if fmt.Sprint(a) != fmt.Sprint(b) || !wakeA.Equal(wakeB) {
		w.t.Fatalf("restored decides differently:\n%v %s\n%v %s", a, wakeA, b, wakeB)
	}
	if b := w.snapshot(w.s); !bytes.Equal(live, b) {
		w.t.Fatalf("asking changed the state:\n%s\n%s", live, b)
	}
}

func (w *world) snapshot(s *State) []byte {
	w.t.Helper()
	b, err := s.Snapshot()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return b
}

var _ reporter = (*testing.T)(nil)
