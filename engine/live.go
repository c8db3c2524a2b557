package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// margin is what an action may take on top of the times that the pool's configuration names: spawning, copying of
// data, a busy machine.
const margin = 10 * time.Second

// slack is how long a driver may take to return after its context ended, before the call is given up.
const slack = 2 * time.Second

// Live carries actions out by a driver and a front: a goroutine an action, one at a time for an instance, each with
// a deadline. A call that never returns costs its own instance only: the action is reported as failed, and further
// actions on that instance fail until the call returns.
type Live struct {
	ctx   context.Context
	rises context.Context // of starts and full resets
	end   context.CancelFunc
	pool  func() *ft.Pool
	caps  ft.Capabilities
	front ft.Front
	post  func(...ft.Event)
	wg    sync.WaitGroup
	mu    sync.Mutex
	tails map[ft.InstanceID]chan struct{} // guarded by mu; closed when the instance's last action has returned
}

// NewLive makes an executor that works until ctx ends. pool is called by Do, in the loop; front is nil where the
// pool serves nothing; post gets the outcomes.
//
// An action that the end of ctx cuts off reports nothing: after the next start [Recover] sees what became of it.
func NewLive(ctx context.Context, pool func() *ft.Pool, c ft.Capabilities, front ft.Front, post func(...ft.Event)) *Live {
	rises, end := context.WithCancel(ctx)
	return &Live{ctx: ctx, rises: rises, end: end, pool: pool, caps: c, front: front, post: post, tails: map[ft.InstanceID]chan struct{}{}}
}

// Abandon gives up the starts and full resets under way and all later ones: the pool is being stopped, and need not wait
// for a program that does not come up.
func (x *Live) Abandon() { x.end() }

// Do begins an action and returns at once.
func (x *Live) Do(a ft.Action, in ft.Instance) {
	c := &call{x: x, pool: *x.pool(), action: a, in: in, result: make(chan ft.Finished, 1)}
	id := a.Ref.ID
	done := make(chan struct{})
	x.mu.Lock()
	before := x.tails[id]
	x.tails[id] = done
	x.mu.Unlock()
	ended := func() {
		x.mu.Lock()
		if x.tails[id] == done {
			delete(x.tails, id)
		}
		x.mu.Unlock()
		close(done)
	}
	x.wg.Go(func() { c.run(before, ended) })
}

// Wait returns when every action has been reported or cut off. Calls that were given up are not waited for.
func (x *Live) Wait() { x.wg.Wait() }

// call is one action under way.
type call struct {
	x      *Live
	pool   ft.Pool
	action ft.Action
	in     ft.Instance
	result chan ft.Finished
}

func (c *call) run(before <-chan struct{}, ended func()) {
	begun := time.Now()
	parent := c.x.ctx
	if c.action.Verb == ft.Start || c.action.Verb == ft.FullReset {
		parent = c.x.rises
	}
	ctx, cancel := context.WithTimeout(parent, c.allowance(begun))
	defer cancel()
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			go func() { <-before; ended() }()
			c.report(ft.Finished{Err: "an earlier action on it has not returned"}, begun)
			return
		}
	}
	go func() {
		defer ended()
		c.result <- c.guarded(ctx)
	}()
	select {
	case f := <-c.result:
		c.report(f, begun)
		return
	case <-ctx.Done():
	}
	timer := time.NewTimer(slack)
	defer timer.Stop()
	select {
	case f := <-c.result:
		c.report(f, begun)
	case <-timer.C:
		c.report(ft.Finished{Err: fmt.Sprintf("the %s driver has not returned after %s; given up",
			c.pool.Image.Driver, ft.Duration(time.Since(begun).Round(time.Second)))}, begun)
		go c.clear()
	}
}

// clear ends what a start that was given up brought up after all: nobody knows of it.
func (c *call) clear() {
	f := <-c.result
	if f.Instance == nil || f.Err != "" {
		return
	}
	ctx, cancel := context.WithTimeout(c.x.ctx, c.pool.Heal.Grace.D()+margin)
	defer cancel()
	if err := c.x.caps.Stop(ctx, f.Instance.Ref, c.pool.Heal.Grace.D()); err != nil {
		c.x.post(&ft.Found{Stamp: ft.Stamp{At: time.Now().UTC().Round(0)}, Instance: *f.Instance})
	}
}

func (c *call) report(f ft.Finished, begun time.Time) {
	if c.x.ctx.Err() != nil {
		return
	}
	now := time.Now()
	f.Stamp, f.Action, f.Took = ft.Stamp{At: now.UTC().Round(0)}, c.action, ft.Duration(now.Sub(begun))
	c.x.post(&f)
}

// guarded does it; a panic of a driver or front becomes the action's error.
func (c *call) guarded(ctx context.Context) (f ft.Finished) {
	defer func() {
		if p := recover(); p != nil {
			f = ft.Finished{Err: fmt.Sprintf("%s driver panicked: %v", c.pool.Image.Driver, p)}
		}
	}()
	err := c.perform(ctx, &f)
	if err == nil {
		return f
	}
	f.Err = err.Error()
	if start, ok := errors.AsType[*ft.StartError](err); ok {
		f.Err, f.Output = start.Ref.String()+" did not start: "+start.Why, start.Output
	}
	return f
}

