package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/fettle-dev/fettle"
)

// ErrNoDaemon means that no daemon answers. Clients make it; it never travels.
var ErrNoDaemon = errors.New("no daemon runs")

// ErrDegraded means that the pool's instances do not come up.
var ErrDegraded = errors.New("degraded")

// Kind is a kind of error with what it is called and answered with.
type Kind struct {
	Name   string // in answers
	Status int    // of HTTP
	Exit   int    // of the command line
	Text   string // for the help text
	err    error
}

// Failed is the kind of everything that is none of [Kinds].
var Failed = Kind{"failed", http.StatusInternalServerError, 1, "it failed", nil}

// Kinds is the one table from kinds of error to HTTP status and exit code; the first that fits counts.
var Kinds = []Kind{
	{"invalid", http.StatusBadRequest, 2, "wrong usage or input", fettle.ErrInvalid},
	{"no-daemon", http.StatusServiceUnavailable, 3, "no daemon runs there", ErrNoDaemon},
	{"not-found", http.StatusNotFound, 4, "no such pool or instance", fettle.ErrNotFound},
	{"busy", http.StatusTooManyRequests, 5, "refused by the brakes: budget, breaker, pause", fettle.ErrBusy},
	{"conflict", http.StatusConflict, 6, "conflicts with what is so", fettle.ErrConflict},
	{"stale", http.StatusConflict, 6, "the instance has begun another life since", fettle.ErrStale},
	{"unavailable", http.StatusNotImplemented, 7, "the machine or the program does not offer this", fettle.ErrUnavailable},
	{"degraded", http.StatusFailedDependency, 8, "instances do not come up", ErrDegraded},
	{"start", http.StatusFailedDependency, 8, "instances do not come up", fettle.ErrStart},
	{"deadline", http.StatusGatewayTimeout, 1, "it took too long", fettle.ErrDeadline},
}

// KindOf finds the kind of an error; [Failed] if it is none of them.
func KindOf(err error) Kind {
	for _, k := range Kinds {
		if errors.Is(err, k.err) {
			return k
		}
	}
	return Failed
}

// Error is an error as it travels. It unwraps to the kind that it had in the daemon.
type Error struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the error value of the kind, nil where it is not known.
func (e *Error) Unwrap() error {
	for _, k := range Kinds {
		if k.Name == e.Kind {
			return k.err
		}
	}
	return nil
}

type errorBody struct {
	Error *Error `json:"error"`
}

// DecodeError reads the body of an answer that is not 2xx.
func DecodeError(b []byte) (*Error, error) {
	var body errorBody
	if err := json.Unmarshal(b, &body); err != nil {
		return nil, fmt.Errorf("error of the daemon: %w", err)
	}
	if body.Error == nil {
		return nil, fmt.Errorf("error of the daemon: no error in %q", b)
	}
	return body.Error, nil
}
