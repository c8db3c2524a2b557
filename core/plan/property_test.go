package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

// TestPlannerProperties drives the planner by random facts, delays and failures. What [world] checks at each decision
// must hold throughout; and once the trouble ends, the pool comes to order: as many in service as wanted, nothing under
// way, nothing running that the planner does not know.
func TestPlannerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPool(t)
		w := newWorld(t, p)
		w.knobs = []ft.Knob{
			{Name: "memory", Unit: "B", Min: 64 << 20, Max: 1 << 30, Step: 1.25, Value: 128 << 20, Relieves: []string{ft.DimRefaults, ft.DimMajor}, Rung: ft.Low, Draws: ft.Memory},
			{Name: "cpu", Min: 10, Max: 1000, Step: 1.5, Value: 100, Relieves: []string{ft.DimRunQueue, ft.DimP99}, Rung: ft.Medium, Draws: ft.CPU},
		}
		delays := rapid.SliceOfN(rapid.IntRange(0, 20), 32, 32).Draw(t, "delays")
		fails := rapid.SliceOfN(rapid.Bool(), 32, 32).Draw(t, "fails")
		trouble := rapid.Float64Range(0, 0.4).Draw(t, "trouble")
		n := 0
		w.delay = func(*ft.Action) time.Duration {
			n++
			return time.Duration(delays[n%32]) * 300 * time.Millisecond
		}
		w.fail = func(a *ft.Action) string {
			if fails[int(a.ID)%32] && fraction(a.ID) < trouble {
				return "failed by chance"
			}
			return ""
		}
		w.early = func(a *ft.Action) bool { return fails[int(a.ID+7)%32] && fraction(a.ID+1) < trouble/2 }
		w.do()
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				w.run(time.Duration(rapid.IntRange(0, 900).Draw(t, "wait")) * 100 * time.Millisecond)
			},
			"wait long":  func(*rapid.T) { w.run(time.Hour) },
			"exit":       func(t *rapid.T) { w.drawExit(t) },
			"judge":      func(t *rapid.T) { w.drawVerdict(t) },
			"silence":    func(t *rapid.T) { w.drawSilence(t) },
			"limit":      func(t *rapid.T) { w.drawLimit(t) },
			"command":    func(t *rapid.T) { w.drawCommand(t) },
			"health":     func(t *rapid.T) { w.do(w.health(rapid.Float64Range(0.001, 1).Draw(t, "p99"))) },
			"takeover":   func(*rapid.T) { w.do(&ft.Began{Stamp: w.stamp(), Version: "x"}) },
			"restore":    func(*rapid.T) { w.restore() },
			"journal":    func(t *rapid.T) { w.drawJournal(t) },
			"stale fact": func(t *rapid.T) { w.drawStale(t) },
			"":           func(*rapid.T) { w.known() },
		})
		w.replayed(p)
		w.order()
	})
}

func drawPool(t *rapid.T) ft.Pool {
	return webPool(rapid.SampledFrom([]int{1, 2, 3, 4, 9}).Draw(t, "n"), func(p *ft.Pool) {
		p.Size.Max = p.Size.Min + rapid.IntRange(0, 2).Draw(t, "room")
		p.Mode = rapid.SampledFrom([]ft.Mode{ft.Observe, ft.AdjustOnly, ft.HealAutomatic, ft.HealAutomatic}).Draw(t, "mode")
		p.Heal.Concurrent = rapid.IntRange(1, 3).Draw(t, "concurrent")
		p.Heal.Breaker = rapid.SampledFrom([]float64{0.2, 0.5, 1}).Draw(t, "breaker")
		p.Budget.Memory = ft.Size(rapid.SampledFrom([]int{0, 600 << 20, 2 << 30}).Draw(t, "memory"))
		if rapid.Bool().Draw(t, "no hooks") {
			p.Image.Hooks = ft.Hooks{}
		}
		if rapid.Bool().Draw(t, "reload") {
			p.Image.Hooks.Reload = &ft.Hook{Signal: "USR1"}
		}
		if rapid.IntRange(0, 4).Draw(t, "serve") == 0 {
			p.Serve, p.Listen = ft.None, ""
		}
	})
}

// some draws one of the members that are not gone.
func (w *world) some(t *rapid.T) *member {
	if len(w.s.d.Members) == 0 {
		t.Skip("nobody there")
	}
	return w.s.d.Members[rapid.IntRange(0, len(w.s.d.Members)-1).Draw(t, "member")]
}

func (w *world) drawExit(t *rapid.T) {
	m := w.some(t)
	if gen, runs := w.procs[m.In.ID]; !runs || gen != m.In.Generation {
		t.Skip("it does not run")
	}
	w.do(w.exit(m.In.Ref))
}

