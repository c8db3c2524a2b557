package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
)

// Recover rebuilds the state of a pool after a restart: the last snapshot, the journal since, and what the driver
// says really exists. The events are those that settle the two: Configured, Found for each instance that exists,
// Missing for each that does not any more, and Finished for every intent whose outcome is not known. They are not
// folded yet: post them, after Began and before Run, so that they are journaled like all others.
//
// An event that the journal holds and the state refuses is passed over: it was refused when it was live, too.
func Recover(ctx context.Context, pool ft.Pool, r Reader, d ft.Driver, now time.Time) (*plan.State, []ft.Event, error) {
	s, err := replay(ctx, pool, r)
	if err != nil {
		return nil, nil, fmt.Errorf("recover pool %s: %w", pool.Name, err)
	}
	ins, err := d.List(ctx, pool.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("recover pool %s: list instances: %w", pool.Name, err)
	}
	slices.SortFunc(ins, func(a, b ft.Instance) int { return int(a.ID.Serial()) - int(b.ID.Serial()) })
	t := settler{stamp: ft.Stamp{At: now.UTC().Round(0)}, pool: &pool, list: ins}
	t.tuner, _ = d.(ft.Tuner)
	t.add(&ft.Configured{Stamp: t.stamp, Pool: pool})
	pending := s.Pending(nil)
	t.found(pending)
	t.missing(s.Members(nil), pending)
	for i := range pending {
		t.settle(&pending[i])
	}
	return s, t.events, nil
}

func replay(ctx context.Context, pool ft.Pool, r Reader) (*plan.State, error) {
	b, upTo, err := r.Snapshot(ctx, pool.Name)
	if err != nil {
		return nil, err
	}
	s := plan.New(pool)
	if b != nil {
		if s, err = plan.Restore(b); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	}
	err = r.Events(ctx, pool.Name, upTo, func(_ uint64, e ft.Event) error {
		_ = s.Apply(e)
		return nil
	})
	return s, err
}

// settler compares what was known with what exists.
type settler struct {
	stamp  ft.Stamp
	pool   *ft.Pool
	list   []ft.Instance
	tuner  ft.Tuner
	events []ft.Event
}

func (t *settler) add(e ft.Event) { t.events = append(t.events, e) }

func (t *settler) listed(id ft.InstanceID) *ft.Instance {
	i := slices.IndexFunc(t.list, func(in ft.Instance) bool { return in.ID == id })
	if i < 0 {
		return nil
	}
	return &t.list[i]
}

// found adopts all that is listed, except what a pending action made: that comes with the action's outcome, now or,
// for a Start, when it is asked for again. Only the driver can tell whether what it lists has passed its startup probe.
func (t *settler) found(pending []ft.Action) {
	for i := range t.list {
		in := &t.list[i]
		if slices.ContainsFunc(pending, func(a ft.Action) bool { return t.made(&a) == in || a.Verb == ft.Start && a.Ref == in.Ref }) {
			continue
		}
		t.add(&ft.Found{Stamp: t.stamp, Instance: *in, Knobs: t.knobs(in)})
	}
}

func (t *settler) knobs(in *ft.Instance) []ft.Knob {
	if t.tuner == nil || in.Exit != nil {
		return nil
	}
	return t.tuner.Knobs(t.pool, *in)
}

// missing reports members that have or had a process and are listed no more. One that is about to be made has none
// yet; one that is being stopped was stopped.
func (t *settler) missing(members []plan.Member, pending []ft.Action) {
	for i := range members {
		m := &members[i]
		if m.Phase == ft.Cold || m.Phase == ft.Gone || t.listed(m.ID) != nil {
			continue
		}
		settled := slices.ContainsFunc(pending, func(a ft.Action) bool {
			return a.Ref.ID == m.ID && (a.Verb == ft.Start || a.Verb == ft.Stop || a.Verb == ft.FullReset)
		})
		if !settled {
			t.add(&ft.Missing{Stamp: t.stamp, Ref: m.Ref})
		}
	}
}

// made is the running instance that a FullReset brought up, nil if it did not.
func (t *settler) made(a *ft.Action) *ft.Instance {
	in := t.listed(a.Ref.ID)
	if a.Verb != ft.FullReset || in == nil || in.Exit != nil || in.Generation != a.Ref.Generation+1 {
		return nil
	}
	return in
}

// settle says how a pending action ended, as far as what exists can tell. Where it cannot, the action counts as not
// carried out: verbs are idempotent, so the planner may ask for it again.
func (t *settler) settle(a *ft.Action) {
	f := &ft.Finished{Stamp: t.stamp, Action: *a}
	in := t.listed(a.Ref.ID)
	switch made := t.made(a); {
	case made != nil:
		f.Instance, f.Knobs = made, t.knobs(made)
	case a.Verb == ft.Stop && in == nil:
	case in == nil && a.Verb == ft.FullReset:
		f.Err = "the brain ended while it was under way, and nothing runs"
	default:
		f.Skipped, f.Err = true, "the brain ended before its outcome was known"
	}
	t.add(f)
}
