package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
)

// maxBody bounds what a request may send: room for some thousands of pools.
const maxBody = 8 << 20

// heartbeat is the time between the blank lines of a followed log in which nothing happens.
const heartbeat = 10 * time.Second

// Backend is what the handler answers from: the daemon. Errors are of the kinds of [Kinds].
type Backend interface {
	Version() Version
	Pools(ctx context.Context) ([]PoolStatus, error)
	Pool(ctx context.Context, name fettle.PoolName) (PoolStatus, error)
	Instance(ctx context.Context, pool fettle.PoolName, id fettle.InstanceID) (InstanceStatus, error)
	// Destinations are the addresses that an instance calls, most calls first; none where that is not measured.
	Destinations(ctx context.Context, pool fettle.PoolName, id fettle.InstanceID) ([]Destination, error)
	// Syscalls counts an instance's system calls for a moment, most frequent first.
	Syscalls(ctx context.Context, pool fettle.PoolName, id fettle.InstanceID) ([]SystemCall, error)
	Plan(ctx context.Context, pool fettle.PoolName) (Plan, error)
	Command(ctx context.Context, pool fettle.PoolName, c fettle.Command, wait bool) (Outcome, error)
	Apply(ctx context.Context, pools []fettle.Pool) (Applied, error)
	Remove(ctx context.Context, pool fettle.PoolName) error
	// Log calls f with each entry; with Follow until ctx ends, which is no error.
	Log(ctx context.Context, filter LogFilter, f func(LogEntry) error) error
	// Output writes an instance's output to w; with Follow until ctx ends, which is no error.
	Output(ctx context.Context, id fettle.InstanceID, o OutputOptions, w io.Writer) error
	// Record calls f with each line of a recording of a pool, from its header on, until ctx ends, which is no error.
	Record(ctx context.Context, pool fettle.PoolName, o RecordOptions, f func(line []byte) error) error
	Doctor(ctx context.Context) ([]Fact, error)
	Shutdown(s Shutdown) error
	Metrics() http.Handler
}

// OutputOptions say what of an instance's output is wanted.
type OutputOptions struct {
	Lines  int // the last so many; 0 is all that is kept
	Follow bool
}

// RecordOptions say what of a pool is recorded.
type RecordOptions struct {
	// Secrets keeps the values of environment variables and the bodies of HTTP hooks in the pool's policy.
	Secrets bool
}

// Handler serves the routes of the package from a backend. Failures to answer go to log.
func Handler(b Backend, log *slog.Logger) http.Handler {
	h := &handler{b: b, log: log}
	mux := http.NewServeMux()
	route := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			if err := f(w, r); err != nil {
				h.fail(w, r, err)
			}
		})
	}
	route("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) error { return answer(w, b.Version()) })
	route("GET /v1/pools", h.pools)
	route("PUT /v1/pools", h.apply)
	route("GET /v1/pools/{pool}", h.pool)
	route("DELETE /v1/pools/{pool}", h.remove)
	route("GET /v1/pools/{pool}/plan", h.plan)
	route("GET /v1/pools/{pool}/instances/{id}", h.instance)
	route("GET /v1/pools/{pool}/instances/{id}/destinations", h.destinations)
	route("POST /v1/pools/{pool}/instances/{id}/syscalls", h.syscalls)
	route("POST /v1/pools/{pool}/commands", h.command)
	route("GET /v1/log", h.logEntries)
	route("GET /v1/logs/{instance}", h.output)
	route("GET /v1/pools/{pool}/recording", h.record)
	route("GET /v1/doctor", h.doctor)
	route("POST /v1/shutdown", h.shutdown)
	mux.Handle("GET /metrics", b.Metrics())
	route("/", func(_ http.ResponseWriter, r *http.Request) error {
		return fmt.Errorf("%s %s: no such route: %w", r.Method, r.URL.Path, fettle.ErrNotFound)
	})
	return mux
}

type handler struct {
	b   Backend
	log *slog.Logger
}

func poolOf(r *http.Request) fettle.PoolName { return fettle.PoolName(r.PathValue("pool")) }

func (h *handler) pools(w http.ResponseWriter, r *http.Request) error {
	p, err := h.b.Pools(r.Context())
	if err != nil {
		return err
	}
	return answer(w, p)
}

func (h *handler) pool(w http.ResponseWriter, r *http.Request) error {
	p, err := h.b.Pool(r.Context(), poolOf(r))
	if err != nil {
		return err
	}
	return answer(w, p)
}

func (h *handler) instance(w http.ResponseWriter, r *http.Request) error {
	in, err := h.b.Instance(r.Context(), poolOf(r), fettle.InstanceID(r.PathValue("id")))
	if err != nil {
		return err
	}
	return answer(w, in)
}

