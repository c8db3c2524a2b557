package fettle

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pool is the desired state of a pool: what the pool file, the API and (later) the custom resource say. Zero fields
// take the defaults of [Pool.Defaults].
type Pool struct {
	// Name of the pool.
	Name PoolName `json:"name"`
	// Mode says what Fettle may do by itself: observe (judge and explain), tune (also adjust), heal (also reset and replace).
	Mode Mode `json:"mode"`
	// Image is what a bare instance starts from.
	Image Image `json:"image,omitzero"`
	// Watch takes servers that run already, instead of an image: they are judged and explained, and never touched.
	Watch *Watch `json:"watch,omitempty"`
	// Serve is the protocol of the instances: http (they listen on $PORT or $FETTLE_SOCKET) or none (workers that take no requests).
	Serve Protocol `json:"serve,omitempty"`
	// Listen is the one address on which the pool is served, such as ":8080".
	Listen string `json:"listen,omitempty"`
	// Route says how requests find an instance.
	Route Route `json:"route,omitzero"`
	// Size bounds the number of instances.
	Size Sizing `json:"size,omitzero"`
	// Specializations are named data that turn a bare instance into one for certain work.
	Specializations []Specialization `json:"specializations,omitempty"`
	// Initial is the specialization that new instances get; none if empty.
	Initial string `json:"initial,omitempty"`
	// Probes tell whether an instance lives. They act always, whatever the brain thinks.
	Probes Probes `json:"probes,omitzero"`
	// Limits are absolute. They act always, also while learning.
	Limits Limits `json:"limits,omitzero"`
	// Budget is what the pool's instances may use together; adjustments stay within it.
	Budget Budget `json:"budget,omitzero"`
	// Objective is what the pool is for, in numbers.
	Objective Objective `json:"objective,omitzero"`
	// Detect says how drift is judged.
	Detect Detect `json:"detect,omitzero"`
	// Telemetry says what is collected beyond the base, and what it may cost.
	Telemetry Telemetry `json:"telemetry,omitzero"`
	// Metrics takes counters of the application itself from a Prometheus endpoint.
	Metrics *Metrics `json:"metrics,omitempty"`
	// Heal says what may be done about it, and how much.
	Heal Heal `json:"heal,omitzero"`
}

// Mode says what Fettle may do by itself.
type Mode uint8

// The modes.
const (
	Observe       Mode = iota // judge and explain
	AdjustOnly                // and adjust settings
	HealAutomatic             // and reset and replace
)

var modeNames = []string{"observe", "tune", "heal"}

func (m Mode) String() string { return enumString(m, modeNames, "mode") }

// MarshalText gives the lower-case name.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes the lower-case name.
func (m *Mode) UnmarshalText(b []byte) error { return enumParse(m, b, modeNames, "mode") }

// Protocol is what instances serve.
type Protocol uint8

// The protocols.
const (
	HTTP Protocol = iota
	None
)

var protocolNames = []string{"http", "none"}

func (p Protocol) String() string { return enumString(p, protocolNames, "protocol") }

// MarshalText gives the lower-case name.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes the lower-case name.
func (p *Protocol) UnmarshalText(b []byte) error { return enumParse(p, b, protocolNames, "protocol") }

// Image is what a bare instance starts from.
type Image struct {
	// Driver that makes the instances. Here: process.
	Driver string `json:"driver,omitempty"`
	// Command and its arguments; no shell. $PORT, $FETTLE_SOCKET, $FETTLE_DATA and $FETTLE_INSTANCE are replaced in arguments and are set in the environment.
	Command []string `json:"command,omitempty"`
	// Dir is copied into each instance's private data directory ($FETTLE_DATA), anew at each full reset.
	Dir string `json:"dir,omitempty"`
	// WorkDir is the working directory; the private data directory if a dir is given, else where the daemon was started.
	WorkDir string `json:"workDir,omitempty"`
	// Env is added to the environment.
	Env map[string]string `json:"env,omitempty"`
	// Pass lists variables of the daemon's environment that instances get; PATH, HOME, LANG, TZ and TMPDIR always are.
	Pass []string `json:"pass,omitempty"`
	// User to run as, where the daemon may change it.
	User string `json:"user,omitempty"`
	// Concurrency is how many requests an instance takes at once; 0 is unlimited.
	Concurrency int `json:"concurrency,omitempty"`
	// Hooks of a bare instance; a specialization's own come first.
	Hooks Hooks `json:"hooks,omitzero"`
}

