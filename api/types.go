// Package api is Fettle's HTTP interface: the JSON types, the routes and the kinds of error. A daemon serves it on a
// unix socket that only its owner may open; package client speaks it.
//
//	GET    /v1/version
//	GET    /v1/pools                                   []PoolStatus
//	PUT    /v1/pools                                   {"pools": [...]}: the desired state of all pools; answers Applied
//	GET    /v1/pools/{pool}                            PoolStatus
//	DELETE /v1/pools/{pool}                            stop and remove it; answers when its last instance has ended
//	GET    /v1/pools/{pool}/plan                       Plan: what mode heal would do now
//	GET    /v1/pools/{pool}/instances/{id}             InstanceStatus
//	GET    /v1/pools/{pool}/instances/{id}/destinations   []Destination: whom it calls, and how they answer
//	POST   /v1/pools/{pool}/instances/{id}/syscalls    counts its system calls for a moment; answers []SystemCall
//	GET    /v1/pools/{pool}/recording[?secrets=1]      a recording from now on: the lines that package recording describes
//	POST   /v1/pools/{pool}/commands[?wait=1]          fettle.Command; answers Outcome when accepted, with wait when done
//	GET    /v1/log?pool=&instance=&kind=&since=&after=&limit=&follow=1   LogEntry, one JSON value a line
//	GET    /v1/logs/{instance}?lines=&follow=1         the instance's output, text/plain
//	GET    /v1/doctor                                  []Fact
//	POST   /v1/shutdown                                {"keep": bool}
//	GET    /metrics                                    Prometheus text format
//
// An answer other than 2xx carries an [Error] as {"error": {"kind", "message"}}. A followed log sends a blank line every
// ten seconds while nothing happens, so that a dead peer is noticed; readers skip blank lines.
package api

import (
	"encoding/json"
	"time"

	"github.com/fettle-dev/fettle"
)

// Version says who answers.
type Version struct {
	Version  string    `json:"version"`
	API      string    `json:"api"` // "v1"
	PID      int       `json:"pid"`
	Router   int       `json:"routerPID,omitempty"`
	StateDir string    `json:"stateDir"`
	Socket   string    `json:"socket"`
	Started  time.Time `json:"started"`
	Journal  string    `json:"journal,omitempty"` // said when a corrupt journal had to be moved aside
	Metrics  string    `json:"metrics,omitempty"` // address of the metrics listener
}

// PoolStatus is a pool as it is now.
type PoolStatus struct {
	Name    fettle.PoolName `json:"name"`
	Mode    fettle.Mode     `json:"mode"`
	Address string          `json:"address,omitempty"` // where it is served
	Config  fettle.Pool     `json:"config"`

	Desired     int    `json:"desired"`
	Running     int    `json:"running"`
	Ready       int    `json:"ready"`
	Drifting    int    `json:"drifting"`
	Paused      bool   `json:"paused"`
	Degraded    bool   `json:"degraded"`
	DegradedWhy string `json:"degradedWhy,omitempty"`
	// NextStart is when a start is tried again after those that failed; zero where none waits.
	NextStart time.Time `json:"nextStart,omitzero"`

	Breaker string `json:"breaker,omitempty"` // why nothing planned is done; empty while it is open for business
	HoldOff string `json:"holdOff,omitempty"`
	Journal string `json:"journal,omitempty"` // the journal's failure
	Stalled string `json:"stalled,omitempty"` // what of the engine hangs

	// Note says what of a watched pool's selection cannot be watched, and why.
	Note string `json:"note,omitempty"`
	// Work are the load columns that its instances have: what tells the work that they are asked to do.
	Work []string `json:"work"`
	// Baseline: it began with what an earlier daemon learnt.
	Baseline bool `json:"baseline,omitempty"`

	DisruptionsLastHour int               `json:"disruptionsLastHour"`
	Operations          []OperationStatus `json:"operations"`
	Verdict             Verdict           `json:"verdict"` // of the pool as a whole
	Figures             fettle.Figures    `json:"figures"`
	Demand              fettle.Demand     `json:"demand"`
	Traffic             Traffic           `json:"traffic"`
	Instances           []InstanceStatus  `json:"instances"`
}

// Verdict is what the judge says, with its words and evidence.
type Verdict struct {
	Level    fettle.Level      `json:"level"`
	Score    float64           `json:"score"`
	Cause    fettle.Cause      `json:"cause"`
	Extent   fettle.Extent     `json:"extent"`
	Channel  fettle.Channel    `json:"channel"`
	Since    *time.Time        `json:"since,omitempty"`
	Text     string            `json:"text"`
	Evidence []fettle.Evidence `json:"evidence"`
	Forecast *fettle.Foreseen  `json:"forecast,omitempty"`
	// Progress of learning, 0 to 1; FirstVerdictIn is the time until the first verdict can be expected.
	Progress       float64         `json:"progress"`
	FirstVerdictIn fettle.Duration `json:"firstVerdictIn,omitempty"`
	Parts          Parts           `json:"parts"`
}

// Parts are the scores of a verdict's channels, each by its own threshold; 0 where not judged.
type Parts struct {
	SelfLoad      float64 `json:"selfLoad"`
	SelfResponse  float64 `json:"selfResponse"`
	PeersLoad     float64 `json:"peersLoad"`
	PeersResponse float64 `json:"peersResponse"`
	Categories    float64 `json:"categories"`
	Shared        float64 `json:"shared"` // share of the pool that drifts alike
}

