package engine

import (
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// limits checks a pool's absolute limits on frames alone: they hold while nothing is learnt and whatever is thought.
type limits struct {
	slots []bounds
	dst   []ft.Event
}

// bounds is how one life stands to its limits.
type bounds struct {
	life   ft.Life
	over   time.Time // since when the memory is above its limit; zero if it is not
	silent time.Time // since when nothing was answered; zero while something is, or nothing is in flight
	asked  bool      // a request was given to it in that time: an idle open connection is no silence
	said   [2]time.Time
}

// check returns what is exceeded: once when the limit was passed for long enough, and again after the pool's watch
// time for as long as it stays so. Memory must be above its limit for the time of detect.persist, since a reading
// can catch a spike that is given back at once.
func (l *limits) check(f *ft.Frame, p *ft.Pool, ref func(ft.Slot) (ft.Ref, bool), now time.Time) []ft.Event {
	l.dst = l.dst[:0]
	rss, requests := f.Schema.Index(ft.DimRSS), f.Schema.Index(ft.DimRequests)
	inFlight, p50, out := f.Schema.Index(ft.DimInFlight), f.Schema.Index(ft.DimP50), f.Schema.Index(ft.DimBytesOut)
	for r := range f.Rows {
		s := l.slot(&f.Rows[r])
		id, ok := ref(f.Rows[r].Slot)
		if !ok || id.Life() != f.Rows[r].Life {
			continue
		}
		if v := value(f, r, rss); p.Limits.Memory > 0 && v > float64(p.Limits.Memory) {
			since(&s.over, now)
			l.exceed(s, 0, now.Sub(s.over) >= p.Detect.Persist.D(), &ft.Exceeded{
				Stamp: ft.Stamp{At: now}, Ref: id, Limit: "memory", Value: v, Bound: float64(p.Limits.Memory),
			}, p.Heal.Watch.D())
		} else if !math.IsNaN(v) {
			s.over, s.said[0] = time.Time{}, time.Time{}
		}
		if p.Limits.Silence <= 0 || f.Rows[r].Held {
			s.quiet()
			continue
		}
		if !(value(f, r, inFlight) > 0) || value(f, r, out) > 0 || !math.IsNaN(value(f, r, p50)) {
			s.quiet()
			continue
		}
		since(&s.silent, now)
		s.asked = s.asked || value(f, r, requests) > 0
		l.exceed(s, 1, s.asked && now.Sub(s.silent) >= p.Limits.Silence.D(), &ft.Exceeded{
			Stamp: ft.Stamp{At: now}, Ref: id, Limit: "silence", Value: now.Sub(s.silent).Seconds(), Bound: p.Limits.Silence.D().Seconds(),
		}, p.Heal.Watch.D())
	}
	return l.dst
}

func (l *limits) slot(row *ft.Row) *bounds {
	for int(row.Slot) >= len(l.slots) {
		l.slots = append(l.slots, bounds{})
	}
	s := &l.slots[row.Slot]
	if s.life != row.Life {
		*s = bounds{life: row.Life}
	}
	return s
}

// quiet ends a silence.
func (s *bounds) quiet() { s.silent, s.asked, s.said[1] = time.Time{}, false, time.Time{} }

func (l *limits) exceed(s *bounds, which int, is bool, e *ft.Exceeded, again time.Duration) {
	if !is || !s.said[which].IsZero() && e.At.Sub(s.said[which]) < again {
		return
	}
	s.said[which] = e.At
	l.dst = append(l.dst, e)
}

func since(t *time.Time, now time.Time) {
	if t.IsZero() {
		*t = now
	}
}
