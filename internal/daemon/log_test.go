package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/journal"
)

// logged is a daemon of which only the log is real.
func logged(t *testing.T) (*daemon, *journal.Pool) {
	t.Helper()
	d := &daemon{news: newBell()}
	var err error
	d.store, err = journal.Open(filepath.Join(t.TempDir(), "journal.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, d.store.Pool("web", func(fettle.Written) { d.news.ring() })
}

func said(i int) fettle.Event {
	return &fettle.Recovered{
		Stamp: fettle.Stamp{At: time.Unix(int64(1000+i), 0).UTC()}, Ref: fettle.Ref{ID: fettle.NewInstanceID("web", uint32(i%3+1))},
		Text: fmt.Sprintf("event %d", i),
	}
}

// What is written while the history is read comes exactly once, in order, to every follower.
func TestFollowersMissNothing(t *testing.T) {
	d, p := logged(t)
	const n, before = 1500, 600
	enough := errors.New("enough")
	for i := range before {
		p.Append(uint64(i), []fettle.Event{said(i)})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var got []string
			last := uint64(0)
			err := d.Log(t.Context(), api.LogFilter{Pool: "web", Follow: true}, func(e api.LogEntry) error {
				if e.Seq <= last {
					t.Errorf("entry %d after %d", e.Seq, last)
				}
				last = e.Seq
				if got = append(got, e.Text); len(got) == n {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Errorf("ended with %v after %d entries", err, len(got))
			}
			for i, text := range got {
				if !strings.HasSuffix(text, fmt.Sprintf("event %d", i)) {
					t.Errorf("entry %d is %q", i, text)
					return
				}
			}
		})
	}
	for i := before; i < n; i++ {
		p.Append(uint64(i), []fettle.Event{said(i)})
	}
	wg.Wait()
}

// With a limit the history is its last entries, and what comes follows.
func TestLogLimit(t *testing.T) {
	d, p := logged(t)
	texts := func(ctx context.Context, f api.LogFilter, stop int) []string {
		var out []string
		enough := errors.New("enough")
		err := d.Log(ctx, f, func(e api.LogEntry) error {
			if out = append(out, e.Text); len(out) == stop {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			t.Error(err)
		}
		return out
	}
	follow := make(chan []string)
	go func() { follow <- texts(t.Context(), api.LogFilter{Limit: 5, Follow: true}, 2) }()
	written := d.news.next()
	p.Append(1, []fettle.Event{said(1), said(2), said(3)})
	<-written
	if got := <-follow; len(got) != 2 {
		t.Errorf("a follower of an empty log got %q", got)
	}
	if got := texts(t.Context(), api.LogFilter{Limit: 2}, 0); !slices.Equal(got, []string{"web-3: event 2", "web-1: event 3"}) {
		t.Errorf("the last two are %q", got)
	}
	if got := texts(t.Context(), api.LogFilter{Instance: "web-2"}, 0); !slices.Equal(got, []string{"web-2: event 1"}) {
		t.Errorf("those of web-2 are %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := texts(ctx, api.LogFilter{Follow: true}, 0); got != nil {
		t.Errorf("a follower that is gone got %q", got)
	}
}

// The last lines are those that a plain reading of the file gives.
func TestTailLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,9}`), 0, 40).Draw(rt, "lines")
		text := strings.Join(lines, "\n")
		if rapid.Bool().Draw(rt, "long") {
			text = strings.Repeat("x", 33<<10) + "\n" + text
		}
		if rapid.Bool().Draw(rt, "ended") {
			text += "\n"
		}
		n := rapid.IntRange(0, 50).Draw(rt, "n")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			rt.Fatal(err)
		}
		var got bytes.Buffer
		if err := tail(t.Context(), path, api.OutputOptions{Lines: n}, &got); err != nil {
			rt.Fatal(err)
		}
		want := text
		if all := slices.Collect(strings.Lines(text)); n > 0 && len(all) > n {
			want = strings.Join(all[len(all)-n:], "")
		}
		if got.String() != want {
			rt.Fatalf("the last %d lines of %q are %q, want %q", n, text, got.String(), want)
		}
	})
}

// A followed output goes on when the file grows, and when its head was cut off.
func TestTailFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- tail(ctx, path, api.OutputOptions{Lines: 1, Follow: true}, writerFunc(func(b []byte) (int, error) {
			lines <- string(b)
			return len(b), nil
		}))
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q did not come", want)
		}
	}
	expect("two\n")
	fmt.Fprint(f, "three\n")
	expect("three\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * pollOutput) // until the cut is seen: what is written before it cannot be told from what was there
	fmt.Fprint(f, "four\n")
	expect("four\n")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := tail(t.Context(), path+"x", api.OutputOptions{}, os.Stdout); !errors.Is(err, fettle.ErrNotFound) {
		t.Errorf("no output is told as %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
