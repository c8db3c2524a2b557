package plan

import (
	"fmt"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// The brakes that are said when they close and open.
const (
	brakeBreaker  = "breaker"
	brakeHoldOff  = "hold-off"
	brakeCreation = "creation"
)

// brakePrefix marks the rules of Declined that a brake gave: they end when the brake does, not with the verdict.
const brakePrefix = "brake-"

func braked(rule string) bool { return strings.HasPrefix(rule, brakePrefix) }

// creationFails is how many failed starts in a row close the creation breaker.
const creationFails = 3

// breakerOn tells whether so many members look unhealthy that no single one is the problem. It opens again when few
// enough have done so for the time that drift must persist.
func (s *State) breakerOn(now time.Time) bool {
	if s.sum.Unhealthy > s.tolerated() {
		return true
	}
	return s.d.Breaker && (s.d.Calm.IsZero() || now.Before(s.d.Calm.Add(s.d.Pool.Detect.Persist.D())))
}

// holdOff says why nothing planned is done yet after a brain took over; empty when it may be.
func (s *State) holdOff(now time.Time) string {
	end := s.d.Began.Add(s.d.Pool.Heal.HoldOff.D())
	switch {
	case s.d.Began.IsZero():
		return ""
	case now.Before(end):
		return fmt.Sprintf("the brain took over %s ago and first looks for %s", ft.Duration(now.Sub(s.d.Began).Round(time.Second)), s.d.Pool.Heal.HoldOff)
	case !s.d.Seen:
		return "the brain took over and no fresh frames have come yet"
	}
	return ""
}

// brakes says which brakes closed or opened.
func (s *State) brakes(t *tally) {
	flip := func(brake string, was, is bool, on, off string) {
		if was != is {
			text := off
			if is {
				text = on
			}
			t.say(&ft.Braked{Stamp: t.stamp(), Brake: brake, On: is, Text: text})
		}
	}
	on := s.breakerOn(t.now)
	flip(brakeBreaker, s.d.Breaker, on,
		fmt.Sprintf("%d of %d instances look unhealthy, more than %d: the cause is no single one, nothing planned is done", s.sum.Unhealthy, max(s.d.Desired, s.sum.Counted), s.tolerated()),
		"few enough instances look unhealthy")
	if on && !s.d.Calm.IsZero() {
		t.wakeAt(s.d.Calm.Add(s.d.Pool.Detect.Persist.D()))
	}
	hold := s.holdOff(t.now)
	flip(brakeHoldOff, s.d.HoldOff, hold != "" && (s.d.HoldOff || len(s.d.Members) > 0), hold, "fresh frames came, planned actions may begin")
	if hold != "" {
		t.wakeAt(s.d.Began.Add(s.d.Pool.Heal.HoldOff.D()))
	}
	flip(brakeCreation, s.d.Create.On, s.d.Create.Fails >= creationFails,
		fmt.Sprintf("%d starts failed in a row: one is tried at a time, with growing pauses: %s", s.d.Create.Fails, s.d.Create.Why),
		"instances start again")
}

// brake is a refusal. Passing ones end by themselves soon (a turn is waited for).
type brake struct {
	rule, text string
	passing    bool
}

// policyBrake says what forbids anything planned now.
func (s *State) policyBrake(now time.Time) (brake, bool) {
	switch {
	case s.d.Journal != "":
		return brake{rule: brakePrefix + "journal", text: "the journal fails, nothing disruptive is done"}, true
	case s.d.Paused:
		return brake{rule: brakePrefix + "paused", text: "the pool is paused by " + s.d.By}, true
	case s.breakerOn(now):
		return brake{rule: brakePrefix + brakeBreaker, text: fmt.Sprintf("the breaker is on: %d instances look unhealthy, at most %d may", s.sum.Unhealthy, s.tolerated())}, true
	}
	if hold := s.holdOff(now); hold != "" {
		return brake{rule: brakePrefix + brakeHoldOff, text: "hold-off: " + hold}, true
	}
	return brake{}, false
}

// budgetBrake says what forbids one more planned operation of a kind now: starts that fail, the rolling budget of its
// reason, the turn.
func (s *State) budgetBrake(t *tally, k ft.Operation, manual bool) (brake, bool) {
	if s.d.Create.Fails >= creationFails && k != ft.SoftResetting {
		return brake{rule: brakePrefix + brakeCreation, text: "instances do not start: a reset one might not come back"}, true
	}
	if used, most := s.spent(t.now, manual), s.perHour(manual); used >= most {
		return brake{rule: brakePrefix + "hour", text: fmt.Sprintf("%d planned disruptions began in the last hour, at most %d may", used, most)}, true
	}
	return s.turnBrake(t)
}

// turnBrake says whether the turn must be waited for.
func (s *State) turnBrake(t *tally) (brake, bool) {
	if t.open >= s.d.Pool.Heal.Concurrent {
		return brake{rule: brakePrefix + "concurrent", text: fmt.Sprintf("it waits for its turn: %d planned operation(s) under way, at most %d may be", t.open, s.d.Pool.Heal.Concurrent), passing: true}, true
	}
	return brake{}, false
}

// spent counts the planned operations of the last hour that had the same kind of reason.
func (s *State) spent(now time.Time, manual bool) (n int) {
	for _, d := range s.d.Spent {
		if d.Manual == manual && now.Sub(d.At) < time.Hour {
			n++
		}
	}
	return n
}

// perHour is the rolling budget of a reason. That of people is at least one restart of the whole pool.
func (s *State) perHour(manual bool) int {
	if manual {
		return max(s.d.Pool.Heal.PerHour, s.d.Desired)
	}
	return s.d.Pool.Heal.PerHour
}

// room is how many more instances could be started before Max or the memory budget is reached.
func (s *State) room(t *tally) int { return s.roomBeside(t.running, t.lost) }

// roomBeside is the room beside those that run or are being made, and the dead, which come back.
func (s *State) roomBeside(running, lost int) int {
	if s.watched() {
		return 1 // where Fettle ran them there would be room for a replacement, as by default
	}
	n := s.d.Pool.Size.Max - running - lost
	if n <= 0 {
		return 0
	}
	return max(0, min(n, s.memoryHolds(running)))
}

// last tells whether taking the member out would leave none in service.
func (t *tally) last(m *member) bool {
	others := t.ready - t.leaving
	if m.serving() {
		others--
	}
	return others < 1
}

// parallel is how many processes are made at once.
func (s *State) parallel() int {
	if s.d.Create.Fails >= creationFails {
		return 1
	}
	return max(4, s.d.Desired/10)
}

// mayCreate tells whether a process may be made now, and when to ask again if not.
func (s *State) mayCreate(t *tally) bool {
	if t.now.Before(s.d.Create.Until) {
		t.wakeAt(s.d.Create.Until)
		return false
	}
	return t.starts < s.parallel()
}
