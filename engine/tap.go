package engine

import (
	"context"
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// Tap sees every step of a loop: what goes in, and what comes of it. Both methods are called in the loop and must not
// block. Events and actions may be kept, since nobody changes them; a frame is used again and must be copied.
type Tap interface {
	// Before is called before anything of the step is folded.
	Before(now time.Time, in Inputs)
	// After is called at the end of the step: made are the events that the loop folded beyond those that went in, in
	// order, did the actions that it gave to the executor. Neither slice may be kept. The tap is taken off when more is
	// false.
	After(made []ft.Event, did []ft.Action) (more bool)
}

// Base is what all later steps of a loop rest on, as of a moment between two steps: a loop that is made of it and gets
// the same inputs decides the same, bit for bit. See [Resume].
type Base struct {
	Pool     ft.Pool      // as the state has it
	State    []byte       // plan.State.Snapshot
	Slots    []ft.Slot    // of the members in the snapshot, in its order
	Loop     []byte       // of the loop itself, as JSON: batches that are not durable, figures summed up so far, limits
	Journal  bool         // batches are answered by a journal; else each is durable at once
	Judge    drift.Config // zero where there is no judge
	Profiles []byte       // drift.Judge.AppendBinary; nil where there is no judge
}

// Base takes the base. Like Step it is for the loop's own goroutine.
func (l *Loop) Base() (Base, error) {
	b := Base{Pool: *l.state.Pool(), Journal: l.journal != nil}
	var err error
	if b.State, err = l.state.Snapshot(); err != nil {
		return b, err
	}
	l.members = l.state.Members(l.members[:0])
	for i := range l.members {
		b.Slots = append(b.Slots, l.members[i].Slot)
	}
	if b.Loop, err = l.snapshot(); err != nil {
		return b, fmt.Errorf("snapshot of the loop: %w", err)
	}
	if l.judge != nil {
		b.Judge = l.judge.Config()
		if b.Profiles, err = l.judge.AppendBinary(nil); err != nil {
			return b, fmt.Errorf("checkpoint of the judge: %w", err)
		}
	}
	return b, nil
}

// Tap puts a tap on. Like Step it is for the loop's own goroutine; see [Loop.Record] for a loop that runs.
func (l *Loop) Tap(t Tap) { l.taps = append(l.taps, t) }

// Record puts a tap on a running loop between two steps. begin gets the base of all steps that the tap will see; it is
// called in the loop and must be quick.
func (l *Loop) Record(ctx context.Context, begin func(Base) Tap) error {
	var failed error
	err := l.View(ctx, func(*plan.State, *drift.Judge) {
		b, err := l.Base()
		if err != nil {
			failed = err
			return
		}
		l.Tap(begin(b))
	})
	if err != nil {
		return err
	}
	return failed
}

// Stopped is closed when Run has ended.
func (l *Loop) Stopped() <-chan struct{} { return l.run.stopped }

// before tells the taps what goes in. All that is folded from then on, but for the inputs themselves, is kept for them.
func (l *Loop) before(in Inputs) {
	for _, t := range l.taps {
		t.Before(l.now, in)
	}
}

// after tells the taps what came of the step, and takes off those that have seen enough.
func (l *Loop) after() {
	if len(l.taps) == 0 {
		return
	}
	rest := l.taps[:0]
	for _, t := range l.taps {
		if t.After(l.made, l.did) {
			rest = append(rest, t)
		}
	}
	clear(l.taps[len(rest):])
	l.taps = rest
	clear(l.made)
	l.made, l.did = l.made[:0], l.did[:0]
}
