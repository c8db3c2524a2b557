package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// backend answers with what the test wants.
type backend struct {
	err    error
	asked  fettle.Command
	waited bool
	log    func(ctx context.Context, f api.LogFilter, give func(api.LogEntry) error) error
}

func (b *backend) Version() api.Version { return api.Version{Version: "1.2.3", API: "v1"} }
func (b *backend) Pools(context.Context) ([]api.PoolStatus, error) {
	return []api.PoolStatus{{Name: "web", Mode: fettle.HealAutomatic}}, b.err
}

func (b *backend) Pool(_ context.Context, n fettle.PoolName) (api.PoolStatus, error) {
	return api.PoolStatus{Name: n}, b.err
}

func (b *backend) Instance(_ context.Context, _ fettle.PoolName, id fettle.InstanceID) (api.InstanceStatus, error) {
	return api.InstanceStatus{ID: id, Verdict: api.Verdict{Level: fettle.High, Cause: fettle.InstanceChanged}}, b.err
}

func (b *backend) Destinations(_ context.Context, _ fettle.PoolName, id fettle.InstanceID) ([]api.Destination, error) {
	return []api.Destination{{Address: "10.0.0.7:6379", Calls: 12, Latency: 0.25, UsualCalls: 11, UsualLatency: 0.001, Slow: id == "web-3"}}, b.err
}

func (b *backend) Syscalls(_ context.Context, _ fettle.PoolName, id fettle.InstanceID) ([]api.SystemCall, error) {
	return []api.SystemCall{{Name: "read", Class: "file", Rate: 100, Number: len(id)}}, b.err
}

func (b *backend) Plan(context.Context, fettle.PoolName) (api.Plan, error) { return api.Plan{}, b.err }

func (b *backend) Command(_ context.Context, _ fettle.PoolName, c fettle.Command, wait bool) (api.Outcome, error) {
	b.asked, b.waited = c, wait
	return api.Outcome{ID: "x", Done: wait}, b.err
}

func (b *backend) Apply(_ context.Context, pools []fettle.Pool) (api.Applied, error) {
	a := api.Applied{}
	for _, p := range pools {
		a.Added = append(a.Added, p.Name)
	}
	return a, b.err
}
func (b *backend) Remove(context.Context, fettle.PoolName) error { return b.err }
func (b *backend) Log(ctx context.Context, f api.LogFilter, give func(api.LogEntry) error) error {
	return b.log(ctx, f, give)
}

func (b *backend) Output(_ context.Context, _ fettle.InstanceID, _ api.OutputOptions, w io.Writer) error {
	if b.err != nil {
		return b.err
	}
	_, err := io.WriteString(w, "hello\n")
	return err
}

func (b *backend) Record(_ context.Context, _ fettle.PoolName, _ api.RecordOptions, f func([]byte) error) error {
	if b.err != nil {
		return b.err
	}
	return f([]byte(`{"format":"test"}`))
}
func (b *backend) Doctor(context.Context) ([]api.Fact, error) { return nil, b.err }
func (b *backend) Shutdown(api.Shutdown) error                { return b.err }
func (b *backend) Metrics() http.Handler                      { return http.NotFoundHandler() }

// serve answers on a unix socket in the test's directory.
func serve(t *testing.T, b *backend) *client.Client {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(api.Handler(b, slog.New(slog.DiscardHandler)))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	c := client.New(l.Addr().String())
	t.Cleanup(c.Close)
	return c
}

// An error keeps its kind and its words from the daemon to the caller.
func TestErrorsKeepTheirKind(t *testing.T) {
	b := &backend{}
	c := serve(t, b)
	for _, k := range api.Kinds {
		if k.Name == "no-daemon" {
			continue // never travels
		}
		kind := (&api.Error{Kind: k.Name}).Unwrap()
		b.err = fmt.Errorf("pool web: %w", kind)
		_, err := c.Pool(t.Context(), "web")
		if !errors.Is(err, kind) || err.Error() != b.err.Error() {
			t.Errorf("%s came as %v", k.Name, err)
		}
		if got := api.KindOf(err); got.Exit != k.Exit {
			t.Errorf("%s exits with %d, want %d", k.Name, got.Exit, k.Exit)
		}
	}
	b.err = errors.New("something else")
	if _, err := c.Pool(t.Context(), "web"); err == nil || err.Error() != "something else" || api.KindOf(err).Exit != 1 {
		t.Errorf("an error of no kind came as %v", err)
	}
	if _, err := client.New(filepath.Join(t.TempDir(), "none")).Version(t.Context()); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("no daemon is told as %v", err)
	}
}

