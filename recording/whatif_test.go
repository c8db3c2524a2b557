package recording

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// richPool has something behind every pointer of a pool.
func richPool() ft.Pool {
	p := testPool()
	p.Metrics = &ft.Metrics{Path: "/metrics"}
	p.Route.Key = &ft.RouteKey{Header: "X-Shop"}
	p.Specializations[0].Files = map[string]string{"a": "b"}
	p.Specializations[0].WarmUp = []string{"/"}
	p.Specializations[0].Hooks.Reload = &ft.Hook{Signal: "HUP"}
	p.Probes.Liveness = &ft.Probe{Command: []string{"check", "--now"}}
	p.Defaults()
	return p
}

// openRich reads a recording of such a pool, with steps.
func openRich(t *testing.T, steps ...*Step) *Reader {
	t.Helper()
	p := richPool()
	state, err := plan.New(p).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHeader(&engine.Base{Pool: p, State: state}, testSchema(t), begun, Options{Fettle: "test", Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(write(t, h, &encoder{pool: p.Name, secrets: true}, true, steps...)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// inertChanges are changes of what no decision rests on, by the key that is named.
var inertChanges = map[string]func(p *ft.Pool){
	"metrics.every":                   func(p *ft.Pool) { p.Metrics.Every += 3 },
	"metrics":                         func(p *ft.Pool) { p.Metrics = nil },
	"image.command":                   func(p *ft.Pool) { p.Image.Command[0] = "other" },
	"image.env":                       func(p *ft.Pool) { p.Image.Env["TOKEN"] = "other" },
	"image.hooks.softReset.http.body": func(p *ft.Pool) { p.Image.Hooks.SoftReset.HTTP.Body = "other" },
	"route.key.header":                func(p *ft.Pool) { p.Route.Key.Header = "other" },
	"route.queue":                     func(p *ft.Pool) { p.Route.Queue++ },
	"probes.startup.tcp":              func(p *ft.Pool) { p.Probes.Startup.TCP = false },
	"probes.liveness.command":         func(p *ft.Pool) { p.Probes.Liveness.Command[1] = "--later" },
	"specializations":                 func(p *ft.Pool) { p.Specializations[0].Files["a"] = "other" },
	"detect.interval":                 func(p *ft.Pool) { p.Detect.Interval *= 2 },
}

// TestWhatMayNotBeSet: also what stands behind a pointer, in a map or in a list is refused, with what may be set.
func TestWhatMayNotBeSet(t *testing.T) {
	for key, change := range inertChanges {
		_, err := PlayChanged(openRich(t), false, func(p *ft.Pool) error { change(p); return nil })
		if !errors.Is(err, ErrInert) || !strings.HasPrefix(err.Error(), key+": ") || !strings.Contains(err.Error(), "objective, heal, detect without detect.interval, and route.slowStart") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestLaterConfigurationIsNotChangedInPlace: the change is made to a copy of each later configuration, and is refused there
// too.
func TestLaterConfigurationIsNotChangedInPlace(t *testing.T) {
	later := richPool()
	later.Metrics.Every = ft.Duration(time.Minute)
	step := &Step{At: begun.Add(time.Second), Events: []ft.Event{&ft.Configured{Stamp: ft.Stamp{At: begun.Add(time.Second)}, Pool: later}}}
	was := richPool().Metrics.Every
	p, err := PlayChanged(openRich(t, step), false, func(p *ft.Pool) error { p.Metrics.Every = was; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Next(); !errors.Is(err, ErrInert) || !strings.Contains(err.Error(), "line 2: the pool was configured anew, and the change does not fit: metrics.every") {
		t.Errorf("next: %v", err)
	}
	p, err = PlayChanged(openRich(t, step), false, func(p *ft.Pool) error { p.Heal.Young = 7; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Next(); err != nil {
		t.Fatal(err)
	}
	if got := p.state.Pool(); got.Heal.Young != 7 || got.Metrics.Every != later.Metrics.Every {
		t.Errorf("the pool became young %s, every %s", got.Heal.Young, got.Metrics.Every)
	}
	if _, err := p.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestSummaryCountsThePoolToo: verdicts of the pool stand beside those of instances, and what is the same on both sides is no
// difference, whatever numbers it has.
func TestSummaryCountsThePoolToo(t *testing.T) {
	judged := func(pool bool, l ft.Level) ft.Event {
		return &ft.Judged{Stamp: ft.Stamp{At: begun}, Verdict: ft.Verdict{Pool: pool, Level: l}}
	}
	action := func(id uint64) ft.Event {
		return &ft.Intended{Stamp: ft.Stamp{At: begun}, Action: ft.Action{ID: id, Verb: ft.Start, Ref: ft.Ref{ID: "web-1", Generation: 1}}}
	}
	var s Summary
	s.Add(&Turn{
		At: begun, Recorded: []ft.Event{judged(true, ft.High), judged(false, ft.Low), action(7)},
		Replayed: []ft.Event{judged(true, ft.High), judged(false, ft.Low), action(9)},
	})
	if s.Differing != 1 || s.Otherwise != 0 {
		t.Errorf("another number: %d steps differ, %d would be otherwise", s.Differing, s.Otherwise)
	}
	s.Add(&Turn{At: begun, Recorded: []ft.Event{judged(true, ft.Critical)}})
	if s.PoolLevels["high"] != (Pair{1, 1}) || s.PoolLevels["critical"] != (Pair{1, 0}) || s.Levels["low"] != (Pair{1, 1}) || len(s.Levels) != 1 || s.Otherwise != 1 {
		t.Errorf("summary %+v", s)
	}
}
