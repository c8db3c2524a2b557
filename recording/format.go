package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/engine"
)

// The version that this package writes. See the package documentation.
const (
	Format  = "fettle recording"
	Version = 1
	Minor   = 0
)

// Bounds of what is read. A pool of some thousand instances stays well below them.
const (
	maxLine     = 64 << 20  // bytes of a line
	maxEvent    = 8 << 20   // bytes of one event
	maxProfiles = 512 << 20 // bytes of what was learnt
	maxRows     = 1 << 16   // rows of a frame; slots are less
	maxList     = 1 << 16   // events of a step and the like
	maxLabel    = 1 << 10   // bytes of the name of a category
)

// ErrFormat is wrapped by the errors for files that are no recording, or one that this program cannot read.
var ErrFormat = errors.New("not a recording that can be read")

// ErrLearnt is wrapped by the error for what was learnt before a recording and cannot be used by this program.
var ErrLearnt = errors.New("what was learnt before it began cannot be used")

// Header is what the steps of a recording rest on.
type Header struct {
	Format   string          `json:"format"`
	Version  int             `json:"version"`
	Minor    int             `json:"minor"`
	Fettle   string          `json:"fettle"` // version of the program that wrote it
	At       time.Time       `json:"at"`     // when it began
	Imported bool            `json:"imported,omitempty"`
	Pool     ft.Pool         `json:"pool"`
	Redacted []string        `json:"redacted,omitempty"` // paths in the pool whose values were left out
	Schema   Schema          `json:"schema"`
	Judge    *Judge          `json:"judge,omitempty"` // none where nothing was judged
	Journal  bool            `json:"journal"`         // batches were answered by a journal
	State    json.RawMessage `json:"state"`
	Slots    []ft.Slot       `json:"slots"` // of the members in the state, in its order
	Loop     json.RawMessage `json:"loop,omitempty"`
	Profiles int             `json:"profiles"` // lines of what was learnt that follow

	learnt []byte
}

// Schema says what the columns of the frames are.
type Schema struct {
	Dimensions []Dimension `json:"dimensions"`
	Sets       []Set       `json:"sets,omitempty"`
}

// Dimension is a column, as [ft.Dimension] has it.
type Dimension struct {
	Name      string       `json:"name"`
	Unit      string       `json:"unit,omitempty"`
	Role      ft.Role      `json:"role"`
	Transform ft.Transform `json:"transform"`
	Kind      ft.Kind      `json:"kind"`
	Floor     float64      `json:"floor,omitempty"`
	Unbounded bool         `json:"unbounded,omitempty"`
	Every     ft.Duration  `json:"every,omitempty"`
}

// Set is a set of category counts, as [ft.CategorySet] has it.
type Set struct {
	Name   string      `json:"name"`
	Role   ft.Role     `json:"role"`
	Size   int         `json:"size"`
	Labels []string    `json:"labels,omitempty"`
	Every  ft.Duration `json:"every,omitempty"`
}

// Judge is the configuration of the judge.
type Judge struct {
	Interval    ft.Duration `json:"interval"`
	Learn       ft.Duration `json:"learn"`
	FalseAlarms float64     `json:"falseAlarms"`
	Persist     ft.Duration `json:"persist"`
	MemoryLimit float64     `json:"memoryLimit"`
	Seed        uint64      `json:"seed"`
}

// SchemaOf describes a schema.
func SchemaOf(s *ft.Schema) Schema {
	var out Schema
	for i := range s.Len() {
		d := s.At(i)
		out.Dimensions = append(out.Dimensions, Dimension{
			d.Name, d.Unit, d.Role, d.Transform, d.Kind, d.Floor, d.Unbounded, ft.Duration(d.Every),
		})
	}
	for _, c := range s.Sets() {
		out.Sets = append(out.Sets, Set{c.Name, c.Role, c.Size, c.Labels, ft.Duration(c.Every)})
	}
	return out
}

// Make makes the schema that is described.
func (s *Schema) Make() (*ft.Schema, error) {
	dims := make([]ft.Dimension, len(s.Dimensions))
	for i, d := range s.Dimensions {
		if math.IsNaN(d.Floor) || math.IsInf(d.Floor, 0) || d.Floor < 0 || d.Every < 0 {
			return nil, fmt.Errorf("dimension %q: floor %g, every %s: %w", d.Name, d.Floor, d.Every, ft.ErrInvalid)
		}
		dims[i] = ft.Dimension{
			Name: d.Name, Unit: d.Unit, Role: d.Role, Transform: d.Transform, Kind: d.Kind, Floor: d.Floor,
			Unbounded: d.Unbounded, Every: d.Every.D(),
		}
	}
	sets := make([]ft.CategorySet, len(s.Sets))
	for i, c := range s.Sets {
		if c.Size > ft.MaxCategories {
			return nil, fmt.Errorf("category set %q: %d counts, at most %d: %w", c.Name, c.Size, ft.MaxCategories, ft.ErrInvalid)
		}
		sets[i] = ft.CategorySet{Name: c.Name, Role: c.Role, Size: c.Size, Labels: c.Labels, Every: c.Every.D()}
	}
	return ft.NewSchema(dims, sets...)
}

// config is the judge's.
func (j *Judge) config() drift.Config {
	return drift.Config{
		Interval: j.Interval.D(), Learn: j.Learn.D(), FalseAlarms: j.FalseAlarms, Persist: j.Persist.D(),
		MemoryLimit: j.MemoryLimit, Seed: j.Seed,
	}
}

// Options of a recording.
type Options struct {
	// Fettle is the version of the program, for the header.
	Fettle string
	// Secrets keeps the values of environment variables, the arguments of commands and the bodies of HTTP hooks, which are
	// taken out otherwise. No decision rests on them.
	Secrets bool
	// Waiting is how many steps may wait for a reader before the recording ends; 4096 if 0.
	Waiting int
}

// newHeader describes the base of a recording.
func newHeader(b *engine.Base, schema *ft.Schema, at time.Time, o Options) (*Header, error) {
	h := &Header{
		Format: Format, Version: Version, Minor: Minor, Fettle: o.Fettle, At: at.UTC().Round(0), Pool: b.Pool,
		Schema: SchemaOf(schema), Journal: b.Journal, State: b.State, Slots: b.Slots, Loop: b.Loop, learnt: b.Profiles,
	}
	if b.Profiles != nil {
		c := &b.Judge
		h.Judge = &Judge{
			ft.Duration(c.Interval), ft.Duration(c.Learn), c.FalseAlarms, ft.Duration(c.Persist), c.MemoryLimit, c.Seed,
		}
	}
	if o.Secrets {
		return h, nil
	}
	h.Pool, h.Redacted = redact(&b.Pool)
	var err error
	h.State, err = redactState(b.State)
	return h, err
}

// base is that of the header.
func (h *Header) base() *engine.Base {
	b := &engine.Base{Pool: h.Pool, State: h.State, Slots: h.Slots, Loop: h.Loop, Journal: h.Journal, Profiles: h.learnt}
	if h.Judge != nil {
		b.Judge = h.Judge.config()
	}
	return b
}

// Step is one step of the loop.
type Step struct {
	At      time.Time
	Frame   *ft.Frame // nil where there was none
	Rows    []ft.Ref  // of the frame's rows
	Events  []ft.Event
	Written []engine.Written
	Made    []ft.Event // in the order in which they were folded
	Did     []uint64   // numbers of the actions that were begun
}

// End is how a recording ended.
type End struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}
