package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func TestStartsToMinAndServes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 50} {
		w := newWorld(t, webPool(n))
		w.up()
		w.run(time.Minute)
		if len(w.procs) != n || len(w.service) != n {
			t.Fatalf("%d run and %d serve, want %d\n%s", len(w.procs), len(w.service), n, w.story())
		}
		w.want("opened", "grow", n)
		w.replayed(webPool(n))
	}
}

func TestSoftResetCuresAYoungOne(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(2 * time.Second)
	w.want("opened", "", 4) // drift must persist
	w.run(5 * time.Second)
	w.want("opened", "soft-reset web-3: latency_p99 200 ms, usually 20 ms; it is young (2m7s): soft reset first", 1)
	w.do(w.judge(3, ft.Steady, ft.CauseUnknown))
	w.run(10 * time.Second)
	w.want("recovered", "web-3: latency_p99 200 ms, usually 20 ms: cured by soft reset: score 7.1 -> 0.4 within", 1)
	w.want("opened", "", 5)
	w.replayed(webPool(4))
}

func TestFullResetFollowsWhereTheSoftOneDidNotCure(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(20 * time.Second)
	w.want("opened", "soft-reset web-3", 1)
	w.want("opened", "full-reset web-3", 0) // it is watched
	w.run(25 * time.Second)
	w.want("opened", "full-reset web-3: latency_p99 200 ms, usually 20 ms; the soft reset did not cure it: full reset", 1)
	if got := w.ref(3).Generation; got != 2 {
		t.Fatalf("generation %d after a full reset\n%s", got, w.story())
	}
	w.do(w.judge(3, ft.Steady, ft.CauseUnknown))
	w.run(10 * time.Second)
	w.want("recovered", "cured by full reset", 1)
}

func TestAnOldOneIsReplacedWhereThereIsRoom(t *testing.T) {
	for _, c := range []struct {
		max  int
		want string
	}{
		{5, "evict web-3"},
		{4, "full-reset web-3"},
	} {
		w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Size.Max = c.max }))
		w.up()
		w.run(2 * time.Hour)
		w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
		w.run(time.Minute)
		w.want("opened", c.want, 1)
		w.want("opened", "", 5) // and nobody else is touched
		if len(w.service) != 4 {
			t.Fatalf("%d serve\n%s", len(w.service), w.story())
		}
		w.replayed(*w.s.Pool())
	}
}

func TestEvictionIsToldByTheReplacement(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Hour)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(10 * time.Second)
	w.do(w.judge(5, ft.Steady, ft.CauseUnknown))
	w.run(10 * time.Second)
	w.want("recovered", "web-3: latency_p99 200 ms, usually 20 ms: cured by eviction, web-5 serves in its place: score 7.1 -> 0.4", 1)
	w.want("closed", "evict web-3 done: web-5 serves in its place", 1)
}

func TestTheLastOneInServiceIsNotTaken(t *testing.T) {
	w := newWorld(t, webPool(1))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(1, ft.Critical, ft.InstanceChanged))
	w.run(30 * time.Second)
	w.want("opened", "grow web-2: stands in for web-1", 1)
	w.want("opened", "soft-reset web-1", 1)
	w.do(w.judge(1, ft.Steady, ft.CauseUnknown))
	w.run(time.Minute)
	w.want("recovered", "cured by soft reset", 1)
	w.want("opened", "shrink web-2", 1)
	if len(w.procs) != 1 {
		t.Fatalf("%d run\n%s", len(w.procs), w.story())
	}
	w.replayed(webPool(1))
}

func TestWithoutRoomTheQueueHoldsRequests(t *testing.T) {
	w := newWorld(t, webPool(1, func(p *ft.Pool) { p.Size.Max = 1 }))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(1, ft.Critical, ft.InstanceChanged))
	w.run(30 * time.Second)
	w.want("opened", "no room for another: requests wait in the queue", 1)
}

func TestPoolWideDriftTouchesNobody(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	for i := range uint32(4) {
		w.do(w.judge(i+1, ft.Critical, ft.WorkloadChanged, func(j *ft.Judged) { j.Verdict.Extent = ft.WholePool }))
	}
	w.run(10 * time.Minute)
	w.want("opened", "", 4)
	w.want("intended", "", 8)
	w.want("declined", "the pool drifts alike", 4) // said once each
	w.want("braked", "", 0)
}

