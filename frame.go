package fettle

import (
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
	"time"
)

// Role says whether a dimension is what an instance is asked to do or what doing it costs.
type Role uint8

// The roles. Columns of a schema are ordered by role.
const (
	// Load is exogenous: work offered, before balancing, retries and ejection. A change of it is a change of workload.
	Load Role = iota
	// Intake is the work that balancing really gave the instance. Responses are conditioned on it, but it is evidence
	// for nothing itself: when a peer falls ill, a healthy instance's intake rises.
	Intake
	// Response is what doing the work costs and how it went.
	Response
)

var roleNames = []string{"load", "intake", "response"}

func (r Role) String() string { return enumString(r, roleNames, "role") }

// MarshalText gives the lower-case name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes the lower-case name.
func (r *Role) UnmarshalText(b []byte) error { return enumParse(r, b, roleNames, "role") }

// Transform is applied to a value before any moment is taken of it.
type Transform uint8

// The transforms.
const (
	Identity Transform = iota
	Log1p              // log(1+x/g): rates, sizes, times; g is the grain of the unit: 1/s, 64 KiB, 4 KiB/s, 0.1 ms, 0.01 cores
	Logit              // log((x+e)/(1-x+e)), e = 1/50: shares
)

var transformNames = []string{"identity", "log1p", "logit"}

func (t Transform) String() string { return enumString(t, transformNames, "transform") }

// MarshalText gives the lower-case name.
func (t Transform) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes the lower-case name.
func (t *Transform) UnmarshalText(b []byte) error {
	return enumParse(t, b, transformNames, "transform")
}

// Kind says how a source's readings become a frame's values.
type Kind uint8

// The kinds.
const (
	Gauge   Kind = iota // the reading itself
	Counter             // cumulative; the frame has its rate per second
)

// Dimension is a column of a frame.
type Dimension struct {
	Name      string
	Unit      string // of the frame's value: "1/s", "B", "B/s", "s", "share", "cores"
	Role      Role
	Transform Transform
	Kind      Kind
	// Floor is the least scale (standard deviation) after the transform that can matter. The judge has a floor of its
	// own for each unit; this one can only raise it.
	Floor float64
	// Unbounded marks what can grow until a limit is reached: memory, descriptors, threads. Its slope is watched.
	Unbounded bool
	// Every is the least time between two readings; 0 is each frame. Slower values are held for two intervals at most and
	// train once. Sources may stretch it.
	Every time.Duration
}

// Names of the dimensions that other packages look up. Sources declare more.
const (
	DimOffered  = "offered"               // requests/s meant for the instance by key or fair share, before balancing; load
	DimBytesIn  = "bytes_in"              // request bytes/s that it received; intake
	DimRequests = "requests"              // requests/s that it was given; intake
	DimBytesOut = "bytes_out"             // response bytes/s that it sent; response
	DimInFlight = "in_flight"             // mean requests in flight; response
	DimErrors   = "errors"                // share of requests answered with 5xx or not at all; response
	DimP50      = "latency_p50"           // median time to the end of the response, seconds; response
	DimP99      = "latency_p99"           // 99th percentile of the same, seconds; response
	DimCPU      = "cpu"                   // CPU time used, cores; response
	DimCPUUser  = "cpu_user"              // of that in the program, cores; response
	DimCPUSys   = "cpu_system"            // of that in the kernel, cores; response
	DimRunQueue = "run_queue"             // seconds waiting for a CPU per second; response
	DimSwitches = "ctx_switches"          // turns on a CPU, 1/s; response
	DimRSS      = "memory_rss"            // resident memory, bytes; response, unbounded
	DimAnon     = "memory_anon"           // memory that no file backs, bytes; response, unbounded
	DimMinor    = "faults_minor"          // page faults without I/O, 1/s; response
	DimMajor    = "faults_major"          // page faults that waited for I/O, 1/s; response
	DimRefaults = "refaults"              // pages needed again after their eviction, 1/s; response
	DimRead     = "io_read"               // bytes/s read from storage; response
	DimWritten  = "io_written"            // bytes/s written to storage; response
	DimThreads  = "threads"               // number of threads; response, unbounded
	DimFDs      = "descriptors"           // number of open descriptors; response, unbounded
	DimThrottle = "cpu_throttled"         // share of the bandwidth periods in which its CPU was cut off; response
	DimPressMem = "memory_stall"          // share of time stalled on memory (PSI some); response
	DimPressCPU = "cpu_stall"             // share of time stalled on CPU (PSI some); response
	DimTopTask  = "cpu_top_thread"        // cores of the busiest thread; response
	DimWSS      = "working_set"           // bytes referenced within an interval; response, unbounded
	DimWSSGrow  = "working_set_growth"    // bytes/s that the working set grew by since the interval before; response
	DimWSSTurn  = "working_set_turnover"  // share of the working set that was not in the one before; response
	DimWrites   = "write_share"           // share of the working set that was written to; response
	DimNetOut   = "net_sent"              // bytes/s sent on sockets of the internet families; response
	DimNetIn    = "net_received"          // bytes/s received; response, intake where nothing else tells the work
	DimMsgsOut  = "net_messages_sent"     // messages sent (segments with data, of TCP), 1/s; response
	DimMsgsIn   = "net_messages_received" // messages received (segments with data, of TCP), 1/s; response, load where nothing else tells the work
	DimAccepts  = "connections_accepted"  // connections accepted, 1/s; response, load where nothing else tells the work
	DimConnects = "connections_opened"    // connections opened to others, 1/s; response
	DimResent   = "retransmits"           // segments sent again, 1/s; response
	DimCalls    = "out_calls"             // requests/s sent to others and answered or failed; response
	DimCallTime = "out_latency"           // seconds from the request to others until their answer, mean; response
	DimCallFail = "out_failures"          // share of requests and connections to others that failed; response
)

