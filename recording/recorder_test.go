package recording_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/recording"
)

// rig is a loop of n instances that serve, without a world.
type rig struct {
	loop   *engine.Loop
	schema *ft.Schema
	frame  *ft.Frame
	now    time.Time
}

func newRig(t testing.TB, n, dims int) *rig {
	t.Helper()
	p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":80", Image: ft.Image{Command: []string{"x"}}, Size: ft.Sizing{Min: n, Max: n + 1}}
	p.Defaults()
	ds := []ft.Dimension{{Name: ft.DimOffered, Role: ft.Load}}
	for i := range dims - 1 {
		ds = append(ds, ft.Dimension{Name: fmt.Sprint("d", i), Role: ft.Response})
	}
	schema, err := ft.NewSchema(ds)
	if err != nil {
		t.Fatal(err)
	}
	j, err := drift.New(schema, drift.Config{Interval: time.Second, Learn: 2 * time.Minute, FalseAlarms: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{schema: schema, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s := plan.New(p)
	r.loop = engine.New(s, j, nil, r)
	for i := range n {
		id := ft.NewInstanceID("web", uint32(i+1))
		r.step(engine.Inputs{Events: []ft.Event{&ft.Found{Stamp: ft.Stamp{At: r.now}, Instance: ft.Instance{Ref: ft.Ref{ID: id, Generation: 1}, Born: r.now}}}})
	}
	r.now = r.now.Add(time.Minute)
	r.frame = &ft.Frame{Schema: schema}
	r.frame.Rows, _ = s.Rows(nil, nil, r.now)
	return r
}

// Do implements engine.Executor: all succeeds at once.
func (r *rig) Do(a ft.Action, _ ft.Instance) {
	r.loop.Post(&ft.Finished{Stamp: ft.Stamp{At: r.now}, Action: a})
}

func (r *rig) step(in engine.Inputs) { r.loop.Step(r.now, in) }

// tick steps with a frame.
func (r *rig) tick() {
	r.now = r.now.Add(time.Second)
	r.frame.At = r.now
	r.frame.Reset(len(r.frame.Rows))
	for i := range r.frame.X {
		r.frame.X[i] = 100 + math.Sin(float64(i)*r.now.Sub(time.Time{}).Seconds())
	}
	for i := range r.frame.Rows {
		r.frame.Rows[i].Held, r.frame.Rows[i].Serving = false, true
		r.frame.Have[i], r.frame.Span[i] = ft.Dims(1)<<r.schema.Len()-1, 1
	}
	r.step(engine.Inputs{Frame: r.frame})
}

func (r *rig) record(t testing.TB, o recording.Options) *recording.Recorder {
	b, err := r.loop.Base()
	if err != nil {
		t.Fatal(err)
	}
	rec := recording.New(b, r.schema, o)
	r.loop.Tap(rec)
	return rec
}

// TestSlowReaderEndsTheRecording: the loop goes on as if nobody recorded, and the recording says why it ends.
func TestSlowReaderEndsTheRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, 3)
		rec := r.record(t, recording.Options{Waiting: 10})
		release := make(chan struct{})
		var lines int
		done := make(chan error, 1)
		go func() {
			done <- rec.Run(context.Background(), nil, func([]byte) error {
				<-release
				lines++
				return nil
			})
		}()
		for range 100 {
			r.tick() // would hang here if it waited
		}
		close(release)
		if err := <-done; !errors.Is(err, recording.ErrSlow) || !strings.Contains(err.Error(), "too slow") {
			t.Errorf("it ended with %v", err)
		}
		if lines < 10 || lines > 13 {
			t.Errorf("%d lines were given; the header and what could wait are expected", lines)
		}
		again := r.record(t, recording.Options{})
		stopped := make(chan struct{})
		lines = 0
		go func() { done <- again.Run(context.Background(), stopped, func([]byte) error { lines++; return nil }) }()
		r.tick()
		r.tick()
		close(stopped)
		if err := <-done; !errors.Is(err, engine.ErrStopped) || lines != 4 { // header, what was learnt, two steps
			t.Errorf("a new recording after it: %v, %d lines", err, lines)
		}
	})
}

// TestReaderThatLeaves: a recording nobody reads any more is taken off the loop.
func TestReaderThatLeaves(t *testing.T) {
	r := newRig(t, 2, 3)
	rec := r.record(t, recording.Options{Waiting: 4})
	broken := errors.New("broken pipe")
	if err := rec.Run(t.Context(), nil, func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
	for range 100 {
		r.tick()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec = r.record(t, recording.Options{})
	if err := rec.Run(ctx, nil, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// BenchmarkStep is a step with a frame, with and without a recording of it. The recording's own goroutine works beside it.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, recorded := range []bool{false, true} {
			b.Run(fmt.Sprintf("instances=%d/recorded=%v", n, recorded), func(b *testing.B) {
				r := newRig(b, n, 32)
				r.tick()
				stop := make(chan struct{})
				done := make(chan error, 1)
				if recorded {
					rec := r.record(b, recording.Options{Waiting: 1 << 20})
					w := recording.NewWriter(io.Discard)
					go func() { done <- rec.Run(context.Background(), stop, w.Line) }()
				}
				b.ReportAllocs()
				for b.Loop() {
					r.tick()
				}
				close(stop)
				if recorded {
					<-done
				}
			})
		}
	}
}

// BenchmarkTap is what a recording adds to a step in the loop itself.
func BenchmarkTap(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("instances=%d", n), func(b *testing.B) {
			r := newRig(b, n, 32)
			r.tick()
			rec := r.record(b, recording.Options{})
			stop := make(chan struct{})
			go func() { _ = rec.Run(context.Background(), stop, func([]byte) error { return nil }) }()
			in := engine.Inputs{Frame: r.frame}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				rec.Before(r.now, in)
				if !rec.After(nil, nil) {
					b.StopTimer()
					rec = r.record(b, recording.Options{})
					go func() { _ = rec.Run(context.Background(), stop, func([]byte) error { return nil }) }()
					b.StartTimer()
				}
			}
			close(stop)
		})
	}
}
