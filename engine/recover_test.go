package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/journal"
)

// stored is a real journal for one pool.
type stored struct {
	t     *testing.T
	store *journal.Store
	done  chan engine.Written
}

func newStored(t *testing.T) *stored {
	t.Helper()
	s, err := journal.Open(filepath.Join(t.TempDir(), "journal.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stored{t, s, make(chan engine.Written, 16)}
}

// keep appends events and waits until they are durable.
func (s *stored) keep(es ...ft.Event) (upTo uint64) {
	s.t.Helper()
	s.store.Pool("web", func(w engine.Written) { s.done <- w }).Append(1, es)
	w := <-s.done
	if w.Err != nil {
		s.t.Fatal(w.Err)
	}
	return w.Seq
}

// listing is a driver of which only the list is asked.
type listing struct {
	ft.Driver
	ins []ft.Instance
	err error
}

func (l listing) List(context.Context, ft.PoolName) ([]ft.Instance, error) { return l.ins, l.err }

// story is the events that bring two instances up, and then one action on web-1 that has no outcome yet.
func story(t *testing.T, p ft.Pool, ask ft.Event, verb ft.Verb) (es []ft.Event) {
	t.Helper()
	r := newRig(t, p)
	var all []ft.Event
	r.loop.OnEvent(func(e ft.Event) { r.events, all = append(r.events, e), append(all, e) })
	if verb == ft.Start {
		r.step(engine.Inputs{})
		return all
	}
	r.ready()
	r.step(engine.Inputs{Events: []ft.Event{ask}})
	for range 10 {
		if a := r.state.Pending(nil); len(a) > 0 && a[0].Verb == verb {
			return all
		}
		in := engine.Inputs{Events: r.finish(), Written: r.written()}
		r.step(in)
	}
	t.Fatalf("no %s became pending", verb)
	return nil
}

func running(id ft.InstanceID, generation uint32) ft.Instance {
	return ft.Instance{Ref: ref(id, generation), Born: start, Scope: ft.Scope{PID: 1}}
}

func dead(id ft.InstanceID) ft.Instance {
	in := running(id, 1)
	in.Exit = &ft.Exit{Code: 2, Known: true}
	return in
}

func TestRecoverSettlesWhatTheBrainLeft(t *testing.T) {
	both := []ft.Instance{running("web-1", 1), running("web-2", 1)}
	for _, c := range []struct {
		name string
		ask  ft.Event
		verb ft.Verb
		list []ft.Instance
		want string // outcome of each pending action, and what else is said
	}{
		{"starts may have come up", nil, ft.Start, both, "configured, start web-1 skipped, start web-2 skipped"},
		{
			"start did not come up", nil, ft.Start, both[1:],
			"configured, start web-1 skipped, start web-2 skipped",
		},
		{"start died at once", nil, ft.Start, []ft.Instance{dead("web-1"), both[1]}, "configured, start web-1 skipped, start web-2 skipped"},
		{"drain", command("reset-full", "web-1"), ft.Drain, both, "configured, found web-1, found web-2, drain web-1 skipped"},
		{"full reset not begun", command("reset-full", "web-1"), ft.FullReset, both, "configured, found web-1, found web-2, full-reset web-1 skipped"},
		{
			"full reset came up", command("reset-full", "web-1"), ft.FullReset,
			[]ft.Instance{running("web-1", 2), both[1]},
			"configured, found web-2, full-reset web-1 done",
		},
		{"full reset left nothing", command("reset-full", "web-1"), ft.FullReset, both[1:], "configured, found web-2, full-reset web-1 failed"},
		{"another went meanwhile", command("reset-full", "web-1"), ft.Drain, both[:1], "configured, found web-1, missing web-2, drain web-1 skipped"},
		{
			"one nobody knew", command("reset-full", "web-1"), ft.Drain, append([]ft.Instance{running("web-17", 3)}, both...),
			"configured, found web-1, found web-2, found web-17/3, drain web-1 skipped",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool(2)
			s := newStored(t)
			s.keep(story(t, p, c.ask, c.verb)...)
			now := start.Add(time.Hour)
			state, es, err := engine.Recover(t.Context(), p, s.store, listing{ins: c.list}, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := inWords(es); got != c.want {
				t.Errorf("settled:\n%s, want\n%s", got, c.want)
			}
			goesOn(t, state, es, now)
		})
	}
}

func inWords(es []ft.Event) string {
	var ws []string
	for _, e := range es {
		switch e := e.(type) {
		case *ft.Finished:
			how := "done"
			switch {
			case e.Skipped:
				how = "skipped"
			case e.Err != "":
				how = "failed"
			}
			ws = append(ws, fmt.Sprintf("%s %s", e.Action, how))
		default:
			w := ft.EventKind(e)
			if r := ft.EventRef(e); r.ID != "" {
				w += " " + r.String()
			}
			ws = append(ws, w)
		}
	}
	return strings.Join(ws, ", ")
}

// goesOn holds that a recovered pool comes to rest with as many instances as wanted and no operation left, and that
// no ID is given twice.
func goesOn(t *testing.T, state *plan.State, es []ft.Event, now time.Time) {
	t.Helper()
	r := &rig{t: t, now: now, state: state}
	r.loop = engine.New(state, nil, r, r)
	used := map[ft.InstanceID]bool{}
	for _, m := range state.Members(nil) {
		used[m.ID] = true
	}
	for _, e := range es {
		used[ft.EventRef(e).ID] = true
	}
	in := engine.Inputs{Events: append([]ft.Event{&ft.Began{Stamp: ft.Stamp{At: now}}}, es...)}
	for range 400 {
		r.step(in)
		in = engine.Inputs{Written: r.written()}
		for _, a := range r.done {
			f := &ft.Finished{Stamp: ft.Stamp{At: r.now}, Action: a}
			switch a.Verb {
			case ft.Start:
				if used[a.Ref.ID] && a.Ref.Generation == 1 && a.Ref.ID.Serial() > 2 {
					t.Errorf("%s was given a second time", a.Ref)
				}
				used[a.Ref.ID] = true
				in1 := running(a.Ref.ID, a.Ref.Generation)
				f.Instance = &in1
			case ft.FullReset:
				in1 := running(a.Ref.ID, a.Ref.Generation+1)
				f.Instance = &in1
			default:
			}
			in.Events = append(in.Events, f)
		}
		r.done = nil
		in.Events = append(in.Events, &ft.Health{Stamp: ft.Stamp{At: r.now}})
	}
	if s := state.Summary(r.now); s.Ready != 2 || len(s.Operations) != 0 {
		t.Errorf("in the end %d are ready, of 2; operations left: %+v; degraded: %q", s.Ready, s.Operations, s.DegradedWhy)
	}
}

func TestRecoverFromSnapshotIsTheSame(t *testing.T) {
	p := pool(2)
	es := story(t, p, command("reset-full", "web-1"), ft.Drain)
	ins := []ft.Instance{running("web-1", 1), running("web-2", 1)}
	snapshot := func(cut int) string {
		s := newStored(t)
		if cut > 0 {
			before := plan.New(p)
			for _, e := range es[:cut] {
				if err := before.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			b, err := before.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			upTo := s.keep(es[:cut]...)
			if err := s.store.SaveSnapshot(t.Context(), "web", upTo, b); err != nil {
				t.Fatal(err)
			}
		}
		if cut < len(es) {
			s.keep(es[cut:]...)
		}
		state, _, err := engine.Recover(t.Context(), p, s.store, listing{ins: ins}, start)
		if err != nil {
			t.Fatal(err)
		}
		b, err := state.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := snapshot(0)
	for _, cut := range []int{1, len(es) / 2, len(es)} {
		if got := snapshot(cut); got != want {
			t.Errorf("recovered from a snapshot after %d of %d events:\n%s\nwithout:\n%s", cut, len(es), got, want)
		}
	}
}

func TestRecoverFirstStartAndTroubles(t *testing.T) {
	p := pool(2)
	s := newStored(t)
	state, es, err := engine.Recover(t.Context(), p, s.store, listing{}, start)
	if err != nil || inWords(es) != "configured" || len(state.Members(nil)) != 0 {
		t.Errorf("the very first start: %q, %v", inWords(es), err)
	}
	if _, _, err := engine.Recover(t.Context(), p, s.store, listing{err: errors.New("no such directory")}, start); err == nil {
		t.Error("a driver that cannot list was taken for one without instances: they would be started twice")
	}
	if err := s.store.SaveSnapshot(t.Context(), "web", 0, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := engine.Recover(t.Context(), p, s.store, listing{}, start); err == nil || !strings.Contains(err.Error(), "recover pool web: snapshot:") {
		t.Errorf("a snapshot that is no state: %v", err)
	}
}