func (c *call) perform(ctx context.Context, f *ft.Finished) error {
	x, p, a := c.x, &c.pool, &c.action
	switch a.Verb {
	case ft.Start:
		in, err := x.caps.Start(ctx, p, a.Ref, a.Work)
		return c.made(f, in, err)
	case ft.Specialize:
		if x.caps.Specializer == nil {
			return c.unavailable()
		}
		in, err := x.caps.Specializer.Specialize(ctx, p, a.Ref, a.Work)
		return c.made(f, in, err)
	case ft.Admit:
		return x.admit(ctx, c.in, a.Weight)
	case ft.Drain:
		return x.drain(ctx, a)
	case ft.Stop:
		if err := x.remove(ctx, a.Ref); err != nil {
			return err
		}
		return x.caps.Stop(ctx, a.Ref, p.Heal.Grace.D())
	case ft.Tune:
		if x.caps.Tuner == nil {
			return c.unavailable()
		}
		was, err := x.caps.Tuner.Set(ctx, p, a.Ref, a.Setting)
		if err == nil {
			f.Was = &was
		}
		return err
	case ft.SoftReset:
		return c.softReset(ctx)
	case ft.FullReset:
		if x.caps.FullResetter == nil {
			return c.unavailable()
		}
		if err := x.remove(ctx, a.Ref); err != nil {
			return err
		}
		in, err := x.caps.FullResetter.FullReset(ctx, p, a.Ref)
		return c.made(f, in, err)
	case ft.Quarantine:
		return x.remove(ctx, a.Ref)
	case ft.Weigh:
		if x.front == nil {
			return nil
		}
		return x.front.Weigh(ctx, a.Ref, a.Weight)
	case ft.Rebaseline:
		return nil // the loop tells the judge
	}
	return fmt.Errorf("%s: %w", a.Verb, ft.ErrInvalid)
}

// made notes an instance that a verb made or changed, with what can be adjusted of it.
func (c *call) made(f *ft.Finished, in ft.Instance, err error) error {
	if err != nil {
		return err
	}
	f.Instance = &in
	if c.x.caps.Tuner != nil {
		f.Knobs = c.x.caps.Tuner.Knobs(&c.pool, in)
	}
	return nil
}

func (c *call) softReset(ctx context.Context) error {
	r := c.x.caps.SoftResetter
	if r == nil {
		return c.unavailable()
	}
	if err := r.CanSoftReset(&c.pool, c.in.Work); err != nil {
		return err
	}
	return r.SoftReset(ctx, &c.pool, c.action.Ref)
}

func (c *call) unavailable() error {
	return fmt.Errorf("%s by the %s driver: %w", c.action.Verb, c.pool.Image.Driver, ft.ErrUnavailable)
}

func (x *Live) admit(ctx context.Context, in ft.Instance, weight float64) error {
	if x.front == nil {
		return nil
	}
	if weight == 0 {
		weight = 1 // only Weigh gives a share of nothing
	}
	return x.front.Admit(ctx, in, weight)
}

func (x *Live) drain(ctx context.Context, a *ft.Action) error {
	if x.front == nil {
		return nil
	}
	by, _ := ctx.Deadline()
	if !a.Deadline.IsZero() {
		by = a.Deadline
	}
	return x.front.Drain(ctx, a.Ref, by)
}

func (x *Live) remove(ctx context.Context, ref ft.Ref) error {
	if x.front == nil {
		return nil
	}
	return x.front.Remove(ctx, ref)
}

// allowance is how long an action may take: what the configuration names for its parts, and a margin.
func (c *call) allowance(now time.Time) time.Duration {
	p, a, work := &c.pool, &c.action, c.in.Work
	if a.Verb == ft.Start || a.Verb == ft.Specialize {
		work = a.Work
	}
	hooks, starts := p.Hooks(work), 30*time.Second // as long as drivers wait without a startup probe
	if s := p.Probes.Startup; s != nil {
		starts = time.Duration(s.Failures) * max(s.Every.D(), s.Timeout.D())
	}
	if s := p.Specialization(work.Specialization); s != nil {
		starts += time.Duration(len(s.WarmUp)) * margin
	}
	switch a.Verb {
	case ft.Drain:
		if !a.Deadline.IsZero() {
			return max(a.Deadline.Sub(now), 0) + margin
		}
		return p.Heal.Drain.D() + margin
	case ft.Start:
		return starts + margin
	case ft.Specialize:
		return timeout(hooks.Reload) + timeout(hooks.Verify) + starts + margin
	case ft.SoftReset:
		return timeout(hooks.SoftReset) + timeout(hooks.Verify) + margin
	case ft.FullReset:
		return p.Heal.Grace.D() + timeout(hooks.Verify) + starts + 2*margin
	case ft.Stop:
		return p.Heal.Grace.D() + margin
	case ft.Admit, ft.Tune, ft.Quarantine, ft.Rebaseline, ft.Weigh:
		return margin
	}
	return margin
}

func timeout(h *ft.Hook) time.Duration {
	switch {
	case h == nil:
		return 0
	case h.Timeout > 0:
		return h.Timeout.D()
	default:
		return 10 * time.Second
	}
}
