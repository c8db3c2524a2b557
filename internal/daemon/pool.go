package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/driver/watch"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/telemetry"
)

// checkpointEvery is the time between two snapshots of a pool's state and profiles.
const checkpointEvery = 30 * time.Second

// pool is one pool with all that works for it.
type pool struct {
	d       *daemon
	name    fettle.PoolName
	loop    *engine.Loop
	live    *engine.Live
	sampler *telemetry.Sampler
	front   fettle.Front  // nil where nothing is served
	watch   *watch.Driver // nil where the instances are the process driver's
	// baseline: what was learnt before is judged by.
	baseline bool
	cancel   context.CancelFunc
	acts     context.CancelFunc // cuts actions off
	wg       sync.WaitGroup

	mu     sync.Mutex
	spec   fettle.Pool    // guarded by mu: the desired state
	health *fettle.Health // guarded by mu: the last one
	ended  string         // guarded by mu: why the loop was stopped while the pool goes on
	subs   map[chan fettle.Event]struct{}
}

// start recovers a pool and sets it going. Instances that run already are adopted.
func (d *daemon) start(ctx context.Context, spec fettle.Pool) (p *pool, err error) {
	if err := d.openListener(ctx, &spec); err != nil { // it names the pool
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("pool %s: %w", spec.Name, err)
		}
	}()
	now := time.Now()
	p = &pool{d: d, name: spec.Name, spec: spec, subs: map[chan fettle.Event]struct{}{}}
	caps, err := p.driver(&spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.unwatch())
		}
	}()
	state, found, err := engine.Recover(ctx, spec, d.store, caps.Driver, now)
	if err != nil {
		return nil, err
	}
	if p.sampler, err = telemetry.New(d.log.With("pool", spec.Name), p.sources(&spec, caps.Source)...); err != nil {
		return nil, err
	}
	judge, err := p.judge(ctx, &spec, state)
	if err != nil {
		return nil, errors.Join(err, p.sampler.Close())
	}
	loopCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	actCtx, acts := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel, p.acts = cancel, acts
	p.live = engine.NewLive(actCtx, state.Pool, caps, p.front, func(es ...fettle.Event) { p.loop.Post(es...) })
	p.loop = engine.New(state, judge, d.store.Pool(spec.Name, p.written), p.live)
	p.loop.OnEvent(p.folded)
	p.loop.Post(&fettle.Began{Stamp: fettle.Stamp{At: now.UTC().Round(0)}, Version: d.o.Version, PID: os.Getpid()})
	p.loop.Post(found...)
	d.mu.Lock()
	d.pools[spec.Name] = p
	d.mu.Unlock()
	p.wg.Go(func() {
		if err := p.loop.Run(loopCtx, p.sampler, spec.Detect.Interval.D()); err != nil {
			d.log.Error("engine ended", "pool", p.name, "err", err)
		}
	})
	p.wg.Go(func() { p.checkpoints(loopCtx) })
	p.wg.Go(func() { p.probe(loopCtx) })
	if p.watch != nil {
		p.wg.Go(func() { p.find(loopCtx) })
		p.wg.Go(func() { d.watchExits(loopCtx, p.watch) })
	}
	return p, nil
}

// judge makes the pool's judge, with what was learnt before where that still fits. What cannot be used is told only
// where an instance had been judged by it.
func (p *pool) judge(ctx context.Context, spec *fettle.Pool, was *plan.State) (*drift.Judge, error) {
	j, err := p.newJudge(spec)
	if err != nil {
		return nil, err
	}
	learnt, err := p.d.store.Profile(ctx, spec.Name)
	lost := err != nil || judged(was)
	if err == nil && learnt != nil {
		err = j.UnmarshalBinary(learnt)
	}
	if err != nil {
		if lost {
			p.d.log.Warn("what was learnt cannot be used; it is learnt anew", "pool", spec.Name, "err", err)
		}
		return p.newJudge(spec) // the other may be half restored
	}
	j.Retell() // the journal may know of later verdicts than the checkpoint
	p.baseline = judges(j, max(spec.Size.Max, fettle.MostWatched))
	return j, nil
}

// judged tells whether instances had been judged when the journal was last written, by the pool's own verdict where
// none is left of them.
func judged(s *plan.State) bool {
	members := s.Members(nil)
	if len(members) == 0 {
		return s.Summary(time.Time{}).Verdict.Level != fettle.Learning
	}
	return slices.ContainsFunc(members, func(m plan.Member) bool { return m.Verdict.Level != fettle.Learning })
}

// judges tells whether a restored judge has learnt enough of an instance to judge it. Slots are the least that are free.
func judges(j *drift.Judge, most int) bool {
	for s := range most {
		if j.FirstVerdict(fettle.Slot(s)) == 0 {
			return true
		}
	}
	return false
}

func (p *pool) newJudge(spec *fettle.Pool) (*drift.Judge, error) {
	return drift.New(p.sampler.Schema(), drift.Config{
		Interval: spec.Detect.Interval.D(), Learn: spec.Detect.Learn.D(), FalseAlarms: spec.Detect.FalseAlarms,
		Persist: spec.Detect.Persist.D(), MemoryLimit: float64(spec.Limits.Memory), Seed: 1,
	})
}