// Hooks are how the program is told to do things.
type Hooks struct {
	// Reload makes it load its libraries or data again: the light re-specialisation.
	Reload *Hook `json:"reload,omitempty"`
	// SoftReset makes it reload essential data and configuration and keep its state.
	SoftReset *Hook `json:"softReset,omitempty"`
	// Verify succeeds when the instance is in order after a reset.
	Verify *Hook `json:"verify,omitempty"`
}

// Hook is one way to tell a program something: exactly one of its fields is given.
type Hook struct {
	// HTTP request to the instance.
	HTTP *HTTPHook `json:"http,omitempty"`
	// Signal to the instance's leader: "HUP", "USR1", "USR2".
	Signal string `json:"signal,omitempty"`
	// Command to run with the instance's environment; no shell.
	Command []string `json:"command,omitempty"`
	// Timeout of the hook, 10s by default.
	Timeout Duration `json:"timeout,omitempty"`
}

// HTTPHook is a request; any 2xx answer is success.
type HTTPHook struct {
	Method string `json:"method,omitempty"` // POST by default
	Path   string `json:"path"`
	Body   string `json:"body,omitempty"`
}

// Specialization is named data that turns a bare instance into one for certain work.
type Specialization struct {
	// Name of the specialization.
	Name string `json:"name"`
	// Files to put into the private data directory: path in it to path of the source.
	Files map[string]string `json:"files,omitempty"`
	// Env is added to the environment.
	Env map[string]string `json:"env,omitempty"`
	// WarmUp are paths requested by GET before the instance is in service.
	WarmUp []string `json:"warmUp,omitempty"`
	// Hooks of this specialization.
	Hooks Hooks `json:"hooks,omitzero"`
}

// Route says how requests find an instance.
type Route struct {
	// Key keeps requests with the same key on the same instance.
	Key *RouteKey `json:"key,omitempty"`
	// Queue is how many requests wait when no instance can take them; more are answered with 503.
	Queue int `json:"queue,omitempty"`
	// QueueFor is how long they wait at most.
	QueueFor Duration `json:"queueFor,omitempty"`
	// RetryShare is the share of requests that may be sent again elsewhere when the first instance failed.
	RetryShare float64 `json:"retryShare,omitempty"`
	// RetryAfterDeath sends a request elsewhere, too, when it was alone in an instance that died: it may be what killed it.
	RetryAfterDeath bool `json:"retryAfterDeath,omitempty"`
	// Timeout ends a request that got no response header; 0 is never.
	Timeout Duration `json:"timeout,omitempty"`
	// SlowStart is how long a new or returned instance takes to reach its full share.
	SlowStart Duration `json:"slowStart,omitempty"`
	// EjectAfter is how many failures in a row take an instance out of routing.
	EjectAfter int `json:"ejectAfter,omitempty"`
	// TrustForwarded keeps X-Forwarded-* headers of clients instead of replacing them.
	TrustForwarded bool `json:"trustForwarded,omitempty"`
	// AccessLog is a file for one line a request; "-" is the daemon's output; none if empty.
	AccessLog string `json:"accessLog,omitempty"`
}

// RouteKey is where a request's key stands: exactly one field is given.
type RouteKey struct {
	Header string `json:"header,omitempty"`
	// Path is the number of the path segment, counted from 1.
	Path  int    `json:"path,omitempty"`
	Query string `json:"query,omitempty"`
	Host  bool   `json:"host,omitempty"`
}

// Sizing bounds the number of instances.
type Sizing struct {
	// Min is how many run always.
	Min int `json:"min"`
	// Max is how many may run, replacements included; min+1 by default.
	Max int `json:"max,omitempty"`
}

// Probes tell whether an instance lives.
type Probes struct {
	// Startup must succeed once before the instance serves; a TCP connection by default.
	Startup *Probe `json:"startup,omitempty"`
	// Readiness takes an instance out of routing while it fails; a TCP connection by default.
	Readiness *Probe `json:"readiness,omitempty"`
	// Liveness replaces an instance when it fails.
	Liveness *Probe `json:"liveness,omitempty"`
}