func TestWorkloadDriftIsAdaptedToNeverReset(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Image.Hooks.Reload = &ft.Hook{Signal: "USR1"} }))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(2, ft.Critical, ft.WorkloadChanged))
	w.run(30 * time.Second)
	w.want("opened", "respecialize web-2: its workload changed", 1)
	w.run(time.Minute)
	w.want("intended", "rebaseline web-2: its new workload is stable for 30s and harms nothing", 1)
	w.do(w.judge(2, ft.Steady, ft.CauseUnknown))
	w.run(10 * time.Second)
	w.want("recovered", "cured by calling it normal", 1)
	w.want("intended", "drain", 0)
}

// What changes again and again is called normal ever more rarely: after 1, 2, 4 and then each 5 minutes.
func TestWorkloadThatGoesOnChangingIsCalledNormalEverMoreRarely(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(2, ft.Medium, ft.WorkloadChanged))
	w.run(4 * time.Minute)
	w.want("intended", "rebaseline web-2: its new workload is stable for 1m and harms nothing", 2)
	w.run(16 * time.Minute)
	w.want("intended", "rebaseline web-2", 6)
	w.want("intended", "drain", 0)
}

// A probe that fails whatever is done, such as one that asks for a database that is down, makes no storm of replacements.
func TestAProbeThatAlwaysFailsIsHeldBack(t *testing.T) {
	p := webPool(2)
	w := newWorld(t, p)
	w.up()
	for range 10 * 60 {
		for ref := range w.service {
			m := w.s.life(ref)
			if m != nil && m.Silent == nil {
				w.do(&ft.Unresponsive{Stamp: w.stamp(), Ref: m.In.Ref, Probe: "liveness", Silent: ft.Duration(time.Minute)})
			}
		}
		w.run(time.Second)
	}
	if n := w.said("opened", "evict") + w.said("opened", "full-reset"); n < 4 || n > 30 {
		t.Errorf("%d replacements and resets within ten minutes\n%s", n, w.story())
	}
	w.replayed(p)
}

// A restart that is forced passes over pause and budgets, and still goes from one to the next.
func TestAForcedRestartRolls(t *testing.T) {
	w := newWorld(t, webPool(3))
	w.up()
	w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "pause", By: "cli root"}})
	w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "restart", By: "cli root", Force: true}})
	for range 600 {
		w.run(100 * time.Millisecond)
		if len(w.service) < 2 {
			t.Fatalf("%d of 3 serve\n%s", len(w.service), w.story())
		}
	}
	for i := range uint32(3) {
		if w.ref(i+1).Generation != 2 {
			t.Fatalf("%s was not restarted\n%s", w.ref(i+1), w.story())
		}
	}
}

func TestCrashesStartAnewWithBackoffAndDegrade(t *testing.T) {
	w := newWorld(t, webPool(2))
	w.up()
	for range 12 {
		w.run(30 * time.Second)
		if _, runs := w.procs["web-1"]; runs {
			w.do(w.exit(w.ref(1)))
		}
	}
	w.run(time.Second)
	w.want("opened", "replace web-1", 6)
	v := w.s.Summary(w.now)
	if !v.Degraded || !strings.Contains(v.DegradedWhy, "web-1 was restarted 7 times") || !strings.Contains(v.DegradedWhy, "panic: boom") {
		t.Fatalf("summary %+v\n%s", v, w.story())
	}
	w.run(15 * time.Minute)
	w.want("opened", "replace web-1", 7)
	w.replayed(webPool(2))
}

