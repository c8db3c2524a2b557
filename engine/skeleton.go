package engine

import (
	"context"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// Loop is one pool.
type Loop struct {
	state *plan.State
	judge *drift.Judge
}

// New makes the loop of a pool.
func New(s *plan.State, j *drift.Judge, r Journal, x Executor) *Loop {
	return &Loop{state: s, judge: j}
}

// Step does one turn and says when the next is wanted.
func (l *Loop) Step(now time.Time, in Inputs) (wake time.Time) { return now.Add(time.Second) }

// Run owns the goroutine.
func (l *Loop) Run(ctx context.Context, s Sampler, every time.Duration) error { return nil }

// Post hands events to the loop; from any goroutine.
func (l *Loop) Post(es ...ft.Event) {}

// Ask posts an event and waits until it was folded; the error says why it was refused.
func (l *Loop) Ask(ctx context.Context, e ft.Event) error { return nil }

// Written tells the outcome of a batch; given to the journal.
func (l *Loop) Written(w Written) {}

// View runs f between two steps.
func (l *Loop) View(ctx context.Context, f func(*plan.State, *drift.Judge)) error { return nil }

// Checkpoint is the state as of an event and that event's sequence number: what SaveSnapshot takes.
func (l *Loop) Checkpoint(ctx context.Context) (state []byte, upTo uint64, err error) {
	return nil, 0, nil
}

// OnEvent sets a function that is called for every folded event.
func (l *Loop) OnEvent(f func(ft.Event)) {}

// Stalled says what hangs.
func (l *Loop) Stalled(now time.Time) (string, bool) { return "", false }

// Live carries actions out by a driver and a front.
type Live struct{}

// NewLive makes an executor.
func NewLive(ctx context.Context, pool func() *ft.Pool, c ft.Capabilities, front ft.Front, post func(...ft.Event)) *Live {
	return &Live{}
}

// Do begins an action.
func (x *Live) Do(a ft.Action, in ft.Instance) {}

// Wait waits for all actions.
func (x *Live) Wait() {}

// Recover rebuilds the state. The returned events settle it against what runs; they are not folded yet: post them.
func Recover(ctx context.Context, pool ft.Pool, r Reader, d ft.Driver, now time.Time) (*plan.State, []ft.Event, error) {
	return plan.New(pool), nil, nil
}
