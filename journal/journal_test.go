package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// outcomes collects what a pool's journal reports.
type outcomes struct {
	mu sync.Mutex
	ws []ft.Written
}

func (o *outcomes) written(w ft.Written) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ws = append(o.ws, w)
}

func (o *outcomes) all() []ft.Written {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]ft.Written(nil), o.ws...)
}

// await polls, since the writer is a goroutine over a real file.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func (o *outcomes) await(t *testing.T, batch uint64) ft.Written {
	t.Helper()
	var found ft.Written
	await(t, fmt.Sprintf("batch %d becoming durable", batch), func() bool {
		for _, w := range o.all() {
			if w.Batch == batch && (w.Err == nil || w.Lost) {
				found = w
				return true
			}
		}
		return false
	})
	return found
}

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func exited(id ft.InstanceID, at time.Time) ft.Event {
	return &ft.Exited{Stamp: ft.Stamp{At: at}, Ref: ft.Ref{ID: id, Generation: 1}, Exit: ft.Exit{Code: 1, Known: true}}
}

func TestKeepsEventsAcrossReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?name#%41", "journal.db")
	var o outcomes
	s := open(t, path)
	web, api := s.Pool("web", o.written), s.Pool("api", o.written)
	want := []ft.Event{
		&ft.Began{Stamp: ft.Stamp{At: t0}, Version: "1", PID: 7},
		exited("web-1", t0.Add(time.Second)),
	}
	web.Append(1, want)
	api.Append(2, []ft.Event{exited("api-1", t0)})
	o.await(t, 1)
	if err := s.SaveProfile(t.Context(), "web", []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("closing twice: %v", err)
	}
	web.Append(3, want)
	if w := o.await(t, 3); !w.Lost || !errors.Is(w.Err, ErrClosed) {
		t.Errorf("append to a closed journal: %+v, want a lost batch", w)
	}

	s = open(t, path)
	if s.Recovered() != "" {
		t.Errorf("a sound journal was moved aside: %s", s.Recovered())
	}
	var got []ft.Event
	err := s.Events(t.Context(), "web", 0, func(_ uint64, e ft.Event) error { got = append(got, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events came back differently:\n%s", d)
	}
	if b, err := s.Profile(t.Context(), "web"); err != nil || !bytes.Equal(b, []byte{1, 2}) {
		t.Errorf("profile: %v, %v", b, err)
	}
	if b, err := s.Profile(t.Context(), "api"); err != nil || b != nil {
		t.Errorf("profile that was never saved: %v, %v", b, err)
	}
	if b, n, err := s.Snapshot(t.Context(), "web"); err != nil || b != nil || n != 0 {
		t.Errorf("snapshot that was never saved: %v, %d, %v", b, n, err)
	}
}

func TestQuerySelects(t *testing.T) {
	var o outcomes
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	var es []ft.Event
	for i := range 6 {
		es = append(es, exited(ft.NewInstanceID("web", uint32(1+i%2)), t0.Add(time.Duration(i)*time.Minute)))
	}
	s.Pool("web", o.written).Append(1, append(es, &ft.JournalState{Stamp: ft.Stamp{At: t0.Add(time.Hour)}}))
	s.Pool("api", o.written).Append(2, []ft.Event{exited("api-1", t0)})
	o.await(t, 1)
	o.await(t, 2)
	for _, c := range []struct {
		name string
		f    Filter
		want string
	}{
		{"all", Filter{}, "1 2 3 4 5 6 7 8"},
		{"pool", Filter{Pool: "api"}, "8"},
		{"instance", Filter{Instance: "web-2"}, "2 4 6"},
		{"kinds", Filter{Kinds: []string{"journal", "health"}}, "7"},
		{"since", Filter{Pool: "web", Since: t0.Add(4 * time.Minute)}, "5 6 7"},
		{"the last ones", Filter{Pool: "web", Limit: 2}, "6 7"},
		{"the next ones", Filter{After: 2, Limit: 2}, "3 4"},
		{"nothing", Filter{Pool: "none"}, ""},
	} {
		got, err := s.Query(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var seqs []string
		for _, e := range got {
			seqs = append(seqs, fmt.Sprint(e.Seq))
		}
		if g := strings.Join(seqs, " "); g != c.want {
			t.Errorf("%s: entries %q, want %q", c.name, g, c.want)
		}
	}
}

func TestSnapshotPrunesBehindItself(t *testing.T) {
	var o outcomes
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	s.keep = retention{events: 3, health: 1}
	p := s.Pool("web", o.written)
	for i := range 10 {
		p.Append(uint64(1+i), []ft.Event{exited("web-1", t0), &ft.Health{Stamp: ft.Stamp{At: t0}}})
	}
	s.Pool("api", o.written).Append(99, []ft.Event{exited("api-1", t0)})
	upTo := o.await(t, 8).Seq
	o.await(t, 99)
	if err := s.SaveSnapshot(t.Context(), "web", upTo, []byte("state")); err != nil {
		t.Fatal(err)
	}
	b, n, err := s.Snapshot(t.Context(), "web")
	if err != nil || string(b) != "state" || n != upTo {
		t.Fatalf("snapshot: %q up to %d, %v", b, n, err)
	}
	after := 0
	if err := s.Events(t.Context(), "web", upTo, func(uint64, ft.Event) error { after++; return nil }); err != nil {
		t.Fatal(err)
	}
	if after != 4 {
		t.Errorf("%d events after the snapshot, want all 4", after)
	}
	crashes, _ := s.Query(t.Context(), Filter{Pool: "web", Kinds: []string{"exited"}})
	health, _ := s.Query(t.Context(), Filter{Pool: "web", Kinds: []string{"health"}})
	other, _ := s.Query(t.Context(), Filter{Pool: "api"})
	if len(crashes) != 3 || len(health) != 2 || len(other) != 1 {
		t.Errorf("kept %d events, %d health and %d of the other pool, want 3, 2 (not in the snapshot) and 1", len(crashes), len(health), len(other))
	}
}

func TestEventThatCannotBeEncodedLosesItsBatchOnly(t *testing.T) {
	var o outcomes
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	p := s.Pool("web", o.written)
	p.Append(1, []ft.Event{&ft.Exceeded{Stamp: ft.Stamp{At: t0}, Value: math.NaN()}, exited("web-1", t0)})
	p.Append(2, []ft.Event{exited("web-2", t0)})
	if w := o.await(t, 1); !w.Lost || w.Err == nil {
		t.Errorf("a batch with an event that has no JSON: %+v, want it lost", w)
	}
	if w := o.await(t, 2); w.Err != nil {
		t.Errorf("the next batch: %+v", w)
	}
	if es, err := s.Query(t.Context(), Filter{}); err != nil || len(es) != 2 {
		t.Errorf("%d entries, %v; want the two that could be encoded", len(es), err)
	}
}

func TestDamagedFileIsKeptAside(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"no database", func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("not a database. ", 300))) }},
		{"a page overwritten", func(t *testing.T, path string) {
			b := make200(t, path)
			copy(b[4096:], bytes.Repeat([]byte{0xa5}, 3*4096))
			write(t, path, b)
		}},
		{"cut off", func(t *testing.T, path string) { b := make200(t, path); write(t, path, b[:len(b)/2]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			c.damage(t, path)
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			kept, _ := filepath.Glob(path + ".corrupt-*Z")
			if len(kept) != 1 || !strings.Contains(s.Recovered(), kept[0]) {
				t.Fatalf("kept aside: %v, said: %q", kept, s.Recovered())
			}
			if b, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(b, was) {
				t.Errorf("what was kept aside differs from what was there (%v)", err)
			}
			var o outcomes
			s.Pool("web", o.written).Append(1, []ft.Event{exited("web-1", t0)})
			if w := o.await(t, 1); w.Err != nil {
				t.Errorf("the new journal: %+v", w)
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// make200 makes a sound journal of 200 events and returns its bytes.
func make200(t *testing.T, path string) []byte {
	t.Helper()
	s, err := Open(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var o outcomes
	var es []ft.Event
	for range 200 {
		es = append(es, exited("web-1", t0))
	}
	s.Pool("web", o.written).Append(1, es)
	o.await(t, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefusesWhatItMustNotTouch(t *testing.T) {
	for _, c := range []struct{ name, sql, says string }{
		{"newer format", `UPDATE meta SET version = 99`, "newer Fettle (format 99"},
		{"something else", `DROP TABLE meta`, "no journal of Fettle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			make200(t, path)
			alter(t, path, c.sql)
			s, err := Open(path, quiet())
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			if !errors.Is(err, ft.ErrConflict) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want a conflict that says %q", err, c.says)
			}
			if kept, _ := filepath.Glob(path + ".corrupt-*"); len(kept) != 0 {
				t.Errorf("moved aside: %v", kept)
			}
		})
	}
	dir := t.TempDir()
	if s, err := Open(dir, quiet()); err == nil {
		_ = s.Close()
		t.Error("opened a directory")
	}
}

func alter(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, "synchronous(FULL)"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.Background(), text); err != nil {
		t.Fatal(err)
	}
}

func TestUndecodableEntryIsPassedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	make200(t, path)
	alter(t, path, `UPDATE events SET json = '{"at":7' WHERE seq = 10`)
	alter(t, path, `UPDATE events SET kind = 'from the future' WHERE seq = 11`)
	s := open(t, path)
	n := 0
	if err := s.Events(t.Context(), "web", 0, func(uint64, ft.Event) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n != 198 {
		t.Errorf("%d events, want 198", n)
	}
}