func (w *world) drawVerdict(t *rapid.T) {
	m := w.some(t)
	l := rapid.SampledFrom([]ft.Level{ft.Learning, ft.Steady, ft.Steady, ft.Low, ft.Medium, ft.High, ft.Critical, ft.Critical}).Draw(t, "level")
	c := rapid.SampledFrom([]ft.Cause{ft.CauseUnknown, ft.WorkloadChanged, ft.InstanceChanged, ft.InstanceChanged}).Draw(t, "cause")
	w.do(w.judge(m.serial(), l, c, func(j *ft.Judged) {
		j.Verdict.Extent = rapid.SampledFrom([]ft.Extent{ft.ThisInstance, ft.ThisInstance, ft.ExtentUnknown, ft.WholePool}).Draw(t, "extent")
		j.Verdict.Channel = rapid.SampledFrom([]ft.Channel{ft.Self, ft.Peers}).Draw(t, "channel")
		dim := rapid.SampledFrom([]string{ft.DimAnon, ft.DimRefaults, ft.DimRunQueue, ft.DimP99}).Draw(t, "dimension")
		j.Evidence = []ft.Evidence{{Dimension: dim, Z: 5, Value: 2, Usual: 1}}
		if dim == ft.DimAnon {
			j.Forecast = &ft.Foreseen{Dimension: dim, At: w.now.Add(time.Minute), Slope: 1, Limit: 100}
		}
	}))
}

func (w *world) drawSilence(t *rapid.T) {
	m := w.some(t)
	if rapid.Bool().Draw(t, "answers again") {
		w.do(&ft.Responsive{Stamp: w.stamp(), Ref: m.In.Ref})
		return
	}
	probe := rapid.SampledFrom([]string{"liveness", "readiness", "passive"}).Draw(t, "probe")
	w.do(&ft.Unresponsive{Stamp: w.stamp(), Ref: m.In.Ref, Probe: probe, Silent: ft.Duration(3 * time.Second)})
}

func (w *world) drawLimit(t *rapid.T) {
	limit := rapid.SampledFrom([]string{"memory", "silence"}).Draw(t, "limit")
	w.do(&ft.Exceeded{Stamp: w.stamp(), Ref: w.some(t).In.Ref, Limit: limit, Value: 2, Bound: 1})
}

func (w *world) drawCommand(t *rapid.T) {
	c := ft.Command{
		Kind:  rapid.SampledFrom([]string{"scale", "restart", "reset-soft", "reset-full", "evict", "pause", "resume", "adjust", "accept", "forget"}).Draw(t, "kind"),
		Force: rapid.IntRange(0, 5).Draw(t, "force") == 0, By: "cli",
	}
	switch c.Kind {
	case "scale":
		c.Size = rapid.IntRange(0, w.s.d.Pool.Size.Max+1).Draw(t, "size")
	case "adjust":
		c.Set = &ft.Setting{Knob: "cpu", Value: float64(rapid.IntRange(0, 1200).Draw(t, "value"))}
	}
	if rapid.Bool().Draw(t, "one") {
		c.Target = w.some(t).In.ID
	}
	w.do(&ft.Commanded{Stamp: w.stamp(), Command: c})
}

func (w *world) drawJournal(t *rapid.T) {
	err := ""
	if rapid.Bool().Draw(t, "fails") {
		err = "disk full"
	}
	w.do(&ft.JournalState{Stamp: w.stamp(), Err: err})
}

// drawStale: facts of lives that ended, and outcomes of actions that are not under way, change nothing.
func (w *world) drawStale(t *rapid.T) {
	before := w.snapshot(w.s)
	ref := ft.Ref{ID: "web-7777", Generation: 1}
	e := rapid.SampledFrom([]ft.Event{
		&ft.Exited{Stamp: w.stamp(), Ref: ref}, &ft.Missing{Stamp: w.stamp(), Ref: ref}, &ft.Unresponsive{Stamp: w.stamp(), Ref: ref},
		&ft.Finished{Stamp: w.stamp(), Action: ft.Action{ID: 1 << 40, Ref: ref}}, &ft.Opened{Stamp: w.stamp(), ID: 1, Ref: ref},
		&ft.Closed{Stamp: w.stamp(), ID: 1 << 40}, &ft.Intended{Stamp: w.stamp(), Action: ft.Action{ID: 1 << 40, Verb: ft.Drain, Ref: ref}},
		&ft.TrialEnded{Stamp: w.stamp(), Ref: ref}, &ft.Found{Stamp: w.stamp(), Instance: ft.Instance{Ref: ft.Ref{ID: "other-1"}}},
	}).Draw(t, "event")
	_ = w.s.Apply(e)
	if after := w.snapshot(w.s); string(before) != string(after) {
		t.Fatalf("%s changed the state:\n%s\n%s", ft.EventKind(e), before, after)
	}
}

