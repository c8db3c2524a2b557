package fettle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Telemetry says what is collected of the instances beyond the base (CPU, memory, faults, descriptors, storage I/O,
// control group, router), and what it may cost.
type Telemetry struct {
	// WorkingSet measures how memory is accessed.
	WorkingSet WorkingSet `json:"workingSet,omitzero"`
	// Network measures traffic, connections and calls to others by eBPF, where the machine allows it.
	Network Switch `json:"network,omitempty"`
	// Syscalls counts system calls by class, by eBPF, in bursts.
	Syscalls Syscalls `json:"syscalls,omitzero"`
}

// Switch turns a collector on or off.
type Switch uint8

// The positions of a switch.
const (
	Auto Switch = iota // on where the machine allows it
	Off
	On // on; the pool file is refused where the machine does not allow it
)

var switchNames = []string{"auto", "off", "on"}

func (s Switch) String() string { return enumString(s, switchNames, "switch") }

// MarshalText gives the lower-case name.
func (s Switch) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the lower-case name.
func (s *Switch) UnmarshalText(b []byte) error { return enumParse(s, b, switchNames, "switch") }

// WorkingSet says how the working set is measured: the pages that were referenced within an interval. The kernel's
// referenced bits are cleared at its begin and counted at its end, which delays the application's page faults
// meanwhile.
type WorkingSet struct {
	// Collect: auto (on, but for pools that are only watched), off, or on.
	Collect Switch `json:"collect,omitempty"`
	// Every is the interval at least. It stretches where the budget asks for it.
	Every Duration `json:"every,omitempty"`
	// Budget is the share of time that measuring may take, what it delays the application included.
	Budget float64 `json:"budget,omitempty"`
	// MaxSize is the resident memory of an instance above which it is left alone.
	MaxSize Size `json:"maxSize,omitempty"`
	// Writes also measures which pages are written to, where the kernel can tell. It costs the application a page fault for each.
	Writes bool `json:"writes,omitempty"`
}

// Syscalls says how system calls are counted. While a burst runs, each system call on the machine takes a little longer.
type Syscalls struct {
	// Collect: off (the default of auto too), or on.
	Collect Switch `json:"collect,omitempty"`
	// Budget is the share of its speed that a program that does nothing but system calls may lose.
	Budget float64 `json:"budget,omitempty"`
	// Burst is how long one burst lasts.
	Burst Duration `json:"burst,omitempty"`
}

// Metrics makes columns of what the application says of itself at a Prometheus endpoint.
type Metrics struct {
	// Path of the endpoint, /metrics if it is empty.
	Path string `json:"path,omitempty"`
	// Port of the endpoint, where it is not the one that the instance serves on. $PORT+N counts from that one.
	Port string `json:"port,omitempty"`
	// Every is the time between scrapes, 15s if it is 0: a column counts once it has ten values.
	Every Duration `json:"every,omitempty"`
	// Timeout of one scrape, 2s if it is 0.
	Timeout Duration `json:"timeout,omitempty"`
	// Series to take.
	Series []Series `json:"series"`
}

// Series is one column made of a Prometheus metric. All series that match are added up.
type Series struct {
	// Metric is its name at the endpoint.
	Metric string `json:"metric"`
	// Labels that a series must have, with these values.
	Labels map[string]string `json:"labels,omitempty"`
	// Column is its name; that of the metric if empty.
	Column string `json:"column,omitempty"`
	// Role: response (what the work costs) by default; load (the work that is asked for) or intake (the work that was given).
	Role *Role `json:"role,omitempty"`
	// Kind: counter or gauge; what the endpoint says if empty.
	Kind *Kind `json:"kind,omitempty"`
	// Unit of the column: B, B/s, s, 1/s, share; what the metric's name says by Prometheus' conventions if empty.
	Unit string `json:"unit,omitempty"`
	// Unbounded: it may grow until a limit is reached; its slope is watched.
	Unbounded bool `json:"unbounded,omitempty"`
}

var kindNames = []string{"gauge", "counter"}

func (k Kind) String() string { return enumString(k, kindNames, "kind") }

// MarshalText gives the lower-case name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes the lower-case name.
func (k *Kind) UnmarshalText(b []byte) error { return enumParse(k, b, kindNames, "kind") }

func (t *Telemetry) defaults() {
	w := &t.WorkingSet
	def(&w.Every, Duration(30*time.Second))
	def(&w.Budget, 0.001)
	def(&w.MaxSize, Size(8<<30))
	def(&t.Syscalls.Budget, 0.03)
	def(&t.Syscalls.Burst, Duration(200*time.Millisecond))
}

func (t *Telemetry) validate() []FieldError {
	var errs []FieldError
	bad := func(wrong bool, path, format string, a ...any) {
		if wrong {
			errs = append(errs, FieldError{"telemetry." + path, fmt.Sprintf(format, a...)})
		}
	}
	w := &t.WorkingSet
	bad(w.Every < Duration(time.Second), "workingSet.every", "%s is less than 1s", w.Every)
	bad(!(w.Budget > 0 && w.Budget <= 0.1), "workingSet.budget", "%g is not between 0 and 0.1", w.Budget)
	bad(w.MaxSize < 0, "workingSet.maxSize", "is negative")
	s := &t.Syscalls
	bad(!(s.Budget > 0 && s.Budget <= 0.5), "syscalls.budget", "%g is not between 0 and 0.5", s.Budget)
	bad(s.Burst < Duration(10*time.Millisecond) || s.Burst > Duration(10*time.Second), "syscalls.burst", "%s is not between 10ms and 10s", s.Burst)
	return errs
}

func (m *Metrics) defaults() {
	if m == nil {
		return
	}
	def(&m.Path, "/metrics")
	def(&m.Every, Duration(15*time.Second))
	def(&m.Timeout, Duration(2*time.Second))
	for i := range m.Series {
		def(&m.Series[i].Column, m.Series[i].Metric)
	}
}

// ownColumns are the dimensions that sources of Fettle's own have, and no metric may be called.
var ownColumns = []string{
	DimOffered, DimBytesIn, DimRequests, DimBytesOut, DimInFlight, DimErrors, DimP50, DimP99, DimCPU, DimCPUUser, DimCPUSys,
	DimRunQueue, DimSwitches, DimRSS, DimAnon, DimMinor, DimMajor, DimRefaults, DimRead, DimWritten, DimThreads, DimFDs,
	DimThrottle, DimPressMem, DimPressCPU, DimTopTask, DimWSS, DimWSSGrow, DimWSSTurn, DimWrites, DimNetOut, DimNetIn,
	DimMsgsOut, DimMsgsIn, DimAccepts, DimConnects, DimResent, DimCalls, DimCallTime, DimCallFail,
}

// maxSeries bounds the columns that an application's own counters may take.
const maxSeries = 16

var (
	metricPattern = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	portPattern   = regexp.MustCompile(`^(\$PORT(\+[0-9]{1,4})?|[0-9]{1,5})$`)
)

func (m *Metrics) validate(serve Protocol) []FieldError {
	if m == nil {
		return nil
	}
	var errs []FieldError
	bad := func(wrong bool, path, format string, a ...any) {
		if wrong {
			errs = append(errs, FieldError{"metrics." + path, fmt.Sprintf(format, a...)})
		}
	}
	bad(!strings.HasPrefix(m.Path, "/"), "path", "%q is no path: it starts with /", m.Path)
	bad(m.Port != "" && !portPattern.MatchString(m.Port), "port", "%q is no port: a number, $PORT, or $PORT+1", m.Port)
	bad(m.Port == "" && serve == None, "port", "is missing: with serve: none there is no port that the metrics could be at")
	bad(m.Every < Duration(time.Second), "every", "%s is less than 1s", m.Every)
	bad(m.Timeout <= 0, "timeout", "must be above 0")
	bad(len(m.Series) == 0, "series", "is missing: which metrics to take")
	bad(len(m.Series) > maxSeries, "series", "%d of them, at most %d", len(m.Series), maxSeries)
	for i, s := range m.Series {
		path := fmt.Sprintf("series[%d]", i)
		bad(!metricPattern.MatchString(s.Metric), path+".metric", "%q is no metric's name", s.Metric)
		bad(!metricPattern.MatchString(s.Column), path+".column", "%q is no column's name: letters, digits, _ and :", s.Column)
		bad(slices.Contains(ownColumns, s.Column), path+".column", "%q is a dimension that Fettle measures itself; give the metric's column a name of its own, such as app_%[1]s", s.Column)
		bad(slices.ContainsFunc(m.Series[:i], func(o Series) bool { return o.Column == s.Column }), path+".column", "%q is taken by another; give it a name of its own", s.Column)
	}
	return errs
}

// Unmeasured is a reason why some dimensions cannot be measured.
type Unmeasured struct {
	Why        string   `json:"why"`
	Dimensions []string `json:"dimensions"`
}

// ByReason groups the dimensions by the reason, both sorted.
func (u Unavailable) ByReason() []Unmeasured {
	by := map[string][]string{}
	for name, why := range u {
		by[why] = append(by[why], name)
	}
	out := make([]Unmeasured, 0, len(by))
	for why, names := range by {
		slices.Sort(names)
		out = append(out, Unmeasured{why, names})
	}
	slices.SortFunc(out, func(a, b Unmeasured) int { return strings.Compare(a.Why, b.Why) })
	return out
}