// written is called by the journal.
func (p *pool) written(w fettle.Written) {
	p.loop.Written(w)
	p.d.news.ring()
}

// folded is called in the loop with every event.
func (p *pool) folded(e fettle.Event) {
	p.d.metrics.count(p.name, e)
	p.mu.Lock()
	if h, is := e.(*fettle.Health); is {
		p.health = h
	}
	for c := range p.subs {
		select {
		case c <- e:
		default: // it fell too far behind
		}
	}
	p.mu.Unlock()
	if p.d.o.Event != nil {
		p.d.o.Event(p.name, e)
	}
}

// subscribe gives the events from now on; end gives them up. Events are dropped when 1024 of them wait.
func (p *pool) subscribe() (events <-chan fettle.Event, end func()) {
	c := make(chan fettle.Event, 1024)
	p.mu.Lock()
	p.subs[c] = struct{}{}
	p.mu.Unlock()
	return c, func() {
		p.mu.Lock()
		delete(p.subs, c)
		p.mu.Unlock()
	}
}

func (p *pool) config() fettle.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec
}

// figures are those of the last Health event.
func (p *pool) figures() map[fettle.InstanceID]fettle.Figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[fettle.InstanceID]fettle.Figures{}
	if p.health != nil {
		for _, m := range p.health.Members {
			out[m.Ref.ID] = m.Figures
		}
	}
	return out
}

func (p *pool) checkpoints(ctx context.Context) {
	t := time.NewTicker(checkpointEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := p.checkpoint(ctx); err != nil && ctx.Err() == nil {
				p.d.log.Warn("checkpoint", "pool", p.name, "err", err)
			}
		}
	}
}

// checkpoint saves the state and what was learnt. What was learnt is saved also where the state cannot be.
func (p *pool) checkpoint(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var learnt []byte
	var lerr error
	err := p.loop.View(ctx, func(_ *plan.State, j *drift.Judge) { learnt, lerr = j.AppendBinary(nil) })
	if err = errors.Join(err, lerr); err == nil && len(learnt) > 0 {
		err = p.d.store.SaveProfile(ctx, p.name, learnt)
	}
	state, upTo, serr := p.loop.Checkpoint(ctx)
	if serr == nil {
		serr = p.d.store.SaveSnapshot(ctx, p.name, upTo, state)
	}
	return errors.Join(err, serr)
}

// halt ends the loop; instances run on.
func (p *pool) halt() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := p.checkpoint(ctx)
	if err != nil {
		err = fmt.Errorf("pool %s: last checkpoint: %w", p.name, err)
	}
	p.cancel()
	p.acts()
	p.wg.Wait()
	p.live.Wait()
	p.d.mu.Lock()
	delete(p.d.pools, p.name)
	p.d.mu.Unlock()
	return errors.Join(err, p.sampler.Close(), p.unwatch())
}

// reconfigure makes spec the desired state of a running pool.
func (d *daemon) reconfigure(ctx context.Context, p *pool, spec fettle.Pool) error {
	was := p.config()
	if was.Listen != spec.Listen || was.Serve != spec.Serve {
		return fmt.Errorf("pool %s: listen and serve cannot change while it runs: fettle down %s first: %w", p.name, p.name, fettle.ErrConflict)
	}
	if !reflect.DeepEqual(was.Watch, spec.Watch) {
		return fmt.Errorf("pool %s: what is watched cannot change while it runs: fettle down %s first: %w", p.name, p.name, fettle.ErrConflict)
	}
	if was.Image.Driver != spec.Image.Driver {
		return fmt.Errorf("pool %s: the driver cannot change while it runs: fettle down %s first: %w", p.name, p.name, fettle.ErrConflict)
	}
	if err := d.able(&spec); err != nil {
		return err
	}
	if err := d.openListener(ctx, &spec); err != nil { // publishes the route
		return err
	}
	if what := remade(&was, &spec); what != "" {
		p.mu.Lock()
		p.ended = fmt.Sprintf("%s of pool %s changed, and its judge began anew: record again", what, p.name)
		p.mu.Unlock()
		if err := p.halt(); err != nil {
			d.log.Warn("reconfigure", "err", err)
		}
		_, err := d.start(ctx, spec)
		return err
	}
	err := p.loop.Ask(ctx, &fettle.Configured{Stamp: fettle.Stamp{At: time.Now().UTC().Round(0)}, Pool: spec})
	if err != nil {
		return fmt.Errorf("pool %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.spec = spec
	p.mu.Unlock()
	return nil
}

// remade is the change for which a pool's loop is made anew, "" for none: its interval, the judge and the sampler are made for
// these keys.
func remade(was, is *fettle.Pool) string {
	switch {
	case !reflect.DeepEqual(was.Detect, is.Detect):
		return "detect"
	case was.Limits.Memory != is.Limits.Memory:
		return "limits.memory"
	case remeasured(was, is):
		return "what is measured"
	default:
		return ""
	}
}

// taken makes a conflict of an error that says that the address is, and adds who listens there, where that can be seen.
// Other errors are as they were.
func taken(err error, address string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	if pid, program := watch.Holder(address); pid != 0 {
		return fmt.Errorf("%w, by %s, pid %d: %w", err, program, pid, fettle.ErrConflict)
	}
	return fmt.Errorf("%w: %w", err, fettle.ErrConflict)
}
