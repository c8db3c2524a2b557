// Package journal keeps the events of all pools in one SQLite file: facts, verdicts, decisions, outcomes, in the
// order in which they were folded.
//
// The file is in WAL mode with synchronous=FULL: what was acknowledged survives the kill of the process and the loss
// of power. Its tables:
//
//	meta(version)                                   the format; a newer one than this program knows is refused
//	events(seq, pool, at, kind, instance, json)     seq ascends over all pools and is never used twice; at is
//	                                                nanoseconds since 1970; json is that of fettle.MarshalEvent
//	snapshots(pool, upto, at, state)                a pool's last plan.State; it includes all events up to upto
//	profiles(pool, at, data)                        what a pool's judge had learnt
//
// Writing never blocks who appends: batches are encoded at once, queued, and written by one goroutine, as many in a
// transaction as wait. A write that fails is tried again until it succeeds; meanwhile events are kept in memory, up
// to a bound.
//
// Events that a snapshot includes are pruned, except for the last ones of each pool, which are kept to be read.
package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite" // also registers the driver

	ft "github.com/fettle-dev/fettle"
)

// ErrClosed is given for what is asked of a closed journal.
var ErrClosed = errors.New("the journal is closed")

// Store is the journal of all pools. It is safe for concurrent use.
type Store struct {
	log       *slog.Logger
	write     *sql.DB // one connection, used by the writer only
	read      *sql.DB
	recovered string
	keep      retention
	bound     int // events in memory above which the dispensable are dropped; twice of it, all are

	mu      sync.Mutex
	queue   []*job        // guarded by mu, oldest first
	queued  int           // guarded by mu: events in queue and under way
	dropped int           // guarded by mu: dispensable events that were not kept
	closed  bool          // guarded by mu
	wake    chan struct{} // capacity 1
	done    chan struct{} // closed when the writer has ended
}

// retention is how many events of a pool outlive the snapshot that includes them.
type retention struct{ events, health int }

// closePatience is how long Close waits for the queue to be written.
const closePatience = 5 * time.Second

// Open opens the journal, or makes it. One that is damaged is moved aside, never deleted, and a new one is begun;
// [Store.Recovered] says so. One of a newer format, or a database of something else, is an [ft.ErrConflict].
func Open(path string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	s := &Store{
		log: log, keep: retention{events: 20_000, health: 1_000}, bound: 100_000,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	err := s.open(path)
	if damaged(err) {
		aside, merr := moveAside(path, time.Now())
		if merr != nil {
			return nil, fmt.Errorf("open journal %s: %w; move it aside: %w", path, err, merr)
		}
		s.recovered = fmt.Sprintf("the journal %s is damaged (%v): kept as %s, a new one is begun", path, err, aside)
		log.Error("journal damaged, new one begun", "path", path, "kept", aside, "err", err)
		err = s.open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	go s.writer()
	return s, nil
}

// Recovered says what was moved aside at Open and why; empty if all was well.
func (s *Store) Recovered() string { return s.recovered }

// Close writes what is queued, for five seconds at most, and closes the file. The error says how many events were
// not written.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.nudge()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		return fmt.Errorf("close journal: no answer for %s, %d events are not written", closePatience, s.unwritten())
	}
	err := errors.Join(s.read.Close(), s.write.Close())
	if n := s.unwritten(); n > 0 {
		err = errors.Join(fmt.Errorf("%d events are not written", n), err)
	}
	if err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

func (s *Store) unwritten() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// Dropped is how many dispensable events (health) were not kept because too many waited to be written.
func (s *Store) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Pool is the part of one pool: what its engine appends to.
type Pool struct {
	store   *Store
	name    ft.PoolName
	written func(ft.Written)
}

// Pool is the part of one pool. written is called from the writer's goroutine with the outcome of each batch, and
// must not block.
func (s *Store) Pool(name ft.PoolName, written func(ft.Written)) *Pool {
	return &Pool{store: s, name: name, written: written}
}

// Append takes a batch over. It encodes the events before it returns, never blocks, and never fails: the outcome
// comes through the pool's written function.
func (p *Pool) Append(batch uint64, es []ft.Event) {
	j := &job{pool: p, batch: batch, rows: make([]row, 0, len(es))}
	for _, e := range es {
		b, err := ft.MarshalEvent(e)
		if err != nil {
			// The others are kept, but nothing of the batch may be relied on.
			j.unfit = fmt.Errorf("journal: encode %s: %w", ft.EventKind(e), err)
			continue
		}
		j.rows = append(j.rows, row{at: e.When().UnixNano(), kind: ft.EventKind(e), instance: ft.EventRef(e).ID, json: b})
	}
	if err := p.store.enqueue(j); err != nil {
		p.written(ft.Written{Batch: batch, Err: err, Lost: true})
	}
}

// SaveSnapshot keeps a pool's state, which includes all events up to a sequence number, and prunes what is older
// than need be.
func (s *Store) SaveSnapshot(ctx context.Context, pool ft.PoolName, upTo uint64, state []byte) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO snapshots(pool, upto, at, state) VALUES(?,?,?,?)
			ON CONFLICT(pool) DO UPDATE SET upto=excluded.upto, at=excluded.at, state=excluded.state`,
			string(pool), int64(upTo), time.Now().UnixNano(), state)
		if err != nil {
			return err
		}
		return s.keep.prune(tx, pool, upTo)
	})
	if err != nil {
		return fmt.Errorf("save snapshot of pool %s: %w", pool, err)
	}
	return nil
}

func (r retention) prune(tx *sql.Tx, pool ft.PoolName, upTo uint64) error {
	for _, p := range []struct {
		which string
		keep  int
	}{{"kind = 'health'", r.health}, {"kind <> 'health'", r.events}} {
		_, err := tx.Exec(`DELETE FROM events WHERE pool = ? AND `+p.which+` AND seq <= ? AND seq <=
			(SELECT seq FROM events WHERE pool = ? AND `+p.which+` ORDER BY seq DESC LIMIT 1 OFFSET ?)`,
			string(pool), int64(upTo), string(pool), p.keep)
		if err != nil {
			return err
		}
	}
	return nil
}

// SaveProfile keeps what a pool's judge has learnt.
func (s *Store) SaveProfile(ctx context.Context, pool ft.PoolName, b []byte) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO profiles(pool, at, data) VALUES(?,?,?)
			ON CONFLICT(pool) DO UPDATE SET at=excluded.at, data=excluded.data`, string(pool), time.Now().UnixNano(), b)
		return err
	})
	if err != nil {
		return fmt.Errorf("save profile of pool %s: %w", pool, err)
	}
	return nil
}

// damaged tells a broken file from one that cannot be reached.
func damaged(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		const corrupt, notADatabase = 11, 26 // https://www.sqlite.org/rescode.html
		return e.Code()&0xff == corrupt || e.Code()&0xff == notADatabase
	}
	return errors.Is(err, errDamaged)
}

// row is an encoded event.
type row struct {
	at       int64
	kind     string
	instance ft.InstanceID
	json     json.RawMessage
}

// dispensable events are soon followed by another of their kind that says the same or better.
func (r *row) dispensable() bool { return r.kind == "health" }
