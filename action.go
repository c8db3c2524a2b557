package fettle

import (
	"fmt"
	"time"
)

// Verb is what an [Action] does.
type Verb uint8

// The verbs. Evict, Restart and Scale are operations: sequences of these with one [OperationID].
const (
	Start      Verb = iota // start a new instance with its Work, probed and warmed up, not yet in service
	Specialize             // inject data into a running instance; also the light re-specialisation (reload)
	Admit                  // put into service
	Drain                  // take out of service; ends when nothing is in flight or at the deadline
	Stop                   // end it for good
	Tune                   // set one setting
	SoftReset              // reload essential data and configuration, keep state
	FullReset              // back to base image and initial data; next generation
	Quarantine             // keep out of service for inspection
	Rebaseline             // what it does now is normal: relearn its location
	Weigh                  // set its share of traffic
)

var verbNames = []string{"start", "specialize", "admit", "drain", "stop", "tune", "soft-reset", "full-reset", "quarantine", "rebaseline", "weigh"}

func (v Verb) String() string { return enumString(v, verbNames, "verb") }

// MarshalText gives the lower-case name.
func (v Verb) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText takes the lower-case name.
func (v *Verb) UnmarshalText(b []byte) error { return enumParse(v, b, verbNames, "verb") }

// Disruptive verbs take an instance out of service or end its data: their intent must be durable before the act.
func (v Verb) Disruptive() bool {
	switch v {
	case Drain, Stop, SoftReset, FullReset, Quarantine:
		return true
	case Start, Specialize, Admit, Tune, Rebaseline, Weigh:
		return false
	}
	return true
}

// OperationID joins the actions of one operation; 0 is none.
type OperationID uint64

// Operation is a sequence of actions that is carried to its end, also over a restart of the brain.
type Operation uint8

// The operations.
const (
	NoOperation Operation = iota
	Grow                  // start, admit
	Shrink                // drain, stop
	SoftResetting
	FullResetting
	Evict   // start and admit a replacement, drain, stop
	Replace // what has died already: clear away, start anew
	Respecialize
	Retune
)

var operationNames = []string{"none", "grow", "shrink", "soft-reset", "full-reset", "evict", "replace", "respecialize", "tune"}

func (o Operation) String() string { return enumString(o, operationNames, "operation") }

// MarshalText gives the lower-case name.
func (o Operation) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText takes the lower-case name.
func (o *Operation) UnmarshalText(b []byte) error {
	return enumParse(o, b, operationNames, "operation")
}

// Action is one elementary, idempotent step of a plan.
type Action struct {
	ID        uint64      `json:"id"` // unique in the pool, ascending
	Operation OperationID `json:"operation,omitempty"`
	Kind      Operation   `json:"kind,omitempty"` // of that operation
	Verb      Verb        `json:"verb"`
	Ref       Ref         `json:"ref"`
	Work      Work        `json:"work,omitzero"`
	Setting   Setting     `json:"setting,omitzero"`  // of Tune
	Weight    float64     `json:"weight,omitempty"`  // of Weigh: 0 to 1
	Deadline  time.Time   `json:"deadline,omitzero"` // of Drain; else when the executor gives up
	Reason    Reason      `json:"reason"`
}

func (a Action) String() string {
	switch a.Verb {
	case Tune:
		return fmt.Sprintf("tune %s: %s = %g", a.Ref, a.Setting.Knob, a.Setting.Value)
	case Weigh:
		return fmt.Sprintf("weigh %s: %g", a.Ref, a.Weight)
	default:
		return fmt.Sprintf("%s %s", a.Verb, a.Ref)
	}
}

// Reason is why an action is taken. Rule is a stable word for machines ("leak-soft-reset", "crash", "manual",
// "scale-up"); Text is one sentence for people.
type Reason struct {
	Rule  string `json:"rule"`
	Level Level  `json:"level,omitempty"`
	Cause Cause  `json:"cause,omitempty"`
	Text  string `json:"text,omitempty"`
}
