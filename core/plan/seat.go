package plan

import (
	"fmt"

	ft "github.com/fettle-dev/fettle"
)

// Seat gives the members of a restored state, by serial, the slots that they had when the snapshot was taken, so that
// rows of frames of that time are theirs and later members get the same slots as they got then. Slots that are as many
// as the members, each once, are the only ones that fit.
func (s *State) Seat(slots []ft.Slot) error {
	if len(slots) != len(s.d.Members) {
		return fmt.Errorf("seat %d members on %d slots: %w", len(s.d.Members), len(slots), ft.ErrInvalid)
	}
	n := 0
	for _, at := range slots {
		if at >= mostSlots {
			return fmt.Errorf("seat members: slot %d is beyond %d: %w", at, mostSlots, ft.ErrInvalid)
		}
		n = max(n, int(at)+1)
	}
	seats := make([]*member, n)
	for i, m := range s.d.Members {
		if seats[slots[i]] != nil {
			return fmt.Errorf("seat members: slot %d is given twice: %w", slots[i], ft.ErrInvalid)
		}
		seats[slots[i]] = m
	}
	s.slots, s.free = seats, nil
	for at := n - 1; at >= 0; at-- {
		if seats[at] == nil {
			s.free = append(s.free, ft.Slot(at))
			continue
		}
		seats[at].slot = ft.Slot(at)
	}
	return nil
}

// mostSlots bounds slots that come from outside: no pool has that many instances.
const mostSlots = 1 << 16
