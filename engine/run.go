package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// ErrStopped is given to those who ask a loop that no longer runs.
var ErrStopped = errors.New("the engine has stopped")

// samplerPatience bounds one sample, in intervals: the sampler's context ends then. A sampler that does not heed it
// stops nothing; it is said by Stalled.
const samplerPatience = 10

// running is what Run shares with other goroutines.
type running struct {
	watch
	steps   steptimes
	mu      sync.Mutex
	events  []ft.Event // guarded by mu
	results []Written  // guarded by mu
	wake    chan struct{}
	views   chan view
	stopped chan struct{}

	// Of the loop's own goroutine:
	acked   uint64 // the last batch that is durable, and its sequence number
	seq     uint64
	waiting []checkpoint
}

type view struct {
	f    func()
	done chan struct{}
}

// checkpoint is a snapshot that waits until all that it includes is durable.
type checkpoint struct {
	batch uint64
	seq   chan uint64
}

func (r *running) init() {
	r.wake = make(chan struct{}, 1)
	r.views = make(chan view)
	r.stopped = make(chan struct{})
}

// Post hands events to the loop, from any goroutine. It does not wait for them to be folded.
func (l *Loop) Post(es ...ft.Event) {
	l.run.mu.Lock()
	l.run.events = append(l.run.events, es...)
	l.run.mu.Unlock()
	l.run.nudge()
}

// Written tells the outcome of a batch, from any goroutine; it is the function to give to the journal.
func (l *Loop) Written(w Written) {
	l.run.mu.Lock()
	l.run.results = append(l.run.results, w)
	l.run.mu.Unlock()
	l.run.nudge()
}

func (r *running) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Ask posts an event and waits until it was folded. The error says why the state refused it.
func (l *Loop) Ask(ctx context.Context, e ft.Event) error {
	c := make(chan error, 1)
	l.mu.Lock()
	l.asked[e] = c
	l.mu.Unlock()
	l.Post(e)
	select {
	case err := <-c:
		return err
	case <-l.run.stopped:
		return ErrStopped
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.asked, e)
		l.mu.Unlock()
		return ctx.Err()
	}
}

// View runs f between two steps, in the loop's goroutine, and returns when it has run. f must be quick, must keep
// nothing of what it is given, and must not call the loop.
func (l *Loop) View(ctx context.Context, f func(*plan.State, *drift.Judge)) error {
	v := view{f: func() { f(l.state, l.judge) }, done: make(chan struct{})}
	select {
	case l.run.views <- v:
	case <-l.run.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	<-v.done
	return nil
}

// Checkpoint is the state and the sequence number of the last event in it, returned when that event is durable: what
// a journal keeps as a snapshot.
func (l *Loop) Checkpoint(ctx context.Context) (state []byte, upTo uint64, err error) {
	c := checkpoint{seq: make(chan uint64, 1)}
	verr := l.View(ctx, func(s *plan.State, _ *drift.Judge) {
		if l.batch == 0 {
			err = fmt.Errorf("checkpoint: nothing was journaled yet: %w", ft.ErrConflict)
			return
		}
		if state, err = s.Snapshot(); err != nil {
			return
		}
		c.batch = l.batch
		l.run.waiting = append(l.run.waiting, c)
		l.run.release()
	})
	if verr != nil {
		return nil, 0, verr
	}
	if err != nil {
		return nil, 0, err
	}
	select {
	case upTo = <-c.seq:
		return state, upTo, nil
	case <-l.run.stopped:
		return nil, 0, ErrStopped
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// written notes how far the journal is. Batches become durable in their order.
func (r *running) written(w Written) {
	r.acked, r.seq = w.Batch, w.Seq
	r.release()
}

// release answers the checkpoints whose batch is the last durable one. One that was overtaken has no sequence number
// of its own any more, and waits for nothing: its caller is answered when its own batch is, since Written comes for
// each batch.
func (r *running) release() {
	rest := r.waiting[:0]
	for _, c := range r.waiting {
		if c.batch == r.acked {
			c.seq <- r.seq
		} else {
			rest = append(rest, c)
		}
	}
	r.waiting = rest
}

// sample is one frame on its way through the sampler.
type sample struct {
	now     time.Time
	frame   *ft.Frame
	members []ft.Instance
	err     error
}

// Run samples every interval, steps, and serves Post, Written, Ask, View and Checkpoint until ctx ends, which is no
// error. A Loop runs once. The sampler works in a goroutine of its own, so that one that hangs stops nothing.
func (l *Loop) Run(ctx context.Context, s Sampler, every time.Duration) error {
	if every <= 0 {
		return fmt.Errorf("engine: interval %s: %w", every, ft.ErrInvalid)
	}
	defer close(l.run.stopped)
	l.run.every.Store(int64(every))
	work, done := make(chan *sample), make(chan *sample, 1)
	defer close(work)
	go sampling(ctx, s, every*samplerPatience, work, done)

	// Two frames are exchanged: one can be filled while the other is judged.
	free := []*sample{{frame: &ft.Frame{Schema: s.Schema()}}, {frame: &ft.Frame{Schema: s.Schema()}}}
	busy := false
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	planner := time.NewTimer(0)
	defer planner.Stop()
	for {
		var in Inputs
		var judged *sample
		l.run.enter("idle")
		select {
		case <-ctx.Done():
			return nil
		case v := <-l.run.views:
			l.run.enter("a view")
			v.f()
			close(v.done)
			continue
		case now := <-ticker.C:
			if !busy && len(free) > 0 {
				busy = true
				l.begin(free[len(free)-1], now)
				work <- free[len(free)-1]
				free = free[:len(free)-1]
			}
			continue
		case judged = <-done:
			busy = false
			l.run.sampled(judged.err)
			if judged.err == nil {
				in.Frame = judged.frame
			}
		case <-l.run.wake:
		case <-planner.C:
		}
		l.run.enter("a step")
		in.Events, in.Written = l.run.take()
		now := time.Now()
		wake := l.Step(now, in)
		l.run.steps.add(time.Since(now))
		if judged != nil {
			free = append(free, judged)
		}
		if !wake.IsZero() {
			planner.Reset(max(wake.Sub(now.Round(0)), time.Millisecond))
		}
	}
}

// begin fills the rows of a frame: whose they are is decided before they are measured.
func (l *Loop) begin(s *sample, now time.Time) {
	l.run.enter("rows")
	s.now = now.UTC().Round(0)
	s.frame.At = s.now
	s.frame.Rows, s.members = l.state.Rows(s.frame.Rows[:0], s.members[:0], s.now)
	s.frame.Reset(len(s.frame.Rows))
	l.run.samplingSince.Store(s.now.UnixNano())
}

// take empties the inbox.
func (r *running) take() ([]ft.Event, []Written) {
	r.mu.Lock()
	defer r.mu.Unlock()
	es, ws := r.events, r.results
	r.events, r.results = nil, nil
	return es, ws
}

func sampling(ctx context.Context, s Sampler, patience time.Duration, work <-chan *sample, done chan<- *sample) {
	for w := range work {
		c, cancel := context.WithTimeout(ctx, patience)
		w.err = sampleOnce(c, s, w)
		cancel()
		done <- w
	}
}

// sampleOnce turns a panic of a collector into an error: a sampler is many parsers of what others wrote.
func sampleOnce(ctx context.Context, s Sampler, w *sample) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("sampler panicked: %v", p)
		}
	}()
	return s.Sample(ctx, w.now, w.members, w.frame)
}
