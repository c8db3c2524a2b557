package main

import (
	"context"
	"sync"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// Where the bench's own timers come later than this, in the mean, the machine does other things: what is measured then tells of
// them and not of the scenario, so it is recorded again. A scenario that burns CPU time itself stays below.
const (
	mostLate = 5 * time.Millisecond
	again    = 3 // times at most
	calmFor  = 3 * time.Second
	waitCalm = 20 * time.Minute
)

// meter tells how late timers come.
type meter struct {
	mu    sync.Mutex
	late  time.Duration // sum since the last take; guarded by mu
	count int           // guarded by mu
}

// run measures until ctx ends.
func (m *meter) run(ctx context.Context) {
	const every = 20 * time.Millisecond
	for from := time.Now(); sleep(ctx, every); from = time.Now() {
		m.mu.Lock()
		m.late += time.Since(from) - every
		m.count++
		m.mu.Unlock()
	}
}

// calm waits until the machine does little else.
func (m *meter) calm(ctx context.Context) error {
	told := false
	for from := time.Now(); time.Since(from) < waitCalm; {
		m.take()
		if err := pause(ctx, calmFor); err != nil {
			return err
		}
		late := m.take()
		if late <= mostLate {
			return nil
		}
		if !told {
			told = true
			report.Say("waiting: the machine is busy with other things, timers are %s late", late.Round(time.Microsecond))
		}
	}
	return nil
}

// take gives the mean lateness since it was asked last.
func (m *meter) take() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	mean := m.late / time.Duration(max(1, m.count))
	m.late, m.count = 0, 0
	return mean
}