func (w *world) health(p99 float64) *ft.Health {
	h := &ft.Health{Stamp: w.stamp()}
	for i, m := range w.s.d.Members {
		h.Members = append(h.Members, ft.MemberFigures{Ref: m.In.Ref, Figures: ft.Figures{Rate: 100, P50: p99 / 3, P99: p99 * (1 + 0.01*float64(i)), CPU: 0.5, Memory: 100 << 20}})
	}
	return h
}

// restore goes on with what a snapshot keeps.
func (w *world) restore() {
	w.t.Helper()
	s, err := Restore(w.snapshot(w.s))
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.s = s
	w.think()
}

// known: what runs is known, and what is in service runs.
func (w *world) known() {
	w.t.Helper()
	for i := range 300 {
		id := ft.NewInstanceID("web", uint32(i+1))
		m := w.s.member(id)
		if gen, runs := w.procs[id]; runs && (m == nil || m.In.Generation != gen && w.busy[id] == "") {
			w.t.Fatalf("%s/%d runs and is not known\n%s", id, gen, w.story())
		}
	}
	var sum sums
	for _, m := range w.s.d.Members {
		c := w.s.count(m)
		sum.add(c, 1)
		if m.Phase == ft.Ready && m.Alive && !w.service[m.In.Ref] && w.busy[m.In.ID] == "" {
			w.t.Fatalf("%s is ready and not in service\n%s", m.In.Ref, w.story())
		}
		if due := w.s.dueAt(m); due != m.due || c != m.counts {
			w.t.Fatalf("%s is due at %d, indexed at %d; counts %+v, indexed %+v\n%s", m.In.Ref, due, m.due, c, m.counts, w.story())
		}
	}
	if sum != w.s.sum {
		w.t.Fatalf("sums %+v, indexed %+v\n%s", sum, w.s.sum, w.story())
	}
	for i, m := range w.s.heap {
		if m.at != i || i > 0 && w.s.heap[(i-1)/2].due > m.due {
			w.t.Fatalf("the heap is out of order at %d", i)
		}
	}
}

// order ends all trouble and asserts that the pool comes to rest as it should be.
func (w *world) order() {
	w.t.Helper()
	w.fail = func(*ft.Action) string { return "" }
	w.early = func(*ft.Action) bool { return false }
	w.do(&ft.JournalState{Stamp: w.stamp()}, &ft.Commanded{Stamp: w.stamp(), Command: ft.Command{Kind: "resume"}})
	calm := func() {
		for _, m := range w.s.d.Members {
			if m.Alive {
				w.do(&ft.Responsive{Stamp: w.stamp(), Ref: m.In.Ref}, w.judge(m.serial(), ft.Steady, ft.CauseUnknown))
			}
		}
		w.do(w.health(0.02))
	}
	for range 12 {
		calm()
		w.run(30 * time.Minute)
	}
	for range 30 { // trials that began late have figures to end by
		calm()
		w.run(5 * time.Second)
	}
	want := w.s.target()
	if len(w.procs) != want || len(w.service) != want || w.s.sum.Ready != want {
		w.t.Fatalf("%d run, %d in service, %d ready, want %d: %+v\n%s\n%s", len(w.procs), len(w.service), w.s.sum.Ready, want, w.s.sum, w.snapshot(w.s), w.story())
	}
	var rest []string
	for _, o := range w.s.d.Ops {
		if o.Kind != ft.Retune { // a give-back may begin at any time
			rest = append(rest, fmt.Sprintf("%s %s", o.Kind, o.Ref))
		}
	}
	for _, m := range w.s.d.Members {
		if m.Story != nil || m.Wish != nil {
			rest = append(rest, fmt.Sprintf("%s: story %+v, wish %+v", m.In.Ref, m.Story, m.Wish))
		}
	}
	if len(rest) > 0 {
		w.t.Fatalf("not at rest: %v\n%s", rest, w.story())
	}
	opened, closed := w.said("opened", ""), w.said("closed", "")
	if opened != closed+len(w.s.d.Ops) {
		w.t.Fatalf("%d operations opened, %d closed, %d under way\n%s", opened, closed, len(w.s.d.Ops), w.story())
	}
	w.doubled()
}

// doubled: no serial is given to two instances.
func (w *world) doubled() {
	w.t.Helper()
	var seen []ft.InstanceID
	for _, e := range w.log {
		o, ok := e.(*ft.Opened)
		if !ok || o.Kind != ft.Grow || o.Reason.Rule == "admit" {
			continue
		}
		if slices.Contains(seen, o.Ref.ID) {
			w.t.Fatalf("%s was begun twice\n%s", o.Ref, w.story())
		}
		seen = append(seen, o.Ref.ID)
	}
}