// Probe is one check: exactly one of HTTP, TCP and Command is given.
type Probe struct {
	// HTTP path to GET; any status below 400 is success.
	HTTP string `json:"http,omitempty"`
	// TCP true: a connection is success.
	TCP bool `json:"tcp,omitempty"`
	// Command that exits with 0, run with the instance's environment.
	Command []string `json:"command,omitempty"`
	// Every is the time between checks.
	Every Duration `json:"every,omitempty"`
	// Timeout of one check.
	Timeout Duration `json:"timeout,omitempty"`
	// Failures in a row that make it fail; for startup the time given is every x failures.
	Failures int `json:"failures,omitempty"`
}

// Limits are absolute bounds of one instance.
type Limits struct {
	// Memory that an instance may have resident; 0 is none.
	Memory Size `json:"memory,omitempty"`
	// Restarts per hour of one instance before the pool is called degraded and starts are held back.
	Restarts int `json:"restarts,omitempty"`
	// Silence is how long an instance may answer nothing while requests wait in it.
	Silence Duration `json:"silence,omitempty"`
}

// Budget is what the pool's instances may use together.
type Budget struct {
	// Memory of all instances, shared out among them as limits with headroom that adjustments move; 0 bounds nothing, and an instance without limits.memory then has no memory knob.
	Memory Size `json:"memory,omitempty"`
	// CPU is the sum of CPU weights, 100 an instance by default with half as much again to give.
	CPU float64 `json:"cpu,omitempty"`
}

// Objective is what the pool is for, in numbers. What helped is measured by it.
type Objective struct {
	// Latency that the quantile should stay below; 0 is none.
	Latency Duration `json:"latency,omitempty"`
	// Quantile of latency, 0.99 by default.
	Quantile float64 `json:"quantile,omitempty"`
	// Errors is the share of requests that may fail.
	Errors float64 `json:"errors,omitempty"`
}

// Detect says how drift is judged.
type Detect struct {
	// Interval between frames.
	Interval Duration `json:"interval,omitempty"`
	// Learn is how long a first baseline is learnt.
	Learn Duration `json:"learn,omitempty"`
	// FalseAlarms tolerated per instance-day at level Low.
	FalseAlarms float64 `json:"falseAlarms,omitempty"`
	// Persist is how long drift must last before anything is done.
	Persist Duration `json:"persist,omitempty"`
}

// Heal says what may be done, and how much.
type Heal struct {
	// Young is the age below which an instance is soft reset first.
	Young Duration `json:"young,omitempty"`
	// CapacityAbove: an old instance is replaced if the pool has room for more than this many others; else it is fully reset.
	CapacityAbove int `json:"capacityAbove,omitempty"`
	// WorkloadDrift: adapt, or mitigate also when only the workload changed.
	WorkloadDrift WorkloadPolicy `json:"workloadDrift,omitempty"`
	// Watch is how long an instance is watched after a step before the next one.
	Watch Duration `json:"watch,omitempty"`
	// Concurrent is how many instances may be out of service for planned actions at once.
	Concurrent int `json:"concurrent,omitempty"`
	// PerHour is how many planned disruptive operations may begin in an hour.
	PerHour int `json:"perHour,omitempty"`
	// Drain is how long work in flight may take to finish.
	Drain Duration `json:"drain,omitempty"`
	// Grace is how long an instance may take to stop when asked.
	Grace Duration `json:"grace,omitempty"`
	// Breaker is the share of unhealthy instances above which nothing planned is done.
	Breaker float64 `json:"breaker,omitempty"`
	// HoldOff is how long after the start of the brain nothing planned is done.
	HoldOff Duration `json:"holdOff,omitempty"`
	// HoldBack is the share of Low and Medium cases left alone to measure what adjusting gains.
	HoldBack float64 `json:"holdBack,omitempty"`
}

// WorkloadPolicy says what is done when only the workload changed.
type WorkloadPolicy uint8

// The policies.
const (
	Adapt WorkloadPolicy = iota
	Mitigate
)

var workloadNames = []string{"adapt", "mitigate"}

func (w WorkloadPolicy) String() string { return enumString(w, workloadNames, "workload policy") }