// InstanceStatus is an instance as it is now.
type InstanceStatus struct {
	ID         fettle.InstanceID `json:"id"`
	Generation uint32            `json:"generation"`
	Phase      fettle.Phase      `json:"phase"`
	Label      string            `json:"label,omitempty"` // what a watched server is: its unit, its program
	Work       string            `json:"work"`
	PID        int               `json:"pid,omitempty"`
	Endpoint   string            `json:"endpoint,omitempty"`
	Born       time.Time         `json:"born,omitzero"`
	Age        fettle.Duration   `json:"age"`
	Outdated   bool              `json:"outdated"` // made from an older image or specification
	Verdict
	Weight       float64            `json:"weight"`
	Settings     []fettle.Setting   `json:"settings"`
	Knobs        []fettle.Knob      `json:"knobs"`
	Trial        string             `json:"trial,omitempty"` // the setting under observation
	Figures      fettle.Figures     `json:"figures"`
	Unavailable  fettle.Unavailable `json:"unavailable,omitempty"` // what cannot be measured, and why
	Operation    string             `json:"operation,omitempty"`   // what is being done, and its step
	Quiet        string             `json:"quiet,omitempty"`       // why nothing is done about its drift
	Unresponsive bool               `json:"unresponsive"`
	Ejected      bool               `json:"ejected"` // out of routing by passive health
	Restarts     int                `json:"restarts"`
	LastError    string             `json:"lastError,omitempty"`
	Requests     uint64             `json:"requests"`
	Errors       uint64             `json:"errors"`             // answered with 5xx, or not at all
	ByStatus     map[string]uint64  `json:"byStatus,omitempty"` // "1xx" to "5xx"; "none" is no answer, or half of one
	InFlight     int                `json:"inFlight"`
}

// OperationStatus is an operation under way.
type OperationStatus struct {
	ID     fettle.OperationID `json:"id"`
	Kind   fettle.Operation   `json:"kind"`
	Ref    fettle.Ref         `json:"ref"`
	Step   string             `json:"step"`
	Since  time.Time          `json:"since"`
	Reason fettle.Reason      `json:"reason"`
}

// Traffic is what the router counted for a pool since the router began.
type Traffic struct {
	Requests uint64            `json:"requests"`
	ByStatus map[string]uint64 `json:"byStatus,omitempty"` // "2xx" to "5xx"
	Lost     map[string]uint64 `json:"lost,omitempty"`     // answers that the router made for want of an instance's: refused, reset, timeout, queue-full, no-instance
	Retries  uint64            `json:"retries"`
	Queued   int               `json:"queued"`
	InFlight int               `json:"inFlight"`
	Ejected  []string          `json:"ejected,omitempty"`
}

// Plan is what mode heal would do now.
type Plan struct {
	Pool    fettle.PoolName `json:"pool"`
	Mode    fettle.Mode     `json:"mode"`
	Watched bool            `json:"watched,omitempty"` // it is hypothetical: the servers are only watched
	Actions []PlannedAction `json:"actions"`
	Quiet   []Quiet         `json:"quiet"` // drifting instances that are left alone, and why
}

// PlannedAction is an action with its words.
type PlannedAction struct {
	fettle.Action
	Text string `json:"text"`
}

// Quiet says why nothing is done about an instance that drifts.
type Quiet struct {
	Instance fettle.InstanceID `json:"instance"`
	Text     string            `json:"text"`
}

// LogEntry is one fact or decision. Seq ascends within the journal and is never used twice.
type LogEntry struct {
	Seq      uint64            `json:"seq"`
	Pool     fettle.PoolName   `json:"pool"`
	Instance fettle.InstanceID `json:"instance,omitempty"`
	Kind     string            `json:"kind"`
	At       time.Time         `json:"at"`
	Text     string            `json:"text"`
	Event    json.RawMessage   `json:"event"`
}

// Decode gives the event itself.
func (e *LogEntry) Decode() (fettle.Event, error) { return fettle.UnmarshalEvent(e.Kind, e.Event) }

// LogFilter selects entries of the log. Zero fields select all.
type LogFilter struct {
	Pool     fettle.PoolName
	Instance fettle.InstanceID
	Kinds    []string
	Since    time.Time
	After    uint64 // entries with a greater Seq only
	Limit    int    // the last so many of the history; 0 is all
	Follow   bool   // go on with what happens
}

// Outcome is what became of a command.
type Outcome struct {
	ID   string `json:"id"`
	Done bool   `json:"done"` // carried out, not only accepted
	Text string `json:"text,omitempty"`
}

// Applied says what a new desired state changes.
type Applied struct {
	Added     []fettle.PoolName `json:"added"`
	Changed   []fettle.PoolName `json:"changed"`
	Removed   []fettle.PoolName `json:"removed"`
	Unchanged []fettle.PoolName `json:"unchanged"`
}

// Desired is the body of PUT /v1/pools.
type Desired struct {
	Pools []fettle.Pool `json:"pools"`
}

// Shutdown is the body of POST /v1/shutdown.
type Shutdown struct {
	// Keep leaves instances and router running; otherwise everything is drained and stopped.
	Keep bool `json:"keep"`
	// Force does not wait for work in flight.
	Force bool `json:"force"`
}

// Fact is something that the machine gives, or what is done without it.
type Fact struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Detail    string `json:"detail"`
	Without   string `json:"without,omitempty"`
}
