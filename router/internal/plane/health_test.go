package plane

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

func TestRefusedConnectionsLoseNothing(t *testing.T) {
	r := newRig(t, nil)
	ep, s := instance(t, ok)
	dead := r.admit(ep)
	ep, _ = instance(t, ok)
	r.admit(ep)
	s.Close()
	for range 20 {
		q, _ := http.NewRequest(http.MethodPost, r.url+"/", strings.NewReader("body"))
		resp, err := r.client.Do(q)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		text(t, resp)
	}
	eventually(t, "it is reported", func() bool {
		es := r.seen()
		return len(es) == 1 && es[0].Ref == dead && es[0].Probe == "readiness" && !es[0].Again
	})
	// Somebody listens there again.
	l, err := net.Listen("tcp", r.Stats().Members[0].Endpoint.Address)
	if err != nil {
		t.Skipf("the port was taken by another process: %v", err)
	}
	back := &http.Server{Handler: http.HandlerFunc(ok)}
	go back.Serve(l)
	defer back.Close()
	eventually(t, "it is back", func() bool { return r.stateOf(dead) == "routed" })
	eventually(t, "that is said", func() bool { es := r.seen(); return len(es) == 2 && es[1].Again })
}

func TestFailuresInARowEjectButNeverTheLast(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Route.EjectAfter = 3 })
	var broken atomic.Bool
	broken.Store(true)
	flaky := func(w http.ResponseWriter, q *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "ok")
	}
	ep, _ := instance(t, flaky)
	first := r.admit(ep)
	post := func() int {
		resp, err := r.client.Post(r.url+"/", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		text(t, resp)
		return resp.StatusCode
	}
	for range 10 {
		if s := post(); s != 502 {
			t.Fatalf("got %d", s)
		}
	}
	if s := r.stateOf(first); s != "routed" {
		t.Fatalf("the only one is %s", s)
	}
	ep, _ = instance(t, ok)
	r.admit(ep)
	for r.stateOf(first) == "routed" {
		post()
	}
	if s := r.stateOf(first); s != "ejected" {
		t.Fatalf("it is %s", s)
	}
	broken.Store(false)
	eventually(t, "it returns", func() bool { return r.stateOf(first) == "routed" })
	// Plain 5xx are the application's own answers.
	ep, _ = instance(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	sick := r.admit(ep)
	for range 60 {
		post()
	}
	if s := r.stateOf(sick); s != "routed" {
		t.Errorf("one that answers 500 is %s", s)
	}
}

func TestSilenceTakesAnInstanceOutUntilItAnswers(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Silence = ft.Duration(400 * time.Millisecond) })
	var hang atomic.Bool
	gate := make(chan struct{})
	var posts atomic.Int32
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		if hang.Load() {
			if q.Method == http.MethodPost {
				posts.Add(1)
			}
			<-gate
		}
		io.WriteString(w, "ok")
	})
	stuck := r.admit(ep)
	for range 2 {
		ep, _ := instance(t, ok)
		r.admit(ep)
	}
	ctx, stop := context.WithCancel(context.Background())
	var load loadResult
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				q, _ := http.NewRequest(http.MethodGet, r.url+"/", nil)
				load.do(r.client, q)
				time.Sleep(time.Millisecond)
			}
		})
	}
	eventually(t, "traffic", func() bool { return load.sent.Load() > 100 })
	hang.Store(true)
	eventually(t, "it is out of routing", func() bool { return r.stateOf(stuck) == "silent" })
	eventually(t, "it is reported", func() bool {
		es := r.seen()
		return len(es) > 0 && es[0].Ref == stuck && es[0].Probe == "passive" && es[0].Silent > 0
	})
	n := load.sent.Load()
	eventually(t, "traffic goes on", func() bool { return load.sent.Load() > n+200 })
	hang.Store(false)
	close(gate)
	eventually(t, "it is back", func() bool { return r.stateOf(stuck) == "routed" })
	eventually(t, "that is said", func() bool { es := r.seen(); return es[len(es)-1].Again })
	stop()
	wg.Wait()
	load.check(t) // its GETs moved elsewhere
	if r.Stats().Retries == 0 {
		t.Error("no request was moved")
	}
}

// What the retry budget has no room for is not cut: the silent instance may still answer, and does.
func TestSilenceCutsNothingThatCannotBeTriedElsewhere(t *testing.T) {
	r := newRig(t, func(t *wire.Table) {
		t.Silence = ft.Duration(200 * time.Millisecond)
		t.Route.RetryShare = 0
	})
	r.Pool.mu.Lock()
	r.Pool.tokens = 0
	r.Pool.mu.Unlock()
	gate := make(chan struct{})
	ep, _ := instance(t, func(w http.ResponseWriter, _ *http.Request) {
		<-gate
		io.WriteString(w, "ok")
	})
	r.admit(ep)
	got := make(chan int, 1)
	go func() {
		resp, err := r.client.Get(r.url + "/")
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		text(t, resp)
		got <- resp.StatusCode
	}()
	eventually(t, "it is reported", func() bool { return len(r.seen()) == 1 })
	close(gate)
	if s := <-got; s != 200 {
		t.Errorf("the request that waited got %d", s)
	}
}

