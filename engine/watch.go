package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// watch is the watchdog's view of the loop: written by the loop, read by anybody.
type watch struct {
	every         atomic.Int64 // nanoseconds
	busy          atomic.Pointer[stage]
	samplingSince atomic.Int64 // nanoseconds since 1970, 0 while none is under way
	journalSince  atomic.Int64
	sampler       atomic.Pointer[string] // why the last sample failed
	fault         atomic.Pointer[string] // what must never happen
}

// stage is what the loop does since when.
type stage struct {
	what  string
	since time.Time
}

func (w *watch) enter(what string) { w.busy.Store(&stage{what, time.Now()}) }

func (w *watch) say(fault string) { w.fault.Store(&fault) }

func (w *watch) sampled(err error) {
	w.samplingSince.Store(0)
	if err == nil {
		w.sampler.Store(nil)
		return
	}
	s := err.Error()
	w.sampler.Store(&s)
}

// Stalled is the watchdog: it says what of the engine hangs or fails, and for how long. Safe from any goroutine, and
// whatever hangs. A part is said to hang after three intervals, at least five seconds.
func (l *Loop) Stalled(now time.Time) (string, bool) {
	w := &l.run.watch
	patience := max(5*time.Second, 3*time.Duration(w.every.Load()))
	var said []string
	hangs := func(what string, since time.Time) {
		if d := now.Sub(since); d >= patience {
			said = append(said, fmt.Sprintf("%s hangs for %s", what, ft.Duration(d.Round(time.Second))))
		}
	}
	if b := w.busy.Load(); b != nil && b.what != "idle" {
		hangs("engine in "+b.what, b.since)
	}
	if s := w.samplingSince.Load(); s != 0 {
		hangs("sampler", time.Unix(0, s))
	}
	if s := w.journalSince.Load(); s != 0 {
		hangs("journal", time.Unix(0, s))
	}
	if s := w.sampler.Load(); s != nil {
		said = append(said, "sampling fails: "+*s)
	}
	if s := w.fault.Load(); s != nil {
		said = append(said, *s)
	}
	return strings.Join(said, "; "), len(said) > 0
}
