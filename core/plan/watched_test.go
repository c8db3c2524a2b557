package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

// onlooker folds events into the state of a watched pool and asks for decisions after each.
type onlooker struct {
	t   reporter
	s   *State
	now time.Time
	all []ft.Event // decided
}

func look(t reporter) *onlooker {
	p := ft.Pool{Name: "web", Watch: &ft.Watch{Match: "gunicorn"}}
	p.Defaults()
	if errs := p.Validate(); len(errs) > 0 {
		t.Fatalf("pool: %v", errs)
	}
	return &onlooker{t: t, s: New(p), now: start}
}

func (o *onlooker) fold(es ...ft.Event) {
	o.t.Helper()
	for _, e := range es {
		if err := o.s.Apply(e); err != nil {
			o.t.Fatalf("apply %s: %v", e, err)
		}
		o.rest()
	}
}

// rest asks until nothing is left to decide.
func (o *onlooker) rest() {
	o.t.Helper()
	for range maxAsked {
		es, _ := o.s.Next(nil, o.now)
		if len(es) == 0 {
			return
		}
		for _, e := range es {
			if err := o.s.Apply(e); err != nil {
				o.t.Fatalf("decision %s: %v", e, err)
			}
			o.all = append(o.all, e)
			if i, is := e.(*ft.Intended); is {
				if err := o.s.Apply(&ft.Finished{Stamp: ft.Stamp{At: o.now}, Action: i.Action}); err != nil {
					o.t.Fatalf("outcome of %s: %v", e, err)
				}
			}
		}
	}
	o.t.Fatalf("the planner does not come to rest")
}

const maxAsked = 20

func (o *onlooker) after(d time.Duration) { o.now = o.now.Add(d); o.rest() }

func (o *onlooker) stamp() ft.Stamp { return ft.Stamp{At: o.now} }

func (o *onlooker) found(serial, generation uint32) *ft.Found {
	return &ft.Found{Stamp: o.stamp(), Instance: ft.Instance{
		Ref:  ft.Ref{ID: ft.NewInstanceID("web", serial), Generation: generation},
		Born: o.now.Add(-3 * time.Hour), Digest: "gunicorn", Scope: ft.Scope{PID: int(1000*serial + generation)},
	}}
}

func (o *onlooker) judged(serial uint32, l ft.Level) *ft.Judged {
	return &ft.Judged{
		Stamp: o.stamp(), Ref: ft.Ref{ID: ft.NewInstanceID("web", serial), Generation: 1},
		Verdict:  ft.Verdict{Level: l, Cause: ft.InstanceChanged, Extent: ft.ThisInstance, Score: float32(l)},
		Evidence: []ft.Evidence{{Dimension: "memory_rss", Unit: "B", Value: 300 << 20, Usual: 100 << 20}}, Text: "web-1 drifts",
	}
}

// said counts the decisions of a kind that hold the text.
func (o *onlooker) said(kind, text string) (n int) {
	for _, e := range o.all {
		if ft.EventKind(e) == kind && strings.Contains(e.String(), text) {
			n++
		}
	}
	return n
}

func TestAWatchedServerIsServingAtOnce(t *testing.T) {
	o := look(t)
	o.fold(&ft.Began{Stamp: o.stamp()}, o.found(1, 1), o.found(2, 1))
	o.after(time.Hour)
	rows, ins := o.s.Rows(nil, nil, o.now)
	if len(rows) != 2 || !rows[0].Serving || rows[0].Held || rows[0].Group != rows[1].Group || ins[0].Scope.PID != 1001 {
		t.Fatalf("rows %+v of %+v", rows, ins)
	}
	if v := o.s.Summary(o.now); v.Ready != 2 || v.Desired != 2 || v.Running != 2 || v.HoldOff != "" || v.Degraded {
		t.Errorf("summary %+v", v)
	}
	if len(o.all) > 0 {
		t.Errorf("decided: %v", o.all)
	}
}

