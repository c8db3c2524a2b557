// Package engine runs one pool: observe, judge, plan, record, act.
//
// [Loop.Step] does one turn. It has no clock and no goroutine: [Loop.Run], replay and simulation call it.
//
//	facts -> fold -> frame -> judge -> fold verdicts -> plan to a fixpoint -> journal -> act
//	                                                                                     |
//	       non-disruptive actions at once; disruptive ones when their batch is durable, validated again
//
// Facts are folded and starts happen while the journal fails; disruption waits, and it is said (JournalState).
package engine

import (
	"context"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Journal keeps events. Append takes the batch over in the order of the calls and never blocks; the outcome comes
// later as [Written] through the function that the journal was given, from any goroutine. The events are not to be
// used after Append returned; the slice is reused by the caller.
type Journal interface {
	Append(batch uint64, es []ft.Event)
}

// Written is the outcome of a batch.
type Written = ft.Written

// Executor carries out an action and later hands its outcome back as a *[ft.Finished] event. Do does not block. in
// is what is known of the instance: for Start its Ref only.
type Executor interface {
	Do(a ft.Action, in ft.Instance)
}

// Sampler measures a pool. members[i] is the instance of f.Rows[i]; f.Reset was called.
type Sampler interface {
	Schema() *ft.Schema
	Sample(ctx context.Context, now time.Time, members []ft.Instance, f *ft.Frame) error
}

// Inputs of one step. Any may be empty.
type Inputs struct {
	Frame   *ft.Frame
	Events  []ft.Event
	Written []Written
}

// Reader is what a journal kept: the base of [Recover].
type Reader interface {
	// Snapshot is the last saved state, nil where there is none, and the sequence number that it includes.
	Snapshot(ctx context.Context, pool ft.PoolName) (state []byte, upTo uint64, err error)
	// Events calls f for each event of the pool after the sequence number, in order.
	Events(ctx context.Context, pool ft.PoolName, after uint64, f func(seq uint64, e ft.Event) error) error
}
