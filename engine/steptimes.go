package engine

import (
	"slices"
	"sync"
	"time"
)

// steptimes is how long the steps of a running loop took.
type steptimes struct {
	mu   sync.Mutex
	n    uint64
	sum  time.Duration
	last [512]time.Duration // a ring
}

func (s *steptimes) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[s.n%uint64(len(s.last))] = d
	s.n++
	s.sum += d
}

// StepTimes is how many steps there were, how long they took together, and the quantiles 0.5, 0.99 and 1 of the last
// few hundred, in seconds. Safe from any goroutine.
func (l *Loop) StepTimes() (n uint64, sum time.Duration, quantiles map[float64]float64) {
	s := &l.run.steps
	s.mu.Lock()
	n, sum = s.n, s.sum
	recent := slices.Clone(s.last[:min(s.n, uint64(len(s.last)))])
	s.mu.Unlock()
	quantiles = map[float64]float64{}
	if len(recent) == 0 {
		return n, sum, quantiles
	}
	slices.Sort(recent)
	for _, q := range []float64{0.5, 0.99, 1} {
		quantiles[q] = recent[int(q*float64(len(recent)-1))].Seconds()
	}
	return n, sum, quantiles
}