func TestStartsThatFailDoNotSpin(t *testing.T) {
	w := newWorld(t, webPool(2))
	w.fail = func(a *ft.Action) string {
		if a.Verb == ft.Start {
			return "web-1 did not start: exited with status 1"
		}
		return ""
	}
	w.do()
	w.run(10 * time.Minute)
	if n := w.said("finished", "start"); n > 20 {
		t.Fatalf("%d starts in ten minutes\n%s", n, w.story())
	}
	v := w.s.Summary(w.now)
	if !v.Degraded || !strings.Contains(v.DegradedWhy, "last output:\nboom") {
		t.Fatalf("summary %+v", v)
	}
	w.want("braked", "creation on", 1)
	w.fail = func(*ft.Action) string { return "" }
	w.run(20 * time.Minute)
	w.want("braked", "creation off", 1)
	if len(w.service) != 2 {
		t.Fatalf("%d serve after all\n%s", len(w.service), w.story())
	}
	w.replayed(webPool(2))
}

func TestASilentOneIsReplacedInEveryMode(t *testing.T) {
	for _, mode := range []ft.Mode{ft.Observe, ft.AdjustOnly, ft.HealAutomatic} {
		w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Mode = mode }))
		w.up()
		w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "pause", By: "cli"}})
		w.do(&ft.Unresponsive{Stamp: w.stamp(), Ref: w.ref(2), Probe: "readiness", Silent: ft.Duration(3 * time.Second)})
		w.run(5 * time.Second)
		w.want("opened", "evict web-2", 0) // it may come back
		w.run(5 * time.Second)
		w.want("opened", "evict web-2: it does not answer (readiness) for 10s: another takes its place", 1)
		w.run(time.Minute)
		w.want("recovered", "web-2: it does not answer (readiness): in order again by eviction, web-5 serves in its place", 1)
		if len(w.service) != 4 {
			t.Fatalf("%d serve\n%s", len(w.service), w.story())
		}
	}
}

func TestMemoryLimitActsWhileLearning(t *testing.T) {
	w := newWorld(t, webPool(2, func(p *ft.Pool) { p.Mode = ft.Observe }))
	w.do()
	w.run(5 * time.Second)
	for i := range uint32(2) {
		w.do(&ft.Exceeded{Stamp: w.stamp(), Ref: w.ref(i + 1), Limit: "memory", Value: 200 << 20, Bound: 100 << 20})
	}
	w.run(500 * time.Millisecond)
	w.want("opened", "full-reset", 1) // one after the other
	w.run(time.Minute)
	w.want("opened", "memory limit exceeded: 200 MiB, at most 100 MiB: drained and fully reset", 2)
	if w.ref(1).Generation != 2 || w.ref(2).Generation != 2 {
		t.Fatalf("not reset\n%s", w.story())
	}
}

func TestAMemoryLimitThatIsTooLowDoesNotSpin(t *testing.T) {
	w := newWorld(t, webPool(2))
	w.up()
	for end := w.now.Add(30 * time.Minute); w.now.Before(end); w.run(5 * time.Second) {
		if m := w.s.member("web-1"); m.serving() && m.Over == nil {
			w.do(&ft.Exceeded{Stamp: w.stamp(), Ref: m.In.Ref, Limit: "memory", Value: 200 << 20, Bound: 100 << 20})
		}
	}
	if n := w.said("opened", "full-reset web-1"); n < 7 || n > 10 {
		t.Fatalf("%d resets in half an hour\n%s", n, w.story())
	}
	if v := w.s.Summary(w.now); !v.Degraded {
		t.Fatalf("summary %+v", v)
	}
}

func TestSoftResetThatFailsBecomesFullThenQuarantine(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.fail = func(a *ft.Action) string {
		if a.Verb == ft.SoftReset || a.Verb == ft.FullReset {
			return "hook failed"
		}
		return ""
	}
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(2 * time.Minute)
	w.want("closed", "soft-reset web-3 failed: the soft reset failed, full reset next: hook failed", 1)
	w.want("opened", "full-reset web-3: its soft reset failed", 1)
	w.want("closed", "full-reset web-3 failed: quarantined, another is started", 1)
	w.want("opened", "grow web-5", 1)
	if len(w.service) != 4 {
		t.Fatalf("%d serve\n%s", len(w.service), w.story())
	}
	w.run(2 * time.Hour)
	if w.s.member("web-3") != nil {
		t.Fatalf("quarantine never ends\n%s", w.story())
	}
	w.replayed(webPool(4))
}

