package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
	output map[fettle.PoolName]string    // guarded by mu: last output told of a pool, so that it is not told again and again
	told   map[fettle.InstanceID]verdict // guarded by mu: last verdict told; that of a pool under its name
	ends   bool                          // guarded by mu: all is being stopped
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
		cancel: func() {}, output: map[fettle.PoolName]string{}, told: map[fettle.InstanceID]verdict{},
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
	s.mu.Lock()
	s.ends = true
	s.mu.Unlock()
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
	out := outputOf(e)
	if first, more, cut := strings.Cut(line, "\n"); cut {
		line = first
		if out == "" {
			out = more
		}
	}
	s.tellWith(pool, e.When(), line, out, " (with the same output)")
}

// tellWith tells a line and, indented under it, the output that it is about. The same output again is not repeated; then
// the line says so where it has a remark for that.
func (s *story) tellWith(pool fettle.PoolName, at time.Time, line, out, remark string) {
	out = strings.TrimRight(strings.TrimPrefix(out, "last output:\n"), " \n")
	s.mu.Lock()
	again := out == "" || s.output[pool] == out
	if out != "" {
		s.output[pool] = out
	} else {
		remark = ""
	}
	s.mu.Unlock()
	if again {
		s.tell(at, "%s%s", line, s.p.dim(remark))
		return
	}
	s.tell(at, "%s", line)
	for l := range strings.Lines(out) {
		s.put("            " + s.p.dim("| "+strings.TrimRight(l, "\n")))
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
	case *fettle.Braked:
		return !s.ends // instances that are being stopped look unhealthy
	case *fettle.Declined:
		return s.told[e.Ref.ID].extent != fettle.WholePool || e.Reason.Rule == "refused"
	default:
		return true
	}
}

// outputOf is the output of an instance that an event carries.
func outputOf(e fettle.Event) string {
	switch e := e.(type) {
	case *fettle.Finished:
		return e.Output
	case *fettle.Exited:
		return e.Exit.LastOutput
	}
	return ""
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
		if p.Config.Watch != nil {
			s.tell(time.Now(), "%s", s.watched(p))
			continue
		}
		at := ""
		if p.Address != "" {
			at = " at " + s.p.bold("http://"+p.Address)
		}
		s.tell(time.Now(), "pool %s%s: %d %s of %s, mode %s", s.p.bold(string(p.Name)), at, p.Desired, plural(p.Desired, "instance"),
			strings.Join(p.Config.Image.Command, " "), p.Mode)
	}
	for i := range ps {
		if ps[i].Baseline {
			s.tell(time.Now(), "%s: what was learnt before is the baseline; fettle forget %s drops it", s.p.bold(string(ps[i].Name)), ps[i].Name)
		}
	}
	s.wg.Go(func() { s.progress(ctx, cl) })
	if slices.ContainsFunc(ps, func(p api.PoolStatus) bool { return p.Config.Watch != nil }) {
		s.wg.Go(func() { s.limits(ctx, cl) })
	}
}

// progress tells once a pool is up, at half of the learning, and when it can judge; and when it is degraded or well again.
func (s *story) progress(ctx context.Context, cl *client.Client) {
	told, ill := map[fettle.PoolName]int{}, map[fettle.PoolName]illness{}
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
			is := illnessOf(p)
			if ill[p.Name].is && p.Ready < p.Desired {
				is.is = true // a start that succeeds is not in service yet
			}
			if line := is.since(ill[p.Name], s.p, p); line != "" {
				_, out, _ := strings.Cut(p.DegradedWhy, "\n")
				s.tellWith(p.Name, time.Now(), line, out, "")
			}
			ill[p.Name] = is
			step, line := learning(s.p, p)
			if step > told[p.Name] {
				told[p.Name] = step
				s.tell(time.Now(), "%s", line)
			}
		}
	}
}

// illness is what of a pool that is not what it should be is told again when it changes.
type illness struct {
	is   bool
	next time.Time // when a start is tried again
}

func illnessOf(p *api.PoolStatus) illness { return illness{p.Degraded, p.NextStart} }

// since is what there is to say of a pool that was otherwise before; empty for nothing.
func (i illness) since(was illness, pt paint, p *api.PoolStatus) string {
	name := pt.bold(string(p.Name))
	switch {
	case i.is && !was.is:
		return pt.red("✗") + fmt.Sprintf(" %s is degraded: %s%s", name, firstLine(p.DegradedWhy), nextTry(p))
	case was.is && !i.is:
		return pt.green("✓") + fmt.Sprintf(" %s is no longer degraded: %d of %d ready", name, p.Ready, p.Desired)
	case i.is && !i.next.IsZero() && !i.next.Equal(was.next):
		return pt.yellow("·") + fmt.Sprintf(" %s is still degraded%s", name, nextTry(p))
	}
	return ""
}

// nextTry says when a start is tried again, "; next try in 8s".
func nextTry(p *api.PoolStatus) string {
	if p.NextStart.IsZero() {
		return ""
	}
	return "; next try in " + span(max(time.Until(p.NextStart), time.Second).Round(time.Second))
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
	case *fettle.Exited:
		return p.red("✗ ") + e.String() + endedWell(e.Exit)
	case *fettle.Unresponsive, *fettle.Exceeded, *fettle.Missing:
		return p.red("✗ ") + e.String()
	case *fettle.Recovered, *fettle.Responsive:
		return p.green("✓ ") + e.String()
	case *fettle.Braked:
		if e.Brake == "hold-off" || e.Brake == "creation" {
			return "" // every start has one; and that starts fail is told of the pool
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

// endedWell says to whom an instance ends without an error what a pool needs.
func endedWell(x fettle.Exit) string {
	if !x.Known || x.Signal != 0 || x.Code != 0 || x.OOM {
		return ""
	}
	return ": a pool needs a program that keeps running; it is started again"
}

func describeFinished(p paint, e *fettle.Finished) string {
	if e.Err != "" && !e.Skipped && strings.HasPrefix(e.Err, e.Action.Ref.String()+" did not start") {
		return p.red("✗ ") + firstLine(e.Err)
	}
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