func TestNothingFollowsTheEndOfAWatchedServer(t *testing.T) {
	o := look(t)
	o.fold(&ft.Began{Stamp: o.stamp()}, o.found(1, 1), o.found(2, 1), o.found(3, 1))
	o.fold(
		&ft.Exited{Stamp: o.stamp(), Ref: ft.Ref{ID: "web-1", Generation: 1}, Exit: ft.Exit{Known: true, Code: 1}},
		&ft.Exited{Stamp: o.stamp(), Ref: ft.Ref{ID: "web-3", Generation: 1}, Exit: ft.Exit{Known: true, Signal: 9}},
		&ft.Missing{Stamp: o.stamp(), Ref: ft.Ref{ID: "web-2", Generation: 1}},
	)
	o.after(time.Hour)
	if ms := o.s.Members(nil); len(ms) != 0 || len(o.all) != 0 {
		t.Fatalf("%d members are left; decided: %v", len(ms), o.all)
	}
	o.fold(o.found(1, 2))
	ms := o.s.Members(nil)
	if len(ms) != 1 || ms[0].Ref.String() != "web-1/2" || ms[0].Phase != ft.Ready || ms[0].Restarts != 0 {
		t.Fatalf("after it came back: %+v", ms)
	}
}

func TestWhatWouldBeDoneAboutAWatchedServerIsSaidOnce(t *testing.T) {
	o := look(t)
	o.fold(&ft.Began{Stamp: o.stamp()}, o.found(1, 1), o.found(2, 1))
	o.after(time.Minute)
	o.fold(o.judged(1, ft.Critical))
	for range 20 {
		o.after(time.Minute)
	}
	if n := o.said("declined", "it is only watched; were it run by Fettle, in mode heal this would follow: eviction"); n != 1 {
		t.Errorf("said %d times: %v", n, o.all)
	}
	plan := o.s.Preview(o.now)
	if len(plan) == 0 || plan[0].Kind != ft.Evict || strings.Contains(plan[0].Reason.Text, "held") {
		t.Errorf("preview %v", plan)
	}
	if o.said("opened", "") > 0 || o.said("intended", "") > 0 {
		t.Errorf("decided: %v", o.all)
	}
}

func TestCommandsThatActAreRefusedForWatchedServers(t *testing.T) {
	o := look(t)
	o.fold(&ft.Began{Stamp: o.stamp()}, o.found(1, 1))
	for _, kind := range []string{"scale", "restart", "reset-soft", "reset-full", "evict", "adjust", "stop"} {
		target := ft.InstanceID("web-1")
		if kind == "scale" || kind == "restart" || kind == "stop" {
			target = ""
		}
		before := o.said("declined", "only watched")
		o.fold(&ft.Commanded{Stamp: o.stamp(), Command: ft.Command{Kind: kind, Target: target, Size: 0, Force: true, By: "test"}})
		if o.said("declined", "only watched") != before+1 {
			t.Errorf("%s was not refused: %v", kind, o.all)
		}
	}
	o.after(time.Hour)
	if o.said("opened", "") > 0 || len(o.s.Members(nil)) != 1 {
		t.Errorf("decided: %v", o.all)
	}
	o.fold(&ft.Commanded{Stamp: o.stamp(), Command: ft.Command{Kind: "accept", Target: "web-1", By: "test"}})
	if o.said("intended", "rebaseline web-1") != 1 {
		t.Errorf("accept: %v", o.all)
	}
}

func TestASickWatchedPoolClosesNoBrake(t *testing.T) {
	o := look(t)
	o.fold(&ft.Began{Stamp: o.stamp()})
	for i := range uint32(8) {
		o.fold(o.found(i+1, 1))
		o.fold(o.judged(i+1, ft.Critical), &ft.Exceeded{Stamp: o.stamp(), Ref: ft.Ref{ID: ft.NewInstanceID("web", i+1), Generation: 1}, Limit: "memory", Value: 2, Bound: 1})
	}
	o.after(time.Hour)
	if n := o.said("braked", ""); n > 0 || o.s.Summary(o.now).Breaker != "" {
		t.Errorf("brakes: %v", o.all)
	}
}

