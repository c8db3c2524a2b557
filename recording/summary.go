package recording

import (
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Pair counts something on both sides.
type Pair struct {
	Recorded int `json:"recorded"`
	Replayed int `json:"replayed"`
}

// Summary adds turns up.
type Summary struct {
	Began   time.Time `json:"began"` // first and last step
	Ended   time.Time `json:"ended"`
	Frames  int       `json:"frames"`
	Rows    int       `json:"rows"`
	Judged  Pair      `json:"judged"`  // changes of verdicts
	Decided Pair      `json:"decided"` // decisions of the planner
	Skipped int       `json:"skipped"` // actions that the replay could not carry out
	// Levels are the changes of instances' verdicts by their level, PoolLevels those of the pool's own, Verbs the actions by
	// what they do, Operations those that were opened.
	Levels     map[string]Pair `json:"levels"`
	PoolLevels map[string]Pair `json:"poolLevels"`
	Verbs      map[string]Pair `json:"verbs"`
	Operations map[string]Pair `json:"operations"`
	Differing  int             `json:"differing"` // steps
	// Otherwise counts verdicts and decisions that are on one side only, in words and deed: numbers that shift do not count.
	Otherwise int `json:"otherwise"`
}

// Add takes a turn in, and gives the first thing in which it differs; nil if it does not.
func (s *Summary) Add(t *Turn) *Difference {
	if s.Levels == nil {
		s.Began, s.Levels, s.PoolLevels, s.Verbs, s.Operations = t.At, map[string]Pair{}, map[string]Pair{}, map[string]Pair{}, map[string]Pair{}
	}
	s.Ended = t.At
	s.Rows += len(t.Rows)
	if len(t.Rows) > 0 {
		s.Frames++
	}
	for _, e := range t.Recorded {
		s.count(e, Pair{Recorded: 1})
	}
	for _, e := range t.Replayed {
		s.count(e, Pair{Replayed: 1})
		if f, is := e.(*ft.Finished); is && f.Withdrawn {
			s.Skipped++
		}
	}
	d := t.Difference()
	if d != nil {
		s.Differing++
		s.Otherwise += t.otherwise()
	}
	return d
}

// otherwise counts the verdicts and decisions that are on one side only.
func (t *Turn) otherwise() int {
	n := 0
	for _, l := range t.Compare() {
		_, judged := l.Event.(*ft.Judged)
		if l.Side != Both && (judged || Decision(l.Event)) {
			n++
		}
	}
	return n
}

func (p *Pair) add(o Pair) { p.Recorded, p.Replayed = p.Recorded+o.Recorded, p.Replayed+o.Replayed }

func (s *Summary) count(e ft.Event, n Pair) {
	in := func(m map[string]Pair, key string) {
		p := m[key]
		p.add(n)
		m[key] = p
	}
	switch e := e.(type) {
	case *ft.Judged:
		s.Judged.add(n)
		if e.Verdict.Pool {
			in(s.PoolLevels, e.Verdict.Level.String())
		} else {
			in(s.Levels, e.Verdict.Level.String())
		}
	case *ft.Intended:
		s.Decided.add(n)
		in(s.Verbs, e.Action.Verb.String())
	case *ft.Opened:
		s.Decided.add(n)
		in(s.Operations, e.Kind.String())
	default:
		if Decision(e) {
			s.Decided.add(n)
		}
	}
}

// Decision tells the planner's decisions from verdicts, figures and facts.
func Decision(e ft.Event) bool {
	switch e.(type) {
	case *ft.Intended, *ft.Opened, *ft.Closed, *ft.TrialEnded, *ft.Declined, *ft.Recovered, *ft.Braked:
		return true
	}
	return false
}

// Side says where an event of a turn is.
type Side uint8

// The sides.
const (
	Both Side = iota
	OnlyRecorded
	OnlyReplayed
)

// Line is one event of a comparison.
type Line struct {
	Side  Side
	Event ft.Event
}

// Compare puts both sides of a turn beside each other, in their order: what is the same in words and deed stands once.
// Numbers of actions and operations do not count, since they shift after the first difference.
func (t *Turn) Compare() []Line {
	var out []Line
	rest := t.Replayed
	for _, e := range t.Recorded {
		i := slices.IndexFunc(rest, func(o ft.Event) bool { return alike(e, o) })
		if i < 0 {
			out = append(out, Line{OnlyRecorded, e})
			continue
		}
		for _, o := range rest[:i] {
			out = append(out, Line{OnlyReplayed, o})
		}
		out = append(out, Line{Both, e})
		rest = rest[i+1:]
	}
	for _, o := range rest {
		out = append(out, Line{OnlyReplayed, o})
	}
	return out
}

// alike tells whether two events say the same of the same instance.
func alike(a, b ft.Event) bool {
	return ft.EventKind(a) == ft.EventKind(b) && ft.EventRef(a) == ft.EventRef(b) && a.String() == b.String()
}
