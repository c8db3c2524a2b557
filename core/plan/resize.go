package plan

import (
	"cmp"
	"fmt"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/size"
	"github.com/fettle-dev/fettle/core/specialize"
)

// target is how many instances should run.
func (s *State) target() int { return size.Target(&s.d.Pool, s.d.Desired, s.d.Floor) }

// most is how many may run.
func (s *State) most() int { return max(s.d.Pool.Size.Max, s.target()) }

// work is what a new instance gets.
func (s *State) work() ft.Work { return specialize.Initial(&s.d.Pool) }

// resize keeps the pool at its target: starts what is missing, many at once within a bound, and stops what is too much.
func (s *State) resize(t *tally) {
	if s.d.Stop || s.watched() {
		return
	}
	have, want := t.counted, s.target()
	if s.d.Journal != "" {
		have -= s.sum.Lost // they cannot be reset now, but others can be started
	}
	switch {
	case have < want:
		s.grow(t, want-have, want)
	case have > want:
		s.shrink(t, have-want)
	}
}

func (s *State) grow(t *tally, n, want int) {
	lost := t.lost
	if s.d.Journal != "" {
		lost = 0 // their places are taken
	}
	for range n {
		if t.running+lost >= s.most() {
			s.clearAway(t)
			return
		}
		t.serial++
		t.running++
		t.counted++
		t.beginOn(ft.Ref{ID: ft.NewInstanceID(s.d.Pool.Name, t.serial), Generation: 1}, s.work(), ft.Grow, ft.Reason{
			Rule: "scale-up", Text: fmt.Sprintf("%d instances are wanted", want),
		})
	}
}

// clearAway makes room: what is kept for inspection longest goes first.
func (s *State) clearAway(t *tally) {
	for _, m := range s.d.Members {
		if m.Phase == ft.Quarantined && m.Op == 0 && m.Loose == 0 && m.Alive {
			t.begin(m, ft.Shrink, ft.Reason{Rule: "clear-away", Text: "its place is needed"})
			return
		}
	}
}

// shrink stops surplus instances, the least useful first. One that stands in for another goes when all is quiet.
func (s *State) shrink(t *tally, n int) {
	if s.sum.Surge > 0 && (t.open > 0 || s.sum.Busy > 0) {
		n = min(n, s.sum.Lost)
	}
	shrinking := 0
	for _, o := range s.d.Ops {
		if o.Kind == ft.Shrink {
			shrinking++
		}
	}
	var can []*member
	for _, m := range s.d.Members {
		if m.counts.Counted == 1 && m.Op == 0 && m.Loose == 0 && !t.now.Before(m.Barred.Time()) {
			can = append(can, m)
		}
	}
	slices.SortStableFunc(can, func(a, b *member) int {
		return cmp.Or(cmp.Compare(b.expendable(), a.expendable()), cmp.Compare(b.serial(), a.serial()))
	})
	for _, m := range can[:min(n, len(can))] {
		if shrinking >= s.parallel() || begun(t, m) {
			return
		}
		if m.serving() && s.target() > 0 && t.last(m) {
			return
		}
		shrinking++
		t.counted--
		if m.serving() {
			t.leaving++
		}
		t.begin(m, ft.Shrink, ft.Reason{Rule: "scale-down", Text: fmt.Sprintf("%d instances are enough", s.target())})
	}
}

// begun tells whether this Next already decided something about the member.
func begun(t *tally, m *member) bool {
	for _, e := range t.out {
		if ft.EventRef(e).ID == m.In.ID {
			return true
		}
	}
	return false
}

// expendable ranks whom the pool misses least: the dead, the silent, those not in service, the unhealthy, stand-ins,
// those that drift.
func (m *member) expendable() int {
	switch {
	case !m.Alive:
		return 6
	case m.Silent != nil || m.Over != nil:
		return 5
	case !m.serving():
		return 4
	case m.unhealthy(nil):
		return 3
	case m.Surge:
		return 2
	case m.Verdict.Level >= ft.Low:
		return 1
	}
	return 0
}
