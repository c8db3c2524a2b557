package plan

import (
	ft "github.com/fettle-dev/fettle"
)

// watched tells whether the pool's instances are somebody else's, and only looked at. They come by Found and go by
// Exited and Missing; there is no number that there should be, and all that is decided about them is what to say and
// what the judge is to take for normal.
func (s *State) watched() bool { return s.d.Pool.Watch != nil }

// regard decides about a member that is only watched.
func (s *State) regard(t *tally, m *member) {
	switch {
	case m.Loose != 0:
	case m.Rebase != "":
		t.intend(ft.Action{Verb: ft.Rebaseline, Ref: m.In.Ref, Deadline: t.now.Add(admitTime), Reason: ft.Reason{Rule: m.Rebase, Text: rebaseText(m.Rebase, m.RebaseBy)}})
	default:
		s.watch(t, m)
	}
}
