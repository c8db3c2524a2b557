package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/driver/sim"
	"github.com/fettle-dev/fettle/engine"
)

// outcomes collects what an executor posts.
type outcomes struct {
	mu sync.Mutex
	es []ft.Event
}

func (o *outcomes) post(es ...ft.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.es = append(o.es, es...)
}

// of is the outcome of the action with an ID, nil if there is none yet.
func (o *outcomes) of(id uint64) *ft.Finished {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.es {
		if f, ok := e.(*ft.Finished); ok && f.Action.ID == id {
			return f
		}
	}
	return nil
}

// live is an executor over a simulated driver.
type live struct {
	outcomes
	pool   ft.Pool
	driver *sim.Driver
	exec   *engine.Live
	next   uint64
}

func newLive(t *testing.T, change func(*ft.Capabilities)) *live {
	t.Helper()
	x := &live{pool: pool(2)}
	w, err := sim.New(x.pool, sim.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	x.driver = sim.NewDriver(w, x.post)
	c := ft.Resolve(x.driver)
	if change != nil {
		change(&c)
	}
	x.exec = engine.NewLive(t.Context(), func() *ft.Pool { return &x.pool }, c, x.driver.Front(), x.post)
	return x
}

func ref(id ft.InstanceID, generation uint32) ft.Ref { return ft.Ref{ID: id, Generation: generation} }

// do begins an action and returns its ID.
func (x *live) do(v ft.Verb, r ft.Ref) uint64 {
	x.next++
	x.exec.Do(ft.Action{ID: x.next, Verb: v, Ref: r}, ft.Instance{Ref: r})
	return x.next
}

// did does it and waits for its outcome.
func (x *live) did(v ft.Verb, r ft.Ref) *ft.Finished {
	id := x.do(v, r)
	x.exec.Wait()
	return x.of(id)
}

func TestLiveCarriesOutEveryVerb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		web1 := ref("web-1", 1)
		f := x.did(ft.Start, web1)
		if f.Err != "" || f.Instance == nil || f.Instance.Ref != web1 || len(f.Knobs) == 0 || f.Took <= 0 {
			t.Fatalf("start: %+v, want an instance with its knobs", f)
		}
		for _, v := range []ft.Verb{ft.Admit, ft.Weigh, ft.Specialize, ft.Drain, ft.SoftReset, ft.Quarantine} {
			if f := x.did(v, web1); f.Err != "" {
				t.Errorf("%s: %s", v, f.Err)
			}
		}
		x.next++
		x.exec.Do(ft.Action{ID: x.next, Verb: ft.Tune, Ref: web1, Setting: ft.Setting{Knob: "cpu", Value: 150}}, ft.Instance{Ref: web1})
		x.exec.Wait()
		if f := x.of(x.next); f.Err != "" || f.Was == nil || f.Was.Value != 100 {
			t.Errorf("tune: %+v, want the value before", f)
		}
		if f := x.did(ft.FullReset, web1); f.Err != "" || f.Instance == nil || f.Instance.Generation != 2 {
			t.Errorf("full reset: %+v, want the next generation", f)
		}
		if f := x.did(ft.Admit, web1); !strings.Contains(f.Err, ft.ErrStale.Error()) {
			t.Errorf("admit of the life that ended: %q", f.Err)
		}
		if f := x.did(ft.Stop, ref("web-1", 2)); f.Err != "" {
			t.Errorf("stop: %s", f.Err)
		}
		if f := x.did(ft.Stop, ref("web-1", 2)); f.Err != "" {
			t.Errorf("stop of what is gone: %s", f.Err)
		}
	})
}

func TestLiveTellsWhatIsNotAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, func(c *ft.Capabilities) { c.Tuner, c.Specializer, c.SoftResetter, c.FullResetter = nil, nil, nil, nil })
		x.did(ft.Start, ref("web-1", 1))
		for _, v := range []ft.Verb{ft.Tune, ft.Specialize, ft.SoftReset, ft.FullReset} {
			if f := x.did(v, ref("web-1", 1)); !strings.Contains(f.Err, ft.ErrUnavailable.Error()) {
				t.Errorf("%s: %q, want it to say that the driver does not offer it", v, f.Err)
			}
		}
	})
}

func TestLiveTellsWhyAStartFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		if err := x.driver.Plant(func(w *sim.World) error { w.FailStarts(1, "exited with status 1"); return nil }); err != nil {
			t.Fatal(err)
		}
		f := x.did(ft.Start, ref("web-1", 1))
		if f.Err != "web-1 did not start: exited with status 1" || f.Output == "" || f.Instance != nil {
			t.Errorf("failed start: %+v, want why, and the last output apart", f)
		}
	})
}

func TestLiveOneVerbAtATimeOnAnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		begun := time.Now()
		start, admit := x.do(ft.Start, ref("web-1", 1)), x.do(ft.Admit, ref("web-1", 1))
		other := x.do(ft.Start, ref("web-2", 1))
		x.exec.Wait()
		for _, id := range []uint64{start, admit, other} {
			if f := x.of(id); f.Err != "" {
				t.Errorf("%s: %s", f.Action, f.Err)
			}
		}
		if a, b := x.of(start), x.of(admit); a.At.After(b.At) {
			t.Errorf("admit ended at %s, before its start at %s", b.At, a.At)
		}
		if took := x.of(other).At.Sub(begun); took != 2*time.Second {
			t.Errorf("the start of another took %s, as if it had waited", took)
		}
	})
}

func TestLiveCallThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		x.did(ft.Start, ref("web-1", 1))
		release := x.driver.Block("web-1")
		hung, after := x.do(ft.SoftReset, ref("web-1", 1)), x.do(ft.Admit, ref("web-1", 1))
		other := x.did(ft.Start, ref("web-2", 1))
		if other.Err != "" {
			t.Errorf("start of another instance: %s", other.Err)
		}
		x.exec.Wait()
		if f := x.of(hung); !strings.Contains(f.Err, "has not returned after") {
			t.Errorf("the call that hangs: %q", f.Err)
		}
		if f := x.of(after); !strings.Contains(f.Err, "earlier action") {
			t.Errorf("the next action on it: %q, want it refused: two verbs never run at once", f.Err)
		}
		release()
		synctest.Wait()
		if f := x.did(ft.Admit, ref("web-1", 1)); f.Err != "" {
			t.Errorf("after the call had returned: %s", f.Err)
		}
	})
}

func TestLiveStopsWhatStartedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		late := &lateStarter{Driver: x.driver}
		x.exec = engine.NewLive(t.Context(), func() *ft.Pool { return &x.pool }, ft.Resolve(late), nil, x.post)
		if f := x.did(ft.Start, ref("web-1", 1)); !strings.Contains(f.Err, "given up") {
			t.Fatalf("a start that ignores its context: %q", f.Err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if ins, _ := late.List(t.Context(), "web"); len(ins) != 0 {
			t.Errorf("still runs, and nobody knows: %v", ins)
		}
	})
}

// lateStarter starts an hour too late, whatever its context says.
type lateStarter struct{ *sim.Driver }

func (l *lateStarter) Start(_ context.Context, p *ft.Pool, r ft.Ref, w ft.Work) (ft.Instance, error) {
	time.Sleep(time.Hour)
	return l.Driver.Start(context.Background(), p, r, w)
}

func TestLivePanicOfADriverIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		x.exec = engine.NewLive(t.Context(), func() *ft.Pool { return &x.pool }, ft.Capabilities{Driver: panicking{}}, nil, x.post)
		if f := x.did(ft.Start, ref("web-1", 1)); !strings.Contains(f.Err, "panicked: no such map") {
			t.Errorf("outcome: %+v", f)
		}
		if f := x.did(ft.Admit, ref("web-1", 1)); f.Err != "" {
			t.Errorf("admit of a pool that serves nothing: %s", f.Err)
		}
		if f := x.did(ft.Drain, ref("web-1", 1)); f.Err != "" {
			t.Errorf("drain of a pool that serves nothing: %s", f.Err)
		}
	})
}

type panicking struct{ ft.Driver }

func (panicking) Start(context.Context, *ft.Pool, ft.Ref, ft.Work) (ft.Instance, error) {
	panic("no such map")
}

func TestLiveReportsNothingThatItsEndCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		x.exec = engine.NewLive(ctx, func() *ft.Pool { return &x.pool }, ft.Resolve(x.driver), x.driver.Front(), x.post)
		id := x.do(ft.Start, ref("web-1", 1))
		time.Sleep(time.Second)
		cancel()
		x.exec.Wait()
		if f := x.of(id); f != nil {
			t.Errorf("reported %s: it would be journaled as a failure that it was not", f)
		}
	})
}

// failingFront fails to remove: the router is away.
type failingFront struct{ ft.Front }

func (failingFront) Remove(context.Context, ft.Ref) error { return errors.New("router is away") }

func TestLiveDoesNotStopWhatTheRouterMayStillUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, nil)
		x.did(ft.Start, ref("web-1", 1))
		x.exec = engine.NewLive(t.Context(), func() *ft.Pool { return &x.pool }, ft.Resolve(x.driver), failingFront{}, x.post)
		for _, v := range []ft.Verb{ft.Stop, ft.FullReset} {
			if f := x.did(v, ref("web-1", 1)); !strings.Contains(f.Err, "router is away") {
				t.Errorf("%s: %q", v, f.Err)
			}
		}
		if ins, _ := x.driver.List(t.Context(), "web"); len(ins) != 1 || ins[0].Ref != ref("web-1", 1) {
			t.Errorf("runs: %v, want web-1 as it was", ins)
		}
	})
}

// neverUp is a driver whose starts only end when they are told to.
type neverUp struct{ *sim.Driver }

func (neverUp) Start(ctx context.Context, _ *ft.Pool, r ft.Ref, _ ft.Work) (ft.Instance, error) {
	<-ctx.Done()
	return ft.Instance{}, &ft.StartError{Ref: r, Why: ctx.Err().Error()}
}

func TestLiveAbandonsStartsWhenThePoolStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLive(t, func(c *ft.Capabilities) { c.Driver = neverUp{c.Driver.(*sim.Driver)} })
		began := time.Now()
		id := x.do(ft.Start, ref("web-1", 1))
		synctest.Wait()
		x.exec.Abandon()
		x.exec.Wait()
		if f := x.of(id); f == nil || f.Err == "" {
			t.Fatalf("the start ended with %v", f)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop waited %s for a start", took)
		}
		if f := x.did(ft.Stop, ref("web-1", 1)); f.Err != "" {
			t.Errorf("after it a stop fails: %s", f.Err)
		}
	})
}
