package fettle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Event is a fact or a decision: all that changes decision state, and all that the journal keeps. Events are folded by
// plan.State.Apply. The set is closed; see [EventKind] for the names in the journal.
type Event interface {
	When() time.Time
	String() string // one line for people, without the time
	kind() string
}

// Stamp is the time of an event, embedded in each.
type Stamp struct {
	At time.Time `json:"at"`
}

// When is the time of the event.
func (s Stamp) When() time.Time { return s.At }

// The facts.
type (
	// Began: a brain (daemon) took over the pool.
	Began struct {
		Stamp
		Version string `json:"version"`
		PID     int    `json:"pid"`
	}
	// Configured: the pool's desired state is this from now on.
	Configured struct {
		Stamp
		Pool Pool `json:"pool"`
	}
	// Found: the driver lists this instance (at start: adoption).
	Found struct {
		Stamp
		Instance Instance `json:"instance"`
		Knobs    []Knob   `json:"knobs,omitempty"`
	}
	// Missing: the state knew this instance but the driver does not list it. Gone: it was taken away on purpose, and is
	// not to come back.
	Missing struct {
		Stamp
		Ref  Ref  `json:"ref"`
		Gone bool `json:"gone,omitempty"`
	}
	// Finished: an action ended. Err is empty on success. Skipped: it was not carried out; Withdrawn: nor will it be, its
	// operation is given up (in replays).
	Finished struct {
		Stamp
		Action   Action    `json:"action"`
		Instance *Instance `json:"instance,omitempty"` // as it is now, where the verb made or changed it
		Knobs    []Knob    `json:"knobs,omitempty"`    // of a started instance
		Was      *Setting  `json:"was,omitempty"`      // of Tune: the value before
		Err      string    `json:"err,omitempty"`
		Output   string    `json:"output,omitempty"` // last lines of a start that failed
		Skipped  bool      `json:"skipped,omitempty"`
		// Withdrawn goes with Skipped.
		Withdrawn bool     `json:"withdrawn,omitempty"`
		Took      Duration `json:"took,omitempty"`
	}
	// Exited: the instance ended by itself.
	Exited struct {
		Stamp
		Ref  Ref  `json:"ref"`
		Exit Exit `json:"exit"`
	}
	// Unresponsive: probes or passive health say that the instance does not answer.
	Unresponsive struct {
		Stamp
		Ref    Ref      `json:"ref"`
		Probe  string   `json:"probe"` // "readiness", "liveness", "passive"
		Silent Duration `json:"silent"`
		Detail string   `json:"detail,omitempty"`
	}
	// Responsive: it answers again.
	Responsive struct {
		Stamp
		Ref Ref `json:"ref"`
	}
	// Exceeded: an absolute limit of the pool was crossed.
	Exceeded struct {
		Stamp
		Ref   Ref     `json:"ref"`
		Limit string  `json:"limit"` // "memory", "silence", "latency", "errors"
		Value float64 `json:"value"`
		Bound float64 `json:"bound"`
	}
	// Judged: the verdict of an instance (or of the pool) changed.
	Judged struct {
		Stamp
		Ref      Ref        `json:"ref,omitzero"`
		Verdict  Verdict    `json:"verdict"`
		Evidence []Evidence `json:"evidence,omitempty"`
		Forecast *Foreseen  `json:"forecast,omitempty"`
		Text     string     `json:"text"`
	}
	// Health: demand and the objective's figures, every few seconds.
	Health struct {
		Stamp
		Demand  Demand          `json:"demand"`
		Pool    Figures         `json:"pool"`
		Members []MemberFigures `json:"members,omitempty"`
	}
	// Commanded: somebody asked for something.
	Commanded struct {
		Stamp
		Command Command `json:"command"`
	}
	// JournalState: the journal fails (Err) or works again (empty).
	JournalState struct {
		Stamp
		Err string `json:"err,omitempty"`
	}
)