func TestBreakerHoldsPlannedActions(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(1, ft.Critical, ft.InstanceChanged), w.judge(2, ft.Critical, ft.InstanceChanged))
	w.run(5 * time.Minute)
	w.want("braked", "breaker on: 2 of 4 instances look unhealthy", 1)
	w.want("opened", "reset", 0)
	w.want("declined", "the breaker is on", 2)
	w.do(w.judge(2, ft.Steady, ft.CauseUnknown))
	w.run(time.Minute)
	w.want("braked", "breaker off", 1)
	w.want("opened", "soft-reset web-1", 1)
}

func TestHoldOffWaitsForFreshFrames(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(1, ft.Critical, ft.InstanceChanged), &ft.Began{Stamp: w.stamp(), Version: "2"})
	w.want("intended", "admit", 8) // the front is told again
	w.run(5 * time.Minute)
	w.want("opened", "reset", 0)
	w.want("braked", "hold-off on", 1)
	w.do(&ft.Health{Stamp: w.stamp()})
	w.run(time.Minute)
	w.want("braked", "hold-off off", 1)
	w.want("opened", "soft-reset web-1", 1)
}

func TestJournalThatFailsStopsDisruptionNotService(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(&ft.JournalState{Stamp: w.stamp(), Err: "disk full"})
	w.do(w.judge(1, ft.Critical, ft.InstanceChanged))
	w.do(w.exit(w.ref(2)))
	w.run(time.Minute)
	w.want("opened", "grow web-5", 1)
	w.want("intended", "drain", 0)
	w.want("intended", "full-reset", 0)
	w.want("declined", "the journal fails", 1)
	w.do(&ft.JournalState{Stamp: w.stamp()})
	w.run(2 * time.Minute)
	w.want("opened", "shrink web-2", 1)
	w.want("opened", "soft-reset web-1", 1)
	if len(w.service) != 4 {
		t.Fatalf("%d serve\n%s", len(w.service), w.story())
	}
}

func TestCommands(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Size.Max = 8 }))
	w.up()
	cmd := func(c ft.Command) {
		t.Helper()
		c.By = "cli root"
		w.do(&ft.Commanded{Stamp: w.stamp(), Command: c})
	}
	cmd(ft.Command{Kind: "scale", Size: 9})
	w.want("declined", "scale asked by cli root: 9 is not between 0 and size.max, 8", 1)
	cmd(ft.Command{Kind: "scale", Size: 6})
	w.run(10 * time.Second)
	if len(w.service) != 6 {
		t.Fatalf("%d serve\n%s", len(w.service), w.story())
	}
	cmd(ft.Command{Kind: "scale", Size: 3})
	w.run(10 * time.Second)
	if len(w.service) != 3 || len(w.procs) != 3 || w.s.member("web-6") != nil {
		t.Fatalf("%d serve\n%s", len(w.service), w.story())
	}
	cmd(ft.Command{Kind: "restart"})
	w.run(time.Minute)
	for i := range uint32(3) {
		if w.ref(i+1).Generation != 2 {
			t.Fatalf("%s was not restarted\n%s", w.ref(i+1), w.story())
		}
	}
	cmd(ft.Command{Kind: "evict", Target: "web-9"})
	w.want("declined", "evict asked by cli root: there is no instance web-9", 1)
	cmd(ft.Command{Kind: "pause"})
	cmd(ft.Command{Kind: "reset-soft", Target: "web-1"})
	w.want("declined", "reset-soft asked by cli root: the pool is paused by cli root", 1)
	cmd(ft.Command{Kind: "reset-soft", Target: "web-1", Force: true})
	w.run(10 * time.Second)
	w.want("closed", "soft-reset web-1/2 done", 1)
	cmd(ft.Command{Kind: "resume"})
	cmd(ft.Command{Kind: "evict", Target: "web-2"})
	w.run(10 * time.Second)
	w.want("closed", "evict web-2/2 done: web-7 serves in its place", 1)
	cmd(ft.Command{Kind: "accept"})
	w.want("intended", "what it does now is normal, said cli root", 1)
	cmd(ft.Command{Kind: "forget", Target: "web-1"})
	w.want("intended", "rebaseline web-1/2: all that was learnt of it is forgotten", 1)
	cmd(ft.Command{Kind: "dance"})
	w.want("declined", "dance asked by cli root: no such command", 1)
	w.run(time.Second)
	w.replayed(*w.s.Pool())
	cmd(ft.Command{Kind: "stop"})
	w.run(time.Minute)
	if len(w.procs) != 0 || len(w.s.d.Members) != 0 {
		t.Fatalf("%d run after stop\n%s", len(w.procs), w.story())
	}
}

