package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/internal/hook"
)

// probing is one probe that the daemon itself makes. Readiness of instances that serve is the router's business.
type probing struct {
	name  string
	probe fettle.Probe
}

// checks are those of the pool as it is now.
func (p *pool) checks() []probing {
	spec := p.config()
	var out []probing
	if l := spec.Probes.Liveness; l != nil {
		out = append(out, probing{"liveness", *l})
	}
	if r := spec.Probes.Readiness; r != nil && spec.Serve == fettle.None {
		out = append(out, probing{"readiness", *r})
	}
	return out
}

// health of one life by one check.
type health struct {
	ref     fettle.Ref
	fails   int
	since   time.Time // of the first failure in a row
	said    bool
	running bool
	next    time.Time
}

// prober makes a pool's probes, each instance's on its own, so that one that hangs delays no other.
type prober struct {
	p  *pool
	mu sync.Mutex
	of map[string]map[fettle.InstanceID]*health // guarded by mu; by check and instance
	wg sync.WaitGroup
}

// probe runs the pool's probes until ctx ends.
func (p *pool) probe(ctx context.Context) {
	pr := &prober{p: p, of: map[string]map[fettle.InstanceID]*health{}}
	defer pr.wg.Wait()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			checks := p.checks()
			for _, c := range checks {
				if err := pr.round(ctx, c, now); err != nil && ctx.Err() == nil {
					p.d.log.Debug("probes", "pool", p.name, "err", err)
				}
			}
			wait := 100 * time.Millisecond
			if len(checks) == 0 { // the policy may get some; until then this wakes nobody's processor for nothing
				wait = time.Second
			}
			t.Reset(wait)
		}
	}
}

// round starts the probes that are due.
func (pr *prober) round(ctx context.Context, c probing, now time.Time) error {
	if !pr.due(c, now) {
		return nil
	}
	var live []fettle.Instance
	err := pr.p.view(ctx, func(s *plan.State, _ *drift.Judge) {
		for _, m := range s.Members(nil) {
			if m.Phase == fettle.Ready || m.Phase == fettle.Leased {
				live = append(live, m.Instance)
			}
		}
	})
	if err != nil {
		return err
	}
	pr.mu.Lock()
	defer pr.mu.Unlock()
	old := pr.of[c.name]
	pr.of[c.name] = map[fettle.InstanceID]*health{}
	for _, in := range live {
		h := old[in.ID]
		if h == nil || h.ref != in.Ref {
			h = &health{ref: in.Ref}
		}
		pr.of[c.name][in.ID] = h
		if h.running || now.Before(h.next) {
			continue
		}
		h.running, h.next = true, now.Add(c.probe.Every.D())
		pr.wg.Go(func() { pr.one(ctx, c, in, h) })
	}
	return nil
}

// due tells whether to look at the pool at all.
func (pr *prober) due(c probing, now time.Time) bool {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	of := pr.of[c.name]
	if len(of) == 0 {
		return true
	}
	for _, h := range of {
		if !h.running && !now.Before(h.next) {
			return true
		}
	}
	return false
}

func (pr *prober) one(ctx context.Context, c probing, in fettle.Instance, h *health) {
	env, dir := pr.p.d.driver.Environment(in.Ref)
	err := hook.Probe(ctx, &c.probe, in, env, dir)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	pr.mu.Lock()
	defer pr.mu.Unlock()
	h.running = false
	stamp := fettle.Stamp{At: now.UTC().Round(0)}
	if err == nil {
		if h.said {
			pr.p.loop.Post(&fettle.Responsive{Stamp: stamp, Ref: in.Ref})
		}
		h.fails, h.said = 0, false
		return
	}
	if h.fails++; h.fails == 1 {
		h.since = now
	}
	if h.fails >= c.probe.Failures && h.fails%c.probe.Failures == 0 {
		h.said = true
		pr.p.loop.Post(&fettle.Unresponsive{
			Stamp: stamp, Ref: in.Ref, Probe: c.name, Silent: fettle.Duration(now.Sub(h.since)), Detail: err.Error(),
		})
	}
}
