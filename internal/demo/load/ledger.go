package load

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is what became of a request, as its client sees it.
type Outcome uint8

// The outcomes. All but Answered and Failed are losses.
const (
	Answered Outcome = iota // with a status below 400
	Failed                  // 4xx or 5xx that the instance sent
	Refused                 // no connection
	Reset                   // the connection ended before the answer did
	Timeout                 // no answer in time
	Made                    // 4xx or 5xx that the instance did not send: it has X-Fettle-Error
)

var outcomeNames = [...]string{"answered", "failed", "refused", "reset", "timed out", "answered by the router"}

func (o Outcome) String() string { return outcomeNames[o] }

// Record is one request in the ledger.
type Record struct {
	Sent     time.Duration // since the start
	Took     time.Duration
	Outcome  Outcome
	Error    string // X-Fettle-Error of Made
	Instance string // the ID of X-Fettle-Instance; empty where no answer came
	Owner    string // the instance that the key was last served by when the request was sent
}

// String says what became of it.
func (r Record) String() string {
	s := fmt.Sprintf("sent at %.1f s, %s after %.3f s", r.Sent.Seconds(), r.Outcome, r.Took.Seconds())
	if r.Error != "" {
		s += " (" + r.Error + ")"
	}
	if r.Instance != "" {
		return s + ", by " + r.Instance
	}
	return s + ", key of " + cmp.Or(r.Owner, "nobody")
}

// Lost tells whether the request got no answer of an instance.
func (r *Record) Lost() bool {
	switch r.Outcome {
	case Refused, Reset, Timeout, Made:
		return true
	case Answered, Failed:
	}
	return false
}

// Ledger keeps all records. Safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	records []Record // guarded by mu
}

// Add keeps a record.
func (l *Ledger) Add(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// Outage is a life that a fault kept from answering: the instance, and the span from when the fault was planted until
// that process was gone.
type Outage struct {
	Instance string
	From, To time.Duration
}

// covers tells whether the fault itself must answer for a lost request: it was sent before the hung process was gone,
// was still waiting after the fault was planted, and was in that process. The router names the instance that failed;
// where nothing came back (the client's own timeout, a reset), the instance that last served the key stands for it.
// All else that is lost was lost to what Fettle did, or did not do.
func (o Outage) covers(r *Record) bool {
	in := r.Instance
	if in == "" {
		in = r.Owner
	}
	return in == o.Instance && r.Sent < o.To && r.Sent+r.Took > o.From
}

// Losses are the requests without an answer of an instance.
type Losses struct {
	Planned int // refused, reset, timed out, or a 5xx that the instance did not send
	Fault   int // of those in an outage: see [Outage]
}

// Count gives how many requests there are and how many were lost, and to what.
func (l *Ledger) Count(outages []Outage) (requests int, lost Losses) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.records {
		r := &l.records[i]
		switch {
		case !r.Lost():
		case slices.ContainsFunc(outages, func(o Outage) bool { return o.covers(r) }):
			lost.Fault++
		default:
			lost.Planned++
		}
	}
	return len(l.records), lost
}

// Lost lists the lost requests outside of the outages, the first n.
func (l *Ledger) Lost(outages []Outage, n int) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Record
	for i := range l.records {
		r := &l.records[i]
		if r.Lost() && len(out) < n && !slices.ContainsFunc(outages, func(o Outage) bool { return o.covers(r) }) {
			out = append(out, *r)
		}
	}
	return out
}

// LastFor is when the last request was sent that ended without an answer in the outage: from then on the instance was
// out of routing. False where there is none.
func (l *Ledger) LastFor(o Outage) (sent time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.records {
		if r := &l.records[i]; r.Lost() && o.covers(r) {
			sent, ok = max(sent, r.Sent), true
		}
	}
	return sent, ok
}

// Window is what users saw in a span.
type Window struct {
	Requests int
	Rate     float64 // a second
	Lost     int
	P50, P99 time.Duration // of those that were answered
}

// Window looks at the requests that were sent from one time to another.
func (l *Ledger) Window(from, to time.Duration) Window {
	l.mu.Lock()
	defer l.mu.Unlock()
	var w Window
	var took []time.Duration
	for i := range l.records {
		r := &l.records[i]
		if r.Sent < from || r.Sent >= to {
			continue
		}
		w.Requests++
		if r.Lost() {
			w.Lost++
		} else {
			took = append(took, r.Took)
		}
	}
	if to > from {
		w.Rate = float64(w.Requests) / (to - from).Seconds()
	}
	slices.Sort(took)
	w.P50, w.P99 = quantile(took, 0.5), quantile(took, 0.99)
	return w
}

// RateOf is how many requests a second an instance answered of those that were sent from one time to another.
func (l *Ledger) RateOf(instance string, from, to time.Duration) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for i := range l.records {
		if r := &l.records[i]; r.Instance == instance && r.Sent >= from && r.Sent < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

// quantile of sorted values, 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// instanceID drops the generation of X-Fettle-Instance ("web-3/1").
func instanceID(header string) string {
	id, _, _ := strings.Cut(header, "/")
	return id
}
