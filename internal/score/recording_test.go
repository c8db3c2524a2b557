package score_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/internal/score"
	"github.com/fettle-dev/fettle/recording"
)

// live is a loop of instances that work, heals them, and notes what the judge says of each row.
type live struct {
	loop  *engine.Loop
	state *plan.State
	now   time.Time
	frame ft.Frame
	rnd   *rand.Rand
	ill   ft.Life
	done  []ft.Event // actions that ended since the last step

	judge  *score.Stream
	fed    bool // the step under way has a frame
	scores []score.Row
	held   int
}

func newLive(t *testing.T, n int) *live {
	t.Helper()
	p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":80", Image: ft.Image{Command: []string{"x"}}, Size: ft.Sizing{Min: n, Max: n + 1}}
	p.Defaults()
	schema, err := ft.NewSchema([]ft.Dimension{
		{Name: ft.DimOffered, Unit: "1/s", Role: ft.Load, Transform: ft.Log1p},
		{Name: ft.DimRequests, Unit: "1/s", Role: ft.Intake, Transform: ft.Log1p},
		{Name: ft.DimCPU, Unit: "cores", Role: ft.Response, Transform: ft.Log1p},
		{Name: ft.DimP50, Unit: "s", Role: ft.Response, Transform: ft.Log1p},
		{Name: ft.DimRSS, Unit: "B", Role: ft.Response, Transform: ft.Log1p, Unbounded: true},
		{Name: ft.DimErrors, Unit: "share", Role: ft.Response, Transform: ft.Logit, Every: 3 * time.Second},
	}, ft.CategorySet{Name: ft.SetRoutes, Role: ft.Load, Size: 3})
	if err != nil {
		t.Fatal(err)
	}
	d := &p.Detect
	j, err := drift.New(schema, drift.Config{Interval: d.Interval.D(), Learn: d.Learn.D(), FalseAlarms: d.FalseAlarms})
	if err != nil {
		t.Fatal(err)
	}
	l := &live{state: plan.New(p), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rnd: rand.New(rand.NewPCG(7, 7)), judge: score.StreamOf(j)}
	l.frame.Schema = schema
	l.loop = engine.New(l.state, j, nil, l)
	for i := range n {
		in := ft.Instance{Ref: ft.Ref{ID: ft.NewInstanceID("web", uint32(i+1)), Generation: 1}, Born: l.now}
		l.loop.Step(l.now, engine.Inputs{Events: []ft.Event{&ft.Found{Stamp: ft.Stamp{At: l.now}, Instance: in}}})
	}
	l.loop.Tap(l)
	return l
}

// Do implements [engine.Executor]: all succeeds at once.
func (l *live) Do(a ft.Action, _ ft.Instance) {
	l.done = append(l.done, &ft.Finished{Stamp: ft.Stamp{At: l.now}, Action: a})
}

// Before implements [engine.Tap].
func (l *live) Before(_ time.Time, in engine.Inputs) { l.fed = in.Frame != nil }

// After implements [engine.Tap]: the judge has just seen the frame.
func (l *live) After([]ft.Event, []ft.Action) bool {
	if l.fed {
		l.scores = l.judge.Last(l.scores)
	}
	return true
}

// tick is a second: a row an instance, some of it missing.
func (l *live) tick() {
	l.now = l.now.Add(time.Second)
	f := &l.frame
	f.At = l.now
	f.Rows, _ = l.state.Rows(f.Rows[:0], nil, l.now)
	f.Reset(len(f.Rows))
	noise := func() float64 { return math.Exp(0.05 * l.rnd.NormFloat64()) }
	for r := range f.Rows {
		f.Have[r], f.Span[r] = ft.Dims(1)<<f.Schema.Len()-1, 1
		load := 80 * (1 + 0.2*math.Sin(l.now.Sub(time.Time{}).Seconds()/40)) * noise()
		slow := 1.0
		if f.Rows[r].Life == l.ill {
			slow = 2
		}
		for c, v := range []float64{load, load * noise(), load * slow * noise() / 200, 0.01 * slow * noise(), 9e7 * noise(), 0.002 * noise()} {
			if l.rnd.Float64() > 0.02 {
				f.X[r*f.Schema.Len()+c] = v
			}
		}
		for k, share := range []float64{0.6, 0.3, 0.1} {
			f.Counts[3*r+k] = uint32(load*share + l.rnd.Float64())
		}
	}
	done := l.done
	l.done = nil
	l.loop.Step(l.now, engine.Inputs{Frame: f, Events: done})
	for r := range f.Rows {
		if f.Rows[r].Held || !f.Rows[r].Serving {
			l.held++
		}
	}
}

// TestRecordingScoresAsLive: the rows of a recording get the scores, alarms and levels that they had live, bit for bit.
func TestRecordingScoresAsLive(t *testing.T) {
	l := newLive(t, 4)
	b, err := l.loop.Base()
	if err != nil {
		t.Fatal(err)
	}
	rec := recording.New(b, l.frame.Schema, recording.Options{})
	l.loop.Tap(rec)
	for range 300 {
		l.tick()
	}
	l.ill = l.frame.Rows[2].Life
	for range 200 {
		l.tick()
	}
	ended := make(chan struct{})
	close(ended)
	var file bytes.Buffer
	w := recording.NewWriter(&file)
	if err := rec.Run(context.Background(), ended, w.Line); !errors.Is(err, engine.ErrStopped) {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}

	r, err := recording.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	d := r.Header().Judge
	s, err := score.NewStream(r.Schema(), drift.Config{Interval: d.Interval.D(), Learn: d.Learn.D(), FalseAlarms: d.FalseAlarms, Seed: d.Seed})
	if err != nil {
		t.Fatal(err)
	}
	var got []score.Row
	for {
		step, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if step.Frame != nil {
			got = s.Step(got, step.Frame)
		}
	}
	bits := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
	if d := cmp.Diff(l.scores, got, bits); d != "" {
		t.Fatalf("live (-), recorded (+):\n%.2000s", d)
	}
	alarms := 0
	for i := range got {
		if got[i].Alarm && got[i].Peers >= 1 {
			alarms++
		}
	}
	if alarms == 0 || l.held == 0 {
		t.Errorf("%d rows in alarm, %d out of service or under an action: nothing was tried", alarms, l.held)
	}
}
