package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// The ports that a Driver offers.
var (
	_ ft.Driver       = (*Driver)(nil)
	_ ft.Tuner        = (*Driver)(nil)
	_ ft.Specializer  = (*Driver)(nil)
	_ ft.SoftResetter = (*Driver)(nil)
	_ ft.FullResetter = (*Driver)(nil)
	_ ft.Source       = (*Driver)(nil)
	_ ft.Batcher      = (*Driver)(nil)
	_ ft.Front        = (*Front)(nil)
)

// Driver offers a World through the ports of a real driver: verbs sleep as long as they take. It is for
// testing/synctest, where sleeping costs nothing, and is safe for concurrent use.
type Driver struct {
	mu     sync.Mutex
	w      *World // guarded by mu
	post   func(...ft.Event)
	exited []func(ft.Ref, ft.Exit)         // guarded by mu
	hang   map[ft.InstanceID]chan struct{} // guarded by mu: verbs on these do not return before it is closed
}

// NewDriver wraps a world. post gets what a router would tell: Unresponsive, Responsive.
func NewDriver(w *World, post func(...ft.Event)) *Driver {
	return &Driver{w: w, post: post, hang: map[ft.InstanceID]chan struct{}{}}
}

// Plant changes the world as of now: plants a fault, changes the load.
func (d *Driver) Plant(f func(*World) error) error {
	var err error
	d.at(func() { err = f(d.w) })
	return err
}

// Block makes every verb on an instance hang, whatever its context says, as a driver with a bug would, until
// release is called.
func (d *Driver) Block(id ft.InstanceID) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan struct{})
	d.hang[id] = c
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.hang, id)
		close(c)
	}
}

// at runs f in the world as of now, and tells afterwards what happened.
func (d *Driver) at(f func()) {
	d.mu.Lock()
	es := d.w.Advance(time.Now(), nil, nil, nil)
	f()
	es = append(es, d.w.Advance(time.Now(), nil, nil, nil)...)
	watchers := d.exited
	d.mu.Unlock()
	for _, e := range es {
		if x, ok := e.(*ft.Exited); ok {
			for _, tell := range watchers {
				tell(x.Ref, x.Exit)
			}
			continue
		}
		d.post(e)
	}
}

// perform is one verb: it takes its time, then happens.
func (d *Driver) perform(ctx context.Context, a ft.Action) (f *ft.Finished, err error) {
	var o outcome
	var hang chan struct{}
	d.at(func() { o, hang = d.w.prepare(a), d.hang[a.Ref.ID] })
	if hang != nil {
		<-hang
	}
	timer := time.NewTimer(o.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", a, ctx.Err())
	}
	d.at(func() { f, err = o.done() })
	return f, err
}

func (d *Driver) instance(ctx context.Context, a ft.Action) (ft.Instance, error) {
	f, err := d.perform(ctx, a)
	if err != nil {
		return ft.Instance{}, err
	}
	return *f.Instance, nil
}

// Start implements ft.Driver.
func (d *Driver) Start(ctx context.Context, p *ft.Pool, ref ft.Ref, w ft.Work) (ft.Instance, error) {
	d.at(func() { d.w.Configure(*p) })
	return d.instance(ctx, ft.Action{Verb: ft.Start, Ref: ref, Work: w})
}

// Stop implements ft.Driver.
func (d *Driver) Stop(ctx context.Context, ref ft.Ref, _ time.Duration) error {
	_, err := d.perform(ctx, ft.Action{Verb: ft.Stop, Ref: ref})
	return err
}

// List implements ft.Driver.
func (d *Driver) List(context.Context, ft.PoolName) (ins []ft.Instance, err error) {
	d.at(func() { ins = d.w.List() })
	return ins, nil
}

