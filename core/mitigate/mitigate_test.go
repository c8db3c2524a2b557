package mitigate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func pool(change ...func(*ft.Pool)) *ft.Pool {
	p := ft.Pool{Name: "web", Size: ft.Sizing{Min: 4}}
	for _, c := range change {
		c(&p)
	}
	p.Defaults()
	return &p
}

// sick is a young instance that drifts critically by itself, seen by its peers, with everything declared.
func sick(change ...func(*Case)) *Case {
	c := &Case{
		Verdict: ft.Verdict{Level: ft.Critical, Cause: ft.InstanceChanged, Extent: ft.ThisInstance, Channel: ft.Peers, Score: 7},
		Subject: "latency_p99 200 ms, usually 20 ms", Now: now, Age: 5 * time.Minute, Lasted: time.Minute, Stable: time.Minute,
		Peers: 3, Room: 1, Reload: true, Soft: true, Knob: true,
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func level(l ft.Level) func(*Case) { return func(c *Case) { c.Verdict.Level = l } }
func cause(x ft.Cause) func(*Case) { return func(c *Case) { c.Verdict.Cause = x } }
func tried(ops ...ft.Operation) func(*Case) {
	return func(c *Case) {
		for _, o := range ops {
			c.Tried = c.Tried.With(o)
		}
	}
}
func old(c *Case)      { c.Age = 3 * time.Hour }
func cramped(c *Case)  { c.Room = 0 }
func noHooks(c *Case)  { c.Soft, c.Reload = false, false }
func noKnob(c *Case)   { c.Knob, c.NoKnob = false, "cpu is at its maximum" }
func alone(c *Case)    { c.Peers, c.Verdict.Channel = 0, ft.Self }
func fresh(c *Case)    { c.Lasted = time.Second }
func poolWide(c *Case) { c.Verdict.Extent = ft.WholePool }
func bySelf(c *Case)   { c.Verdict.Channel = ft.Self }
func unstable(c *Case) { c.Stable = time.Second }
func harmful(c *Case)  { c.Harmed = "5 % of its requests fail" }
func within(d time.Duration) func(*Case) {
	return func(c *Case) { c.Forecast = &ft.Foreseen{Dimension: ft.DimAnon, At: now.Add(d)} }
}

func TestLadder(t *testing.T) {
	for _, c := range []struct {
		name string
		c    *Case
		do   ft.Operation
		rule string
		wait bool
	}{
		{"steady", sick(level(ft.Steady)), 0, "steady", false},
		{"learning", sick(level(ft.Learning)), 0, "steady", false},
		{"drift must persist", sick(fresh), 0, "persistence", true},
		{"pool-wide, whatever its level", sick(poolWide), 0, "pool-wide", false},

		{"low: a knob that fits", sick(level(ft.Low)), ft.Retune, "tune", false},
		{"low: none fits", sick(level(ft.Low), noKnob), 0, "no-knob", false},
		{"medium: a knob that fits", sick(level(ft.Medium)), ft.Retune, "tune", false},
		{"medium: tuned already", sick(level(ft.Medium), tried(ft.Retune)), 0, "light-steps-done", false},
		{"high: reload", sick(level(ft.High)), ft.Respecialize, "light-respecialize", false},
		{"high: no reload, a knob", sick(level(ft.High), noHooks), ft.Retune, "tune", false},
		{"high: nothing light", sick(level(ft.High), noHooks, noKnob), 0, "no-light-step", false},
		{"high: light steps done", sick(level(ft.High), tried(ft.Respecialize, ft.Retune)), 0, "light-steps-done", false},

		{"critical, young", sick(), ft.SoftResetting, "drift-soft-reset", false},
		{"critical, young, soft did not cure", sick(tried(ft.SoftResetting)), ft.FullResetting, "drift-full-reset", false},
		{"critical, young, no soft reset", sick(noHooks), ft.FullResetting, "drift-full-reset", false},
		{"critical, old, room", sick(old), ft.Evict, "drift-evict", false},
		{"critical, old, no room", sick(old, cramped), ft.FullResetting, "drift-full-reset", false},
		{"critical, young, soft and full did not cure", sick(tried(ft.SoftResetting, ft.FullResetting)), ft.Evict, "drift-evict", false},
		{"critical, all tried", sick(tried(ft.SoftResetting, ft.FullResetting, ft.Evict)), 0, "exhausted", false},
		{"critical, no room, rest tried", sick(cramped, tried(ft.SoftResetting, ft.FullResetting)), 0, "exhausted", false},

		{"a leak at high, far from its limit", sick(level(ft.High), within(time.Hour)), ft.Respecialize, "light-respecialize", false},
		{"a leak at high, near its limit", sick(level(ft.High), within(time.Minute)), ft.SoftResetting, "leak-soft-reset", false},
		{"a leak at medium, near its limit", sick(level(ft.Medium), within(time.Minute)), ft.Retune, "tune", false},

		{"workload, medium", sick(cause(ft.WorkloadChanged), level(ft.Medium)), ft.Retune, "workload-tune", false},
		{"workload, medium, no knob", sick(cause(ft.WorkloadChanged), level(ft.Medium), noKnob, unstable), 0, "workload-changed", true},
		{"workload, medium, no knob, harmful", sick(cause(ft.WorkloadChanged), level(ft.Medium), noKnob, harmful), 0, "workload-harmful", false},
		{"workload, critical: reload", sick(cause(ft.WorkloadChanged)), ft.Respecialize, "workload-respecialize", false},
		{"workload, critical: knob", sick(cause(ft.WorkloadChanged), tried(ft.Respecialize)), ft.Retune, "workload-tune", false},
		{"workload, not stable yet", sick(cause(ft.WorkloadChanged), tried(ft.Respecialize, ft.Retune), unstable), 0, "workload-changed", true},
		{"workload, harmful", sick(cause(ft.WorkloadChanged), noHooks, noKnob, harmful), 0, "workload-harmful", false},

		{"unknown, peers say so", sick(cause(ft.CauseUnknown)), ft.SoftResetting, "drift-soft-reset", false},
		{"unknown, peers do not", sick(cause(ft.CauseUnknown), bySelf), 0, "unknown-cause", false},
		{"unknown, alone, patience", sick(cause(ft.CauseUnknown), alone, func(c *Case) { c.Lasted = 10 * time.Second }), 0, "unknown-cause", true},
		{"unknown, alone, long enough", sick(cause(ft.CauseUnknown), alone), ft.SoftResetting, "drift-soft-reset", false},
		{"unknown, low", sick(cause(ft.CauseUnknown), bySelf, level(ft.Low)), ft.Retune, "tune", false},
	} {
		a := Step(pool(), c.c)
		if a.Do != c.do || a.Rule != c.rule || (a.Wait > 0) != c.wait || a.Rebaseline {
			t.Errorf("%s: %+v, want %s by %s, wait %t", c.name, a, c.do, c.rule, c.wait)
		}
		if a.Text == "" {
			t.Errorf("%s: no words", c.name)
		}
	}
}

func TestStableHarmlessWorkloadBecomesNormal(t *testing.T) {
	a := Step(pool(), sick(cause(ft.WorkloadChanged), tried(ft.Respecialize, ft.Retune)))
	if !a.Rebaseline || a.Do != ft.NoOperation || a.Rule != "adapted" {
		t.Fatalf("%+v", a)
	}
}

func TestPolicyMitigatesWorkloadDrift(t *testing.T) {
	p := pool(func(p *ft.Pool) { p.Heal.WorkloadDrift = ft.Mitigate })
	if a := Step(p, sick(cause(ft.WorkloadChanged))); a.Do != ft.SoftResetting {
		t.Fatalf("%+v", a)
	}
}

func TestCapacityAboveIsRoomForMoreThanThatMany(t *testing.T) {
	p := pool(func(p *ft.Pool) { p.Heal.CapacityAbove = 2 })
	for room, want := range map[int]ft.Operation{0: ft.FullResetting, 2: ft.FullResetting, 3: ft.Evict} {
		if a := Step(p, sick(old, func(c *Case) { c.Room = room })); a.Do != want {
			t.Errorf("room %d: %s, want %s", room, a.Do, want)
		}
	}
}

func TestTextTellsWhyThisStep(t *testing.T) {
	for _, c := range []struct {
		c    *Case
		want string
	}{
		{sick(), "latency_p99 200 ms, usually 20 ms; it is young (5m): soft reset first"},
		{sick(old), "it is old (3h) and there is room for 1 more: evict and replace"},
		{sick(tried(ft.SoftResetting)), "the soft reset did not cure it: full reset"},
	} {
		if a := Step(pool(), c.c); !strings.Contains(a.Text, c.want) {
			t.Errorf("%q does not say %q", a.Text, c.want)
		}
	}
}

// TestNeverDisruptive: what must not happen whatever else is so.
func TestNeverDisruptive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Case{
			Verdict: ft.Verdict{
				Level: ft.Level(rapid.IntRange(0, 5).Draw(t, "level")), Cause: ft.Cause(rapid.IntRange(0, 2).Draw(t, "cause")),
				Extent: ft.Extent(rapid.IntRange(0, 2).Draw(t, "extent")), Channel: ft.Channel(rapid.IntRange(0, 2).Draw(t, "channel")),
			},
			Now: now, Age: time.Duration(rapid.IntRange(0, 7200).Draw(t, "age")) * time.Second,
			Lasted: time.Duration(rapid.IntRange(0, 100).Draw(t, "lasted")) * time.Second,
			Peers:  rapid.IntRange(0, 3).Draw(t, "peers"), Room: rapid.IntRange(0, 2).Draw(t, "room"),
			Soft: rapid.Bool().Draw(t, "soft"), Reload: rapid.Bool().Draw(t, "reload"), Knob: rapid.Bool().Draw(t, "knob"),
			Tried: Tried(rapid.IntRange(0, 511).Draw(t, "tried")),
		}
		if rapid.Bool().Draw(t, "forecast") {
			within(time.Duration(rapid.IntRange(0, 600).Draw(t, "at")) * time.Second)(c)
		}
		p := pool()
		a := Step(p, c)
		resets := a.Do == ft.SoftResetting || a.Do == ft.FullResetting || a.Do == ft.Evict
		v := c.Verdict
		switch {
		case !resets:
		case v.Level < ft.High, v.Level == ft.High && c.Forecast == nil:
			t.Fatalf("%s at %s", a.Do, v.Level)
		case v.Cause == ft.WorkloadChanged:
			t.Fatalf("%s for a changed workload", a.Do)
		case v.Extent == ft.WholePool:
			t.Fatalf("%s for a pool-wide drift", a.Do)
		case v.Cause == ft.CauseUnknown && v.Channel != ft.Peers && (c.Peers > 0 || c.Lasted < 30*time.Second):
			t.Fatalf("%s for an unknown cause without evidence of peers or patience", a.Do)
		case a.Do == ft.SoftResetting && (!c.Soft || c.Age >= time.Hour), a.Do == ft.Evict && c.Room == 0:
			t.Fatalf("%s with %+v", a.Do, c)
		case c.Tried.Has(a.Do):
			t.Fatalf("%s again", a.Do)
		}
	})
}

func ExampleStep() {
	p := ft.Pool{Name: "web", Size: ft.Sizing{Min: 4}}
	p.Defaults()
	c := Case{
		Verdict: ft.Verdict{Level: ft.Critical, Cause: ft.InstanceChanged, Extent: ft.ThisInstance, Channel: ft.Peers},
		Subject: "memory_anon 210 MiB, usually 96 MiB", Leak: true,
		Age: 12 * time.Minute, Lasted: 5 * time.Second, Soft: true, Room: 1,
	}
	a := Step(&p, &c)
	fmt.Println(a.Do, "by", a.Rule+":", a.Text)
	c.Tried = c.Tried.With(ft.SoftResetting)
	a = Step(&p, &c)
	fmt.Println(a.Do, "by", a.Rule+":", a.Text)
	// Output:
	// soft-reset by leak-soft-reset: memory_anon 210 MiB, usually 96 MiB; it is young (12m): soft reset first
	// full-reset by leak-full-reset: memory_anon 210 MiB, usually 96 MiB; the soft reset did not cure it: full reset
}
