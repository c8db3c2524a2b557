package telemetry

import (
	"container/heap"
	"math"
	"runtime"
	"sync"
	"time"
)

// rounds gives its members their turns, one after the other, on a goroutine that runs while there are any: what takes
// long holds up nobody's tick. It is safe for concurrent use.
type rounds struct {
	spread time.Duration // over which the first turns of those that join are spread
	slack  time.Duration // how much too early a turn may come, so that one awakening serves several
	timed  bool          // takers measure what they use by the thread's time

	mu      sync.Mutex
	seats   seats
	joined  int // ever
	wake    chan struct{}
	ended   chan struct{} // closed when the goroutine ends; nil while there is none
	present taker         // whose turn it is
}

// taker is what takes turns. Its methods are called by one goroutine at a time.
type taker interface {
	// turn does what is due and says when the next turn is.
	turn(now time.Time) time.Time
	close()
}

// seat is the place of one taker.
type seat struct {
	taker
	due  time.Time
	at   int // its index
	left bool
}

// seats is a heap, with who is due first at the top.
type seats []*seat

func (s seats) Len() int { return len(s) }

func (s seats) Less(i, j int) bool { return s[i].due.Before(s[j].due) }

func (s seats) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push implements [heap.Interface].
func (s *seats) Push(x any) {
	x.(*seat).at = len(*s)
	*s = append(*s, x.(*seat))
}

// Pop implements [heap.Interface].
func (s *seats) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return x
}

// join gives t its first turn within the spread: the multiples of the golden ratio cut it evenly for any number of takers.
func (r *rounds) join(t taker) *seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, part := math.Modf(float64(r.joined) * math.Phi)
	r.joined++
	s := &seat{taker: t, due: time.Now().Add(time.Duration(part * float64(r.spread)))}
	heap.Push(&r.seats, s)
	if r.ended == nil {
		r.wake, r.ended = make(chan struct{}, 1), make(chan struct{})
		go r.run(r.wake, r.ended)
	}
	r.nudge()
	return s
}

func (r *rounds) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// leave takes a seat away and closes its taker, at once or at the end of its turn. When it was the last, it waits a
// little for the goroutine to end.
func (r *rounds) leave(s *seat) {
	r.mu.Lock()
	if !s.left {
		heap.Remove(&r.seats, s.at)
	}
	s.left = true
	idle := r.present != s.taker
	last, ended := len(r.seats) == 0, r.ended
	if ended != nil {
		r.nudge()
	}
	r.mu.Unlock()
	if idle {
		s.close()
	}
	if last && ended != nil {
		select {
		case <-ended:
		case <-time.After(closeWithin):
		}
	}
}

// each calls f with all takers. It may be called within a turn.
func (r *rounds) each(f func(taker)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.seats {
		f(s.taker)
	}
}

func (r *rounds) run(wake, ended chan struct{}) {
	defer close(ended)
	if r.timed {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s, wait := r.next()
		if s == nil {
			return
		}
		if wait <= 0 {
			r.after(s, s.turn(time.Now()))
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-wake:
		}
	}
}

// next is the seat that is due first, and in what time; nil ends the goroutine.
func (r *rounds) next() (first *seat, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seats) == 0 {
		r.ended = nil
		return nil, 0
	}
	first = r.seats[0]
	if wait = time.Until(first.due) - r.slack; wait <= 0 {
		r.present = first.taker
	}
	return first, wait
}

func (r *rounds) after(s *seat, due time.Time) {
	r.mu.Lock()
	r.present, s.due = nil, due
	left := s.left
	if !left {
		heap.Fix(&r.seats, s.at)
	}
	r.mu.Unlock()
	if left {
		s.close()
	}
}
