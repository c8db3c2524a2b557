package telemetry

import (
	"testing"
	"testing/synctest"
	"time"
)

// sitter is a taker of turns that counts them.
type sitter struct {
	every  time.Duration
	block  chan struct{}
	turns  []time.Time
	closed bool
}

func (s *sitter) turn(now time.Time) time.Time {
	s.turns = append(s.turns, now)
	if s.block != nil {
		<-s.block
	}
	return now.Add(s.every)
}

func (s *sitter) close() { s.closed = true }

func TestRoundsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rounds{spread: time.Minute}
		var sitters []*sitter
		var seats []*seat
		for range 1000 {
			s := &sitter{every: time.Minute}
			sitters, seats = append(sitters, s), append(seats, r.join(s))
		}
		from := time.Now()
		time.Sleep(2*time.Minute - time.Millisecond)
		synctest.Wait()
		perSecond := map[int]int{}
		for i, s := range sitters {
			if len(s.turns) != 2 {
				t.Fatalf("%d had %d turns", i, len(s.turns))
			}
			perSecond[int(s.turns[0].Sub(from).Seconds())]++
		}
		for second := range 60 {
			if n := perSecond[second]; n < 15 || n > 18 {
				t.Errorf("%d began in second %d", n, second)
			}
		}
		for _, s := range seats {
			r.leave(s)
		}
		for i, s := range sitters {
			if !s.closed {
				t.Fatalf("%d is not closed", i)
			}
		}
	})
}

// TestTurnThatBlocksHoldsUpNobodyElse: neither joining, leaving, nor, at the end, closing.
func TestTurnThatBlocksHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rounds{}
		stuck := &sitter{every: time.Second, block: make(chan struct{})}
		at := r.join(stuck)
		synctest.Wait()
		from := time.Now()
		next := &sitter{every: time.Second}
		other := r.join(next)
		r.leave(other)
		if !next.closed || time.Since(from) != 0 {
			t.Errorf("closed %t after %s", next.closed, time.Since(from))
		}
		r.leave(at)
		if took := time.Since(from); stuck.closed || took > closeWithin {
			t.Errorf("closed %t after %s", stuck.closed, took)
		}
		// Others may come before it is let go.
		late := &sitter{every: time.Second}
		again := r.join(late)
		close(stuck.block)
		synctest.Wait()
		if !stuck.closed || len(late.turns) != 1 {
			t.Errorf("closed %t, %d turns of the one that came", stuck.closed, len(late.turns))
		}
		r.leave(again)
	})
}