// Dependencies are the columns that tell how others answer an instance. What they explain is not the instance's fault.
var Dependencies = []string{DimCallTime, DimCallFail}

// MaxDimensions is the most columns that a pool's schema may have: sets of them are bit masks.
const MaxDimensions = 64

// Schema is the immutable list of a pool's columns, ordered load, intake, response, and its category sets.
type Schema struct {
	dims   []Dimension
	nload  int
	nwork  int
	sets   []CategorySet
	ncat   int
	digest uint64
}

// CategorySet is a set of counts of a row that together say of what kinds the requests, answers or calls of an interval
// were. Each set is compared with its own reference.
type CategorySet struct {
	Name string // "routes", "status", "system calls"
	// Role: a changed mix of a Load set is changed work; of a Response set, a changed instance.
	Role Role
	Size int // the number of counts, at least 1
	// Labels name the categories where they are known at once; else the source's [Batcher] names them as they come.
	Labels []string
	// Every is the cadence; 0 is each frame. Slower sets have all counts 0 in the frames between.
	Every time.Duration
}

// Names of the category sets that other packages look up.
const (
	SetRoutes   = "routes"       // method and templated path of requests; load
	SetStatus   = "status"       // class of the answers; response
	SetSyscalls = "system calls" // class of system calls; response
)

// MaxCategories is the most counts that a row may carry in all its sets.
const MaxCategories = 256

// NewSchema orders the dimensions by role, keeping the order within a role. Sets are the category counts that a row
// carries, one set after the other. Duplicate names, more than [MaxDimensions], and more than [MaxCategories] counts are
// errors.
func NewSchema(dims []Dimension, sets ...CategorySet) (*Schema, error) {
	if len(dims) > MaxDimensions {
		return nil, fmt.Errorf("schema: %d dimensions, at most %d", len(dims), MaxDimensions)
	}
	s := &Schema{dims: slices.Clone(dims), sets: slices.Clone(sets)}
	slices.SortStableFunc(s.dims, func(a, b Dimension) int { return int(a.Role) - int(b.Role) })
	h := fnv.New64a()
	for i, d := range s.dims {
		if slices.ContainsFunc(s.dims[:i], func(o Dimension) bool { return o.Name == d.Name }) {
			return nil, fmt.Errorf("schema: dimension %q declared twice", d.Name)
		}
		switch d.Role {
		case Load:
			s.nload++
			s.nwork++
		case Intake:
			s.nwork++
		case Response:
		}
		fmt.Fprintf(h, "%s|%s|%d|%d\n", d.Name, d.Unit, d.Role, d.Transform)
	}
	for i, c := range s.sets {
		if c.Size < 1 || len(c.Labels) > c.Size {
			return nil, fmt.Errorf("schema: category set %q of %d counts with %d labels", c.Name, c.Size, len(c.Labels))
		}
		if slices.ContainsFunc(s.sets[:i], func(o CategorySet) bool { return o.Name == c.Name }) {
			return nil, fmt.Errorf("schema: category set %q declared twice", c.Name)
		}
		s.ncat += c.Size
		fmt.Fprintf(h, "%s|%d|%d\n", c.Name, c.Role, c.Size)
	}
	if s.ncat > MaxCategories {
		return nil, fmt.Errorf("schema: %d category counts, at most %d", s.ncat, MaxCategories)
	}
	s.digest = h.Sum64()
	return s, nil
}

