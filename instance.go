package fettle

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PoolName names a pool: lower-case letters, digits and dashes, at most 40 characters, a letter first.
type PoolName string

// InstanceID names an instance: the pool's name, a dash, and a serial number that is never used twice ("web-17").
// Planners choose it from a counter.
type InstanceID string

// NewInstanceID joins a pool's name and a serial.
func NewInstanceID(pool PoolName, serial uint32) InstanceID {
	return InstanceID(string(pool) + "-" + strconv.FormatUint(uint64(serial), 10))
}

// Serial is the number at the end of the ID, 0 where there is none.
func (id InstanceID) Serial() uint32 {
	_, tail := id.cut()
	n, err := strconv.ParseUint(tail, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// Pool is the name of the pool that the instance belongs to.
func (id InstanceID) Pool() PoolName {
	head, _ := id.cut()
	return PoolName(head)
}

func (id InstanceID) cut() (head, tail string) {
	i := strings.LastIndexByte(string(id), '-')
	if i < 0 {
		return string(id), ""
	}
	return string(id[:i]), string(id[i+1:])
}

// Slot is the dense row number of a live instance within its pool. Slots are reused, hence never stored.
type Slot uint32

// Ref names one life of an instance. A full reset begins the next generation; drivers refuse a Ref of an older
// generation with [ErrStale].
type Ref struct {
	ID         InstanceID `json:"id"`
	Generation uint32     `json:"generation"`
}

// String is "web-17" for the first generation and "web-17/2" from the second on.
func (r Ref) String() string {
	if r.Generation <= 1 {
		return string(r.ID)
	}
	return fmt.Sprintf("%s/%d", r.ID, r.Generation)
}

// Life is the pointer-free form of a [Ref] within a pool: serial and generation.
type Life uint64

// Life packs the Ref's serial and generation.
func (r Ref) Life() Life { return Life(uint64(r.ID.Serial())<<32 | uint64(r.Generation)) }

// Phase is where an instance is in its life. The planner owns it; drivers report facts only.
type Phase uint8

// The phases. See core/plan for the transitions.
const (
	Cold        Phase = iota // named, not started
	Warming                  // started, data being injected, probed
	Ready                    // in service
	Leased                   // handed out to one holder
	Draining                 // takes no new work, finishes what it has
	Resetting                // soft or full reset under way
	Quarantined              // out of service, kept for inspection
	Gone                     // stopped
)

var phaseNames = []string{"cold", "warming", "ready", "leased", "draining", "resetting", "quarantined", "gone"}

func (p Phase) String() string { return enumString(p, phaseNames, "phase") }

// MarshalText gives the lower-case name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes the lower-case name.
func (p *Phase) UnmarshalText(b []byte) error { return enumParse(p, b, phaseNames, "phase") }

// Work is a specialization with its key bound. The zero Work is a bare instance.
type Work struct {
	Specialization string `json:"specialization,omitempty"`
	Key            string `json:"key,omitempty"`
}

func (w Work) String() string {
	switch {
	case w.Specialization == "":
		return "bare"
	case w.Key == "":
		return w.Specialization
	default:
		return w.Specialization + ":" + w.Key
	}
}

// Instance is what a driver knows of an instance. It carries no phase and no profile.
type Instance struct {
	Ref
	Work Work `json:"work,omitzero"`
	// Label is what it is to people where its ID does not tell: the unit or program of a server that is only watched.
	Label string `json:"label,omitempty"`
	// Digest identifies image, command and specialization data; one that differs from the pool's is outdated.
	Digest string `json:"digest,omitempty"`
	// Born is when this generation started; Fettle's notion of age.
	Born        time.Time `json:"born,omitzero"`
	Endpoint    Endpoint  `json:"endpoint,omitzero"`
	Port        int       `json:"port,omitempty"`        // its own, that it was told as $PORT, whether or not it listens there; 0: none
	Concurrency int       `json:"concurrency,omitempty"` // requests at once; 0 is unlimited
	Scope       Scope     `json:"scope,omitzero"`
	Settings    []Setting `json:"settings,omitempty"`
	Exit        *Exit     `json:"exit,omitempty"` // not nil: it runs no longer
}

// Endpoint is where an instance serves: network "tcp" or "unix", and address. Zero where it serves nothing.
type Endpoint struct {
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
}

func (e Endpoint) String() string {
	if e.Network == "" {
		return "-"
	}
	return e.Network + ":" + e.Address
}

// Scope says where the kernel accounts for an instance; collectors of telemetry need nothing else.
type Scope struct {
	PID       int               `json:"pid,omitempty"`       // leader of the instance's session and process group
	StartTime uint64            `json:"startTime,omitempty"` // field 22 of /proc/PID/stat, clock ticks since boot
	BootID    string            `json:"bootID,omitempty"`    // with PID and StartTime the process's identity
	CgroupV2  string            `json:"cgroupV2,omitempty"`  // absolute directory
	CgroupV1  map[string]string `json:"cgroupV1,omitempty"`  // controller to absolute directory
	NetNS     string            `json:"netNS,omitempty"`
}

// Exit is how an instance ended.
type Exit struct {
	Code       int       `json:"code"`
	Signal     int       `json:"signal,omitempty"`
	Known      bool      `json:"known"` // code and signal are known (not so for some adopted processes)
	OOM        bool      `json:"oom,omitempty"`
	LastOutput string    `json:"lastOutput,omitempty"` // the last lines it wrote, at most 2 KiB
	At         time.Time `json:"at,omitzero"`
}

func (e Exit) String() string {
	switch {
	case e.OOM:
		return "killed: out of memory"
	case !e.Known:
		return "exited, status unknown"
	case e.Signal != 0:
		return "killed by signal " + strconv.Itoa(e.Signal)
	default:
		return "exited with status " + strconv.Itoa(e.Code)
	}
}

// Setting is the value of a [Knob].
type Setting struct {
	Knob  string  `json:"knob"`
	Value float64 `json:"value"`
}

// Knob is one adjustable thing of an instance.
type Knob struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit,omitempty"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Step  float64 `json:"step"`  // a trial multiplies (above 1) or adds (Additive) this much
	Value float64 `json:"value"` // at the start; the current value is in Instance.Settings
	// Additive: Step is added, not multiplied.
	Additive bool `json:"additive,omitempty"`
	// Relieves names the dimensions that a higher value should lower.
	Relieves []string `json:"relieves,omitempty"`
	// Rung is the lowest level that may turn it (Low: memory; Medium: CPU).
	Rung Level `json:"rung"`
	// Disruption orders knobs that fit equally well, least first; 0 is not noticed at all.
	Disruption uint8    `json:"disruption,omitempty"`
	Draws      Resource `json:"draws,omitempty"` // what of the pool's budget a higher value takes
}

// Resource is a budget that knobs draw on.
type Resource uint8

// The resources.
const (
	NoResource Resource = iota
	Memory              // bytes
	CPU                 // share: the sum of weights
)

var resourceNames = []string{"none", "memory", "cpu"}

func (r Resource) String() string { return enumString(r, resourceNames, "resource") }

// MarshalText gives the lower-case name.
func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes the lower-case name.
func (r *Resource) UnmarshalText(b []byte) error { return enumParse(r, b, resourceNames, "resource") }
