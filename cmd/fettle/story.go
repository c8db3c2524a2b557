package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// story tells live what a foreground daemon does: what started, how far it has learnt, who drifts and why, what is done
// about it and whether it helped. With -o json it is the events, one a line.
type story struct {
	c      *cli
	p      paint
	lines  chan string
	done   chan struct{}
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	output map[fettle.InstanceID]string  // guarded by mu: last output told, so that it is not told twice
	told   map[fettle.InstanceID]verdict // guarded by mu: last verdict told; that of a pool under its name
}

// verdict is what of a verdict is told again when it changes: not its score, which moves all the time.
type verdict struct {
	level  fettle.Level
	cause  fettle.Cause
	extent fettle.Extent
}

func newStory(c *cli) *story {
	s := &story{
		c: c, p: painter(c.out), lines: make(chan string, 1024), done: make(chan struct{}),
		cancel: func() {}, output: map[fettle.InstanceID]string{}, told: map[fettle.InstanceID]verdict{},
	}
	go func() {
		defer close(s.done)
		for l := range s.lines {
			fmt.Fprintln(c.out, l)
		}
	}()
	return s
}

// close waits until all is told.
func (s *story) close() {
	s.cancel()
	s.wg.Wait()
	close(s.lines)
	<-s.done
}

// put never blocks: a terminal that is held up must not hold up a loop.
func (s *story) put(line string) {
	select {
	case s.lines <- line:
	default:
	}
}

func (s *story) tell(at time.Time, format string, a ...any) {
	if s.c.format == "json" {
		return
	}
	s.put(s.p.dim(at.Local().Format(time.TimeOnly)) + "  " + fmt.Sprintf(format, a...))
}

func (s *story) stopping() {
	s.tell(time.Now(), "stopping: requests in flight are finished; once more to force")
}

// event is called in the pools' loops.
func (s *story) event(pool fettle.PoolName, e fettle.Event) {
	if s.c.format == "json" {
		s.eventJSON(pool, e)
		return
	}
	line := describe(s.p, e)
	if line == "" || !s.news(pool, e) {
		return
	}
	s.tell(e.When(), "%s", line)
	if out := s.fresh(e); out != "" {
		for l := range strings.Lines(strings.TrimRight(out, "\n")) {
			s.put("            " + s.p.dim("| "+strings.TrimRight(l, "\n")))
		}
	}
}

// news tells whether an event says something new. What an instance shares with its pool is told of the pool.
func (s *story) news(pool fettle.PoolName, e fettle.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := e.(type) {
	case *fettle.Judged:
		id, v := e.Ref.ID, verdict{e.Verdict.Level, e.Verdict.Cause, e.Verdict.Extent}
		if id == "" {
			id = fettle.InstanceID(pool)
		}
		was := s.told[id]
		s.told[id] = v
		if v.level == fettle.Steady && was.level < fettle.Low {
			return false // what it should be
		}
		return v != was && (e.Ref.ID == "" || v.extent != fettle.WholePool && (v.level >= fettle.Low || was.extent != fettle.WholePool))
	case *fettle.Declined:
		return s.told[e.Ref.ID].extent != fettle.WholePool || e.Reason.Rule == "refused"
	default:
		return true
	}
}

// fresh is the output that an event carries, unless it was told already.
func (s *story) fresh(e fettle.Event) string {
	out := ""
	switch e := e.(type) {
	case *fettle.Finished:
		out = e.Output
	case *fettle.Exited:
		out = e.Exit.LastOutput
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fettle.EventRef(e).ID
	if out == "" || s.output[id] == out {
		return ""
	}
	s.output[id] = out
	return out
}

func (s *story) eventJSON(pool fettle.PoolName, e fettle.Event) {
	raw, err := fettle.MarshalEvent(e)
	if err != nil {
		return
	}
	b, err := json.Marshal(api.LogEntry{
		Pool: pool, Instance: fettle.EventRef(e).ID, Kind: fettle.EventKind(e), At: e.When(), Text: e.String(), Event: raw,
	})
	if err == nil {
		s.put(string(b))
	}
}

// begin tells where the pools are served, and from then on how learning goes.
func (s *story) begin(ctx context.Context, cl *client.Client) {
	ctx, s.cancel = context.WithCancel(ctx)
	ps, err := cl.Pools(ctx)
	if err != nil {
		return
	}
	if v, err := cl.Version(ctx); err == nil && v.Journal != "" {
		s.tell(time.Now(), "%s", s.p.yellow(v.Journal))
	}
	for i := range ps {
		p := &ps[i]
		at := ""
		if p.Address != "" {
			at = " at " + s.p.bold("http://"+p.Address)
		}
		s.tell(time.Now(), "pool %s%s: %d %s of %s, mode %s", s.p.bold(string(p.Name)), at, p.Desired, plural(p.Desired, "instance"),
			strings.Join(p.Config.Image.Command, " "), p.Mode)
	}
	s.wg.Go(func() { s.progress(ctx, cl) })
}

// progress tells once a pool is up, at half of the learning, and when it can judge.
func (s *story) progress(ctx context.Context, cl *client.Client) {
	told := map[fettle.PoolName]int{}
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ps, err := cl.Pools(ctx)
		if err != nil {
			continue
		}
		for i := range ps {
			p := &ps[i]
			step, line := learning(s.p, p)
			if step > told[p.Name] {
				told[p.Name] = step
				s.tell(time.Now(), "%s", line)
			}
		}
	}
}

