package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// PoolFront takes a pool's instances in and out of service and measures them: an ft.Front, ft.Source and ft.Batcher.
// Safe for concurrent use, but for its readers.
type PoolFront struct {
	f    *Front
	name ft.PoolName

	mu       sync.Mutex // held while a table is published, so that tables arrive in order
	table    *wire.Table
	listener *net.TCPListener

	source source
}

var (
	_ ft.Front   = (*PoolFront)(nil)
	_ ft.Source  = (*PoolFront)(nil)
	_ ft.Batcher = (*PoolFront)(nil)
)

// publish makes t the pool's table, here and in the router. While the router is being replaced it waits for the new
// one, until ctx ends; the table stays and reaches the new router in any case. Holds p.mu.
func (p *PoolFront) publish(ctx context.Context, t *wire.Table, l *net.TCPListener) error {
	if p.listener == nil {
		return fmt.Errorf("pool %s is not open: %w", p.name, ft.ErrNotFound)
	}
	t.Epoch++
	t.Labels = p.source.names()
	p.table = t
	return p.send(ctx, l)
}

func (p *PoolFront) send(ctx context.Context, l *net.TCPListener) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	}
	for {
		_, _, err := p.f.link.ask(ctx, &wire.Request{Op: wire.OpApply, Table: p.table}, l)
		switch {
		case err == nil, errors.Is(err, ft.ErrInvalid), errors.Is(err, ft.ErrConflict), ctx.Err() != nil, p.f.ctx.Err() != nil:
			return err
		case errors.Is(err, ft.ErrNotFound):
			l = p.listener // a new router that has no listener of this pool yet
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// republish hands listener and table to a new router.
func (p *PoolFront) republish(ctx context.Context) error {
	p.mu.Lock() // whoever holds it waits for this very router, and it answers by now
	defer p.mu.Unlock()
	if p.table == nil || p.listener == nil {
		return nil
	}
	p.table = p.table.Clone()
	p.table.Labels = p.source.names()
	return p.send(ctx, p.listener)
}

// change edits a copy of the table and publishes it, if the edit says that there is something to publish.
func (p *PoolFront) change(ctx context.Context, edit func(*wire.Table) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return fmt.Errorf("pool %s is not open: %w", p.name, ft.ErrNotFound)
	}
	t := p.table.Clone()
	if !edit(t) {
		return nil
	}
	return p.publish(ctx, t, nil)
}

// Admit puts the instance into service; it returns when new work can reach it, that is when its readiness probe has
// passed. An earlier life of it is removed. Where ctx ends first it stays admitted and gets work once it is ready.
func (p *PoolFront) Admit(ctx context.Context, in ft.Instance, weight float64) error {
	err := p.change(ctx, func(t *wire.Table) bool {
		m := wire.Member{Ref: in.Ref, Endpoint: in.Endpoint, Weight: weight, Concurrency: in.Concurrency, Since: time.Now()}
		i := slices.IndexFunc(t.Members, func(o wire.Member) bool { return o.Ref.ID == in.ID })
		switch {
		case i < 0:
			t.Members = append(t.Members, m)
			return true
		case t.Members[i].Ref == in.Ref && t.Members[i].Endpoint == in.Endpoint && !t.Members[i].Draining:
			m.Since = t.Members[i].Since
		}
		same := t.Members[i] == m
		t.Members[i] = m
		return !same
	})
	if err != nil {
		return fmt.Errorf("admit %s: %w", in.Ref, err)
	}
	if err := p.wait(ctx, wire.OpReady, in.Ref, time.Time{}); err != nil {
		return fmt.Errorf("admit %s: %w", in.Ref, err)
	}
	return nil
}

// Weigh sets its share of traffic, 0 to 1. At 0 it gets only what no other can take.
func (p *PoolFront) Weigh(ctx context.Context, ref ft.Ref, weight float64) error {
	var err error
	cerr := p.change(ctx, func(t *wire.Table) bool {
		i := t.Find(ref)
		if i < 0 {
			err = ft.ErrNotFound
			return false
		}
		same := t.Members[i].Weight == weight
		t.Members[i].Weight = weight
		return !same
	})
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("weigh %s: %w", ref, err)
	}
	return nil
}

// Drain takes it out of service and returns when nothing is in flight, streams and tunnels included, or ErrDeadline.
// Its kept connections are closed then. Not in service is success.
func (p *PoolFront) Drain(ctx context.Context, ref ft.Ref, deadline time.Time) error {
	there := false
	err := p.change(ctx, func(t *wire.Table) bool {
		i := t.Find(ref)
		if i < 0 {
			return false
		}
		there = true
		same := t.Members[i].Draining
		t.Members[i].Draining = true
		return !same
	})
	if err == nil && there {
		err = p.wait(ctx, wire.OpDrain, ref, deadline)
	}
	if err != nil && !errors.Is(err, ft.ErrNotFound) {
		return fmt.Errorf("drain %s: %w", ref, err)
	}
	return nil
}

// Remove forgets it, and cuts what it still has in flight. Already gone is success.
func (p *PoolFront) Remove(ctx context.Context, ref ft.Ref) error {
	err := p.change(ctx, func(t *wire.Table) bool {
		i := t.Find(ref)
		if i < 0 {
			return false
		}
		t.Members = slices.Delete(t.Members, i, i+1)
		return true
	})
	if err != nil && !errors.Is(err, ft.ErrNotFound) {
		return fmt.Errorf("remove %s: %w", ref, err)
	}
	return nil
}

// Keep removes all members but the given: what is left of instances that ended while no daemon was there.
func (p *PoolFront) Keep(ctx context.Context, refs []ft.Ref) error {
	err := p.change(ctx, func(t *wire.Table) bool {
		n := len(t.Members)
		t.Members = slices.DeleteFunc(t.Members, func(m wire.Member) bool { return !slices.Contains(refs, m.Ref) })
		return len(t.Members) < n
	})
	if err != nil {
		return fmt.Errorf("pool %s: keep members: %w", p.name, err)
	}
	return nil
}

// Members are those in the table.
func (p *PoolFront) Members() []ft.Ref {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return nil
	}
	refs := make([]ft.Ref, len(p.table.Members))
	for i := range refs {
		refs[i] = p.table.Members[i].Ref
	}
	return refs
}

// readyWithin bounds Admit where ctx does not.
const readyWithin = time.Minute

// wait asks the router to answer when the member is as asked. A router that dies meanwhile is asked again when it is
// back: it then has nothing in flight.
func (p *PoolFront) wait(ctx context.Context, op string, ref ft.Ref, deadline time.Time) error {
	if deadline.IsZero() {
		deadline = time.Now().Add(readyWithin)
	}
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	// The router answers at the deadline; its answer takes a little longer.
	long, cancel := context.WithDeadline(ctx, deadline.Add(time.Second))
	defer cancel()
	for {
		_, _, err := p.f.link.ask(long, &wire.Request{Op: op, Pool: p.name, Ref: ref, Deadline: deadline}, nil)
		switch {
		case err == nil, errors.Is(err, ft.ErrDeadline), errors.Is(err, ft.ErrInvalid):
			return err
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("%w: %w", ft.ErrDeadline, err)
		case p.f.ctx.Err() != nil:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
