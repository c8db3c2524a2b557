package plan

import (
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

var cpuKnob = ft.Knob{Name: "cpu", Min: 10, Max: 1000, Step: 1.5, Value: 100, Relieves: []string{ft.DimRunQueue, ft.DimP99}, Rung: ft.Medium, Draws: ft.CPU}

// tuned is a pool of four with a CPU knob, nothing held back, up for long enough to have placebos.
func tuned(t *testing.T, change ...func(*ft.Pool)) *world {
	t.Helper()
	w := newWorld(t, webPool(4, append([]func(*ft.Pool){func(p *ft.Pool) { p.Heal.HoldBack = 1e-9 }}, change...)...))
	w.knobs = []ft.Knob{cpuKnob}
	w.up()
	w.serve(5*time.Minute, nil)
	return w
}

// serve lets time pass with figures each five seconds; p99 tells a member's latency.
func (w *world) serve(d time.Duration, p99 func(serial uint32) float64) {
	for end := w.now.Add(d); w.now.Before(end); {
		h := &ft.Health{Stamp: w.stamp()}
		for _, m := range w.s.d.Members {
			v := 0.02
			if p99 != nil {
				v = p99(m.serial())
			}
			v *= 1 + 0.1*(fraction(uint64(w.now.Unix())<<8|uint64(m.serial()))-0.5)
			h.Members = append(h.Members, ft.MemberFigures{Ref: m.In.Ref, Figures: ft.Figures{Rate: 50, P50: v / 3, P99: v, CPU: 0.3}})
		}
		w.do(h)
		w.run(5 * time.Second)
	}
}

// slow judges a member Medium for waiting for a CPU.
func (w *world) slow(serial uint32) {
	w.do(w.judge(serial, ft.Medium, ft.InstanceChanged, func(j *ft.Judged) {
		j.Evidence = []ft.Evidence{{Dimension: ft.DimRunQueue, Unit: "s", Z: 6, Value: 0.3, Usual: 0.05}}
	}))
}

func TestATrialThatHelpsIsKeptAndLaterGivenBack(t *testing.T) {
	w := tuned(t)
	helped := func(serial uint32) float64 {
		if serial == 2 && w.value("web-2/cpu", &cpuKnob) > 100 {
			return 0.011
		}
		return 0.02
	}
	w.slow(2)
	w.serve(2*time.Minute, helped)
	w.want("opened", "tune web-2: run_queue 300 ms, usually 50 ms: cpu 100 -> 150", 1)
	w.want("trial", "kept cpu 100 -> 150: the objective changed by -", 1)
	if v := w.value("web-2/cpu", &cpuKnob); v != 150 {
		t.Fatalf("cpu is %g\n%s", v, w.story())
	}
	w.do(w.judge(2, ft.Steady, ft.CauseUnknown))
	w.serve(time.Minute, helped)
	w.want("recovered", "cured by tuning", 1)
	w.serve(12*time.Minute, nil) // it is fast without by now
	w.want("opened", "steady for long: is cpu = 150 still needed? tried with 100", 1)
	w.want("trial", "given back", 1)
	if v := w.value("web-2/cpu", &cpuKnob); v != 100 {
		t.Fatalf("cpu is %g\n%s", v, w.story())
	}
	w.replayed(*w.s.Pool())
}

func TestATrialThatDoesNotHelpIsRevertedAndNotRepeated(t *testing.T) {
	w := tuned(t)
	w.slow(2)
	w.serve(2*time.Minute, nil)
	w.want("trial", "reverted cpu: no significant gain", 0)
	w.want("trial", "reverted cpu 100 -> 150: no significant gain", 1)
	w.serve(3*time.Minute, nil)
	w.want("opened", "tune web-2: cpu goes back to 100", 1)
	w.want("opened", "cpu 100 -> 150", 1)
	w.want("declined", "the light steps are taken", 1)
}

func TestAHarmfulTrialIsRevertedAtOnce(t *testing.T) {
	w := tuned(t)
	w.slow(2)
	w.run(5 * time.Second)
	w.serve(20*time.Second, func(serial uint32) float64 {
		if serial == 2 {
			return 0.05
		}
		return 0.02
	})
	w.want("trial", "reverted at once", 1)
	if v := w.value("web-2/cpu", &cpuKnob); v != 100 {
		t.Fatalf("cpu is %g\n%s", v, w.story())
	}
}

func TestMitigationDoesNotWaitForATrial(t *testing.T) {
	w := tuned(t)
	w.slow(2)
	w.run(5 * time.Second)
	w.do(w.judge(2, ft.Critical, ft.InstanceChanged))
	w.run(15 * time.Second)
	w.want("trial", "reverted cpu: the drift became critical meanwhile", 1)
	w.want("opened", "soft-reset web-2", 1)
}

func TestTrialsAreAThirdOfThePoolAtMost(t *testing.T) {
	w := tuned(t, func(p *ft.Pool) { p.Heal.Breaker = 1 })
	for i := range uint32(4) {
		w.slow(i + 1)
	}
	w.run(10 * time.Second)
	w.want("opened", "tune web-", 1)
	w.want("declined", "1 trials are under way in this pool, at most 1 may be", 3)
}

func TestAShareIsHeldBack(t *testing.T) {
	w := tuned(t, func(p *ft.Pool) { p.Heal.HoldBack = 1 })
	w.slow(2)
	w.serve(time.Minute, nil)
	w.want("opened", "tune", 0)
	w.want("declined", "held back to measure what adjusting gains", 1)
	w.do(w.judge(2, ft.Critical, ft.InstanceChanged)) // mitigation never is
	w.run(10 * time.Second)
	w.want("opened", "soft-reset web-2", 1)
}

func TestAWorkerPoolIsNotTuned(t *testing.T) {
	w := tuned(t, func(p *ft.Pool) { p.Serve, p.Listen = ft.None, "" })
	w.slow(2)
	w.run(time.Minute)
	w.want("opened", "tune", 0)
	w.want("declined", "this pool serves nothing to measure it by", 1)
}

func TestAdjustByAPersonIsPinned(t *testing.T) {
	w := tuned(t)
	cmd := func(v float64) {
		w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "adjust", Target: "web-2", Set: &ft.Setting{Knob: "cpu", Value: v}, By: "cli root"}})
		w.run(5 * time.Second)
	}
	cmd(150)
	if v := w.value("web-2/cpu", &cpuKnob); v != 150 {
		t.Fatalf("cpu is %g\n%s", v, w.story())
	}
	w.want("trial", "", 0)
	w.slow(2)
	w.run(time.Minute)
	w.want("declined", "cpu was set by a person", 1)
	cmd(2000)
	w.want("declined", "adjust asked by cli root: cpu = 2000 is not between 10 and 1000", 1)
	cmd(500)
	w.want("declined", "cpu = 500 does not fit the pool's cpu budget", 1)
	rows, _ := w.s.Rows(nil, nil, w.now)
	if rows[1].Settings <= rows[0].Settings {
		t.Fatalf("settings version %d, others %d", rows[1].Settings, rows[0].Settings)
	}
}

