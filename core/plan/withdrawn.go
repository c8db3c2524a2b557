package plan

import (
	ft "github.com/fettle-dev/fettle"
)

// A replay under another policy cannot carry out what was not done when the telemetry was recorded. Such an action ends as
// withdrawn: its operation is closed as abandoned and counts as tried without effect, and for a while nothing else is decided
// about the instance. A process that was never made is waited for until a fact brings it.

// longBar is how long nothing is decided about an instance whose start was withdrawn.
const longBar = 24 * 60 * 60 * 1e9

// withdrawn folds the outcome of an action that was not carried out and will not be.
func (s *State) withdrawn(o *operation, m *member, e *ft.Finished) {
	s.restore(o, m)
	o.Withdrawn = e.Err
	m.early()
}

// bar leaves the member of a withdrawn operation alone for a while.
func (s *State) bar(o *operation, m *member, e *ft.Closed) {
	d := s.d.Pool.Heal.Watch.D()
	switch {
	case !m.Alive:
		d = longBar
	case o.Kind == ft.Shrink:
		d *= vainFor
	}
	m.Barred = ft.InstantOf(e.At.Add(d))
}
