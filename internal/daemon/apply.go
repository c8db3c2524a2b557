package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// Apply makes pools the desired state: others are stopped and removed. A changed image becomes the desired state; the
// instances that were made from the old one run on and are shown as outdated.
func (d *daemon) Apply(ctx context.Context, pools []fettle.Pool) (api.Applied, error) {
	a := api.Applied{Added: []fettle.PoolName{}, Changed: []fettle.PoolName{}, Removed: []fettle.PoolName{}, Unchanged: []fettle.PoolName{}}
	if pools == nil {
		pools = []fettle.Pool{}
	}
	pools, err := check(pools)
	if err != nil {
		return a, err
	}
	for i := range pools {
		if err := d.able(&pools[i]); err != nil {
			return a, err
		}
	}
	d.change.Lock()
	defer d.change.Unlock()
	// An apply that has begun is carried to its end, whether or not somebody still waits for the answer.
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, p := range d.all() {
		if !slices.ContainsFunc(pools, func(s fettle.Pool) bool { return s.Name == p.name }) {
			errs = append(errs, d.remove(ctx, p))
			a.Removed = append(a.Removed, p.name)
		}
	}
	for _, spec := range pools {
		p := d.find(spec.Name)
		switch {
		case p == nil:
			_, err := d.start(ctx, spec)
			errs = append(errs, err)
			a.Added = append(a.Added, spec.Name)
		case reflect.DeepEqual(p.config(), spec):
			a.Unchanged = append(a.Unchanged, spec.Name)
		default:
			errs = append(errs, d.reconfigure(ctx, p, spec))
			a.Changed = append(a.Changed, spec.Name)
		}
	}
	errs = append(errs, d.rememberAll())
	return a, errors.Join(errs...)
}

// rememberAll remembers the pools that run.
func (d *daemon) rememberAll() error {
	specs := []fettle.Pool{}
	for _, p := range d.all() {
		specs = append(specs, p.config())
	}
	return remember(d.o.StateDir, specs)
}

// Remove drains, stops and forgets a pool.
func (d *daemon) Remove(ctx context.Context, name fettle.PoolName) error {
	d.change.Lock()
	defer d.change.Unlock()
	p, err := d.named(name)
	if err != nil {
		return err
	}
	return errors.Join(d.remove(context.WithoutCancel(ctx), p), d.rememberAll())
}

// Doctor is what this machine gives.
func (d *daemon) Doctor(ctx context.Context) ([]api.Fact, error) {
	return Facts(ctx, d.driver, d.probes.loaded()), nil
}

// Shutdown makes Run end. A second one that forces is heard while the first still waits.
func (d *daemon) Shutdown(s api.Shutdown) error {
	select {
	case d.end <- s:
	default:
		if s.Force {
			d.forceNow()
		}
	}
	return nil
}

// Metrics serves the Prometheus metrics.
func (d *daemon) Metrics() http.Handler { return d.metrics.handler() }

// Output writes what an instance wrote.
func (d *daemon) Output(ctx context.Context, id fettle.InstanceID, o api.OutputOptions, w io.Writer) error {
	p, err := d.named(id.Pool())
	if err != nil {
		return fmt.Errorf("instance %q: %w", id, err)
	}
	if p.watch != nil {
		return fmt.Errorf("output of %s: Fettle keeps that of instances which it runs; %s is only watched: %w", id, p.name, fettle.ErrUnavailable)
	}
	if err := tail(ctx, d.driver.OutputPath(id), o, w); err != nil {
		return fmt.Errorf("output of %s: %w", id, err)
	}
	return nil
}