// MarshalText gives the lower-case name.
func (w WorkloadPolicy) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText takes the lower-case name.
func (w *WorkloadPolicy) UnmarshalText(b []byte) error {
	return enumParse(w, b, workloadNames, "workload policy")
}

// Defaults fills the fields that are zero. It is idempotent.
func (p *Pool) Defaults() {
	if p.Watch != nil {
		p.watchDefaults()
	} else {
		p.runDefaults()
	}
	p.Probes.Startup.defaults(200*time.Millisecond, 300)
	p.Probes.Readiness.defaults(time.Second, 3)
	p.Probes.Liveness.defaults(5*time.Second, 3)
	def(&p.Objective.Quantile, 0.99)
	def(&p.Objective.Errors, 0.01)
	d := &p.Detect
	def(&d.Interval, Duration(time.Second))
	def(&d.Learn, 120*d.Interval)
	def(&d.FalseAlarms, 1)
	def(&d.Persist, 3*d.Interval)
	h := &p.Heal
	def(&h.Young, Duration(time.Hour))
	def(&h.Watch, 30*d.Interval)
	def(&h.Concurrent, 1)
	def(&h.PerHour, 12)
	def(&h.Drain, Duration(30*time.Second))
	def(&h.Grace, Duration(10*time.Second))
	def(&h.Breaker, 0.2)
	def(&h.HoldOff, 10*d.Interval)
	def(&h.HoldBack, 0.25)
	p.Telemetry.defaults()
	p.Metrics.defaults()
}

// runDefaults are those of a pool whose instances Fettle makes.
func (p *Pool) runDefaults() {
	def(&p.Image.Driver, "process")
	def(&p.Size.Min, 1)
	def(&p.Size.Max, p.Size.Min+1)
	r := &p.Route
	def(&r.Queue, 256)
	def(&r.QueueFor, Duration(10*time.Second))
	def(&r.RetryShare, 0.1)
	def(&r.SlowStart, Duration(5*time.Second))
	def(&r.EjectAfter, 5)
	if p.Serve == HTTP {
		if p.Probes.Startup == nil {
			p.Probes.Startup = &Probe{TCP: true}
		}
		if p.Probes.Readiness == nil {
			p.Probes.Readiness = &Probe{TCP: true}
		}
	}
	def(&p.Limits.Restarts, 6)
	def(&p.Limits.Silence, Duration(10*time.Second))
	def(&p.Budget.CPU, 150*float64(p.Size.Min))
}

