package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
)

// TestWhateverHappens holds, for any sequence of loads, faults, commands, journal troubles and deaths of the brain:
//
//   - what was recorded gives the state that lives;
//   - no more instances run than the pool allows, and none that the state does not know (checked at every event);
//   - once the troubles end, as many instances serve as are wanted, and no operation is left.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
		p.Size.Min = rapid.IntRange(1, 5).Draw(rt, "n")
		p.Size.Max = p.Size.Min + rapid.IntRange(1, 2).Draw(rt, "room")
		p.Heal.Young = ft.Duration(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "young"))
		p.Detect.Interval, p.Detect.Learn = ft.Duration(5*time.Second), ft.Duration(200*time.Second) // few frames: many runs
		p.Limits.Memory = 512 << 20
		p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
		p.Defaults()
		s := &script{t: t}
		var inv invariants
		s.b = newBrain(t, p, Config{Seed: rapid.Uint64().Draw(rt, "seed")}, func(e ft.Event) { inv.heard(s.b, e) })
		s.b.run(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute}).Draw(rt, "at first"))
		for range rapid.IntRange(1, 12).Draw(rt, "troubles") {
			step(rt, s)
			s.b.run(time.Duration(rapid.IntRange(0, 240_000).Draw(rt, "ms")) * time.Millisecond)
			if inv.broken != "" {
				rt.Fatal(inv.broken)
			}
		}
		calm(s)
		sum := s.b.state.Summary(s.b.now)
		if len(sum.Operations) > 0 { // an hour is when what was kept for inspection is cleared away
			s.b.run(2 * time.Minute)
			sum = s.b.state.Summary(s.b.now)
		}
		if sum.Ready != sum.Desired || len(sum.Operations) > 0 {
			rt.Fatalf("an hour after the troubles: %d ready of %d wanted, operations %+v, degraded %v %q, brakes %q %q",
				sum.Ready, sum.Desired, sum.Operations, sum.Degraded, sum.DegradedWhy, sum.Breaker, sum.HoldOff)
		}
		if inv.broken != "" {
			rt.Fatal(inv.broken)
		}
		known := s.b.state.Members(nil)
		for _, in := range s.b.world.List() {
			if !slices.ContainsFunc(known, func(m plan.Member) bool { return m.Ref == in.Ref }) {
				rt.Fatalf("%s runs and nobody knows", in.Ref)
			}
		}
		s.b.checkReplay()
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// step is one trouble.
func step(rt *rapid.T, s *script) {
	member := func() string {
		ms := s.b.world.List()
		if len(ms) == 0 {
			return "web-1"
		}
		return string(ms[rapid.IntRange(0, len(ms)-1).Draw(rt, "which")].ID)
	}
	line := rapid.SampledFrom([][]string{
		{"load", "x2"},
		{"load", "x0.5"},
		{"load", "x1"},
		{"mix", "?", "reports"},
		{"leak", "?", "8MiB/s"},
		{"slow", "?", "40ms"},
		{"hang", "?"},
		{"hang", "?"},
		{"crash", "?"},
		{"crash", "?"},
		{"crash", "?"},
		{"wake", "?"},
		{"fail", "start", "2"},
		{"journal", "fail"},
		{"journal", "hang"},
		{"journal", "ok"},
		{"restart", "brain"},
		{"restart", "brain"},
		{"restart"},
		{"pause"},
		{"resume"},
		{"evict", "?"},
		{"reset-soft", "?"},
		{"reset-full", "?"},
		{"scale", "1"},
		{"scale", "4"},
		{"accept", "?"},
		{"forget", "?"},
		{"adjust", "?", "cpu", "200"},
	}).Draw(rt, "trouble")
	words := slices.Clone(line)
	for i := range words {
		if words[i] == "?" {
			words[i] = member()
		}
	}
	_ = s.do(words) // that an instance is gone meanwhile is part of the game
	s.lines = nil
}

// calm ends all troubles and waits an hour.
func calm(s *script) {
	w := s.b.world
	w.Load(1)
	w.FailStarts(0, "")
	for _, in := range w.List() {
		_ = w.Wake(in.ID) // the dead need none
	}
	s.b.journal.failing, s.b.journal.hanging = "", false
	_ = s.command("resume", nil)
	s.b.run(time.Hour)
	s.lines = nil
}

// invariants are checked at every event.
type invariants struct{ broken string }

func (v *invariants) heard(b *brain, e ft.Event) {
	if v.broken != "" || b == nil {
		return
	}
	alive := 0
	for _, in := range b.world.list {
		if in.Exit == nil {
			alive++
		}
	}
	if alive > b.pool.Size.Max {
		v.broken = fmt.Sprintf("%s: %d instances run, at most %d may, at %s", e, alive, b.pool.Size.Max, b.now.Sub(epoch))
	}
}
