package telemetry

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// crew makes the readings on a worker, a goroutine that is woken once a round. When a reading blocks, a new worker
// takes over behind it, and the old one ends when it is let go. With each one that blocks, the patience with the next is
// halved, and a round that takes too long is cut short: however many block, a tick comes.
type crew struct {
	worker *worker
	timer  *time.Timer
	all    sync.WaitGroup
	last   time.Duration // CPU time of the last round; below 0 where that is not known, for one blocked
}

// worker goes through the jobs of one round. wake and done hand jobs over and back.
type worker struct {
	wake, done chan struct{}
	jobs       []*attachment
	now        time.Time

	mu   sync.Mutex
	at   int           // the job that it is in
	left bool          // another took over
	used time.Duration // of CPU in the last round
}

func newCrew() *crew {
	c := &crew{timer: time.NewTimer(time.Hour)}
	c.timer.Stop()
	return c
}

// hire starts a worker.
func (c *crew) hire() *worker {
	w := &worker{wake: make(chan struct{}, 1), done: make(chan struct{}, 1)}
	c.all.Go(func() {
		for range w.wake {
			if !w.round() {
				return
			}
			w.done <- struct{}{}
		}
	})
	return w
}

// round does the jobs; it is false when another worker took over.
func (w *worker) round() bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from := threadTime()
	for i := range w.jobs {
		w.mu.Lock()
		if w.left {
			w.mu.Unlock()
			return false
		}
		// Not before: the list is used again for the next round, once another worker took over.
		a := w.jobs[i]
		w.at = i
		w.mu.Unlock()
		a.work(w.now)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.used = len(w.jobs), threadTime()-from
	return !w.left
}

// run does the jobs and returns when all are done or blocked, or when the round is over: then it gives the jobs that were
// not done, of which the first may be under way.
func (c *crew) run(jobs []*attachment, now time.Time) (left []*attachment) {
	c.last = -1
	if len(jobs) == 0 {
		return nil
	}
	if c.worker == nil {
		c.worker = c.hire()
	}
	c.worker.begin(jobs, now)
	began, wait, seen, first := time.Now(), patience, -1, true
	for {
		rest := roundPatience - time.Since(began)
		c.timer.Reset(min(wait/2, max(rest, 0)))
		select {
		case <-c.worker.done:
			c.timer.Stop()
			if first {
				c.last = c.worker.spent()
			}
			return nil
		case <-c.timer.C:
		}
		over := time.Since(began) >= roundPatience
		at, blocked := c.worker.leave(seen, over)
		if !blocked {
			seen = at
			if over {
				<-c.worker.done // it is past the last job
				return nil
			}
			continue
		}
		c.worker = nil
		if over {
			if first && at != seen { // there are too many, or the machine is too busy for them
				c.last = roundPatience
			}
			return jobs[at:]
		}
		if jobs = jobs[at+1:]; len(jobs) == 0 {
			return nil
		}
		c.worker = c.hire()
		c.worker.begin(jobs, now)
		wait, seen, first = max(wait/2, leastPatience), -1, false
	}
}

// used is the CPU time of the last round of readings, and whether it is known. A round that was cut short though none
// blocked counts as one that took all its time.
func (c *crew) used() (used time.Duration, known bool) { return c.last, c.last >= 0 }

func (w *worker) spent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}

func (w *worker) begin(jobs []*attachment, now time.Time) {
	w.jobs, w.now, w.at = jobs, now, 0
	w.wake <- struct{}{}
}

// leave gives the worker up if it still is in the job in which it was seen before or, when the round is over, in any.
func (w *worker) leave(seen int, over bool) (at int, blocked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (over || w.at == seen) && w.at < len(w.jobs) {
		w.left = true
		close(w.wake)
	}
	return w.at, w.left
}

// close ends the workers; it waits for those that block no longer than that, and tells whether some still do.
func (c *crew) close(within time.Duration) (blocked bool) {
	if c.worker != nil {
		close(c.worker.wake)
		c.worker = nil
	}
	ended := make(chan struct{})
	go func() {
		c.all.Wait()
		close(ended)
	}()
	c.timer.Reset(within)
	defer c.timer.Stop()
	select {
	case <-ended:
		return false
	case <-c.timer.C:
		return true
	}
}

// batch is the state of a source's Batch.
type batch struct {
	mu    sync.Mutex
	held  bool // it is being made
	ok    bool // the last one was made
	at    time.Time
	fault error

	lastFault bool
}

// runBatches makes the batches of all sources at once and waits for them no longer than patience. While one still is
// under way, it is not asked for again, and its source is not read.
func (c *crew) runBatches(ctx context.Context, now time.Time, sources []*source) {
	n := 0
	var ended chan struct{}
	for _, s := range sources {
		if s.batcher == nil || !s.batch.begin() {
			continue
		}
		if ended == nil {
			ended = make(chan struct{}, len(sources))
		}
		n++
		c.all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			s.batch.end(s.batcher.Batch(ctx, now))
			ended <- struct{}{}
		})
	}
	if n == 0 {
		return
	}
	c.timer.Reset(patience)
	defer c.timer.Stop()
	for ; n > 0; n-- {
		select {
		case <-ended:
		case <-c.timer.C:
			return
		}
	}
}

func (b *batch) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held {
		b.fault = errBlocks
		return false
	}
	b.held, b.ok = true, false
	return true
}

func (b *batch) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.ok, b.at, b.fault = false, err == nil, time.Now(), nil
	if err != nil {
		b.fault = fmt.Errorf("batch: %w", err)
	}
}

// state tells whether there is a batch of this round, of when, and what is wrong if there is none.
func (b *batch) state() (ok bool, at time.Time, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held {
		return false, b.at, errBlocks
	}
	return b.ok, b.at, b.fault
}

// turned tells whether a fault began or ended.
func (b *batch) turned(fault error) bool {
	was := b.lastFault
	b.lastFault = fault != nil
	return was != b.lastFault
}
