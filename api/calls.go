package api

import (
	"net/http"

	"github.com/fettle-dev/fettle"
)

// Destination is how one address answers the calls of an instance: now (within the last half minute) and usually. Rates
// are per second, latencies mean seconds, failures shares of the calls.
type Destination struct {
	Address       string  `json:"address"` // with the port; "other" for all without a row of their own
	Calls         float64 `json:"calls"`
	Latency       float64 `json:"latency"` // 0 where nobody answered
	Failures      float64 `json:"failures"`
	UsualCalls    float64 `json:"usualCalls"` // 0 where it is not known yet
	UsualLatency  float64 `json:"usualLatency"`
	UsualFailures float64 `json:"usualFailures"`
	Waiting       int     `json:"waiting"` // calls that nobody has answered yet
	Slow          bool    `json:"slow"`
	Failing       bool    `json:"failing"`
}

// SystemCall is how often an instance made one system call while they were counted.
type SystemCall struct {
	Name   string  `json:"name"`
	Class  string  `json:"class"`
	Number int     `json:"number"` // -1 for those of 32 bit programs, which have others
	Rate   float64 `json:"rate"`   // per second
}

func (h *handler) destinations(w http.ResponseWriter, r *http.Request) error {
	d, err := h.b.Destinations(r.Context(), poolOf(r), fettle.InstanceID(r.PathValue("id")))
	if err != nil {
		return err
	}
	return answer(w, d)
}

func (h *handler) syscalls(w http.ResponseWriter, r *http.Request) error {
	s, err := h.b.Syscalls(r.Context(), poolOf(r), fettle.InstanceID(r.PathValue("id")))
	if err != nil {
		return err
	}
	return answer(w, s)
}