func TestAnExitReportedBeforeTheStartThatMadeItIsNotLost(t *testing.T) {
	w := newWorld(t, webPool(2))
	w.early = func(a *ft.Action) bool { return a.Verb == ft.Start && a.Ref.ID == "web-1" }
	w.do()
	w.run(20 * time.Second)
	w.want("intended", "admit web-1: ", 0)
	w.want("opened", "replace web-1: it exited with status 1: started anew", 1)
	if len(w.service) != 2 {
		t.Fatalf("%d serve\n%s", len(w.service), w.story())
	}
	w.early = func(a *ft.Action) bool { return a.Verb == ft.FullReset && a.Ref.Generation == 2 }
	w.do(w.exit(w.ref(1)))
	w.run(20 * time.Second)
	if got := w.ref(1).Generation; got != 4 || len(w.service) != 2 {
		t.Fatalf("generation %d, %d serve\n%s", got, len(w.service), w.story())
	}
	w.replayed(webPool(2))
}

func TestAdoption(t *testing.T) {
	w := newWorld(t, webPool(4))
	for i := range uint32(4) {
		ref := ft.Ref{ID: ft.NewInstanceID("web", 10+i), Generation: 3}
		w.serials[ref.ID], w.procs[ref.ID] = true, 3
		w.apply(&ft.Found{Stamp: w.stamp(), Instance: *w.instance(ref)})
	}
	w.do()
	w.run(10 * time.Second)
	w.want("intended", "start", 0)
	w.want("intended", "admit", 4)
	w.do(w.exit(ft.Ref{ID: "web-12", Generation: 3}))
	w.run(10 * time.Second)
	if got := w.ref(12); got.Generation != 4 {
		t.Fatalf("%s\n%s", got, w.story())
	}
	w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "evict", Target: "web-10"}})
	w.want("intended", "start web-14", 1)
}

func TestObserveOnlyExplains(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Mode = ft.Observe }))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(10 * time.Minute)
	w.want("intended", "", 8)
	w.want("declined", "mode observe, in mode heal this would follow: soft reset", 1)
	plan := w.s.Preview(w.now)
	var verbs []string
	for _, a := range plan {
		verbs = append(verbs, a.String())
	}
	if got := strings.Join(verbs, ", "); got != "drain web-3, soft-reset web-3, admit web-3" {
		t.Fatalf("preview %q", got)
	}
}

func TestDisruptionsAnHourAreBoundedByReason(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Heal.PerHour = 2 }))
	w.up()
	w.run(2 * time.Minute)
	for i := range uint32(3) {
		w.do(w.judge(i+1, ft.Critical, ft.InstanceChanged))
		w.run(10 * time.Second)
		w.do(w.judge(i+1, ft.Steady, ft.CauseUnknown))
		w.run(10 * time.Second)
		if i == 2 {
			w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
			w.run(10 * time.Second)
		}
	}
	w.want("opened", "soft-reset", 2)
	w.want("declined", "2 planned disruptions began in the last hour, at most 2 may", 2) // once for each time it fell ill
	w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "reset-soft", Target: "web-4", By: "cli"}})
	w.run(10 * time.Second)
	w.want("opened", "soft-reset web-4: reset-soft asked by cli", 1) // people have a budget of their own
	w.run(time.Hour)
	w.want("opened", "evict web-3", 1) // it is old by now
	if n := w.s.Summary(w.now).DisruptionsLastHour; n != 1 {
		t.Fatalf("%d disruptions in the last hour\n%s", n, w.story())
	}
}