// learning is how far a pool is, in steps that only grow, and what there is to say of it.
func learning(pt paint, p *api.PoolStatus) (step int, line string) {
	if p.Ready == 0 || p.Ready < p.Desired {
		return 0, ""
	}
	least, first := 1.0, time.Duration(0)
	for i := range p.Instances {
		in := &p.Instances[i]
		if in.Phase != fettle.Ready {
			continue
		}
		least, first = min(least, in.Progress), max(first, in.FirstVerdictIn.D())
	}
	name := pt.bold(string(p.Name))
	switch {
	case first == 0:
		return 3, pt.green("✓") + fmt.Sprintf(" %s has learnt what is normal; every instance is judged from now on", name)
	case least >= 0.5:
		return 2, fmt.Sprintf("%s: learning %.0f %%, first verdict in about %s", name, 100*least, span(first))
	default:
		return 1, pt.green("✓") + fmt.Sprintf(" %s: %d of %d ready; learning what is normal, first verdict in about %s", name, p.Ready, p.Desired, span(first))
	}
}

// describe is an event as a line for people, empty for what they need not see.
func describe(p paint, e fettle.Event) string {
	switch e := e.(type) {
	case *fettle.Finished:
		return describeFinished(p, e)
	case *fettle.Judged:
		if e.Verdict.Level == fettle.Learning {
			return ""
		}
		return p.level(e.Verdict.Level, "◆") + " " + e.Text
	case *fettle.Opened:
		if e.Kind == fettle.Grow || e.Kind == fettle.Shrink {
			return "" // the starts and stops are told
		}
		return p.bold("→ ") + e.String()
	case *fettle.Closed:
		if e.Outcome == "done" && (e.Kind == fettle.Grow || e.Kind == fettle.Shrink) {
			return ""
		}
		if e.Outcome == "done" {
			return p.green("✓ ") + e.String()
		}
		return p.red("✗ ") + e.String()
	case *fettle.Exited, *fettle.Unresponsive, *fettle.Exceeded, *fettle.Missing:
		return p.red("✗ ") + e.String()
	case *fettle.Recovered, *fettle.Responsive:
		return p.green("✓ ") + e.String()
	case *fettle.Braked:
		if e.Brake == "hold-off" {
			return "" // every start has one
		}
		return p.yellow("· ") + e.String()
	case *fettle.JournalState, *fettle.TrialEnded, *fettle.Declined:
		return p.yellow("· ") + e.String()
	case *fettle.Found, *fettle.Commanded:
		return "· " + e.String()
	case *fettle.Began, *fettle.Configured, *fettle.Health, *fettle.Intended:
		return ""
	}
	return ""
}

func describeFinished(p paint, e *fettle.Finished) string {
	if e.Err != "" && !e.Skipped {
		return p.red("✗ ") + e.String()
	}
	switch e.Action.Verb {
	case fettle.Start:
		if e.Instance == nil || e.Skipped {
			return ""
		}
		return fmt.Sprintf("%s %s started in %s, pid %d", p.green("+"), e.Action.Ref, span(e.Took.D()), e.Instance.Scope.PID)
	case fettle.Stop:
		return fmt.Sprintf("- %s stopped", e.Action.Ref)
	case fettle.Tune, fettle.SoftReset, fettle.FullReset, fettle.Quarantine, fettle.Rebaseline, fettle.Specialize:
		if e.Skipped {
			return ""
		}
		return "· " + e.String()
	case fettle.Admit, fettle.Drain, fettle.Weigh:
	}
	return ""
}
