package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/recording"
)

// heal is the policy that is replayed: all that is decided by drift may be done. What was only watched stays so, and its
// planner says what it would do.
func heal(p *ft.Pool) error {
	if p.Watch == nil {
		p.Mode = ft.HealAutomatic
	}
	return nil
}

// begin begins the replay of a recording in mode heal, with what was learnt before where this judge can use that.
func begin(r *recording.Reader) (*recording.Player, error) {
	play, err := recording.PlayChanged(r, false, heal)
	if errors.Is(err, recording.ErrLearnt) {
		return recording.PlayChanged(r, true, heal)
	}
	return play, err
}

// hearing is told what a replay comes to.
type hearing struct {
	did     func(action)                   // a disruptive operation by drift
	alarmed func(at time.Time, who ft.Ref) // a verdict on an instance became Low or above
	saw     func(at time.Time, rows int)   // a step
}

// replay lets a brain see a recording to its end.
func replay(play *recording.Player, watched bool, h hearing) error {
	told := map[ft.Ref]*ft.Judged{}
	for {
		t, err := play.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.saw(t.At, len(t.Rows))
		for _, e := range t.Replayed {
			if j, is := e.(*ft.Judged); is {
				was := told[j.Ref]
				if j.Verdict.Level >= ft.Low && !j.Verdict.Pool && (was == nil || was.Verdict.Level < ft.Low) {
					h.alarmed(t.At, j.Ref)
				}
				told[j.Ref] = j
				continue
			}
			if a, is := disruption(e, watched); is {
				if j := told[ft.EventRef(e)]; j != nil {
					a.told, a.since = j.Text, j.Verdict.Since.Time()
				}
				h.did(a)
			}
		}
	}
}

// disruption tells whether a decision is a disruptive one that drift asked for; of what is only watched, whether it would be.
func disruption(e ft.Event, watched bool) (a action, is bool) {
	switch e := e.(type) {
	case *ft.Opened:
		is = byDrift(e.Reason.Rule)
		a = action{at: e.At, who: string(e.Ref.ID), kind: e.Kind}
	case *ft.Declined:
		_, would, found := strings.Cut(e.Reason.Text, "this would follow: ")
		is = found && watched && e.Reason.Rule == "observe"
		a = action{at: e.At, who: string(e.Ref.ID)}
		for kind, words := range map[ft.Operation]string{ft.SoftResetting: "soft reset", ft.FullResetting: "full reset", ft.Evict: "eviction"} {
			if strings.HasPrefix(would, words) {
				a.kind = kind
			}
		}
	}
	switch a.kind {
	case ft.SoftResetting, ft.FullResetting, ft.Evict:
		return a, is
	default:
		return a, false
	}
}

// byDrift tells the reasons of the detector from those of people, probes and limits.
func byDrift(rule string) bool {
	return strings.HasPrefix(rule, "drift-") || strings.HasPrefix(rule, "leak-")
}

// replayFile replays a recording of healthy programs. Time in which its judge still learnt does not count.
func replayFile(path, name string) (outcome, error) {
	o := outcome{set: recorded, pool: name}
	in, err := os.Open(path)
	if err != nil {
		return o, fmt.Errorf("open the recording: %w", err)
	}
	defer in.Close()
	r, err := recording.NewReader(in)
	if err != nil {
		return o, err
	}
	h := r.Header()
	if h.Judge == nil {
		return o, errors.New("nobody judged when this was recorded")
	}
	known := h.Profiles > 0
	play, err := begin(r)
	if err != nil {
		return o, err
	}
	from, every := h.At, h.Judge.Interval.D()
	if !known || play.Anew() {
		from = from.Add(h.Judge.Learn.D())
	}
	return o, replay(play, h.Pool.Watch != nil, hearing{
		did:     func(a action) { o.actions = append(o.actions, a) },
		alarmed: func(time.Time, ft.Ref) { o.alarms++ },
		saw: func(at time.Time, rows int) {
			if o.members = max(o.members, rows); at.After(from) {
				o.days += float64(rows) * every.Hours() / 24
			}
		},
	})
}
