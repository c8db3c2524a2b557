package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/driver/sim"
	"github.com/fettle-dev/fettle/engine"
)

// ticking is a sampler over a simulated driver that can be made to hang, fail or panic.
type ticking struct {
	*sim.Driver
	mu   sync.Mutex
	n    int
	how  func(ctx context.Context) error
	rows int
}

func (s *ticking) Sample(ctx context.Context, now time.Time, members []ft.Instance, f *ft.Frame) error {
	s.mu.Lock()
	s.n++
	s.rows = len(f.Rows)
	how := s.how
	s.mu.Unlock()
	if how != nil {
		if err := how(ctx); err != nil {
			return err
		}
	}
	return s.Driver.Sample(ctx, now, members, f)
}

func (s *ticking) set(how func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.how = how
}

func (s *ticking) count() (n, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.rows
}

// prompt is a journal that is written by a goroutine of its own after a while, or not at all.
type prompt struct {
	mu      sync.Mutex
	hanging bool
	batches []uint64
	written func(engine.Written)
}

func (p *prompt) Append(batch uint64, _ []ft.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, batch)
	if !p.hanging {
		p.answer()
	}
}

// answer tells that all batches are durable; the caller holds mu.
func (p *prompt) answer() {
	bs := p.batches
	p.batches = nil
	go func() {
		time.Sleep(time.Millisecond)
		for _, b := range bs {
			p.written(engine.Written{Batch: b, Seq: 100 + b})
		}
	}()
}

func (p *prompt) hang(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hanging = is; !is {
		p.answer()
	}
}

// engineUnderTest is a whole running loop in a bubble.
type engineUnderTest struct {
	loop    *engine.Loop
	driver  *sim.Driver
	sampler *ticking
	journal *prompt
	stop    func()

	mu     sync.Mutex
	events []ft.Event
}

func runEngine(t *testing.T, p ft.Pool) *engineUnderTest {
	t.Helper()
	w, err := sim.New(p, sim.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	x := &engineUnderTest{journal: &prompt{}}
	post := func(es ...ft.Event) { x.loop.Post(es...) }
	x.driver = sim.NewDriver(w, post)
	x.sampler = &ticking{Driver: x.driver}
	state := plan.New(p)
	judge, err := drift.New(w.Schema(), drift.Config{
		Interval: p.Detect.Interval.D(), Learn: p.Detect.Learn.D(), FalseAlarms: 1, Persist: p.Detect.Persist.D(), Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	exec := engine.NewLive(ctx, state.Pool, ft.Resolve(x.driver), x.driver.Front(), post)
	x.loop = engine.New(state, judge, x.journal, exec)
	x.journal.written = x.loop.Written
	x.loop.OnEvent(func(e ft.Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.events = append(x.events, e)
	})
	x.loop.Post(&ft.Began{Stamp: ft.Stamp{At: time.Now()}})
	ended := make(chan error, 1)
	go func() { ended <- x.loop.Run(ctx, x.sampler, p.Detect.Interval.D()) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		exec.Wait()
		time.Sleep(time.Second) // the journal's answers under way
	})
	t.Cleanup(x.stop)
	return x
}

func (x *engineUnderTest) heard() []ft.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.events)
}

func (x *engineUnderTest) ready(t *testing.T) (n int) {
	t.Helper()
	err := x.loop.View(t.Context(), func(s *plan.State, _ *drift.Judge) { n = s.Summary(time.Now()).Ready })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRunBringsAPoolUpAndSamplesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(3))
		time.Sleep(time.Minute)
		if n := x.ready(t); n != 3 {
			t.Errorf("%d ready, want 3", n)
		}
		if n, rows := x.sampler.count(); n < 59 || n > 60 || rows != 3 {
			t.Errorf("%d samples in a minute, of %d rows; want one a second, of 3", n, rows)
		}
		if what, is := x.loop.Stalled(time.Now()); is {
			t.Errorf("stalled: %s", what)
		}
		x.stop()
		if err := x.loop.View(t.Context(), nil); !errors.Is(err, engine.ErrStopped) {
			t.Errorf("view of a stopped loop: %v", err)
		}
		if err := x.loop.Ask(t.Context(), command("pause", "")); !errors.Is(err, engine.ErrStopped) {
			t.Errorf("asking a stopped loop: %v", err)
		}
	})
}

func TestRunRefusesANonsensicalInterval(t *testing.T) {
	l := engine.New(plan.New(pool(1)), nil, nil, nil)
	if err := l.Run(t.Context(), nil, 0); !errors.Is(err, ft.ErrInvalid) {
		t.Errorf("run with an interval of 0: %v", err)
	}
}

func TestSamplerThatHangsStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(2))
		time.Sleep(20 * time.Second)
		release := make(chan struct{})
		x.sampler.set(func(context.Context) error { <-release; return nil })
		time.Sleep(8 * time.Second)
		what, is := x.loop.Stalled(time.Now())
		if !is || !strings.Contains(what, "sampler hangs for 7s") && !strings.Contains(what, "sampler hangs for 8s") {
			t.Errorf("the watchdog says %q, want that the sampler hangs", what)
		}
		if err := x.loop.Ask(t.Context(), command("scale", "")); err != nil {
			t.Errorf("asking meanwhile: %v", err)
		}
		ref := ft.Ref{ID: "web-1", Generation: 1}
		x.loop.Post(&ft.Exited{Stamp: ft.Stamp{At: time.Now()}, Ref: ref, Exit: ft.Exit{Code: 1, Known: true}})
		if err := x.driver.Plant(func(w *sim.World) error { return w.Crash("web-1") }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if _, ok := said[*ft.Closed](x.heard()); !ok {
			t.Error("nothing was done about a crash while the sampler hangs")
		}
		x.sampler.set(nil)
		close(release)
		before, _ := x.sampler.count()
		time.Sleep(10 * time.Second)
		if n, _ := x.sampler.count(); n < before+9 {
			t.Error("sampling does not go on after the sampler came back")
		}
		if what, is := x.loop.Stalled(time.Now()); is {
			t.Errorf("still stalled: %s", what)
		}
	})
}

func TestSamplerThatFailsOrPanicsIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(1))
		for _, c := range []struct {
			how  func(context.Context) error
			says string
		}{
			{func(context.Context) error { return errors.New("no such process") }, "sampling fails: no such process"},
			{func(context.Context) error { panic("index out of range") }, "sampler panicked: index out of range"},
			{func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "deadline exceeded"},
		} {
			x.sampler.set(c.how)
			time.Sleep(25 * time.Second)
			if what, _ := x.loop.Stalled(time.Now()); !strings.Contains(what, c.says) {
				t.Errorf("the watchdog says %q, want %q", what, c.says)
			}
		}
		x.sampler.set(nil)
		time.Sleep(15 * time.Second)
		if what, is := x.loop.Stalled(time.Now()); is {
			t.Errorf("still said: %s", what)
		}
	})
}

func TestWatchdogSeesAStepAndAJournalThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(1))
		time.Sleep(20 * time.Second)
		x.journal.hang(true)
		if err := x.loop.Ask(t.Context(), command("pause", "")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Second)
		if what, _ := x.loop.Stalled(time.Now()); !strings.Contains(what, "journal hangs for 7s") {
			t.Errorf("the watchdog says %q, want that the journal hangs", what)
		}
		if j, ok := said[*ft.JournalState](x.heard()); !ok || j.Err == "" {
			t.Errorf("said of the journal: %v", j)
		}
		x.journal.hang(false)
		time.Sleep(2 * time.Second)
		if j, _ := said[*ft.JournalState](x.heard()); j.Err != "" {
			t.Errorf("said of the journal that works again: %s", j)
		}
		release := make(chan struct{})
		go func() {
			_ = x.loop.View(context.Background(), func(*plan.State, *drift.Judge) { <-release })
		}()
		time.Sleep(6 * time.Second)
		if what, _ := x.loop.Stalled(time.Now()); !strings.Contains(what, "engine in a view hangs for 6s") {
			t.Errorf("the watchdog says %q, want that a view hangs", what)
		}
		close(release)
	})
}

func TestAskTellsWhatTheStateRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(1))
		stray := &ft.Found{Stamp: ft.Stamp{At: time.Now()}, Instance: ft.Instance{Ref: ft.Ref{ID: "other-1", Generation: 1}}}
		if err := x.loop.Ask(t.Context(), stray); !errors.Is(err, ft.ErrConflict) {
			t.Errorf("an instance of another pool: %v, want a conflict", err)
		}
		if slices.Contains(x.heard(), ft.Event(stray)) {
			t.Error("what was refused is told as if it had been folded")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := x.loop.Ask(ctx, command("pause", "")); !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("asking in vain: %v", err)
		}
	})
}

func TestCheckpointIsTheStateAsOfItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := runEngine(t, pool(2))
		time.Sleep(10 * time.Second)
		x.journal.hang(true)
		if err := x.loop.Ask(t.Context(), command("pause", "")); err != nil {
			t.Fatal(err)
		}
		var batch uint64
		x.journal.mu.Lock()
		batch = x.journal.batches[len(x.journal.batches)-1]
		x.journal.mu.Unlock()
		go func() { time.Sleep(time.Second); x.journal.hang(false) }()
		begun := time.Now()
		b, upTo, err := x.loop.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(begun) < time.Second {
			t.Error("a checkpoint was given before what it includes was durable")
		}
		if upTo < 100+batch {
			t.Errorf("the checkpoint is up to %d, its last event is %d", upTo, 100+batch)
		}
		s, err := plan.Restore(b)
		if err != nil || !s.Summary(time.Now()).Paused {
			t.Errorf("the restored state is not as it was (%v)", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, again, err := x.loop.Checkpoint(ctx); err != nil || again < upTo {
			t.Errorf("the next checkpoint: up to %d, %v", again, err)
		}
	})
}
