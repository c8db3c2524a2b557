package fettle

import "math"

var nan = math.NaN()

// Level is a band of the drift score. Score 1 is Low: healthy time crosses it at the rate of false alarms that the
// pool tolerates; Medium, High and Critical are crossed at 1/3, 1/10 and 1/100 of that rate.
type Level uint8

// The levels.
const (
	Learning Level = iota // no verdict can be given yet
	Steady
	Low
	Medium
	High
	Critical
)

var levelNames = []string{"learning", "steady", "low", "medium", "high", "critical"}

func (l Level) String() string { return enumString(l, levelNames, "level") }

// MarshalText gives the lower-case name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText takes the lower-case name.
func (l *Level) UnmarshalText(b []byte) error { return enumParse(l, b, levelNames, "level") }

// Cause tells a changed workload (adapt the instance) from a changed instance (heal it) and from something else that
// the instance depends on (leave the instance alone).
type Cause uint8

// The causes.
const (
	CauseUnknown Cause = iota
	WorkloadChanged
	InstanceChanged
	// DependencyChanged: what the instances call answers slower or fails. No reset of theirs would help.
	DependencyChanged
)

var causeNames = []string{"unknown", "workload changed", "instance changed", "dependency changed"}

func (c Cause) String() string { return enumString(c, causeNames, "cause") }

// MarshalText gives the lower-case name.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes the lower-case name.
func (c *Cause) UnmarshalText(b []byte) error { return enumParse(c, b, causeNames, "cause") }

// Extent of a verdict: one instance, or a cause that it shares with the pool.
type Extent uint8

// The extents.
const (
	ExtentUnknown Extent = iota
	ThisInstance
	WholePool
)

var extentNames = []string{"unknown", "this instance", "pool"}

func (s Extent) String() string { return enumString(s, extentNames, "extent") }

// MarshalText gives the lower-case name.
func (s Extent) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the lower-case name.
func (s *Extent) UnmarshalText(b []byte) error { return enumParse(s, b, extentNames, "extent") }

// Channel is what an instance was compared with.
type Channel uint8

// The channels.
const (
	Self     Channel = iota // its own past
	Peers                   // the members that do the same work
	PoolWide                // the pool's median against its own past
)

var channelNames = []string{"self", "peers", "pool"}

func (c Channel) String() string { return enumString(c, channelNames, "channel") }

// MarshalText gives the lower-case name.
func (c Channel) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes the lower-case name.
func (c *Channel) UnmarshalText(b []byte) error { return enumParse(c, b, channelNames, "channel") }

// Verdict is what the judge says of one instance, or of the pool (Pool true). It has no pointers.
type Verdict struct {
	Slot       Slot    `json:"-"`
	Life       Life    `json:"-"`
	Pool       bool    `json:"pool,omitempty"` // the pool's own verdict; Slot and Life mean nothing
	Level      Level   `json:"level"`
	Cause      Cause   `json:"cause"`
	Extent     Extent  `json:"extent"`
	Channel    Channel `json:"channel"`  // the one that gave the score
	Score      float32 `json:"score"`    // deviation divided by the adaptive threshold; the greatest of the channels
	SelfLoad   float32 `json:"selfLoad"` // the same for the parts, each by its own threshold; 0 where not judged
	SelfResp   float32 `json:"selfResponse"`
	PeersLoad  float32 `json:"peersLoad"`
	PeersResp  float32 `json:"peersResponse"`
	Categories float32 `json:"categories"`        // of the route mix
	Shared     float32 `json:"shared"`            // share of the pool that drifts alike
	Since      Instant `json:"since"`             // when the drift began
	Progress   float32 `json:"progress"`          // of learning, 0 to 1
	Members    uint16  `json:"members,omitempty"` // instances that were compared

	Why      [4]Contribution `json:"-"` // strongest first; see Evidence for the form with names
	Forecast Forecast        `json:"-"`
}

// Contribution is the part of one column in a verdict. N is 0 for an unused entry.
type Contribution struct {
	Dim   uint8
	N     uint8   // 1 for a column, 2 for a category (Dim is then the category)
	Z     float32 // signed, in healthy standard deviations, given the load
	Value float32 // now, untransformed
	Usual float32 // expected, untransformed
}

// Forecast is when an unbounded column reaches its limit at its present slope. At is 0 where none is foreseen.
type Forecast struct {
	Dim   uint8
	At    Instant
	Slope float32 // units a second
	Limit float32
}

// Evidence is a contribution with its names: the form for journals and people.
type Evidence struct {
	Dimension string  `json:"dimension"`
	Unit      string  `json:"unit,omitempty"`
	Z         float64 `json:"z"`
	Value     float64 `json:"value"`
	Usual     float64 `json:"usual"`
}

// Figures are the objective's numbers of an instance or a pool over the last few seconds; trials and sizing compare
// them. NaN-free: 0 where unknown, with Rate 0 when nothing was served.
type Figures struct {
	Rate   float64 `json:"rate"`   // requests/s
	Errors float64 `json:"errors"` // share
	P50    float64 `json:"p50"`    // seconds
	P99    float64 `json:"p99"`    // seconds
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // bytes
}