func TestTheLimitOfSilenceHoldsForASingleInstance(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Silence = ft.Duration(200 * time.Millisecond) })
	gate := make(chan struct{})
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		<-gate
		io.WriteString(w, "ok")
	})
	ref := r.admit(ep)
	got := make(chan int, 1)
	go func() {
		resp, err := r.client.Post(r.url+"/", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		text(t, resp)
		got <- resp.StatusCode
	}()
	eventually(t, "it is reported", func() bool { es := r.seen(); return len(es) == 1 && es[0].Ref == ref && es[0].Probe == "passive" })
	close(gate)
	if s := <-got; s != 200 {
		t.Errorf("the request that waited got %d", s)
	}
	eventually(t, "that is said", func() bool { es := r.seen(); return len(es) == 2 && es[1].Again })
}

func TestAClientThatHangsUpIsNoFailure(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Route.EjectAfter = 1 })
	entered, canceled := make(chan struct{}, 10), make(chan struct{}, 10)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		entered <- struct{}{}
		<-q.Context().Done()
		canceled <- struct{}{}
	})
	ref := r.admit(ep)
	ep, _ = instance(t, ok)
	r.admit(ep)
	r.change(func(t *wire.Table) { t.Members[1].Draining = true })
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		q, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/", nil)
		go func() {
			<-entered
			cancel()
		}()
		if _, err := r.client.Do(q); err == nil {
			t.Fatal("answered")
		}
		<-canceled
		eventually(t, "over", func() bool { return r.Stats().InFlight == 0 })
	}
	s := r.Stats()
	if r.stateOf(ref) != "routed" || s.ClientGone != 3 || s.Lost["reset"] != 0 || s.Members[0].Lost != 0 {
		t.Errorf("it is %s, totals %+v", r.stateOf(ref), s)
	}
}

func TestAHeaderThatDoesNotComeInTimeIsATimeout(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Route.Timeout = ft.Duration(50 * time.Millisecond) })
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow-body" {
			http.NewResponseController(w).Flush()
			time.Sleep(150 * time.Millisecond)
			io.WriteString(w, "late")
			return
		}
		io.ReadAll(q.Body) // or net/http does not notice that the other side hangs up
		<-q.Context().Done()
	})
	r.admit(ep)
	resp, err := r.client.Post(r.url+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if text(t, resp); resp.StatusCode != 504 || resp.Header.Get("X-Fettle-Error") != "timeout" {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	if got := text(t, r.get("/slow-body")); got != "late" {
		t.Fatalf("got %q", got)
	}
}

func TestAnInstanceThatDiesWithinAResponseBreaksIt(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	r.admit(ep)
	for _, path := range []string{"/chunked", "/length"} {
		resp := r.get(path)
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: a broken response looks whole: %q", path, b)
		}
		resp.Body.Close()
	}
	eventually(t, "counted", func() bool { s := r.Stats(); return s.Broken == 2 && s.Members[0].Lost == 2 })
}

func TestNewInstancesAreProbedBeforeRequestsReachThem(t *testing.T) {
	r := newRig(t, func(t *wire.Table) {
		t.Readiness = &ft.Probe{HTTP: "/ready", Every: ft.Duration(20 * time.Millisecond), Timeout: ft.Duration(time.Second), Failures: 2}
	})
	var ready atomic.Bool
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/ready" && !ready.Load() {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, "ok")
	})
	ref := ft.Ref{ID: "web-9", Generation: 2}
	r.change(func(t *wire.Table) {
		t.Members = append(t.Members, wire.Member{Ref: ref, Endpoint: ep, Weight: 1, Since: time.Now()})
	})
	got := make(chan string, 1)
	go func() { got <- name(t, r) }()
	eventually(t, "the request waits", func() bool { return r.Stats().Queued == 1 })
	ready.Store(true)
	if who := <-got; who != "web-9/2" {
		t.Fatalf("answered by %s", who)
	}
	ready.Store(false)
	eventually(t, "out of routing and reported", func() bool {
		es := r.seen()
		return r.stateOf(ref) == "unready" && len(es) > 0 && es[len(es)-1].Probe == "readiness" && !es[len(es)-1].Again
	})
}

// Servers that close a kept connection right after an answer, unannounced, lose no POST.
func TestKeptConnectionsThatTheInstanceClosedAreNotUsed(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var posts atomic.Int32
	closed := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				q, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil {
					io.Copy(io.Discard, q.Body)
					posts.Add(1)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
				c.Close()
				if err == nil {
					closed <- struct{}{}
				}
			}()
		}
	}()
	r.admit(ft.Endpoint{Network: "tcp", Address: l.Addr().String()})
	for range 50 {
		resp, err := r.client.Post(r.url+"/", "text/plain", strings.NewReader("once"))
		if err != nil {
			t.Fatal(err)
		}
		if text(t, resp); resp.StatusCode != 200 {
			t.Fatalf("got %s %v", resp.Status, resp.Header)
		}
		<-closed
	}
	if n := posts.Load(); n != 50 {
		t.Errorf("50 POSTs came as %d", n)
	}
}

func TestSlowStartRampsTheWeight(t *testing.T) {
	now := time.Now()
	route := &ft.Route{SlowStart: ft.Duration(10 * time.Second)}
	m := &member{weight: 0.8, since: now.Add(-time.Minute)}
	if w := m.effective(route, now); w != 0.8 {
		t.Errorf("long admitted: %g", w)
	}
	m.health.returned = now
	for after, want := range map[time.Duration]float64{0: 0.08, 5 * time.Second: 0.4, 10 * time.Second: 0.8} {
		if w := m.effective(route, now.Add(after)); w < want-1e-9 || w > want+1e-9 {
			t.Errorf("%s after its return: %g, want %g", after, w, want)
		}
	}
}
