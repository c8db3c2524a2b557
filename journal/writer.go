package journal

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Retries begin at minBackoff and double up to maxBackoff: soon enough after a short lock, and no load on a full disk.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// maxRows is how many events one transaction takes at most, so that one waits for few others.
const maxRows = 5000

// job is a batch of a pool, or one other write.
type job struct {
	pool  *Pool
	batch uint64
	rows  []row
	unfit error // why an event of it is left out
	said  bool  // its failure was reported

	do   func(*sql.Tx) error // instead of a batch
	done chan error
}

// ErrFull is given when so many events wait to be written that one more batch is not kept.
var ErrFull = fmt.Errorf("the journal's memory is full: %w", ft.ErrBusy)

// enqueue takes a batch, without what is dispensable when many wait. An error says that it is lost.
func (s *Store) enqueue(j *job) error {
	s.mu.Lock()
	defer s.nudge()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.queued+len(j.rows) > s.bound {
		rest := j.rows[:0]
		for _, r := range j.rows {
			if !r.dispensable() {
				rest = append(rest, r)
			}
		}
		if s.dropped == 0 {
			s.log.Warn("journal falls behind, health events are not kept", "waiting", s.queued)
		}
		s.dropped += len(j.rows) - len(rest)
		j.rows = rest
	}
	if s.queued+len(j.rows) > 2*s.bound {
		s.log.Error("journal is full, events are lost", "waiting", s.queued, "lost", len(j.rows))
		return ErrFull
	}
	s.queued += len(j.rows)
	s.queue = append(s.queue, j)
	return nil
}

func (s *Store) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// do runs one write in the writer's goroutine, after all that was appended before. It is not tried again.
func (s *Store) do(ctx context.Context, f func(*sql.Tx) error) error {
	j := &job{do: f, done: make(chan error, 1)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.queue = append(s.queue, j)
	s.mu.Unlock()
	s.nudge()
	select {
	case err := <-j.done:
		return err
	case <-s.done:
		select {
		case err := <-j.done:
			return err
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writer writes the queue until the store is closed and the queue empty, or failing.
func (s *Store) writer() {
	defer close(s.done)
	backoff := minBackoff
	for {
		jobs, closed := s.head()
		if len(jobs) == 0 {
			if closed {
				return
			}
			<-s.wake
			continue
		}
		seqs, err := s.commit(jobs)
		if err == nil || jobs[0].do != nil {
			if backoff > minBackoff && err == nil {
				s.log.Info("journal works again")
				backoff = minBackoff
			}
			s.finish(jobs, seqs, err)
			continue
		}
		if backoff == minBackoff {
			s.log.Warn("journal write failed, events are kept in memory and tried again", "err", err)
		}
		s.failed(jobs, err)
		if closed {
			return
		}
		time.Sleep(backoff)
		backoff = min(2*backoff, maxBackoff)
	}
}

// head is what the next transaction takes: the batches up to the first other write, or that alone.
func (s *Store) head() (jobs []*job, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i, j := range s.queue {
		if j.do != nil {
			if i == 0 {
				jobs = append(jobs, j)
			}
			break
		}
		if n += len(j.rows); n > maxRows && i > 0 {
			break
		}
		jobs = append(jobs, j)
	}
	return jobs, s.closed
}

// commit writes jobs in one transaction and returns the last sequence number of each.
func (s *Store) commit(jobs []*job) (seqs []int64, err error) {
	tx, err := s.write.BeginTx(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit without effect
	if f := jobs[0].do; f != nil {
		if err := f(tx); err != nil {
			return nil, err
		}
		return nil, tx.Commit()
	}
	stmt, err := tx.Prepare(`INSERT INTO events(pool, at, kind, instance, json) VALUES(?,?,?,?,?)`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	seq := int64(0)
	for _, j := range jobs {
		for i := range j.rows {
			r := &j.rows[i]
			res, err := stmt.Exec(string(j.pool.name), r.at, r.kind, string(r.instance), []byte(r.json))
			if err != nil {
				return nil, err
			}
			if seq, err = res.LastInsertId(); err != nil {
				return nil, err
			}
		}
		seqs = append(seqs, seq)
	}
	return seqs, tx.Commit()
}

// finish takes jobs off the queue and tells their outcome.
func (s *Store) finish(jobs []*job, seqs []int64, err error) {
	s.mu.Lock()
	s.queue = s.queue[len(jobs):]
	if len(s.queue) == 0 {
		s.queue = nil // let go of what was written
	}
	for _, j := range jobs {
		s.queued -= len(j.rows)
	}
	s.mu.Unlock()
	for i, j := range jobs {
		switch {
		case j.do != nil:
			j.done <- err
		case j.unfit != nil:
			j.pool.written(ft.Written{Batch: j.batch, Err: j.unfit, Lost: true})
		default:
			j.pool.written(ft.Written{Batch: j.batch, Seq: uint64(seqs[i])})
		}
	}
}

// failed tells, once for each batch, that it waits.
func (s *Store) failed(jobs []*job, err error) {
	for _, j := range jobs {
		if !j.said {
			j.said = true
			j.pool.written(ft.Written{Batch: j.batch, Err: fmt.Errorf("write journal: %w", err)})
		}
	}
}