// Watch implements ft.Driver. What happens in the world by itself happens while something asks it; the engine
// samples each interval.
func (d *Driver) Watch(ctx context.Context, exited func(ft.Ref, ft.Exit)) error {
	d.mu.Lock()
	d.exited = append(d.exited, exited)
	d.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Knobs implements ft.Tuner.
func (d *Driver) Knobs(_ *ft.Pool, in ft.Instance) (ks []ft.Knob) {
	d.at(func() {
		if i, err := d.w.life(in.Ref); err == nil {
			ks = knobs(i)
		}
	})
	return ks
}

// Set implements ft.Tuner.
func (d *Driver) Set(ctx context.Context, _ *ft.Pool, ref ft.Ref, s ft.Setting) (was ft.Setting, err error) {
	f, err := d.perform(ctx, ft.Action{Verb: ft.Tune, Ref: ref, Setting: s})
	if err != nil {
		return ft.Setting{}, err
	}
	return *f.Was, nil
}

// Specialize implements ft.Specializer.
func (d *Driver) Specialize(ctx context.Context, _ *ft.Pool, ref ft.Ref, w ft.Work) (ft.Instance, error) {
	return d.instance(ctx, ft.Action{Verb: ft.Specialize, Ref: ref, Work: w})
}

// CanSoftReset implements ft.SoftResetter.
func (d *Driver) CanSoftReset(*ft.Pool, ft.Work) error {
	if d.w.c.NoSoftReset {
		return fmt.Errorf("soft reset: %w", ft.ErrUnavailable)
	}
	return nil
}

// SoftReset implements ft.SoftResetter.
func (d *Driver) SoftReset(ctx context.Context, _ *ft.Pool, ref ft.Ref) error {
	_, err := d.perform(ctx, ft.Action{Verb: ft.SoftReset, Ref: ref})
	return err
}

// FullReset implements ft.FullResetter.
func (d *Driver) FullReset(ctx context.Context, p *ft.Pool, ref ft.Ref) (ft.Instance, error) {
	d.at(func() { d.w.Configure(*p) })
	return d.instance(ctx, ft.Action{Verb: ft.FullReset, Ref: ref})
}

// Schema is that of the frames that Sample fills.
func (d *Driver) Schema() *ft.Schema { return d.w.Schema() }

// Sample fills a frame; it implements engine.Sampler.
func (d *Driver) Sample(_ context.Context, _ time.Time, members []ft.Instance, f *ft.Frame) error {
	d.at(func() { d.w.measure(members, f) })
	return nil
}

// Dimensions implements ft.Source: all are gauges, since the world has no counters but the routes.
func (d *Driver) Dimensions() []ft.Dimension { return dimensions() }

// Categories implements ft.Source.
func (d *Driver) Categories() []ft.CategorySet { return categories() }

// Attach implements ft.Source.
func (d *Driver) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	return &reader{d, in.Ref}, nil, nil
}

// Batch implements ft.Batcher; readers read for themselves.
func (d *Driver) Batch(context.Context, time.Time) error { return nil }

// Demand implements ft.Batcher.
func (d *Driver) Demand() (x ft.Demand) {
	d.at(func() { x = d.w.Demand() })
	return x
}

// Labels implements ft.Batcher.
func (d *Driver) Labels() []string { return labels }

type reader struct {
	d   *Driver
	ref ft.Ref
}

// Read implements ft.Reader.
func (r *reader) Read(_ time.Time, row []float64, counts []uint64) (err error) {
	r.d.at(func() {
		var in *instance
		if in, err = r.d.w.life(r.ref); err != nil {
			return
		}
		r.d.w.sample(in)
		dims := dimensions()
		for i := range dims {
			row[i] = in.x[r.d.w.schema.Index(dims[i].Name)]
		}
		copy(counts, in.counts)
	})
	return err
}

// Close implements ft.Reader.
func (r *reader) Close() error { return nil }

// Front is the virtual router of a Driver's world.
type Front struct{ d *Driver }

// Front is the world's router.
func (d *Driver) Front() *Front { return &Front{d} }

// Admit implements ft.Front.
func (f *Front) Admit(ctx context.Context, in ft.Instance, weight float64) error {
	return f.do(ctx, ft.Action{Verb: ft.Admit, Ref: in.Ref, Weight: weight})
}

// Weigh implements ft.Front.
func (f *Front) Weigh(ctx context.Context, ref ft.Ref, weight float64) error {
	return f.do(ctx, ft.Action{Verb: ft.Weigh, Ref: ref, Weight: weight})
}

// Drain implements ft.Front.
func (f *Front) Drain(ctx context.Context, ref ft.Ref, deadline time.Time) error {
	return f.do(ctx, ft.Action{Verb: ft.Drain, Ref: ref, Deadline: deadline})
}

// Remove implements ft.Front.
func (f *Front) Remove(_ context.Context, ref ft.Ref) error {
	f.d.at(func() {
		if in := f.d.w.find(ref.ID); in != nil && in.Ref == ref {
			in.admitted = false
		}
	})
	return nil
}

func (f *Front) do(ctx context.Context, a ft.Action) error {
	_, err := f.d.perform(ctx, a)
	return err
}