func (h *handler) plan(w http.ResponseWriter, r *http.Request) error {
	p, err := h.b.Plan(r.Context(), poolOf(r))
	if err != nil {
		return err
	}
	return answer(w, p)
}

func (h *handler) apply(w http.ResponseWriter, r *http.Request) error {
	var d Desired
	if err := read(r, &d); err != nil {
		return err
	}
	a, err := h.b.Apply(r.Context(), d.Pools)
	if err != nil {
		return err
	}
	return answer(w, a)
}

func (h *handler) remove(w http.ResponseWriter, r *http.Request) error {
	if err := h.b.Remove(r.Context(), poolOf(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) command(w http.ResponseWriter, r *http.Request) error {
	wait, err := flag(r.URL.Query(), "wait")
	if err != nil {
		return err
	}
	var c fettle.Command
	if err := read(r, &c); err != nil {
		return err
	}
	o, err := h.b.Command(r.Context(), poolOf(r), c, wait)
	if err != nil {
		return err
	}
	return answer(w, o)
}

func (h *handler) doctor(w http.ResponseWriter, r *http.Request) error {
	f, err := h.b.Doctor(r.Context())
	if err != nil {
		return err
	}
	return answer(w, f)
}

func (h *handler) shutdown(w http.ResponseWriter, r *http.Request) error {
	var s Shutdown
	if err := read(r, &s); err != nil {
		return err
	}
	if err := h.b.Shutdown(s); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) logEntries(w http.ResponseWriter, r *http.Request) error {
	f, err := ParseLogFilter(r.URL.Query())
	if err != nil {
		return err
	}
	s := newStream(w, "application/jsonl")
	if f.Follow {
		defer s.beat(r.Context())()
	}
	return s.end(h.b.Log(r.Context(), f, func(e LogEntry) error {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("log entry %d: %w", e.Seq, err)
		}
		_, err = s.Write(append(line, '\n'))
		return err
	}))
}

func (h *handler) record(w http.ResponseWriter, r *http.Request) error {
	var o RecordOptions
	var err error
	if o.Secrets, err = flag(r.URL.Query(), "secrets"); err != nil {
		return err
	}
	s := newStream(w, "application/jsonl")
	defer s.beat(r.Context())()
	return s.end(h.b.Record(r.Context(), poolOf(r), o, func(line []byte) error {
		_, err := s.Write(append(line, '\n'))
		return err
	}))
}

func (h *handler) output(w http.ResponseWriter, r *http.Request) error {
	var o OutputOptions
	var err error
	if o.Lines, err = count(r.URL.Query(), "lines"); err != nil {
		return err
	}
	if o.Follow, err = flag(r.URL.Query(), "follow"); err != nil {
		return err
	}
	s := newStream(w, "text/plain; charset=utf-8")
	return s.end(h.b.Output(r.Context(), fettle.InstanceID(r.PathValue("instance")), o, s))
}

// stream is an answer that is flushed as it is written.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	c     *http.ResponseController
	kind  string
	begun bool
}

func newStream(w http.ResponseWriter, kind string) *stream {
	return &stream{w: w, c: http.NewResponseController(w), kind: kind}
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.w.Header().Set("Content-Type", s.kind)
		s.begun = true
	}
	n, err := s.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, s.c.Flush()
}

// beat writes a blank line now and then until the returned function is called. Failures to
// write show at the next entry.
func (s *stream) beat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(heartbeat)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if _, err := s.Write([]byte("\n")); err != nil {
					return
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// end passes an error on only where the answer has not begun: then a status can still tell of it.
func (s *stream) end(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun && err != nil {
		return errCutOff{err}
	}
	if err == nil && !s.begun {
		s.w.Header().Set("Content-Type", s.kind)
		s.w.WriteHeader(http.StatusOK)
	}
	return err
}

// errCutOff is a failure in the middle of an answer.
type errCutOff struct{ error }

func (e errCutOff) Unwrap() error { return e.error }

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody listens any more
	}
	if _, cut := errors.AsType[errCutOff](err); cut {
		h.log.Warn("api: answer cut off", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to make the client see that an answer is cut off
	}
	k := KindOf(err)
	if k.Exit == Failed.Exit {
		h.log.Warn("api: request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(k.Status)
	if err := json.NewEncoder(w).Encode(errorBody{&Error{Kind: k.Name, Message: err.Error()}}); err != nil {
		h.log.Debug("api: answering", "path", r.URL.Path, "err", err)
	}
}

func answer(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(append(b, '\n')); err != nil {
		return errCutOff{err}
	}
	return nil
}

func read(r *http.Request, to any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("request body: %w: %w", err, fettle.ErrInvalid)
	}
	return nil
}
