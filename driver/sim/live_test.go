package sim

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// trouble is planted after so long.
type trouble struct {
	after time.Duration
	plant func(*World) error
}

// decided are the decisions in words, without their times.
type decided struct {
	mu    sync.Mutex
	lines []string
}

func (d *decided) heard(e ft.Event) {
	switch e := e.(type) {
	case *ft.Closed:
		if e.Kind == ft.Grow {
			return // starts that end at the same time are told in any order
		}
	case *ft.Opened, *ft.Intended, *ft.Recovered, *ft.Declined, *ft.TrialEnded, *ft.Braked:
	default:
		return
	}
	head, tail, ok := words(e)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, head+" "+ft.EventRef(e).String()+" ("+tail+")")
}

// TestRunningEngineDecidesLikeTheVirtualOne holds that goroutines, tickers, the live executor and the driver's
// sleeping change nothing of what is decided: the same faults in the same seeded world give the same decisions.
func TestRunningEngineDecidesLikeTheVirtualOne(t *testing.T) {
	// No time is a whole second, so that nothing coincides with a frame and its order is not left to chance.
	config := Config{Seed: 3, Start: 1700 * time.Millisecond}
	for _, c := range []struct {
		name     string
		n        int
		young    time.Duration
		troubles []trouble
		has      string // a decision that must be among them
	}{
		{"slow lock in a young one", 4, time.Hour, []trouble{
			{6*time.Minute + 500*time.Millisecond, func(w *World) error { return w.Slow("web-3", 60*time.Millisecond) }},
			{3 * time.Minute, nil},
		}, "close soft-reset web-3 (done)"},
		{"leak in an old one, a crash, a hang", 3, time.Second, []trouble{
			{6*time.Minute + 500*time.Millisecond, func(w *World) error { return w.Leak("web-2", 6<<20) }},
			{2 * time.Minute, func(w *World) error { return w.Crash("web-1") }},
			{2 * time.Minute, func(w *World) error { return w.Hang("web-3") }},
			{2 * time.Minute, nil},
		}, "close evict web-2 (done)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
			p.Size.Min, p.Heal.Young = c.n, ft.Duration(c.young)
			p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
			p.Defaults()
			virtual, live := &decided{}, &decided{}
			b := newBrain(t, p, config, virtual.heard)
			for _, tr := range c.troubles {
				b.run(tr.after)
				if tr.plant != nil {
					if err := tr.plant(b.world); err != nil {
						t.Fatal(err)
					}
				}
			}
			runLive(t, p, config, c.troubles, live)
			if d := cmp.Diff(virtual.lines, live.lines); d != "" {
				t.Errorf("decisions differ (- virtual, + live):\n%s", d)
			}
			if all := strings.Join(live.lines, "\n"); !strings.Contains(all, c.has) {
				t.Errorf("%q is not among what was decided:\n%s", c.has, all)
			}
		})
	}
}

// runLive runs the engine's own loop, executor and journal goroutines in a bubble.
func runLive(t *testing.T, p ft.Pool, c Config, troubles []trouble, d *decided) {
	synctest.Test(t, func(t *testing.T) {
		w, err := New(p, c)
		if err != nil {
			t.Fatal(err)
		}
		var loop *engine.Loop
		post := func(es ...ft.Event) { loop.Post(es...) }
		driver := NewDriver(w, post)
		ctx, cancel := context.WithCancel(t.Context())
		state := plan.New(p)
		exec := engine.NewLive(ctx, state.Pool, ft.Resolve(driver), driver.Front(), post)
		loop = engine.New(state, newJudge(t, w.Schema(), &p), journalFunc(func(batch uint64, _ []ft.Event) {
			time.AfterFunc(2*time.Millisecond, func() { loop.Written(engine.Written{Batch: batch, Seq: batch}) })
		}), exec)
		loop.OnEvent(d.heard)
		loop.Post(&ft.Began{Stamp: ft.Stamp{At: time.Now()}, Version: "test", PID: 1}, &ft.Configured{Stamp: ft.Stamp{At: time.Now()}, Pool: p})
		var running sync.WaitGroup
		running.Go(func() {
			if err := loop.Run(ctx, driver, p.Detect.Interval.D()); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() {
			_ = driver.Watch(ctx, func(r ft.Ref, x ft.Exit) {
				loop.Post(&ft.Exited{Stamp: ft.Stamp{At: time.Now().UTC()}, Ref: r, Exit: x})
			})
		})
		for _, tr := range troubles {
			time.Sleep(tr.after)
			if tr.plant != nil {
				if err := driver.Plant(tr.plant); err != nil {
					t.Error(err)
				}
			}
		}
		if what, is := loop.Stalled(time.Now()); is {
			t.Errorf("stalled: %s", what)
		}
		cancel()
		running.Wait()
		exec.Wait()
		time.Sleep(time.Second) // what the journal still had to say
	})
}
