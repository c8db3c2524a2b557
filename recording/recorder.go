package recording

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/engine"
)

// ErrSlow ends a recording whose lines are not taken as fast as steps are made.
var ErrSlow = errors.New("the reader is too slow: what waited for it was too much")

// What may wait for a reader: steps, and bytes of their frames.
const (
	mostWaiting = 4096
	mostBytes   = 128 << 20
)

// Recorder is the tap of a recording: it copies what a loop sees and makes, and a goroutine of its own, in
// [Recorder.Run], writes it. The loop never waits for it: a reader that falls too far behind ends the recording.
type Recorder struct {
	o      Options
	base   engine.Base
	schema *ft.Schema
	begun  time.Time

	now     *taken    // the step under way
	live    *ft.Frame // its frame, where it has one
	steps   chan *taken
	waiting atomic.Int64 // bytes
	gone    atomic.Bool  // nobody reads any more
	slow    atomic.Bool
	pool    sync.Pool // of *taken
}

// taken is a copied step.
type taken struct {
	step  Step
	frame ft.Frame
	bytes int64
}

// New makes the recorder of a loop that is at a base; put it on with [engine.Loop.Tap] at the same moment. schema is that
// of the loop's frames.
func New(b engine.Base, schema *ft.Schema, o Options) *Recorder {
	if o.Waiting <= 0 {
		o.Waiting = mostWaiting
	}
	return &Recorder{
		o: o, base: b, schema: schema, begun: time.Now(), steps: make(chan *taken, o.Waiting),
		pool: sync.Pool{New: func() any { return &taken{} }},
	}
}

// Begin makes a recorder and puts it on a loop that runs.
func Begin(ctx context.Context, l *engine.Loop, schema *ft.Schema, o Options) (*Recorder, error) {
	var r *Recorder
	err := l.Record(ctx, func(b engine.Base) engine.Tap {
		r = New(b, schema, o)
		return r
	})
	if err != nil {
		return nil, fmt.Errorf("recording: begin: %w", err)
	}
	return r, nil
}

// Before implements [engine.Tap].
func (r *Recorder) Before(now time.Time, in engine.Inputs) {
	if r.gone.Load() {
		return
	}
	t := r.pool.Get().(*taken)
	t.step = Step{At: now, Events: slices.Clone(in.Events), Written: slices.Clone(in.Written), Made: t.step.Made[:0], Did: t.step.Did[:0]}
	t.bytes = 0
	if r.live = in.Frame; in.Frame != nil {
		copyFrame(&t.frame, in.Frame)
		t.step.Frame = &t.frame
		t.bytes = int64(8*len(t.frame.X) + 4*len(t.frame.Counts) + 48*len(t.frame.Rows))
	}
	r.now = t
}

// After implements [engine.Tap].
func (r *Recorder) After(made []ft.Event, did []ft.Action) (more bool) {
	t := r.now
	if r.now = nil; t == nil || r.gone.Load() {
		return false
	}
	t.step.Made = append(t.step.Made, made...)
	if r.live != nil { // the step found out which rows are under an action by now
		t.frame.Rows = append(t.frame.Rows[:0], r.live.Rows...)
		r.live = nil
	}
	for i := range did {
		t.step.Did = append(t.step.Did, did[i].ID)
	}
	s := &t.step
	if s.Frame == nil && len(s.Events)+len(s.Written)+len(s.Made)+len(s.Did) == 0 {
		r.pool.Put(t) // nothing went in and nothing came of it
		return true
	}
	if r.waiting.Add(t.bytes) <= mostBytes {
		select {
		case r.steps <- t:
			return true
		default:
		}
	}
	r.slow.Store(true)
	close(r.steps)
	return false
}

func copyFrame(dst, src *ft.Frame) {
	dst.At, dst.Schema, dst.Demand = src.At, src.Schema, src.Demand
	dst.Rows = append(dst.Rows[:0], src.Rows...)
	dst.X = append(dst.X[:0], src.X...)
	dst.Have = append(dst.Have[:0], src.Have...)
	dst.Span = append(dst.Span[:0], src.Span...)
	dst.Counts = append(dst.Counts[:0], src.Counts...)
	dst.Labels = append(dst.Labels[:0], src.Labels...)
}

// Run gives the lines of the recording to out, from the header on, until ctx or the loop ends; stopped is closed by the
// latter, see [engine.Loop.Stopped]. What was recorded until then is given. It returns why the recording ended: the
// context's error, [engine.ErrStopped], [ErrSlow], or the error of out. It is called once.
func (r *Recorder) Run(ctx context.Context, stopped <-chan struct{}, out func(line []byte) error) error {
	defer r.gone.Store(true)
	h, err := newHeader(&r.base, r.schema, r.begun, r.o)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	lines, err := h.lines()
	if err != nil {
		return err
	}
	for _, l := range lines {
		if err := out(l); err != nil {
			return err
		}
	}
	r.base = engine.Base{} // it may be large
	e := &encoder{pool: h.Pool.Name, secrets: r.o.Secrets}
	var buf []byte
	give := func(t *taken) error {
		r.waiting.Add(-t.bytes)
		if buf, err = e.step(buf[:0], &t.step); err != nil {
			return err
		}
		clear(t.step.Made)
		r.pool.Put(t)
		return out(buf)
	}
	for {
		select {
		case t, ok := <-r.steps:
			if !ok {
				return ErrSlow
			}
			if err := give(t); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case t, ok := <-r.steps:
			if !ok {
				return ErrSlow
			}
			if err := give(t); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-stopped:
			if len(r.steps) > 0 {
				continue
			}
			return engine.ErrStopped
		}
	}
}