// Len is the number of columns.
func (s *Schema) Len() int { return len(s.dims) }

// Loads is the number of load columns; they come first.
func (s *Schema) Loads() int { return s.nload }

// Works is the number of load and intake columns, those that responses are conditioned on.
func (s *Schema) Works() int { return s.nwork }

// Categories is the number of category counts of a row, in all sets.
func (s *Schema) Categories() int { return s.ncat }

// Sets are the category sets; the counts of a row stand in their order. The result is not to be changed.
func (s *Schema) Sets() []CategorySet { return s.sets }

// SetAt is the index of the set that category c is in, and where its counts begin.
func (s *Schema) SetAt(c int) (set, begin int) {
	for i := range s.sets {
		if c < begin+s.sets[i].Size {
			return i, begin
		}
		begin += s.sets[i].Size
	}
	return -1, begin
}

// Digest identifies names, units, roles, transforms and order.
func (s *Schema) Digest() uint64 { return s.digest }

// At is column i.
func (s *Schema) At(i int) Dimension { return s.dims[i] }

// Index is the column of a name, -1 where there is none.
func (s *Schema) Index(name string) int {
	return slices.IndexFunc(s.dims, func(d Dimension) bool { return d.Name == name })
}

// Set is the set of the named columns; names that are not in the schema are left out.
func (s *Schema) Set(names ...string) Dims {
	var m Dims
	for _, n := range names {
		if i := s.Index(n); i >= 0 {
			m = m.With(i)
		}
	}
	return m
}

// Dims is a set of columns.
type Dims uint64

// Has tells whether column i is in the set.
func (m Dims) Has(i int) bool { return m>>uint(i)&1 != 0 }

// With adds column i.
func (m Dims) With(i int) Dims { return m | 1<<uint(i) }

// Len counts the columns of the set.
func (m Dims) Len() int { return bits.OnesCount64(uint64(m)) }

// Row says whose a row of a frame is and how it may be used. The planner fills it.
type Row struct {
	Slot Slot
	Life Life
	// Group interns specialization, key and image digest: peers are the rows of one group, and they share scatter.
	Group uint32
	// Settings changes whenever a setting of the instance was changed for good: location is then relearnt.
	Settings uint32
	// Age is the seconds since the generation began.
	Age float32
	// Held: an action is under way or settling. The row trains nothing and is no peer.
	Held bool
	// Serving is false while the instance takes no work (warming, drained): not judged, not trained, no peer.
	Serving bool
}

// Frame is one tick of one pool: all its rows at once, since peers need all of them. Buffers are reused; whoever
// keeps a frame beyond a call copies it.
type Frame struct {
	At     time.Time
	Schema *Schema
	Rows   []Row
	X      []float64 // row-major, len(Rows) x Schema.Len(), untransformed; NaN is missing this time
	Have   []Dims    // what each row's instance can be measured by at all
	Span   []float32 // seconds that each row covers
	Counts []uint32  // row-major, len(Rows) x Schema.Categories(): how many of each category in this span
	Labels []string  // names of the categories so far, "" where there is none yet, at most Schema.Categories(); for explanations only
	Demand Demand
}

// Reset sizes the frame's buffers for n rows, all values missing, and keeps Schema, Rows and Labels.
func (f *Frame) Reset(n int) {
	d, c := f.Schema.Len(), f.Schema.Categories()
	f.X = slices.Grow(f.X[:0], n*d)[:n*d]
	for i := range f.X {
		f.X[i] = nan
	}
	f.Have = slices.Grow(f.Have[:0], n)[:n]
	clear(f.Have)
	f.Span = slices.Grow(f.Span[:0], n)[:n]
	clear(f.Span)
	f.Counts = slices.Grow(f.Counts[:0], n*c)[:n*c]
	clear(f.Counts)
	f.Demand = Demand{}
}

// Value is row r's value of column c.
func (f *Frame) Value(r, c int) float64 { return f.X[r*f.Schema.Len()+c] }

// Demand is what was asked of the whole pool in one tick.
type Demand struct {
	Arrivals float64 `json:"arrivals"` // requests/s
	Rejected float64 `json:"rejected"` // requests/s refused by a full queue or for want of an instance
	InFlight float64 `json:"inFlight"`
	Queued   float64 `json:"queued"`
}
