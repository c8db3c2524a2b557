// Package plan decides: State folds events, Next reads it and appends decisions.
package plan

import (
	"encoding/json"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/tune"
)

// State is all that decides, rebuilt by folding events alone.
type State struct {
	pool ft.Pool
}

// Member is one live instance as views see it.
type Member struct {
	ft.Instance
	Serial       uint32
	Slot         ft.Slot
	Phase        ft.Phase
	Verdict      ft.Verdict
	Text         string
	Evidence     []ft.Evidence
	Forecast     *ft.Foreseen
	Weight       float64
	Trial        *tune.Trial
	Operation    ft.Operation
	Quiet        string
	Unresponsive bool
	Restarts     int
	LastError    string
	Knobs        []ft.Knob
}

// Summary is the pool at a glance.
type Summary struct {
	Mode                              ft.Mode
	Desired, Running, Ready, Drifting int
	Paused, Degraded                  bool
	DegradedWhy                       string
	Breaker, HoldOff, Journal         string
	DisruptionsLastHour               int
	Operations                        []OperationView
	Verdict                           ft.Verdict
	VerdictText                       string
	Figures                           ft.Figures
	Demand                            ft.Demand
}

// OperationView is an operation under way.
type OperationView struct {
	ID     ft.OperationID
	Kind   ft.Operation
	Ref    ft.Ref
	Step   string
	Since  time.Time
	Reason ft.Reason
}

// New begins the state of a pool whose defaults are filled.
func New(pool ft.Pool) *State { return &State{pool: pool} }

// Apply folds an event: the only thing that changes State.
func (s *State) Apply(ft.Event) error { return nil }

// Next reads only. It appends decisions and says when it next wants to be asked.
func (s *State) Next(dst []ft.Event, now time.Time) ([]ft.Event, time.Time) {
	return dst, now.Add(time.Second)
}

// Valid is asked again right before the act.
func (s *State) Valid(*ft.Action, time.Time) error { return nil }

// Rows appends a frame's rows and instances: the live ones with a process.
func (s *State) Rows(dst []ft.Row, in []ft.Instance, _ time.Time) ([]ft.Row, []ft.Instance) {
	return dst, in
}

// RefOf is the life in a slot.
func (s *State) RefOf(ft.Slot) (ft.Ref, bool) { return ft.Ref{}, false }

// Pool is the pool's desired state.
func (s *State) Pool() *ft.Pool { return &s.pool }

// Members appends the live instances by serial.
func (s *State) Members(dst []Member) []Member { return dst }

// Summary is the pool at a glance.
func (s *State) Summary(time.Time) Summary { return Summary{Mode: s.pool.Mode} }

// Preview is what mode heal would do now.
func (s *State) Preview(time.Time) []ft.Action { return nil }

// Pending appends the actions that were intended and did not finish.
func (s *State) Pending(dst []ft.Action) []ft.Action { return dst }

// Snapshot is the state as JSON.
func (s *State) Snapshot() ([]byte, error) { return json.Marshal(s.pool) }

// Restore is the inverse of Snapshot.
func Restore(b []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(b, &s.pool); err != nil {
		return nil, err
	}
	return s, nil
}
