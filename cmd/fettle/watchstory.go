package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// watched is a pool of servers that Fettle only watches, in a line.
func (s *story) watched(p *api.PoolStatus) string {
	what := "nothing is there yet, so it waits"
	if n := len(p.Instances); n > 0 {
		what = fmt.Sprintf("%d %s", n, plural(n, "instance"))
	}
	return fmt.Sprintf("pool %s watches %s: %s; nothing is changed", s.p.bold(string(p.Name)), p.Config.Watch, what)
}

// limits tells of each watched pool, once that is known, what tells the work and what cannot be read; and, as it changes,
// what keeps part of the selection from being watched.
func (s *story) limits(ctx context.Context, cl *client.Client) {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	told, notes := map[fettle.PoolName]*limited{}, map[fettle.PoolName]string{}
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
			if p.Note != notes[p.Name] && p.Note != "" {
				s.tell(time.Now(), "%s", s.p.yellow("· ")+p.Note)
			}
			notes[p.Name] = p.Note
			if p.Config.Watch == nil || len(p.Instances) == 0 || p.Instances[0].Unavailable == nil {
				continue
			}
			if told[p.Name] == nil {
				told[p.Name] = &limited{}
			}
			for _, line := range told[p.Name].news(p, time.Now()) {
				s.tell(time.Now(), "%s", line)
			}
		}
	}
}

// limited is what was told of a pool's limits.
type limited struct {
	work  string
	since time.Time // when it was first seen that nothing tells the work
	lacks string
}

// patience is how long the work may be told by nothing before that is said: where servers listen is found out later.
const patience = 3 * time.Second

// news is what there is to say now and was not said.
func (l *limited) news(p *api.PoolStatus, now time.Time) (lines []string) {
	if len(p.Work) > 0 {
		l.since = time.Time{}
	} else if l.since.IsZero() {
		l.since = now
	}
	if !l.since.IsZero() && now.Sub(l.since) < patience {
		return nil
	}
	if work := workLine(p); work != l.work {
		l.work = work
		lines = append(lines, work)
	}
	if lacks := unreadable(p); l.lacks == "" && lacks != "" {
		l.lacks = lacks
		lines = append(lines, lacks)
	}
	return lines
}

// workLine says what tells the work that the servers are asked to do, or that nothing does, and what would.
func workLine(p *api.PoolStatus) string {
	if len(p.Work) > 0 {
		return "what they are asked to do is told by " + strings.Join(p.Work, ", ")
	}
	return "nothing tells what they are asked to do, so a changed workload and a changed instance cannot be told apart; " + whatWouldTell(p)
}

// whatWouldTell is what a person can do about it.
func whatWouldTell(p *api.PoolStatus) string {
	for i := range p.Instances {
		if why := p.Instances[i].Unavailable[fettle.DimMsgsIn]; why != "" {
			return fmt.Sprintf("received messages would (%s), or their own counters, by --scrape and --series", why)
		}
	}
	return "their own counters would, by --scrape and --series"
}

// unreadable says what of the first instance cannot be measured though nobody turned it off, with the reasons.
func unreadable(p *api.PoolStatus) string {
	in := &p.Instances[0]
	n := 0
	var whys []string
	for _, why := range in.Unavailable {
		if strings.HasPrefix(why, "off") || strings.HasPrefix(why, "only watched") {
			continue
		}
		n++
		if !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	if n == 0 {
		return ""
	}
	slices.Sort(whys)
	return fmt.Sprintf("%d %s cannot be measured (%s); fettle explain %s says which", n, plural(n, "dimension"), cut(strings.Join(whys, "; "), 160), in.ID)
}

// workUnknown is why the cause of a watched server's drift is not told, where that is for want of load dimensions.
func workUnknown(e *explanation) string {
	if e.pool == nil || e.pool.Config.Watch == nil || len(e.pool.Work) > 0 || e.Verdict.Level < fettle.Low || e.Verdict.Cause != fettle.CauseUnknown {
		return ""
	}
	return "nothing tells what it is asked to do; " + whatWouldTell(e.pool)
}
