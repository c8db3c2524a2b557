package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/router"
)

// viewTime is how long an engine may take to answer before the answer is left out.
const viewTime = 3 * time.Second

// Version says who answers.
func (d *daemon) Version() api.Version {
	socket := d.o.Socket
	if r, err := Find(d.o.StateDir); err == nil {
		socket = r.Socket
	}
	return api.Version{
		Version: d.o.Version, API: "v1", PID: os.Getpid(), Router: d.routerPID(), StateDir: d.o.StateDir, Socket: socket,
		Started: d.started, Journal: d.store.Recovered(), Metrics: d.bound,
	}
}

// Pools are all pools by name.
func (d *daemon) Pools(ctx context.Context) ([]api.PoolStatus, error) {
	out := []api.PoolStatus{}
	for _, p := range d.all() {
		s, err := p.status(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Pool is one pool.
func (d *daemon) Pool(ctx context.Context, name fettle.PoolName) (api.PoolStatus, error) {
	p, err := d.named(name)
	if err != nil {
		return api.PoolStatus{}, err
	}
	return p.status(ctx)
}

// named finds a pool; its error says which there are.
func (d *daemon) named(name fettle.PoolName) (*pool, error) {
	if p := d.find(name); p != nil {
		return p, nil
	}
	var names []string
	for _, p := range d.all() {
		names = append(names, string(p.name))
	}
	there := "there are none"
	if len(names) > 0 {
		there = "there are: " + strings.Join(names, ", ")
	}
	return nil, fmt.Errorf("pool %q: %w; %s", name, fettle.ErrNotFound, there)
}

// Instance is one instance.
func (d *daemon) Instance(ctx context.Context, name fettle.PoolName, id fettle.InstanceID) (api.InstanceStatus, error) {
	p, err := d.named(name)
	if err != nil {
		return api.InstanceStatus{}, err
	}
	s, err := p.status(ctx)
	if err != nil {
		return api.InstanceStatus{}, err
	}
	for i := range s.Instances {
		if s.Instances[i].ID == id {
			return s.Instances[i], nil
		}
	}
	return api.InstanceStatus{}, unknownInstance(id, s.Instances)
}

func unknownInstance(id fettle.InstanceID, there []api.InstanceStatus) error {
	var ids []string
	for i := range there {
		ids = append(ids, string(there[i].ID))
	}
	return fmt.Errorf("instance %q: %w; pool %s has %s", id, fettle.ErrNotFound, id.Pool(), strings.Join(ids, ", "))
}

// Plan is what mode heal would do now.
func (d *daemon) Plan(ctx context.Context, name fettle.PoolName) (api.Plan, error) {
	p, err := d.named(name)
	if err != nil {
		return api.Plan{}, err
	}
	out := api.Plan{Pool: name, Actions: []api.PlannedAction{}, Quiet: []api.Quiet{}}
	err = p.view(ctx, func(s *plan.State, _ *drift.Judge) {
		out.Mode, out.Watched = s.Pool().Mode, s.Pool().Watch != nil
		for _, a := range s.Preview(time.Now()) {
			text := a.String()
			if a.Reason.Text != "" {
				text += ": " + a.Reason.Text
			}
			out.Actions = append(out.Actions, api.PlannedAction{Action: a, Text: text})
		}
		for _, m := range s.Members(nil) {
			if m.Verdict.Level >= fettle.Low && m.Quiet != "" {
				out.Quiet = append(out.Quiet, api.Quiet{Instance: m.ID, Text: m.Quiet})
			}
		}
	})
	return out, err
}

// view looks at a pool between two steps.
func (p *pool) view(ctx context.Context, f func(*plan.State, *drift.Judge)) error {
	ctx, cancel := context.WithTimeout(ctx, viewTime)
	defer cancel()
	if err := p.loop.View(ctx, f); err != nil {
		if what, is := p.loop.Stalled(time.Now()); is {
			return fmt.Errorf("pool %s: the engine is stalled: %s: %w", p.name, what, err)
		}
		return fmt.Errorf("pool %s: %w", p.name, err)
	}
	return nil
}

// seen is what is copied out of a pool's state between two steps.
type seen struct {
	members []plan.Member
	first   []time.Duration
	summary plan.Summary
	pool    fettle.Pool
}

func (p *pool) look(ctx context.Context) (seen, error) {
	var v seen
	err := p.view(ctx, func(s *plan.State, j *drift.Judge) {
		v.members = s.Members(nil)
		v.summary = s.Summary(time.Now())
		v.summary.Operations, v.summary.Evidence = slices.Clone(v.summary.Operations), slices.Clone(v.summary.Evidence)
		v.pool = *s.Pool()
		for i := range v.members {
			m := &v.members[i]
			m.Evidence, m.Settings, m.Knobs = slices.Clone(m.Evidence), slices.Clone(m.Settings), slices.Clone(m.Knobs)
			if m.Trial != nil {
				t := *m.Trial
				m.Trial = &t
			}
			if m.Verdict.Level == fettle.Learning {
				// Progress moves with every frame; the member's verdict only when it says something new.
				m.Verdict.Progress = j.Verdict(m.Slot).Progress
			}
			v.first = append(v.first, j.FirstVerdict(m.Slot))
		}
	})
	return v, err
}

func (p *pool) status(ctx context.Context) (api.PoolStatus, error) {
	v, err := p.look(ctx)
	if err != nil {
		return api.PoolStatus{}, err
	}
	m := &v.summary
	s := api.PoolStatus{
		Name: p.name, Mode: m.Mode, Config: v.pool, Desired: m.Desired, Running: m.Running, Ready: m.Ready, Drifting: m.Drifting,
		Paused: m.Paused, Degraded: m.Degraded, DegradedWhy: m.DegradedWhy, NextStart: m.NextStart, Breaker: m.Breaker, HoldOff: m.HoldOff,
		Journal: m.Journal, DisruptionsLastHour: m.DisruptionsLastHour, Operations: []api.OperationStatus{},
		Verdict: verdict(&m.Verdict, m.VerdictText, m.Evidence), Figures: m.Figures, Demand: m.Demand, Instances: []api.InstanceStatus{},
	}
	if what, is := p.loop.Stalled(time.Now()); is {
		s.Stalled = what
	}
	for _, o := range m.Operations {
		s.Operations = append(s.Operations, api.OperationStatus(o))
	}
	var stats router.Stats
	if p.front != nil {
		s.Address = p.d.front.Addr(p.name)
		if stats, err = p.d.front.Snapshot(ctx, p.name); err != nil {
			p.d.log.Debug("figures of the router", "pool", p.name, "err", err)
		}
		s.Traffic = trafficOf(&stats)
	}
	if p.watch != nil {
		s.Note = p.watch.Note()
	}
	s.Baseline = p.baseline
	figures := p.figures()
	for i := range v.members {
		in := p.instance(&v.members[i], v.first[i])
		in.Figures = figures[in.ID]
		in.Outdated = p.watch == nil && v.members[i].Digest != "" && v.members[i].Digest != process.Digest(&v.pool, v.members[i].Work)
		in.Operation = doing(m.Operations, &v.members[i])
		routed(&in, &stats)
		s.Instances = append(s.Instances, in)
	}
	s.Work = p.work(s.Instances)
	return s, nil
}