func TestValidIsAskedAgainRightBeforeTheAct(t *testing.T) {
	drained := func(change func(w *world)) error {
		w := newWorld(t, webPool(4))
		w.up()
		w.run(2 * time.Minute)
		w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
		w.run(3*time.Second + 500*time.Millisecond)
		p := w.s.Pending(nil)
		if len(p) != 1 || p[0].Verb != ft.Drain {
			t.Fatalf("pending %v\n%s", p, w.story())
		}
		if err := w.s.Valid(&p[0], w.now); err != nil {
			t.Fatal(err)
		}
		change(w)
		return w.s.Valid(&p[0], w.now)
	}
	for _, c := range []struct {
		name   string
		change func(w *world)
		kind   error
		says   string
	}{
		{"it is better", func(w *world) { w.do(w.judge(3, ft.Low, ft.InstanceChanged)) }, ft.ErrBusy, "it is better by itself: low"},
		{"the pool drifts", func(w *world) {
			w.do(w.judge(3, ft.Critical, ft.InstanceChanged, func(j *ft.Judged) { j.Verdict.Extent = ft.WholePool }))
		}, ft.ErrBusy, "the whole pool drifts"},
		{"the breaker", func(w *world) { w.do(w.judge(1, ft.Critical, ft.InstanceChanged)) }, ft.ErrBusy, "the breaker is on"},
		{"a pause", func(w *world) {
			w.do(&ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "pause", By: "ann"}})
		}, ft.ErrBusy, "the pool is paused by ann"},
		{"the others left", func(w *world) {
			for _, i := range []uint32{1, 2, 4} {
				w.apply(w.exit(w.ref(i)))
			}
		}, ft.ErrBusy, "last one in service"},
		{"done meanwhile", func(w *world) { w.run(time.Second) }, ft.ErrConflict, "not under way"},
	} {
		if err := drained(c.change); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v, %q", c.name, err, c.kind, c.says)
		}
	}
}

func TestRowsLeaveOutWhatHasNoProcessAndHoldWhatIsUnderAnAction(t *testing.T) {
	w := newWorld(t, webPool(4, func(p *ft.Pool) { p.Heal.Breaker = 1 }))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.exit(w.ref(1)))
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(500 * time.Millisecond)
	w.do(&ft.Unresponsive{Stamp: w.stamp(), Ref: w.ref(4), Probe: "readiness"})
	rows, ins := w.s.Rows(nil, nil, w.now)
	if len(rows) != 3 || len(ins) != 3 {
		t.Fatalf("%d rows of 3 that run", len(rows))
	}
	for i, r := range rows {
		ref, ok := w.s.RefOf(r.Slot)
		if !ok || ref != ins[i].Ref || ref.Life() != r.Life {
			t.Fatalf("row %d: %v, %v", i, ref, ins[i].Ref)
		}
		if want := ref.ID != "web-4"; r.Serving != want || r.Held {
			t.Fatalf("%s: %+v", ref, r)
		}
	}
	w.run(3 * time.Second)
	rows, _ = w.s.Rows(nil, nil, w.now)
	if r := rows[2]; !r.Held || r.Serving {
		t.Fatalf("under a soft reset: %+v\n%s", r, w.story())
	}
}

func TestWhatWasAbandonedCuredNothing(t *testing.T) {
	w := newWorld(t, webPool(4))
	w.up()
	w.run(2 * time.Minute)
	w.do(w.judge(3, ft.Critical, ft.InstanceChanged))
	w.run(3*time.Second + 500*time.Millisecond)
	w.do(w.judge(3, ft.Steady, ft.CauseUnknown)) // before the drain is carried out
	w.run(time.Minute)
	w.want("closed", "soft-reset web-3 abandoned: it is better by itself: steady", 1)
	w.want("recovered", "", 0)
	if !w.service[w.ref(3)] {
		t.Fatalf("not in service\n%s", w.story())
	}
}

func TestARestoredStateRefusesNonsense(t *testing.T) {
	for _, b := range []string{"", "[]", `{"members":[null]}`, `{"members":[{"instance":{"id":"a-2"}},{"instance":{"id":"a-1"}}]}`, `{"operations":[null]}`} {
		if _, err := Restore([]byte(b)); err == nil {
			t.Errorf("%q was restored", b)
		}
	}
}