// The decisions of the planner.
type (
	// Intended: the action will be carried out.
	Intended struct {
		Stamp
		Action Action `json:"action"`
	}
	// Opened: an operation begins.
	Opened struct {
		Stamp
		ID     OperationID `json:"id"`
		Kind   Operation   `json:"kind"`
		Ref    Ref         `json:"ref"`
		Work   Work        `json:"work,omitzero"`
		Reason Reason      `json:"reason"`
	}
	// Closed: an operation ended.
	Closed struct {
		Stamp
		ID      OperationID `json:"id"`
		Kind    Operation   `json:"kind"`
		Ref     Ref         `json:"ref"`
		Outcome string      `json:"outcome"` // "done", "failed", "abandoned"
		Text    string      `json:"text,omitempty"`
	}
	// TrialEnded: a setting under observation was kept or is to be reverted.
	TrialEnded struct {
		Stamp
		Ref     Ref     `json:"ref"`
		Setting Setting `json:"setting"`
		Was     Setting `json:"was"`
		Kept    bool    `json:"kept"`
		Effect  float64 `json:"effect"` // relative change of the objective against untouched peers; negative is better
		P       float64 `json:"p"`      // rank among placebos
		Text    string  `json:"text"`
	}
	// Declined: drift was seen and deliberately nothing is done (held back, brake, cause); said once per verdict.
	Declined struct {
		Stamp
		Ref    Ref    `json:"ref,omitzero"`
		Reason Reason `json:"reason"`
	}
	// Recovered: an instance that was acted on is steady again, or was let go.
	Recovered struct {
		Stamp
		Ref  Ref    `json:"ref"`
		Text string `json:"text"`
	}
	// Braked: the breaker, hold-off or creation breaker closed (On) or opened again.
	Braked struct {
		Stamp
		Brake string `json:"brake"` // "breaker", "hold-off", "creation"
		On    bool   `json:"on"`
		Text  string `json:"text"`
	}
)

// Foreseen is a forecast with its name.
type Foreseen struct {
	Dimension string    `json:"dimension"`
	At        time.Time `json:"at"`
	Slope     float64   `json:"slope"`
	Limit     float64   `json:"limit"`
}

// MemberFigures are the figures of one instance.
type MemberFigures struct {
	Ref Ref `json:"ref"`
	Figures
}

// Command is what a person or a program asks of a pool.
type Command struct {
	ID     string     `json:"id,omitempty"` // chosen by the daemon
	Kind   string     `json:"kind"`         // scale, restart, reset-soft, reset-full, evict, pause, resume, adjust, accept, forget, stop
	Target InstanceID `json:"target,omitempty"`
	Size   int        `json:"size,omitempty"` // of scale
	Set    *Setting   `json:"set,omitempty"`  // of adjust
	Force  bool       `json:"force,omitempty"`
	By     string     `json:"by,omitempty"` // "cli root", "signal"
}

func (Began) kind() string        { return "began" }
func (Configured) kind() string   { return "configured" }
func (Found) kind() string        { return "found" }
func (Missing) kind() string      { return "missing" }
func (Finished) kind() string     { return "finished" }
func (Exited) kind() string       { return "exited" }
func (Unresponsive) kind() string { return "unresponsive" }
func (Responsive) kind() string   { return "responsive" }
func (Exceeded) kind() string     { return "exceeded" }
func (Judged) kind() string       { return "judged" }
func (Health) kind() string       { return "health" }
func (Commanded) kind() string    { return "commanded" }
func (JournalState) kind() string { return "journal" }
func (Intended) kind() string     { return "intended" }
func (Opened) kind() string       { return "opened" }
func (Closed) kind() string       { return "closed" }
func (TrialEnded) kind() string   { return "trial" }
func (Declined) kind() string     { return "declined" }
func (Recovered) kind() string    { return "recovered" }
func (Braked) kind() string       { return "braked" }

// EventKind is the name of the event's type in the journal and the API.
func EventKind(e Event) string { return e.kind() }

// EventRef is the instance that the event is about; zero where it is about the pool.
func EventRef(e Event) Ref {
	switch e := e.(type) {
	case *Found:
		return e.Instance.Ref
	case *Missing:
		return e.Ref
	case *Finished:
		return e.Action.Ref
	case *Exited:
		return e.Ref
	case *Unresponsive:
		return e.Ref
	case *Responsive:
		return e.Ref
	case *Exceeded:
		return e.Ref
	case *Judged:
		return e.Ref
	case *Commanded:
		return Ref{ID: e.Command.Target}
	case *Intended:
		return e.Action.Ref
	case *Opened:
		return e.Ref
	case *Closed:
		return e.Ref
	case *TrialEnded:
		return e.Ref
	case *Declined:
		return e.Ref
	case *Recovered:
		return e.Ref
	}
	return Ref{}
}

// MarshalEvent gives the event's JSON without its kind.
func MarshalEvent(e Event) ([]byte, error) { return json.Marshal(e) }

