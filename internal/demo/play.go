package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/internal/demo/app"
	"github.com/fettle-dev/fettle/internal/demo/load"
)

// Spans of the play at normal speed.
const (
	learnLimit = 5 * time.Minute  // until the pool is learnt; three minutes are promised
	noFaults   = 4 * time.Minute  // how long nothing may be done when nothing is planted
	cureLimit  = 2 * time.Minute  // until a fault is gone
	calmLimit  = 90 * time.Second // until everything is steady again after it
	rated      = 20 * time.Second // over which the rate of a victim is measured
	returning  = 30 * time.Second // after a changed workload ended: its end is a change too, and what is done about it belongs to the fault
	aftermath  = 8 * time.Second  // the windows before and after a fault, in which users are asked
)

// learn waits until every instance has a steady verdict.
func (d *demo) learn(ctx context.Context) error {
	d.story.say(plain, "learning", "what is normal for each instance, and for the pool")
	ok, err := d.await(ctx, d.scaled(learnLimit), func(s api.PoolStatus) (bool, string) {
		learnt, slowest, in := 0, 1.0, time.Duration(0)
		for _, i := range s.Instances {
			if i.Level != fettle.Learning {
				learnt++
			}
			slowest = min(slowest, i.Progress)
			in = max(in, i.FirstVerdictIn.D())
		}
		text := fmt.Sprintf("learning: %.0f %%, first verdict in about %.0f s", 100*slowest, in.Seconds())
		return learnt == instances && len(s.Instances) == instances, text
	})
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the pool was not learnt within %s", fettle.Duration(d.scaled(learnLimit)))
	}
	d.story.say(green, "learnt", "all %d instances are judged from now on, after %.0f s", instances, d.since().Seconds())
	return nil
}

// steady tells whether the whole pool is in service, judged and without drift, and nothing is being done.
func steady(s api.PoolStatus) (bool, string) {
	calm := 0
	waits := ""
	for _, in := range s.Instances {
		if in.Phase == fettle.Ready && in.Level == fettle.Steady && in.Operation == "" {
			calm++
		} else if waits == "" {
			waits = fmt.Sprintf("; %s is %s, %s", in.ID, in.Phase, in.Level)
		}
	}
	ok := calm >= instances && calm == len(s.Instances) && len(s.Operations) == 0 && s.Verdict.Level <= fettle.Steady
	if waits == "" && !ok && s.Verdict.Level > fettle.Steady {
		waits = fmt.Sprintf("; the pool is %s", s.Verdict.Level)
	}
	return ok, fmt.Sprintf("%d of %d instances steady%s", calm, len(s.Instances), waits)
}

// calm waits until the pool has been steady for a few intervals.
func (d *demo) calm(ctx context.Context, what string) (bool, error) {
	var since time.Time
	return d.await(ctx, d.scaled(calmLimit), func(s api.PoolStatus) (bool, string) {
		ok, text := steady(s)
		if !ok {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		}
		return ok && time.Since(since) >= 4*d.interval, what + ": " + text
	})
}

// pause lets the load go on for a span.
func (d *demo) pause(ctx context.Context, span time.Duration, what string) error {
	until := time.Now().Add(span)
	_, err := d.await(ctx, span, func(api.PoolStatus) (bool, string) {
		return !time.Now().Before(until), fmt.Sprintf("%s: %.0f s", what, time.Until(until).Seconds())
	})
	return err
}

// watchNothing is the play without faults.
func (d *demo) watchNothing(ctx context.Context) error {
	d.story.say(plain, "watching", "no fault is planted for %s", fettle.Duration(d.scaled(noFaults).Round(time.Second)))
	return d.pause(ctx, d.scaled(noFaults), "nothing is planted")
}

// fault plants one fault and sees it through.
func (d *demo) fault(ctx context.Context, p plan) error {
	if ok, err := d.calm(ctx, "waiting for calm"); err != nil {
		return err
	} else if !ok {
		d.story.say(yellow, "demo", "the pool did not become steady before the next fault; it is planted all the same")
	}
	if err := d.pause(ctx, p.gap, "all is well"); err != nil {
		return err
	}
	t, proc, before, err := d.choose(ctx, p)
	if err != nil {
		return err
	}
	if err := d.plant(ctx, t, proc); err != nil {
		return err
	}
	d.story.say(bold, "PLANTED", "%s (Fettle is not told)", p.planted(t.victim, t.hold))
	if p.kind == hangs {
		d.outages = append(d.outages, load.Outage{Instance: t.victim, From: t.planted, To: math.MaxInt64})
	}
	if err := d.seeThrough(ctx, t, proc); err != nil {
		return err
	}
	if err := d.inspect(ctx, t, proc, before); err != nil {
		return err
	}
	d.trials = append(d.trials, *t)
	return nil
}

