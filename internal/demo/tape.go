package demo

import (
	"slices"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
)

// seen is an event with the time at which it came, since the demo began.
type seen struct {
	at time.Duration
	e  fettle.Event
}

// tape keeps all events of the pool, in order. Safe for concurrent use.
type tape struct {
	began time.Time

	mu     sync.Mutex
	events []seen        // guarded by mu
	more   chan struct{} // closed and renewed with each event; guarded by mu
}

func newTape(began time.Time) *tape { return &tape{began: began, more: make(chan struct{})} }

// add is the daemon's hook; it does not block.
func (t *tape) add(_ fettle.PoolName, e fettle.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, seen{time.Since(t.began), e})
	close(t.more)
	t.more = make(chan struct{})
}

// after gives the events from index n on, and a channel that is closed when there are more.
func (t *tape) after(n int) ([]seen, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.events[min(n, len(t.events)):]), t.more
}

// act is an operation, or an action that belongs to none.
type act struct {
	at   time.Duration
	kind fettle.Operation
	verb fettle.Verb // of an action without operation
	op   fettle.OperationID
	ref  fettle.Ref
	rule string // why
	text string
}

// touches tells whether anything was done to the instance itself: a new baseline is a matter of the judge alone.
func (a act) touches() bool { return a.op != 0 || a.verb != fettle.Rebaseline }

// undoes tells whether the act takes a setting back that was turned before.
func (a act) undoes() bool {
	return a.kind == fettle.Retune && (a.rule == "revert" || a.rule == "give-back")
}

// acts lists what was begun from one time to another.
func acts(events []seen, from, to time.Duration) []act {
	var out []act
	opened := map[fettle.OperationID]bool{}
	for _, s := range events {
		var a act
		switch e := s.e.(type) {
		case *fettle.Opened:
			a = act{at: s.at, kind: e.Kind, op: e.ID, ref: e.Ref, rule: e.Reason.Rule, text: e.Kind.String() + " " + string(e.Ref.ID)}
		case *fettle.Intended:
			a = act{at: s.at, kind: e.Action.Kind, op: e.Action.Operation, verb: e.Action.Verb, ref: e.Action.Ref, rule: e.Action.Reason.Rule, text: e.Action.String()}
		default:
			continue
		}
		known := opened[a.op]
		if a.op != 0 {
			opened[a.op] = true
		}
		if !known && s.at >= from && s.at < to {
			out = append(out, a)
		}
	}
	return out
}

// family is the victim and the instances that were started in its stead.
func family(events []seen, victim fettle.InstanceID) map[fettle.InstanceID]bool {
	ids := map[fettle.InstanceID]bool{victim: true}
	ops := map[fettle.OperationID]bool{}
	for _, s := range events {
		switch e := s.e.(type) {
		case *fettle.Opened:
			if ids[e.Ref.ID] {
				ops[e.ID] = true
			}
		case *fettle.Intended:
			if e.Action.Verb == fettle.Start && e.Action.Operation != 0 && ops[e.Action.Operation] {
				ids[e.Action.Ref.ID] = true
			}
		}
	}
	return ids
}