func TestWhileTheScoreFallsTheNextStepWaits(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged, func(j *ft.Judged) { j.Verdict.Score = 60 }))
	w.run(10 * time.Second)
	for score := float32(50); score > 6; score *= 0.7 {
		w.do(w.judge(3, ft.Critical, ft.InstanceChanged, func(j *ft.Judged) { j.Verdict.Score = score }))
		w.run(8 * time.Second)
	}
	w.want("opened", "full-reset", 0)
	w.do(w.judge(3, ft.Steady, ft.CauseUnknown))
	w.run(10 * time.Second)
	w.want("recovered", "cured by soft reset: score 60.0 -> 0.4", 1)
}

func TestALeakIsHandledBeforeItsLimit(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Limits.Memory = 1 << 30 }))
	w.up()
	w.run(2 * time.Minute)
	leak := func(in time.Duration) *ft.Judged {
		return w.judge(3, ft.High, ft.InstanceChanged, func(j *ft.Judged) {
			j.Evidence = []ft.Evidence{{Dimension: ft.DimAnon, Unit: "B", Z: 9, Value: 700 << 20, Usual: 96 << 20}}
			j.Forecast = &ft.Foreseen{Dimension: ft.DimRSS, At: w.now.Add(in), Slope: 4 << 20, Limit: 1 << 30}
		})
	}
	w.do(leak(time.Hour))
	w.run(time.Minute)
	w.want("opened", "reset", 0)
	limit := w.now.Add(80 * time.Second)
	w.do(leak(80 * time.Second))
	w.run(70 * time.Second)
	w.want("opened", "soft-reset web-3: memory_anon 700 MiB, usually 96 MiB; memory_rss reaches its limit", 1)
	w.want("opened", "full-reset web-3", 1) // sooner than a whole watch time, since the limit is near
	if !w.now.Before(limit) {
		t.Fatal("too late")
	}
	for _, e := range w.log {
		if o, ok := e.(*ft.Opened); ok && strings.Contains(o.Reason.Rule, "drift-") {
			t.Fatalf("rule %s", o.Reason.Rule)
		}
	}
}