// UnmarshalEvent is the inverse for a kind; events are always pointers.
func UnmarshalEvent(kind string, b []byte) (Event, error) {
	var e Event
	for _, c := range []Event{
		&Began{}, &Configured{}, &Found{}, &Missing{}, &Finished{}, &Exited{}, &Unresponsive{}, &Responsive{},
		&Exceeded{}, &Judged{}, &Health{}, &Commanded{}, &JournalState{}, &Intended{}, &Opened{}, &Closed{},
		&TrialEnded{}, &Declined{}, &Recovered{}, &Braked{},
	} {
		if c.kind() == kind {
			e = c
		}
	}
	if e == nil {
		return nil, fmt.Errorf("event kind %q: %w", kind, ErrInvalid)
	}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("event %s: %w", kind, err)
	}
	return e, nil
}

func (e *Began) String() string      { return fmt.Sprintf("brain %s began, pid %d", e.Version, e.PID) }
func (e *Configured) String() string { return fmt.Sprintf("pool %s configured", e.Pool.Name) }
func (e *Found) String() string {
	s := fmt.Sprintf("%s found running, pid %d", e.Instance.Ref, e.Instance.Scope.PID)
	if e.Instance.Label != "" {
		s += ": " + e.Instance.Label
	}
	return s
}
func (e *Missing) String() string { return fmt.Sprintf("%s is missing", e.Ref) }
func (e *Finished) String() string {
	switch {
	case e.Skipped:
		return fmt.Sprintf("%s skipped: %s", e.Action, e.Err)
	case e.Err != "":
		return fmt.Sprintf("%s failed: %s", e.Action, firstLine(e.Err))
	default:
		return fmt.Sprintf("%s done in %s", e.Action, Duration(e.Took.D().Round(time.Millisecond)))
	}
}
func (e *Exited) String() string { return fmt.Sprintf("%s %s", e.Ref, e.Exit) }
func (e *Unresponsive) String() string {
	s := fmt.Sprintf("%s does not answer (%s) for %s", e.Ref, e.Probe, Duration(e.Silent.D().Round(100*time.Millisecond)))
	if e.Detail != "" {
		s += ": " + firstLine(e.Detail)
	}
	return s
}
func (e *Responsive) String() string { return fmt.Sprintf("%s answers again", e.Ref) }
func (e *Exceeded) String() string {
	switch e.Limit {
	case "memory":
		return fmt.Sprintf("%s exceeds its memory limit: %s, at most %s", e.Ref, rounded(e.Value), rounded(e.Bound))
	case "silence":
		span := func(s float64) Duration {
			return Duration(time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond))
		}
		return fmt.Sprintf("%s exceeds its silence limit: %s, at most %s", e.Ref, span(e.Value), span(e.Bound))
	}
	return fmt.Sprintf("%s exceeds its %s limit: %g, at most %g", e.Ref, e.Limit, e.Value, e.Bound)
}

func (e *Judged) String() string { return e.Text }
func (e *Health) String() string {
	return fmt.Sprintf("%.1f requests/s, p50 %.1f ms, p99 %.1f ms, errors %.2f %%", e.Pool.Rate, 1e3*e.Pool.P50, 1e3*e.Pool.P99, 100*e.Pool.Errors)
}

func (e *Commanded) String() string {
	c := &e.Command
	s := c.Kind
	if c.Target != "" {
		s += " " + string(c.Target)
	}
	if c.Kind == "scale" {
		s += fmt.Sprintf(" to %d", c.Size)
	}
	if c.Set != nil {
		s += fmt.Sprintf(" %s=%g", c.Set.Knob, c.Set.Value)
	}
	if c.Force {
		s += " --force"
	}
	return s + ", asked by " + c.By
}

func (e *JournalState) String() string {
	if e.Err == "" {
		return "the journal works again"
	}
	return "the journal fails, nothing disruptive is done: " + e.Err
}
func (e *Intended) String() string { return fmt.Sprintf("%s: %s", e.Action, e.Action.Reason.Text) }
func (e *Opened) String() string   { return fmt.Sprintf("%s %s: %s", e.Kind, e.Ref, e.Reason.Text) }
func (e *Closed) String() string {
	s := fmt.Sprintf("%s %s %s", e.Kind, e.Ref, e.Outcome)
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}
func (e *TrialEnded) String() string { return fmt.Sprintf("%s: %s", e.Ref, e.Text) }
func (e *Declined) String() string {
	if e.Ref.ID == "" {
		return "nothing done: " + e.Reason.Text
	}
	return fmt.Sprintf("%s left alone: %s", e.Ref, e.Reason.Text)
}
func (e *Recovered) String() string { return fmt.Sprintf("%s: %s", e.Ref, e.Text) }
func (e *Braked) String() string {
	if e.On {
		return e.Brake + " on: " + e.Text
	}
	return e.Brake + " off: " + e.Text
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