func TestCommandsTravel(t *testing.T) {
	b := &backend{}
	c := serve(t, b)
	cmd := fettle.Command{Kind: "adjust", Target: "web-3", Set: &fettle.Setting{Knob: "memory", Value: 1 << 30}}
	o, err := c.Command(t.Context(), "web", cmd, true)
	if err != nil || !o.Done || !b.waited || b.asked.Target != "web-3" || b.asked.Set.Value != 1<<30 {
		t.Errorf("asked %+v, answered %+v, %v", b.asked, o, err)
	}
	in, err := c.Instance(t.Context(), "web-3")
	if err != nil || in.Level != fettle.High || in.Cause != fettle.InstanceChanged {
		t.Errorf("instance came as %+v, %v", in, err)
	}
	d, err := c.Destinations(t.Context(), "web-3")
	if err != nil || len(d) != 1 || d[0].Address != "10.0.0.7:6379" || !d[0].Slow {
		t.Errorf("destinations came as %+v, %v", d, err)
	}
	s, err := c.Syscalls(t.Context(), "web-3")
	if err != nil || len(s) != 1 || s[0].Name != "read" || s[0].Number != 5 {
		t.Errorf("system calls came as %+v, %v", s, err)
	}
	a, err := c.Apply(t.Context(), []fettle.Pool{{Name: "web"}, {Name: "jobs"}})
	if err != nil || len(a.Added) != 2 {
		t.Errorf("apply came as %+v, %v", a, err)
	}
	r, err := c.Output(t.Context(), "web-3", 10, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "hello\n" {
		t.Errorf("output came as %q, %v", text, err)
	}
}

// What is no JSON, has unknown fields, or is too long is refused with 400; an unknown route with 404.
func TestBadRequests(t *testing.T) {
	h := api.Handler(&backend{}, slog.New(slog.DiscardHandler))
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/v1/pools", `{"pools": [`, http.StatusBadRequest},
		{"PUT", "/v1/pools", `{"pool": []}`, http.StatusBadRequest},
		{"PUT", "/v1/pools", `{"pools": [{"name": "` + strings.Repeat("x", 9<<20) + `"}]}`, http.StatusBadRequest},
		{"POST", "/v1/pools/web/commands?wait=perhaps", `{}`, http.StatusBadRequest},
		{"GET", "/v1/log?since=yesterday", "", http.StatusBadRequest},
		{"GET", "/v1/log?after=-1", "", http.StatusBadRequest},
		{"GET", "/v1/log?limit=many", "", http.StatusBadRequest},
		{"GET", "/v2/pools", "", http.StatusNotFound},
		{"PATCH", "/v1/pools", "", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(x.method, x.path, strings.NewReader(x.body)))
		if w.Code != x.status && !(x.status == http.StatusMethodNotAllowed && w.Code == http.StatusNotFound) {
			t.Errorf("%s %s: %d, want %d: %s", x.method, x.path, w.Code, x.status, w.Body)
		}
		if _, err := api.DecodeError(w.Body.Bytes()); err != nil {
			t.Errorf("%s %s: %v", x.method, x.path, err)
		}
	}
}

// A followed log comes entry by entry, and ends when the reader has enough.
func TestLogFollows(t *testing.T) {
	more := make(chan api.LogEntry)
	ended := make(chan struct{})
	b := &backend{log: func(ctx context.Context, f api.LogFilter, give func(api.LogEntry) error) error {
		defer close(ended)
		if !f.Follow || f.Pool != "web" || f.After != 4 || len(f.Kinds) != 2 {
			return fmt.Errorf("filter %+v", f)
		}
		for {
			select {
			case e := <-more:
				if err := give(e); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
		}
	}}
	c := serve(t, b)
	enough := errors.New("enough")
	got := make(chan uint64)
	done := make(chan error)
	go func() {
		f := api.LogFilter{Pool: "web", After: 4, Kinds: []string{"judged", "opened"}, Follow: true}
		done <- c.Log(t.Context(), f, func(e api.LogEntry) error {
			got <- e.Seq
			if e.Seq == 7 {
				return enough
			}
			return nil
		})
	}()
	for seq := uint64(5); seq <= 7; seq++ {
		more <- api.LogEntry{Seq: seq, Event: json.RawMessage("{}")}
		if s := <-got; s != seq {
			t.Errorf("entry %d came as %d", seq, s)
		}
	}
	if err := <-done; !errors.Is(err, enough) {
		t.Errorf("the log ended with %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the daemon still follows for a reader that is gone")
	}
}

// A failure in the middle of an answer is no silent end.
func TestCutOffIsSeen(t *testing.T) {
	b := &backend{log: func(_ context.Context, _ api.LogFilter, give func(api.LogEntry) error) error {
		if err := give(api.LogEntry{Seq: 1, Event: json.RawMessage("{}")}); err != nil {
			return err
		}
		return errors.New("disk on fire")
	}}
	c := serve(t, b)
	n := 0
	err := c.Log(t.Context(), api.LogFilter{}, func(api.LogEntry) error { n++; return nil })
	if err == nil || n != 1 {
		t.Errorf("%d entries, then %v", n, err)
	}
}

func FuzzParseLogFilter(f *testing.F) {
	f.Add("web", "web-1", "judged,opened", uint64(7), 3, int64(1e18), true)
	f.Fuzz(func(t *testing.T, pool, instance, kind string, after uint64, limit int, since int64, follow bool) {
		in := api.LogFilter{
			Pool: fettle.PoolName(pool), Instance: fettle.InstanceID(instance), After: after, Limit: max(limit, 0), Follow: follow,
		}
		if kind != "" && !strings.Contains(kind, ",") {
			in.Kinds = []string{kind}
		}
		if since > 0 {
			in.Since = time.Unix(0, since).UTC()
		}
		out, err := api.ParseLogFilter(in.Query())
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(in)
		b, _ := json.Marshal(out)
		if !bytes.Equal(a, b) {
			t.Errorf("%s became %s", a, b)
		}
	})
}
