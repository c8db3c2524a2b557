package fettle

import (
	"context"
	"errors"
	"time"
)

// The kinds of error that callers tell apart; wrap them with %w.
var (
	ErrStale       = errors.New("stale generation")           // the Ref is of an older life
	ErrUnavailable = errors.New("not available here")         // the machine or the program does not offer this
	ErrStart       = errors.New("did not start")              // spawn, startup probe or warm-up failed
	ErrDeadline    = errors.New("deadline passed")            // work was still in flight
	ErrNotFound    = errors.New("not found")                  //
	ErrConflict    = errors.New("conflicts with what is so")  //
	ErrInvalid     = errors.New("invalid")                    // the caller's input is wrong
	ErrBusy        = errors.New("brakes do not allow it now") // budget, breaker, pause
)

// StartError is why an instance did not come up, with the last lines that it wrote.
type StartError struct {
	Ref    Ref
	Why    string // "exited with status 1 after 0.2s", "opened no port within 30s"
	Output string // last lines, at most 2 KiB
}

func (e *StartError) Error() string {
	s := e.Ref.String() + " did not start: " + e.Why
	if e.Output != "" {
		s += "\nlast output:\n" + e.Output
	}
	return s
}

// Unwrap makes it an [ErrStart].
func (e *StartError) Unwrap() error { return ErrStart }

// Driver is the port that makes and ends instances. All verbs are idempotent by Ref; already gone is success.
// Implementations are safe for concurrent use; the engine never runs two verbs on one instance at once.
type Driver interface {
	// Start makes the instance from the pool's image and its work's data, and returns when it passed its startup
	// probe and warm-up. A *StartError says why not; nothing of it is left running then.
	Start(ctx context.Context, p *Pool, ref Ref, w Work) (Instance, error)
	// Stop ends it: asked first, killed after the grace. Its data is removed.
	Stop(ctx context.Context, ref Ref, grace time.Duration) error
	// List is what really exists: the basis of recovery. Instances whose Exit is set run no longer.
	List(ctx context.Context, pool PoolName) ([]Instance, error)
	// Watch reports exits that Stop or FullReset did not cause, also of adopted instances, until ctx ends. The
	// pool's name is in the Ref's ID.
	Watch(ctx context.Context, exited func(Ref, Exit)) error
}

// Tuner is a driver that can change settings of a running instance.
type Tuner interface {
	// Knobs are those that this machine allows for the instance, with Value the present one.
	Knobs(p *Pool, in Instance) []Knob
	// Set changes one setting and returns the previous value.
	Set(ctx context.Context, p *Pool, ref Ref, s Setting) (was Setting, err error)
}

// Specializer is a driver that can inject a specialization's data into a running instance.
type Specializer interface {
	Specialize(ctx context.Context, p *Pool, ref Ref, w Work) (Instance, error)
}

// SoftResetter is a driver that can reload essential data and configuration and keep the application's state.
type SoftResetter interface {
	// CanSoftReset tells whether the pool declares how; the reason if not.
	CanSoftReset(p *Pool, w Work) error
	SoftReset(ctx context.Context, p *Pool, ref Ref) error
}

// FullResetter is a driver that can take an instance back to its image and initial data. The result has the next
// generation; ref is the life that ends. Failure leaves nothing running.
type FullResetter interface {
	FullReset(ctx context.Context, p *Pool, ref Ref) (Instance, error)
}

// Capabilities are a driver's optional parts, resolved once at registration; nil where it has none.
type Capabilities struct {
	Driver
	Tuner        Tuner
	Specializer  Specializer
	SoftResetter SoftResetter
	FullResetter FullResetter
	Source       Source
}

// Resolve finds a driver's capabilities.
func Resolve(d Driver) Capabilities {
	c := Capabilities{Driver: d}
	c.Tuner, _ = d.(Tuner)
	c.Specializer, _ = d.(Specializer)
	c.SoftResetter, _ = d.(SoftResetter)
	c.FullResetter, _ = d.(FullResetter)
	c.Source, _ = d.(Source)
	return c
}

// Source measures instances: the collectors of telemetry, the router, and drivers that see inside their instances.
type Source interface {
	Dimensions() []Dimension
	// Categories are the sets of category counts that its readers give, one after the other; none if it has none.
	Categories() []CategorySet
	// Attach opens what must be read of the instance; Unavailable says what of the dimensions it cannot tell and why.
	Attach(in Instance) (Reader, Unavailable, error)
}

// Batcher is a source that reads all instances at once, before the readers are asked in each tick.
type Batcher interface {
	Batch(ctx context.Context, now time.Time) error
	// Demand is that of the pool as of the last Batch.
	Demand() Demand
	// Labels name the source's categories so far, "" where there is none yet; nil where its sets name them.
	Labels() []string
}

// Reader reads one instance. Not safe for concurrent use.
type Reader interface {
	// Read writes one value for each of the source's dimensions: gauges as they are, counters cumulative; NaN where
	// missing now. counts has one place for each of the source's categories, cumulative. It allocates nothing in steady state.
	Read(now time.Time, row []float64, counts []uint64) error
	Close() error
}

// Unavailable maps a dimension that cannot be measured to the reason.
type Unavailable map[string]string

// Front takes instances in and out of service: the router's control side, or a readiness gate.
type Front interface {
	// Admit puts the instance into service; it returns when new work can reach it.
	Admit(ctx context.Context, in Instance, weight float64) error
	// Weigh sets its share of traffic, 0 to 1.
	Weigh(ctx context.Context, ref Ref, weight float64) error
	// Drain takes it out of service and returns when nothing is in flight, or ErrDeadline.
	Drain(ctx context.Context, ref Ref, deadline time.Time) error
	// Remove forgets it. Already gone is success.
	Remove(ctx context.Context, ref Ref) error
}
