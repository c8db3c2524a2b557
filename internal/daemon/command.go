package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/driver/watch"
)

// targeted tells for each kind of command whether it goes to an instance: always, or not always.
var targeted = map[string]bool{
	"scale": false, "restart": false, "pause": false, "resume": false, "accept": false, "forget": false,
	"reset-soft": true, "reset-full": true, "evict": true, "adjust": true,
}

// Command carries out what somebody asks of a pool, or says why not.
func (d *daemon) Command(ctx context.Context, name fettle.PoolName, c fettle.Command, wait bool) (api.Outcome, error) {
	p, err := d.named(name)
	if err != nil {
		return api.Outcome{}, err
	}
	v, err := p.look(ctx)
	if err != nil {
		return api.Outcome{}, err
	}
	if err := d.fits(&v, &c); err != nil {
		return api.Outcome{}, err
	}
	c.ID = rand.Text()[:8]
	events, end := p.subscribe()
	defer end()
	e := commanded(c)
	if err := p.loop.Ask(ctx, e); err != nil {
		return api.Outcome{}, fmt.Errorf("%s: %w", c.Kind, err)
	}
	// A look between two steps: what the planner has to say of it is said by then.
	if err := p.view(ctx, func(*plan.State, *drift.Judge) {}); err != nil {
		return api.Outcome{}, err
	}
	t := newTask(p, &v, c)
	if err := t.drain(events); err != nil {
		return api.Outcome{}, err
	}
	if !wait {
		return api.Outcome{ID: c.ID, Done: t.instant(), Text: t.text()}, nil
	}
	return t.wait(ctx, events)
}

// fits refuses what cannot be meant, before it is journaled.
func (d *daemon) fits(v *seen, c *fettle.Command) error {
	to, known := targeted[c.Kind]
	if known && v.pool.Watch != nil && !slices.Contains([]string{"pause", "resume", "accept", "forget"}, c.Kind) {
		return fmt.Errorf("%s: %w", c.Kind, watch.Refusal(v.pool.Name))
	}
	if !known {
		return fmt.Errorf("command %q: %w: one of scale, restart, pause, resume, reset-soft, reset-full, evict, adjust, accept, forget", c.Kind, fettle.ErrInvalid)
	}
	if to && c.Target == "" {
		return fmt.Errorf("%s: the instance is missing: %w", c.Kind, fettle.ErrInvalid)
	}
	var m *plan.Member
	if c.Target != "" {
		i := slices.IndexFunc(v.members, func(m plan.Member) bool { return m.ID == c.Target })
		if i < 0 {
			var ids []string
			for i := range v.members {
				ids = append(ids, string(v.members[i].ID))
			}
			return fmt.Errorf("instance %q: %w; pool %s has %s", c.Target, fettle.ErrNotFound, v.pool.Name, strings.Join(ids, ", "))
		}
		m = &v.members[i]
	}
	switch c.Kind {
	case "scale":
		if c.Size < 0 || c.Size > v.pool.Size.Max {
			return fmt.Errorf("scale: %d is not between 0 and size.max of pool %s, which is %d: %w", c.Size, v.pool.Name, v.pool.Size.Max, fettle.ErrInvalid)
		}
	case "reset-soft":
		if d.caps.SoftResetter == nil {
			return fmt.Errorf("soft reset: the %s driver has none: %w", v.pool.Image.Driver, fettle.ErrUnavailable)
		}
		if v.pool.Hooks(m.Work).SoftReset == nil {
			return fmt.Errorf("soft reset of %s: %w: nothing says how it is asked for; set image.hooks.softReset in the pool file, or fettle run --soft-reset",
				m.ID, fettle.ErrUnavailable)
		}
		if err := d.caps.SoftResetter.CanSoftReset(&v.pool, m.Work); err != nil {
			return fmt.Errorf("%s: %w", m.ID, err)
		}
	case "adjust":
		return adjustable(m, c.Set)
	}
	return nil
}