func def[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (p *Probe) defaults(every time.Duration, failures int) {
	if p == nil {
		return
	}
	def(&p.Every, Duration(every))
	def(&p.Timeout, Duration(2*time.Second))
	def(&p.Failures, failures)
}

// FieldError says which field of a pool is wrong: the path in JSON names ("size.max", "specializations[0].name").
type FieldError struct {
	Path string
	Msg  string
}

func (e FieldError) Error() string { return e.Path + ": " + e.Msg }

var poolNamePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// Validate checks a pool whose defaults are filled and returns all that is wrong with it.
func (p *Pool) Validate() []FieldError {
	var errs []FieldError
	bad := func(wrong bool, path, format string, a ...any) {
		if wrong {
			errs = append(errs, FieldError{path, fmt.Sprintf(format, a...)})
		}
	}
	bad(!poolNamePattern.MatchString(string(p.Name)), "name", "%q is no pool name: lower-case letters, digits and dashes, a letter first, at most 40", p.Name)
	if p.Watch != nil {
		errs = append(errs, p.watched()...)
	} else {
		bad(p.Image.Driver != "process", "image.driver", "%q is not known: process", p.Image.Driver)
		bad(len(p.Image.Command) == 0 || p.Image.Command[0] == "", "image.command", "is missing: the program and its arguments, as a list")
	}
	bad(p.Image.Concurrency < 0, "image.concurrency", "%d is negative", p.Image.Concurrency)
	bad(p.Serve == HTTP && p.Listen == "", "listen", "is missing: an address such as :8080, or serve: none for workers that take no requests")
	bad(p.Listen != "" && !address(p.Listen), "listen", "%q is no address: a port with or without a host, such as :8080 or 127.0.0.1:8080", p.Listen)
	bad(p.Serve == None && p.Listen != "" && p.Watch == nil, "listen", "goes with serve: http; these instances serve none")
	bad(p.Size.Min < 0 || p.Size.Min > 10000, "size.min", "%d is not between 0 and 10000", p.Size.Min)
	bad(p.Size.Max < p.Size.Min && p.Watch == nil, "size.max", "%d is less than size.min, %d", p.Size.Max, p.Size.Min)
	bad(p.Size.Max > 10000, "size.max", "%d is more than 10000", p.Size.Max)
	names := []string{}
	for i, s := range p.Specializations {
		path := fmt.Sprintf("specializations[%d]", i)
		bad(s.Name == "", path+".name", "is missing")
		bad(slices.Contains(names, s.Name), path+".name", "%q is declared twice", s.Name)
		names = append(names, s.Name)
		for _, w := range s.WarmUp {
			bad(!strings.HasPrefix(w, "/"), path+".warmUp", "%q is no path: it starts with /", w)
		}
		for f := range s.Files {
			bad(!localPath(f), path+".files", "%q is no path inside the data directory", f)
		}
		errs = append(errs, s.Hooks.validate(path+".hooks")...)
	}
	bad(p.Initial != "" && !slices.Contains(names, p.Initial), "initial", "%q is none of the specializations: %s", p.Initial, strings.Join(names, ", "))
	errs = append(errs, p.Image.Hooks.validate("image.hooks")...)
	if p.Watch == nil {
		errs = append(errs, p.Route.validate()...)
	}
	errs = append(errs, p.Telemetry.validate()...)
	serve := p.Serve
	if p.Watch != nil {
		serve = HTTP // the port is the one that they are found to listen on
	}
	errs = append(errs, p.Metrics.validate(serve)...)
	for _, pr := range []struct {
		name string
		p    *Probe
	}{{"startup", p.Probes.Startup}, {"readiness", p.Probes.Readiness}, {"liveness", p.Probes.Liveness}} {
		errs = append(errs, pr.p.validate("probes."+pr.name, p.Serve)...)
	}
	bad(p.Limits.Memory < 0, "limits.memory", "is negative")
	bad(p.Limits.Restarts < 0, "limits.restarts", "is negative")
	share := func(v float64, path string) { bad(v < 0 || v > 1 || v != v, path, "%g is not between 0 and 1", v) }
	share(p.Objective.Quantile, "objective.quantile")
	share(p.Objective.Errors, "objective.errors")
	share(p.Heal.Breaker, "heal.breaker")
	share(p.Heal.HoldBack, "heal.holdBack")
	bad(p.Budget.CPU < 0, "budget.cpu", "is negative")
	bad(p.Detect.Interval.D() < 10*time.Millisecond, "detect.interval", "%s is less than 10ms", p.Detect.Interval)
	bad(p.Detect.Learn < 30*p.Detect.Interval, "detect.learn", "%s is less than 30 intervals of %s", p.Detect.Learn, p.Detect.Interval)
	bad(!(p.Detect.FalseAlarms > 0), "detect.falseAlarms", "%g is not above 0", p.Detect.FalseAlarms)
	bad(p.Heal.Concurrent < 1, "heal.concurrent", "%d is less than 1", p.Heal.Concurrent)
	bad(p.Heal.PerHour < 0, "heal.perHour", "is negative")
	bad(p.Heal.CapacityAbove < 0, "heal.capacityAbove", "is negative")
	for _, d := range []struct {
		path string
		d    Duration
	}{
		{"route.queueFor", p.Route.QueueFor},
		{"route.timeout", p.Route.Timeout},
		{"route.slowStart", p.Route.SlowStart},
		{"limits.silence", p.Limits.Silence},
		{"objective.latency", p.Objective.Latency},
		{"detect.persist", p.Detect.Persist},
		{"heal.young", p.Heal.Young},
		{"heal.watch", p.Heal.Watch},
		{"heal.drain", p.Heal.Drain},
		{"heal.grace", p.Heal.Grace},
		{"heal.holdOff", p.Heal.HoldOff},
	} {
		bad(d.d < 0, d.path, "%s is negative", d.d)
	}
	return errs
}

func address(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return false
	}
	n, err := strconv.Atoi(s[i+1:])
	return err == nil && n >= 0 && n <= 65535
}

