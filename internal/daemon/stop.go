package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// stopMargin is what stopping a pool may take on top of its times for draining and ending.
const stopMargin = 10 * time.Second

// stopAll ends all pools: with keep only the brains of them; else drained and stopped, and the router too.
func (d *daemon) stopAll(keep bool) error {
	d.change.Lock()
	defer d.change.Unlock()
	pools := d.all()
	errs := make([]error, len(pools)+1)
	var wg sync.WaitGroup
	for i, p := range pools {
		wg.Go(func() {
			if keep {
				errs[i] = p.halt()
			} else {
				errs[i] = d.remove(context.Background(), p)
			}
		})
	}
	wg.Wait()
	if !keep {
		ctx, cancel := d.forced(context.Background(), stopMargin)
		defer cancel()
		if d.front != nil {
			if err := d.front.Shutdown(ctx); err != nil && !d.isForced() {
				errs[len(pools)] = err
			}
		}
		if len(pools) > 0 && errors.Join(errs...) == nil {
			errs = append(errs, remember(d.o.StateDir, []fettle.Pool{}))
		}
	}
	return errors.Join(errs...)
}

// isForced tells whether nothing is to be waited for: then what had to be cut off is no failure.
func (d *daemon) isForced() bool {
	select {
	case <-d.force:
		return true
	default:
		return false
	}
}

// forced is a context that ends with the time, or when nothing is to be waited for any more.
func (d *daemon) forced(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, after)
	go func() {
		select {
		case <-d.force:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// remove drains and stops a pool's instances and ends it. What does not stop as planned is killed.
func (d *daemon) remove(ctx context.Context, p *pool) error {
	spec := p.config()
	if spec.Watch != nil {
		d.metrics.forget(p.name)
		return p.halt() // its servers are somebody else's
	}
	if err := p.empty(ctx, &spec); err != nil && !d.isForced() {
		d.log.Warn("instances did not stop as planned; they are ended now", "pool", p.name, "err", err)
	}
	err := p.halt()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		d.log.Warn("stop", "err", err)
	}
	d.metrics.forget(p.name)
	err = d.killAll(&spec)
	if spec.Serve == fettle.HTTP {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMargin)
		defer cancel()
		err = errors.Join(err, d.front.CloseListener(cctx, p.name))
	}
	if err != nil {
		return fmt.Errorf("stop pool %s: %w", p.name, err)
	}
	return nil
}

// empty asks the planner to stop all and waits until nothing is left.
func (p *pool) empty(ctx context.Context, spec *fettle.Pool) error {
	ctx, cancel := p.d.forced(ctx, spec.Heal.Drain.D()+spec.Heal.Grace.D()+stopMargin)
	defer cancel()
	events, end := p.subscribe()
	defer end()
	if err := p.loop.Ask(ctx, commanded(fettle.Command{Kind: "stop", By: "daemon"})); err != nil {
		return err
	}
	p.live.Abandon()
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		left := 0
		err := p.loop.View(ctx, func(s *plan.State, _ *drift.Judge) { left = len(s.Members(nil)) })
		if err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-events:
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%d instances are left: %w", left, fettle.ErrDeadline)
		}
	}
}

// killAll ends what the driver still lists of a pool.
func (d *daemon) killAll(spec *fettle.Pool) error {
	ctx, cancel := context.WithTimeout(context.Background(), spec.Heal.Grace.D()+stopMargin)
	defer cancel()
	ins, err := d.driver.List(ctx, spec.Name)
	if err != nil {
		return err
	}
	grace := spec.Heal.Grace.D()
	if d.isForced() {
		grace = 0
	}
	errs := make([]error, len(ins))
	var wg sync.WaitGroup
	for i := range ins {
		wg.Go(func() { errs[i] = d.driver.Stop(ctx, ins[i].Ref, grace) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func commanded(c fettle.Command) *fettle.Commanded {
	return &fettle.Commanded{Stamp: fettle.Stamp{At: time.Now().UTC().Round(0)}, Command: c}
}
