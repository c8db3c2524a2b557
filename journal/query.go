package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Filter selects entries; zero fields select all.
type Filter struct {
	Pool     ft.PoolName
	Instance ft.InstanceID
	Since    time.Time
	Kinds    []string // names of [ft.EventKind]
	After    uint64   // entries with a greater sequence number
	// Limit is how many entries come at most: the first ones after After, or without After the last ones of all.
	Limit int
}

// Entry is one event of the journal.
type Entry struct {
	Seq   uint64
	Pool  ft.PoolName
	Event ft.Event
}

// Query selects durable entries in ascending order. Entries that cannot be decoded are passed over and logged.
func (s *Store) Query(ctx context.Context, f Filter) ([]Entry, error) {
	text, args := f.sql()
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("query journal: %w", err)
	}
	var es []Entry
	if err := s.each(rows, func(e Entry) error { es = append(es, e); return nil }); err != nil {
		return nil, fmt.Errorf("query journal: %w", err)
	}
	if f.last() {
		slices.Reverse(es)
	}
	return es, nil
}

func (f *Filter) last() bool { return f.Limit > 0 && f.After == 0 }

func (f *Filter) sql() (text string, args []any) {
	where := []string{"seq > ?"}
	args = append(args, int64(f.After))
	and := func(cond string, v ...any) { where, args = append(where, cond), append(args, v...) }
	if f.Pool != "" {
		and("pool = ?", string(f.Pool))
	}
	if f.Instance != "" {
		and("instance = ?", string(f.Instance))
	}
	if !f.Since.IsZero() {
		and("at >= ?", f.Since.UnixNano())
	}
	if len(f.Kinds) > 0 {
		kinds := make([]any, len(f.Kinds))
		for i, k := range f.Kinds {
			kinds[i] = k
		}
		and("kind IN (?"+strings.Repeat(",?", len(kinds)-1)+")", kinds...)
	}
	text = "SELECT seq, pool, kind, json FROM events WHERE " + strings.Join(where, " AND ") + " ORDER BY seq"
	if f.last() {
		text += " DESC"
	}
	if f.Limit > 0 {
		text += " LIMIT ?"
		args = append(args, f.Limit)
	}
	return text, args
}

// each decodes rows and closes them.
func (s *Store) each(rows *sql.Rows, f func(Entry) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			seq        int64
			pool, kind string
			b          []byte
		)
		if err := rows.Scan(&seq, &pool, &kind, &b); err != nil {
			return err
		}
		e, err := ft.UnmarshalEvent(kind, b)
		if err != nil {
			s.log.Error("journal entry passed over", "seq", seq, "pool", pool, "err", err)
			continue
		}
		if err := f(Entry{Seq: uint64(seq), Pool: ft.PoolName(pool), Event: e}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Events calls f for each durable event of a pool after a sequence number, in order. Entries that cannot be decoded
// are passed over and logged: a state rebuilt without one is better than none.
func (s *Store) Events(ctx context.Context, pool ft.PoolName, after uint64, f func(seq uint64, e ft.Event) error) error {
	rows, err := s.read.QueryContext(ctx,
		`SELECT seq, pool, kind, json FROM events WHERE pool = ? AND seq > ? ORDER BY seq`, string(pool), int64(after))
	if err != nil {
		return fmt.Errorf("read events of pool %s: %w", pool, err)
	}
	if err := s.each(rows, func(e Entry) error { return f(e.Seq, e.Event) }); err != nil {
		return fmt.Errorf("read events of pool %s: %w", pool, err)
	}
	return nil
}

// Snapshot is the last saved state of a pool, nil where there is none, and the sequence number that it includes.
func (s *Store) Snapshot(ctx context.Context, pool ft.PoolName) (state []byte, upTo uint64, err error) {
	var n int64
	err = s.read.QueryRowContext(ctx, `SELECT state, upto FROM snapshots WHERE pool = ?`, string(pool)).Scan(&state, &n)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("read snapshot of pool %s: %w", pool, err)
	}
	return state, uint64(n), nil
}

// Profile is what a pool's judge had learnt; nil where nothing is kept.
func (s *Store) Profile(ctx context.Context, pool ft.PoolName) ([]byte, error) {
	var b []byte
	err := s.read.QueryRowContext(ctx, `SELECT data FROM profiles WHERE pool = ?`, string(pool)).Scan(&b)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read profile of pool %s: %w", pool, err)
	}
	return b, nil
}