// Whatever happens, nothing is decided about watched servers but what to say and what to learn.
func TestNothingIsEverDoneToWatchedServers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := look(t)
		o.fold(&ft.Began{Stamp: o.stamp()})
		generations := map[uint32]uint32{}
		t.Repeat(map[string]func(*rapid.T){
			"found": func(t *rapid.T) {
				n := rapid.Uint32Range(1, 5).Draw(t, "serial")
				generations[n]++
				o.fold(o.found(n, generations[n]))
			},
			"exited": func(t *rapid.T) {
				n := rapid.Uint32Range(1, 5).Draw(t, "serial")
				o.fold(&ft.Exited{Stamp: o.stamp(), Ref: ft.Ref{ID: ft.NewInstanceID("web", n), Generation: generations[n]}})
			},
			"missing": func(t *rapid.T) {
				n := rapid.Uint32Range(1, 5).Draw(t, "serial")
				o.fold(&ft.Missing{Stamp: o.stamp(), Ref: ft.Ref{ID: ft.NewInstanceID("web", n), Generation: generations[n]}})
			},
			"judged": func(t *rapid.T) {
				j := o.judged(rapid.Uint32Range(1, 5).Draw(t, "serial"), ft.Level(rapid.IntRange(0, int(ft.Critical)).Draw(t, "level")))
				j.Ref.Generation = generations[j.Ref.ID.Serial()]
				j.Verdict.Cause = ft.Cause(rapid.IntRange(0, 3).Draw(t, "cause"))
				j.Verdict.Extent = ft.Extent(rapid.IntRange(0, 2).Draw(t, "extent"))
				o.fold(j)
			},
			"fault": func(t *rapid.T) {
				n := rapid.Uint32Range(1, 5).Draw(t, "serial")
				ref := ft.Ref{ID: ft.NewInstanceID("web", n), Generation: generations[n]}
				o.fold(
					&ft.Exceeded{Stamp: o.stamp(), Ref: ref, Limit: rapid.SampledFrom([]string{"memory", "silence"}).Draw(t, "limit")},
					&ft.Unresponsive{Stamp: o.stamp(), Ref: ref, Probe: "liveness"},
				)
			},
			"command": func(t *rapid.T) {
				kind := rapid.SampledFrom([]string{"scale", "restart", "evict", "reset-full", "pause", "resume", "accept", "forget", "stop"}).Draw(t, "kind")
				target := ft.InstanceID("")
				if rapid.Bool().Draw(t, "targeted") {
					target = ft.NewInstanceID("web", rapid.Uint32Range(1, 5).Draw(t, "serial"))
				}
				o.fold(&ft.Commanded{Stamp: o.stamp(), Command: ft.Command{Kind: kind, Target: target, By: "test"}})
			},
			"began":  func(*rapid.T) { o.fold(&ft.Began{Stamp: o.stamp()}) },
			"wait":   func(t *rapid.T) { o.after(time.Duration(rapid.IntRange(1, 7200).Draw(t, "seconds")) * time.Second) },
			"replay": func(*rapid.T) { o.restored() },
			"": func(t *rapid.T) {
				for _, e := range o.all {
					i, acts := e.(*ft.Intended)
					_, opens := e.(*ft.Opened)
					_, brakes := e.(*ft.Braked)
					if opens || brakes || acts && i.Action.Verb != ft.Rebaseline {
						t.Fatalf("decided: %s", e)
					}
				}
				if slices.ContainsFunc(o.s.Members(nil), func(m Member) bool { return m.Phase != ft.Ready }) {
					t.Fatalf("a member is not in service")
				}
				o.s.Preview(o.now)
			},
		})
	})
}

// restored goes on with the state as a snapshot keeps it.
func (o *onlooker) restored() {
	o.t.Helper()
	b, err := o.s.Snapshot()
	if err != nil {
		o.t.Fatalf("snapshot: %v", err)
	}
	if o.s, err = Restore(b); err != nil {
		o.t.Fatalf("restore: %v", err)
	}
}