func localPath(f string) bool {
	if f == "" || strings.HasPrefix(f, "/") {
		return false
	}
	return !slices.Contains(strings.Split(f, "/"), "..")
}

func (h *Hooks) validate(path string) []FieldError {
	var errs []FieldError
	for _, x := range []struct {
		name string
		h    *Hook
	}{{"reload", h.Reload}, {"softReset", h.SoftReset}, {"verify", h.Verify}} {
		if x.h == nil {
			continue
		}
		p := path + "." + x.name
		n := 0
		if x.h.HTTP != nil {
			n++
			if !strings.HasPrefix(x.h.HTTP.Path, "/") {
				errs = append(errs, FieldError{p + ".http.path", fmt.Sprintf("%q is no path: it starts with /", x.h.HTTP.Path)})
			}
		}
		if x.h.Signal != "" {
			n++
			if !slices.Contains([]string{"HUP", "USR1", "USR2", "WINCH", "CONT"}, x.h.Signal) {
				errs = append(errs, FieldError{p + ".signal", fmt.Sprintf("%q is none of HUP, USR1, USR2, WINCH, CONT", x.h.Signal)})
			}
		}
		if len(x.h.Command) > 0 {
			n++
		}
		if n != 1 {
			errs = append(errs, FieldError{p, "needs exactly one of http, signal, command"})
		}
	}
	return errs
}

func (r *Route) validate() []FieldError {
	var errs []FieldError
	if k := r.Key; k != nil {
		n := 0
		for _, is := range []bool{k.Header != "", k.Path != 0, k.Query != "", k.Host} {
			if is {
				n++
			}
		}
		if n != 1 {
			errs = append(errs, FieldError{"route.key", "needs exactly one of header, path, query, host"})
		}
		if k.Path < 0 {
			errs = append(errs, FieldError{"route.key.path", "segments are counted from 1"})
		}
	}
	if r.Queue < 0 {
		errs = append(errs, FieldError{"route.queue", "is negative"})
	}
	if r.EjectAfter < 1 {
		errs = append(errs, FieldError{"route.ejectAfter", "is less than 1"})
	}
	if r.RetryShare < 0 || r.RetryShare > 1 {
		errs = append(errs, FieldError{"route.retryShare", fmt.Sprintf("%g is not between 0 and 1", r.RetryShare)})
	}
	return errs
}

func (p *Probe) validate(path string, serve Protocol) []FieldError {
	if p == nil {
		return nil
	}
	var errs []FieldError
	n := 0
	for _, is := range []bool{p.HTTP != "", p.TCP, len(p.Command) > 0} {
		if is {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, FieldError{path, "needs exactly one of http, tcp, command"})
	}
	if p.HTTP != "" && !strings.HasPrefix(p.HTTP, "/") {
		errs = append(errs, FieldError{path + ".http", fmt.Sprintf("%q is no path: it starts with /", p.HTTP)})
	}
	if serve == None && p.HTTP != "" {
		errs = append(errs, FieldError{path + ".http", "goes with serve: http; use tcp or command"})
	}
	if p.Every <= 0 || p.Timeout <= 0 || p.Failures < 1 {
		errs = append(errs, FieldError{path, "every, timeout and failures must be above 0"})
	}
	return errs
}

// Specialization finds one by name; nil for the bare work and unknown names.
func (p *Pool) Specialization(name string) *Specialization {
	for i := range p.Specializations {
		if p.Specializations[i].Name == name {
			return &p.Specializations[i]
		}
	}
	return nil
}

// Hooks are those that hold for a work: the specialization's own, else the image's.
func (p *Pool) Hooks(w Work) Hooks {
	h := p.Image.Hooks
	if s := p.Specialization(w.Specialization); s != nil {
		if s.Hooks.Reload != nil {
			h.Reload = s.Hooks.Reload
		}
		if s.Hooks.SoftReset != nil {
			h.SoftReset = s.Hooks.SoftReset
		}
		if s.Hooks.Verify != nil {
			h.Verify = s.Hooks.Verify
		}
	}
	return h
}

// InitialWork is what new instances of the pool do.
func (p *Pool) InitialWork() Work { return Work{Specialization: p.Initial} }
