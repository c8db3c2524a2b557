package wire

import (
	"errors"
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Protocol is the version of all but the operations that never change: hello, listener, shutdown.
const Protocol = 2

// The operations; see the documentation of package router.
const (
	OpHello    = "hello"
	OpApply    = "apply"
	OpListener = "listener"
	OpClose    = "close"
	OpReady    = "ready"
	OpDrain    = "drain"
	OpCounters = "counters"
	OpStats    = "stats"
	OpEvents   = "events"
	OpShutdown = "shutdown"
)

// Request is what the control side asks.
type Request struct {
	Op       string      `json:"op"`
	Pool     ft.PoolName `json:"pool,omitempty"`
	Ref      ft.Ref      `json:"ref,omitzero"`
	Deadline time.Time   `json:"deadline,omitzero"`
	Table    *Table      `json:"table,omitempty"`
	Listener bool        `json:"listener,omitempty"` // its descriptor comes along
}

// Reply is the router's answer. Of events there are many.
type Reply struct {
	Err      string `json:"err,omitempty"`
	Kind     string `json:"kind,omitempty"` // of Err, see Wrap
	Hello    *Hello `json:"hello,omitempty"`
	Listener bool   `json:"listener,omitempty"` // its descriptor comes along
	Epoch    uint64 `json:"epoch,omitempty"`    // of the table that the router has
	Counters []byte `json:"counters,omitempty"`
	Stats    *Stats `json:"stats,omitempty"`
	Event    *Event `json:"event,omitempty"`
}

// Hello is who the router is, and all that it knows.
type Hello struct {
	Protocol int       `json:"protocol"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Tables   []*Table  `json:"tables"`
}

// Event says that a member does not answer, or answers again.
type Event struct {
	At     time.Time   `json:"at"`
	Ref    ft.Ref      `json:"ref"`
	Probe  string      `json:"probe"` // readiness, passive
	Again  bool        `json:"again,omitempty"`
	Silent ft.Duration `json:"silent,omitempty"`
	Detail string      `json:"detail,omitempty"`
}

var kinds = []struct {
	name string
	err  error
}{
	{"deadline", ft.ErrDeadline},
	{"not-found", ft.ErrNotFound},
	{"conflict", ft.ErrConflict},
	{"invalid", ft.ErrInvalid},
	{"stale", ft.ErrStale},
	{"unavailable", ft.ErrUnavailable},
}

// Failed is the reply that carries an error.
func Failed(err error) Reply {
	r := Reply{Err: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.Kind = k.name
		}
	}
	return r
}

// Error is the error that the reply carries, of the same kind as at the sender; nil where it carries none.
func (r *Reply) Error() error {
	if r.Err == "" {
		return nil
	}
	for _, k := range kinds {
		if k.name == r.Kind {
			return &remote{r.Err, k.err}
		}
	}
	return fmt.Errorf("router: %s", r.Err)
}

type remote struct {
	msg  string
	kind error
}

func (e *remote) Error() string { return "router: " + e.msg }
func (e *remote) Unwrap() error { return e.kind }