// choose picks the victim and notes its state.
func (d *demo) choose(ctx context.Context, p plan) (*trial, *app.Process, app.State, error) {
	t := &trial{plan: p, victim: "pool"}
	if p.kind == loadDoubles {
		return t, nil, app.State{}, nil
	}
	s, err := d.status(ctx)
	if err != nil {
		return nil, nil, app.State{}, err
	}
	var ids []string
	for _, in := range s.Instances {
		if in.Phase == fettle.Ready {
			ids = append(ids, string(in.ID))
		}
	}
	slices.Sort(ids)
	t.victim = p.pick(ids)
	proc := d.console.Process(t.victim)
	if proc == nil {
		return nil, nil, app.State{}, fmt.Errorf("no process of instance %q is known to the demo", t.victim)
	}
	before, err := proc.Do(ctx, app.Command{Do: app.Ask})
	return t, proc, before, err
}

// plant does it.
func (d *demo) plant(ctx context.Context, t *trial, proc *app.Process) error {
	t.planted = d.since()
	var err error
	switch t.kind {
	case loadDoubles:
		d.gen.Scale(t.size)
	case mixChanges:
		if d.gen.Twist(t.victim, t.seed) == 0 {
			return fmt.Errorf("no rare key of %s is known for its new mix", t.victim)
		}
	case memoryLeaks:
		_, err = proc.Do(ctx, app.Command{Do: app.Leak, Rate: t.size})
	case lockSlows:
		// Sized by what the victim is asked for, so that it is equally slow whichever it is.
		t.hold = time.Duration(t.size / max(1, d.gen.Ledger.RateOf(t.victim, t.planted-d.scaled(rated), t.planted)) * float64(time.Second))
		_, err = proc.Do(ctx, app.Command{Do: app.SlowLock, Delay: t.hold})
	case hangs:
		_, err = proc.Do(ctx, app.Command{Do: app.Hang})
	}
	return err
}

// seeThrough waits until the fault is over, by itself or by cure, and then until all is steady again.
func (d *demo) seeThrough(ctx context.Context, t *trial, proc *app.Process) error {
	gone, err := d.over(ctx, t, proc)
	if err != nil {
		return err
	}
	t.acute = d.since()
	switch {
	case t.lasts > 0:
		d.story.say(plain, "ENDED", "%s: that is over", kinds[t.kind].title)
		if err := d.pause(ctx, d.scaled(returning), "back to the usual work"); err != nil {
			return err
		}
	case gone:
		d.story.say(green, "GONE", "%s: no longer there, %.1f s after it was planted", kinds[t.kind].title, (t.acute - t.planted).Seconds())
	default:
		d.story.say(red, "REMAINS", "%s: still there after %.0f s; the demo takes it out, so that the next is judged for itself", kinds[t.kind].title, (t.acute - t.planted).Seconds())
		if _, err := proc.Do(ctx, app.Command{Do: app.Mend}); err != nil && !errors.Is(err, app.ErrGone) {
			return err
		}
	}
	ok, err := d.calm(ctx, "recovering")
	if err != nil {
		return err
	}
	t.ended = d.since()
	t.cured = ok && gone
	if ok {
		d.story.say(green, "steady", "all instances are steady again, %.0f s after the fault was planted", (t.ended - t.planted).Seconds())
	} else {
		d.story.say(red, "unsteady", "the pool is not steady again %.0f s after the fault was planted", (t.ended - t.planted).Seconds())
	}
	return nil
}

// over waits until the fault is gone; false when it stays.
func (d *demo) over(ctx context.Context, t *trial, proc *app.Process) (bool, error) {
	if t.lasts > 0 {
		err := d.pause(ctx, t.lasts, kinds[t.kind].title)
		d.gen.Scale(1)
		d.gen.Untwist()
		return true, err
	}
	return d.await(ctx, d.scaled(cureLimit), func(api.PoolStatus) (bool, string) {
		text := fmt.Sprintf("%s: %.0f s", kinds[t.kind].title, (d.since() - t.planted).Seconds())
		select {
		case <-proc.Gone():
			return true, text
		default:
		}
		if t.kind != lockSlows {
			return false, text
		}
		s, err := proc.Do(ctx, app.Command{Do: app.Ask})
		return err == nil && s.Slow == 0, text
	})
}

// inspect asks the instance itself what became of it.
func (d *demo) inspect(ctx context.Context, t *trial, proc *app.Process, before app.State) error {
	switch t.kind {
	case hangs:
		o := &d.outages[len(d.outages)-1]
		select {
		case <-proc.Gone():
			o.To = proc.Ended().Sub(d.began)
		default:
		}
		if last, ok := d.gen.Ledger.LastFor(*o); ok {
			t.routed = max(0, last-t.planted)
		}
	case lockSlows:
		s, err := proc.Do(ctx, app.Command{Do: app.Ask})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.amiss = append(t.amiss, "its process is gone, and its state with it")
			return nil
		}
		if lost := forgotten(before.Posts, s.Posts); lost > 0 {
			t.amiss = append(t.amiss, fmt.Sprintf("%d of its %d counts were not kept", lost, len(before.Posts)))
		} else if s.SoftResets > before.SoftResets {
			d.story.say(green, "state", "%s still has all %d counts it had before", t.victim, len(before.Posts))
		}
	case loadDoubles, mixChanges, memoryLeaks:
	}
	return nil
}

// forgotten counts the keys whose count is less than it was.
func forgotten(before, after map[string]int) int {
	n := 0
	for key, count := range before {
		if after[key] < count {
			n++
		}
	}
	return n
}
