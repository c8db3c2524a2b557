package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// beginWatch tells what is watched, on what baseline, and what cannot be told; from then on how learning goes.
func (s *story) beginWatch(ctx context.Context, dir string) func(*client.Client) {
	kept := since(filepath.Join(dir, "pools.json"))
	return func(cl *client.Client) {
		ctx, s.cancel = context.WithCancel(ctx)
		ps, err := cl.Pools(ctx)
		if err != nil || len(ps) == 0 {
			return
		}
		p := &ps[0]
		s.tell(time.Now(), "pool %s watches %s: %s; nothing is changed", s.p.bold(string(p.Name)), p.Config.Watch, found(p))
		if p.Baseline {
			s.tell(time.Now(), "what the last watch learnt, %s, is the baseline; fettle forget %s drops it", kept, p.Name)
		}
		s.wg.Go(func() { s.limits(ctx, cl) })
		s.wg.Go(func() { s.progress(ctx, cl) })
	}
}

func found(p *api.PoolStatus) string {
	if n := len(p.Instances); n > 0 {
		return fmt.Sprintf("%d %s", n, plural(n, "instance"))
	}
	return "nothing matches yet, so it waits"
}

// limits tells, once it is known, what tells the work, and what cannot be read; and whatever keeps part of the selection
// from being watched.
func (s *story) limits(ctx context.Context, cl *client.Client) {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	told, note := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ps, err := cl.Pools(ctx)
		if err != nil || len(ps) == 0 {
			continue
		}
		p := &ps[0]
		if p.Note != note && p.Note != "" {
			s.tell(time.Now(), "%s", s.p.yellow("· "+p.Note))
		}
		note = p.Note
		if told || len(p.Instances) == 0 || p.Instances[0].Unavailable == nil {
			continue
		}
		told = true
		s.tell(time.Now(), "%s", workLine(p))
		if in := &p.Instances[0]; len(in.Unavailable) > 0 {
			s.tell(time.Now(), "%d %s cannot be measured here; fettle explain %s says which and why", len(in.Unavailable), plural(len(in.Unavailable), "dimension"), in.ID)
		}
	}
}

// workLine says what tells the work that the servers are asked to do, or that nothing does, and what would.
func workLine(p *api.PoolStatus) string {
	if len(p.Work) > 0 {
		return "the work is told by " + strings.Join(p.Work, ", ")
	}
	return "nothing tells the work that they are asked to do, so that a changed workload and a changed instance are not told apart; " + whatWouldTell(p)
}

// whatWouldTell is what a person can do about it.
func whatWouldTell(p *api.PoolStatus) string {
	why := ""
	for i := range p.Instances {
		for _, dim := range []string{fettle.DimMsgsIn, fettle.DimAccepts} {
			if w := p.Instances[i].Unavailable[dim]; w != "" && why == "" {
				why = " (received messages: " + w + ")"
			}
		}
	}
	return "their own counters would, by --scrape and --series" + why
}

// workUnknown is said in explain where a verdict's cause is unknown for want of work columns.
func workUnknown(e *explanation) string {
	if e.pool == nil || e.pool.Config.Watch == nil || len(e.pool.Work) > 0 {
		return ""
	}
	if e.Verdict.Level < fettle.Low || e.Verdict.Cause != fettle.CauseUnknown || !slices.Contains([]fettle.Channel{fettle.Self, fettle.Peers}, e.Verdict.Channel) {
		return ""
	}
	return "nothing tells the work that it is asked to do; " + whatWouldTell(e.pool)
}