// adjustable checks a setting against the instance's knobs.
func adjustable(m *plan.Member, s *fettle.Setting) error {
	if s == nil {
		return fmt.Errorf("adjust: the setting is missing: %w", fettle.ErrInvalid)
	}
	if len(m.Knobs) == 0 {
		return fmt.Errorf("adjust %s: this machine offers no knobs for it (fettle doctor says why): %w", m.ID, fettle.ErrUnavailable)
	}
	var names []string
	for _, k := range m.Knobs {
		if k.Name != s.Knob {
			names = append(names, k.Name)
			continue
		}
		if s.Value < k.Min || s.Value > k.Max {
			return fmt.Errorf("adjust %s: %s=%g is not between %g and %g: %w", m.ID, k.Name, s.Value, k.Min, k.Max, fettle.ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("adjust %s: there is no knob %q, there are: %s: %w", m.ID, s.Knob, strings.Join(names, ", "), fettle.ErrInvalid)
}

// task is a command under way. It is done when the events since it was given say so.
type task struct {
	p      *pool
	cmd    fettle.Command
	before []fettle.Ref // the pool's instances when it was given
	begun  bool         // its own Commanded was seen: what comes after it counts
	ops    map[fettle.OperationID]bool
	done   bool
	failed string
}

func newTask(p *pool, v *seen, c fettle.Command) *task {
	t := &task{p: p, cmd: c, ops: map[fettle.OperationID]bool{}}
	for i := range v.members {
		t.before = append(t.before, v.members[i].Ref)
	}
	return t
}

// instant tells whether the command is done as soon as it is folded.
func (t *task) instant() bool {
	return slices.Contains([]string{"pause", "resume", "accept", "forget"}, t.cmd.Kind)
}

func (t *task) text() string {
	c := &t.cmd
	switch c.Kind {
	case "pause":
		return fmt.Sprintf("pool %s is paused: nothing planned is done until fettle resume %s", t.p.name, t.p.name)
	case "resume":
		return fmt.Sprintf("pool %s acts by itself again", t.p.name)
	case "accept":
		return "what it does now is normal from now on"
	case "forget":
		return "what was learnt is dropped; it is learnt anew"
	case "scale":
		return fmt.Sprintf("pool %s is to have %d instances", t.p.name, c.Size)
	case "restart":
		return fmt.Sprintf("pool %s is being restarted, instance by instance", t.p.name)
	default:
		return fmt.Sprintf("%s of %s is accepted", c.Kind, c.Target)
	}
}

// drain takes the events that are there.
func (t *task) drain(events <-chan fettle.Event) error {
	for {
		select {
		case e := <-events:
			if err := t.take(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// take folds an event; the error is the planner's refusal.
func (t *task) take(e fettle.Event) error {
	switch e := e.(type) {
	case *fettle.Commanded:
		t.begun = t.begun || e.Command.ID == t.cmd.ID
	case *fettle.Declined:
		// A restart is refused by an instance whose turn cannot come.
		if t.begun && e.Reason.Rule == "refused" && (e.Ref.ID == t.cmd.Target || t.cmd.Target == "" && slices.Contains(t.before, e.Ref)) {
			return fmt.Errorf("%s: %w", e.Reason.Text, fettle.ErrBusy)
		}
	case *fettle.Opened:
		if t.begun && e.Ref.ID == t.cmd.Target {
			t.ops[e.ID] = true
		}
	case *fettle.Closed:
		if t.ops[e.ID] {
			t.done = true
			if e.Outcome != "done" {
				t.failed = e.String()
			}
		}
	case *fettle.Finished:
		if t.begun && t.cmd.Kind == "adjust" && e.Action.Ref.ID == t.cmd.Target && e.Action.Verb == fettle.Tune {
			t.done = true
			if e.Err != "" {
				t.failed = e.String()
			}
		}
	}
	return nil
}

// wait follows the events until the command is done.
func (t *task) wait(ctx context.Context, events <-chan fettle.Event) (api.Outcome, error) {
	out := api.Outcome{ID: t.cmd.ID, Text: t.text()}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := t.finished(ctx)
		if err != nil {
			return out, err
		}
		if done {
			out.Done, out.Text = true, t.result()
			return out, nil
		}
		select {
		case e := <-events:
			if err := t.take(e); err != nil {
				return out, err
			}
		case <-tick.C:
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}

func (t *task) finished(ctx context.Context) (bool, error) {
	switch {
	case t.failed != "":
		return false, errors.New(t.failed)
	case t.instant() || t.done:
		return true, nil
	case t.cmd.Target != "":
		return false, nil
	}
	var sum plan.Summary
	old := 0
	err := t.p.view(ctx, func(s *plan.State, _ *drift.Judge) {
		sum = s.Summary(time.Now())
		for _, m := range s.Members(nil) {
			if slices.Contains(t.before, m.Ref) {
				old++
			}
		}
	})
	if err != nil {
		return false, err
	}
	if sum.Degraded && sum.Ready == 0 {
		return false, fmt.Errorf("pool %s: %s: %w", t.p.name, sum.DegradedWhy, api.ErrDegraded)
	}
	settled := len(sum.Operations) == 0
	if t.cmd.Kind == "restart" {
		return settled && old == 0 && sum.Ready >= sum.Desired, nil
	}
	return settled && sum.Ready == sum.Desired, nil
}

func (t *task) result() string {
	c := &t.cmd
	switch c.Kind {
	case "scale":
		return fmt.Sprintf("pool %s has %d instances", t.p.name, c.Size)
	case "restart":
		return fmt.Sprintf("pool %s is restarted: %d instances", t.p.name, len(t.before))
	case "reset-soft":
		return fmt.Sprintf("%s was reset softly", c.Target)
	case "reset-full":
		return fmt.Sprintf("%s was reset fully", c.Target)
	case "evict":
		return fmt.Sprintf("%s was replaced", c.Target)
	case "adjust":
		return fmt.Sprintf("%s: %s = %g", c.Target, c.Set.Knob, c.Set.Value)
	default:
		return t.text()
	}
}
