package router_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router"
)

// The test binary is the router, and a control side that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "internal-router" {
		os.Exit(router.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "test-control-side" {
		os.Exit(controlSide(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// controlSide attaches, opens the pool, admits an instance, says so, and waits to be killed.
func controlSide(dir, endpoint string) int {
	ctx := context.Background()
	f, err := router.Attach(ctx, router.FrontOptions{StateDir: dir, Exe: os.Args[0]})
	if err == nil {
		if err = f.Open(ctx, pool()); err == nil {
			err = f.Pool("web").Admit(ctx, member(1, endpoint), 1)
		}
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("serving", f.Addr("web"), f.PID())
	select {}
}

func pool() *ft.Pool {
	p := &ft.Pool{Name: "web", Listen: "127.0.0.1:0"}
	p.Defaults()
	p.Route.SlowStart = ft.Duration(time.Nanosecond)
	return p
}

func member(serial uint32, address string) ft.Instance {
	return ft.Instance{
		Ref:      ft.Ref{ID: ft.NewInstanceID("web", serial), Generation: 1},
		Endpoint: ft.Endpoint{Network: "tcp", Address: address},
	}
}

// backend is an instance in this process.
func backend(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// attach starts or finds the router of dir; a router that is left is ended with the test.
func attach(t *testing.T, dir string, events func(...ft.Event)) *router.Front {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := router.Attach(t.Context(), router.FrontOptions{
		StateDir: dir, Exe: exe, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Unresponsive: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// load sends requests until stopped and counts what a client sees.
type load struct {
	sent, refused, lost atomic.Int64
	stop                context.CancelFunc
	wg                  sync.WaitGroup
}

func drive(t *testing.T, address string) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	for i := range 4 {
		l.wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer c.CloseIdleConnections()
			for n := i; ctx.Err() == nil; n++ {
				method := []string{http.MethodGet, http.MethodPost}[n%2]
				q, err := http.NewRequest(method, "http://"+address+"/", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				l.sent.Add(1)
				resp, err := c.Do(q)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 {
						err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("X-Fettle-Error"))
					}
				}
				if errors.Is(err, syscall.ECONNREFUSED) {
					l.refused.Add(1)
				} else if err != nil {
					l.lost.Add(1)
				}
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (l *load) goesOn(t *testing.T) {
	t.Helper()
	n := l.sent.Load()
	eventually(t, "traffic goes on", func() bool { return l.sent.Load() > n+50 })
}

func TestTheRouterIsKilledAndTheListenerStays(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	if err := f.Open(t.Context(), pool()); err != nil {
		t.Fatal(err)
	}
	p := f.Pool("web")
	for i := range uint32(3) {
		if err := p.Admit(t.Context(), member(i+1, backend(t, hello)), 1); err != nil {
			t.Fatal(err)
		}
	}
	address := f.Addr("web")
	l := drive(t, address)
	l.goesOn(t)
	if err := p.Batch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	labels := p.Labels()
	for range 3 {
		was := f.PID()
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another router", func() bool { return f.PID() != was })
		l.goesOn(t)
	}
	l.end()
	// Each kill may cost what was in flight: one request for each of the four clients.
	if l.refused.Load() > 0 || l.lost.Load() > 3*4 {
		t.Errorf("of %d requests %d were refused and %d lost", l.sent.Load(), l.refused.Load(), l.lost.Load())
	}
	if f.Addr("web") != address || len(p.Members()) != 3 {
		t.Errorf("serves %s with %v", f.Addr("web"), p.Members())
	}
	if err := p.Batch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := p.Labels(); len(got) < len(labels) || got[0] != labels[0] {
		t.Errorf("labels were %v and are %v", labels, got)
	}
}

func TestTheControlSideIsKilledAndTrafficGoesOn(t *testing.T) {
	dir := t.TempDir()
	first, second := backend(t, hello), backend(t, hello)
	cmd := exec.Command(os.Args[0], "test-control-side", dir, first)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var address string
	var pid int
	if _, serr := fmt.Sscanf(line, "serving %s %d", &address, &pid); serr != nil {
		t.Fatalf("%q, %v, %v", line, err, serr)
	}
	l := drive(t, address)
	l.goesOn(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	l.goesOn(t)
	f := attach(t, dir, nil)
	if f.PID() != pid || f.Addr("web") != address {
		t.Fatalf("attached to %d at %s, the router is %d at %s", f.PID(), f.Addr("web"), pid, address)
	}
	p := f.Pool("web")
	if refs := p.Members(); len(refs) != 1 || refs[0] != member(1, "").Ref {
		t.Fatalf("members %v", refs)
	}
	s, err := f.Snapshot(t.Context(), "web")
	if err != nil || s.Members[0].Requests < 100 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := p.Admit(t.Context(), member(2, second), 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Drain(t.Context(), member(1, "").Ref, time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), member(1, "").Ref); err != nil {
		t.Fatal(err)
	}
	l.goesOn(t)
	// Now both: the new control side knows all that the router needs.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another router", func() bool { return f.PID() != pid })
	l.goesOn(t)
	l.end()
	if l.refused.Load() > 0 || l.lost.Load() > 4 {
		t.Errorf("of %d requests %d were refused and %d lost", l.sent.Load(), l.refused.Load(), l.lost.Load())
	}
}

func TestVerbsAreIdempotent(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	p := f.Pool("web")
	in := member(1, backend(t, hello))
	if err := p.Admit(t.Context(), in, 1); !errors.Is(err, ft.ErrNotFound) {
		t.Fatalf("admitted to a pool that is not open: %v", err)
	}
	for range 2 {
		if err := f.Open(t.Context(), pool()); err != nil {
			t.Fatal(err)
		}
	}
	ref := in.Ref
	for _, verb := range []func() error{
		func() error { return p.Remove(t.Context(), ref) },
		func() error { return p.Drain(t.Context(), ref, time.Now().Add(time.Second)) },
		func() error { return p.Admit(t.Context(), in, 1) },
		func() error { return p.Admit(t.Context(), in, 1) },
		func() error { return p.Weigh(t.Context(), ref, 0.5) },
		func() error { return p.Weigh(t.Context(), ref, 0.5) },
		func() error { return p.Drain(t.Context(), ref, time.Now().Add(time.Second)) },
		func() error { return p.Drain(t.Context(), ref, time.Now().Add(time.Second)) },
		func() error { return p.Admit(t.Context(), in, 1) },
		func() error { in.Generation = 2; return p.Admit(t.Context(), in, 1) }, // replaces the earlier life
		func() error { return p.Remove(t.Context(), ref) },                     // which is gone
	} {
		if err := verb(); err != nil {
			t.Fatal(err)
		}
	}
	if refs := p.Members(); len(refs) != 1 || refs[0].Generation != 2 {
		t.Fatalf("members %v", refs)
	}
	if err := p.Weigh(t.Context(), ref, 1); !errors.Is(err, ft.ErrNotFound) {
		t.Errorf("weighed an earlier life: %v", err)
	}
	if err := p.Keep(t.Context(), nil); err != nil || len(p.Members()) != 0 {
		t.Errorf("kept %v, %v", p.Members(), err)
	}
	address := f.Addr("web")
	if err := f.CloseListener(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := f.CloseListener(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the closed listener takes connections")
	}
}

func TestDrainSaysWhenItsDeadlinePassed(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	if err := f.Open(t.Context(), pool()); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	in := member(1, backend(t, func(w http.ResponseWriter, q *http.Request) { <-gate }))
	p := f.Pool("web")
	if err := p.Admit(t.Context(), in, 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.Get("http://" + f.Addr("web")); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
	}()
	eventually(t, "in flight", func() bool { s, _ := f.Snapshot(t.Context(), "web"); return s.InFlight == 1 })
	if err := p.Drain(t.Context(), in.Ref, time.Now().Add(20*time.Millisecond)); !errors.Is(err, ft.ErrDeadline) {
		t.Fatalf("got %v", err)
	}
	close(gate)
	if err := p.Drain(t.Context(), in.Ref, time.Now().Add(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestReadingsFollowTheTraffic(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	if err := f.Open(t.Context(), pool()); err != nil {
		t.Fatal(err)
	}
	p := f.Pool("web")
	var fail atomic.Bool
	for i := range uint32(2) {
		in := member(i+1, backend(t, func(w http.ResponseWriter, q *http.Request) {
			if fail.Load() {
				w.WriteHeader(500)
			}
			io.WriteString(w, strings.Repeat("x", 1000))
		}))
		if err := p.Admit(t.Context(), in, 1); err != nil {
			t.Fatal(err)
		}
	}
	r, unavailable, err := p.Attach(member(1, ""))
	if err != nil || len(unavailable) > 0 {
		t.Fatal(unavailable, err)
	}
	defer r.Close()
	at := map[string]int{}
	for i, d := range p.Dimensions() {
		at[d.Name] = i
	}
	row, counts := make([]float64, len(at)), make([]uint64, p.Categories()[0].Size+p.Categories()[1].Size)
	read := func() map[string]float64 {
		t.Helper()
		if err := p.Batch(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(time.Now(), row, counts); err != nil {
			t.Fatal(err)
		}
		m := map[string]float64{}
		for n, i := range at {
			m[n] = row[i]
		}
		return m
	}
	get := func(n int, path string) {
		for range n {
			resp, err := http.Get("http://" + f.Addr("web") + path)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	first := read()
	if first[ft.DimOffered] != 0 || !math.IsNaN(first[ft.DimP50]) {
		t.Errorf("before any request: %v", first)
	}
	get(40, "/users/1")
	v := read()
	n := v[ft.DimRequests]
	if v[ft.DimOffered] != 20 || n < 1 || n > 40 || v[ft.DimErrors] != 0 || !(v[ft.DimP50] > 0) || v[ft.DimP99] < v[ft.DimP50] ||
		v[ft.DimBytesOut] < 1000*n || v[ft.DimBytesIn] < 50*n || !(v[ft.DimInFlight] > 0) {
		t.Errorf("after 40 requests: %v", v)
	}
	if l := p.Labels(); len(l) != 1 || l[0] != "GET /users/{n}" || float64(counts[0]) != n || float64(counts[p.Categories()[0].Size+2]) != n {
		t.Errorf("routes %v, %v", l, counts)
	}
	if d := p.Demand(); !(d.Arrivals > 0) || d.Rejected != 0 {
		t.Errorf("demand %+v", d)
	}
	// The counters go on over a new router.
	pid := f.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another router", func() bool { return f.PID() != pid })
	fail.Store(true)
	read()
	if d := p.Demand(); d.Arrivals != 0 {
		t.Errorf("demand across two routers: %+v", d)
	}
	get(40, "/users/2")
	if v = read(); v[ft.DimOffered] != 40 || v[ft.DimRequests] <= n || v[ft.DimErrors] != 1 {
		t.Errorf("after a restart and 40 failures: %v", v)
	}
	// Failures are the same work, otherwise answered.
	if all := v[ft.DimRequests]; float64(counts[0]) != all || float64(counts[p.Categories()[0].Size+5]) != all-n {
		t.Errorf("of %g requests, %g of them failed: %v", all, all-n, counts)
	}
	if err := p.Remove(t.Context(), member(1, "").Ref); err != nil {
		t.Fatal(err)
	}
	if v = read(); !math.IsNaN(v[ft.DimOffered]) {
		t.Errorf("out of service: %v", v)
	}
}

func TestTheControlSideHearsWhoDoesNotAnswer(t *testing.T) {
	var mu sync.Mutex
	var events []ft.Event
	f := attach(t, t.TempDir(), func(es ...ft.Event) {
		mu.Lock()
		events = append(events, es...)
		mu.Unlock()
	})
	cfg := pool()
	cfg.Detect.Interval = ft.Duration(50 * time.Millisecond)
	cfg.Probes.Readiness = &ft.Probe{HTTP: "/ready", Every: ft.Duration(20 * time.Millisecond), Timeout: ft.Duration(time.Second), Failures: 2}
	if err := f.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var sick atomic.Bool
	in := member(1, backend(t, func(w http.ResponseWriter, q *http.Request) {
		if sick.Load() {
			w.WriteHeader(503)
		}
	}))
	if err := f.Pool("web").Admit(t.Context(), in, 1); err != nil {
		t.Fatal(err)
	}
	last := func() ft.Event {
		mu.Lock()
		defer mu.Unlock()
		if len(events) == 0 {
			return nil
		}
		return events[len(events)-1]
	}
	sick.Store(true)
	eventually(t, "unresponsive", func() bool {
		e, ok := last().(*ft.Unresponsive)
		return ok && e.Ref == in.Ref && e.Probe == "readiness" && strings.Contains(e.Detail, "503") && !e.At.IsZero()
	})
	sick.Store(false)
	eventually(t, "responsive", func() bool { e, ok := last().(*ft.Responsive); return ok && e.Ref == in.Ref })
}

// waiting gives the pool web an instance and a request that waits in it until the gate is closed; got is what it was
// answered with.
func waiting(t *testing.T, f *router.Front) (got <-chan string, gate chan<- struct{}) {
	t.Helper()
	if err := f.Open(t.Context(), pool()); err != nil {
		t.Fatal(err)
	}
	entered, open := make(chan struct{}), make(chan struct{})
	in := member(1, backend(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-open
		io.WriteString(w, "late")
	}))
	if err := f.Pool("web").Admit(t.Context(), in, 1); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + f.Addr("web"))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		answer <- fmt.Sprint(string(b), err)
	}()
	<-entered
	return answer, open
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	got, gate := waiting(t, f)
	address, pid := f.Addr("web"), f.PID()
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- f.Shutdown(ctx)
	}()
	eventually(t, "no new connection", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	close(gate)
	if s := <-got; s != "late<nil>" {
		t.Errorf("the request in flight got %s", s)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	eventually(t, "the router is gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// Of a socket that both processes have, the router's copy may be closed at any time once it was told to end: what the
// other copy accepted then nobody would answer.
func TestShutdownClosesItsCopiesBeforeTheRouterDoes(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	got, gate := waiting(t, f)
	address, pid := f.Addr("web"), f.PID()
	// While it is stopped it closes nothing, and says nothing.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- f.Shutdown(ctx)
	}()
	for end := time.Now().Add(5 * time.Second); f.Addr("web") != ""; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("the copy of the control side is open while the router is asked to end")
			break
		}
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no new connection", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	close(gate)
	if s := <-got; s != "late<nil>" {
		t.Errorf("the request in flight got %s", s)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The daemon closes its pools, then ends the router: nobody's request is dropped without an answer.
func TestRequestsOfAClosedPoolAreAnsweredBeforeTheRouterEnds(t *testing.T) {
	for _, removed := range []bool{false, true} {
		t.Run(fmt.Sprintf("removed=%t", removed), func(t *testing.T) {
			f := attach(t, t.TempDir(), nil)
			if err := f.Open(t.Context(), pool()); err != nil {
				t.Fatal(err)
			}
			in := member(1, backend(t, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(500 * time.Millisecond)
				io.WriteString(w, "late")
			}))
			p := f.Pool("web")
			if err := p.Admit(t.Context(), in, 1); err != nil {
				t.Fatal(err)
			}
			want := "200 late"
			if removed { // then it waits for another instance
				want = "503"
				if err := p.Remove(t.Context(), in.Ref); err != nil {
					t.Fatal(err)
				}
			}
			got, address := make(chan string, 1), f.Addr("web")
			go func() {
				resp, err := http.Get("http://" + address)
				if err != nil {
					got <- err.Error()
					return
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				got <- fmt.Sprint(resp.StatusCode, " ", string(b), err)
			}()
			eventually(t, "the request is there", func() bool {
				s, _ := f.Snapshot(t.Context(), "web")
				return s.InFlight+s.Queued == 1
			})
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			if err := errors.Join(f.CloseListener(ctx, "web"), f.Shutdown(ctx)); err != nil {
				t.Error(err)
			}
			if s := <-got; !strings.HasPrefix(s, want) {
				t.Errorf("got %s, want %s", s, want)
			}
		})
	}
}

// A router that does not even answer its control side is replaced.
func TestARouterThatHangsIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for missed heartbeats: some 15 s")
	}
	f := attach(t, t.TempDir(), nil)
	if err := f.Open(t.Context(), pool()); err != nil {
		t.Fatal(err)
	}
	if err := f.Pool("web").Admit(t.Context(), member(1, backend(t, hello)), 1); err != nil {
		t.Fatal(err)
	}
	was := f.PID()
	if err := syscall.Kill(was, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(was, syscall.SIGKILL)
	eventually(t, "it stands still", func() bool { // a signal takes its time on a busy machine
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", was))
		return err == nil && strings.Contains(string(b), ") T ")
	})
	resp, err := http.Get("http://" + f.Addr("web")) // waits in the listener's queue
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || f.PID() == was {
		t.Errorf("%s by router %d", resp.Status, f.PID())
	}
}

func TestAccessLogHasALineForEachRequest(t *testing.T) {
	f := attach(t, t.TempDir(), nil)
	cfg := pool()
	cfg.Route.AccessLog = filepath.Join(t.TempDir(), "access.log")
	if err := f.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := f.Pool("web").Admit(t.Context(), member(1, backend(t, hello)), 1); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + f.Addr("web") + "/a?q=%22")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "the line", func() bool {
		b, _ := os.ReadFile(cfg.Route.AccessLog)
		var line struct {
			Time     time.Time
			URI      string
			Status   int
			Bytes    int
			Instance string
		}
		if err := json.Unmarshal(b, &line); err != nil {
			t.Logf("%v in %q", err, b)
			return false
		}
		return line.URI == "/a?q=%22" && line.Status == 200 && line.Bytes == 5 && line.Instance == "web-1/1" && time.Since(line.Time) < time.Hour
	})
}

func TestARouterThatCannotStartSaysWhy(t *testing.T) {
	_, err := router.Attach(t.Context(), router.FrontOptions{StateDir: t.TempDir(), Exe: "/bin/false"})
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Fatalf("got %v", err)
	}
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := router.Attach(t.Context(), router.FrontOptions{StateDir: dir, Exe: "/bin/false"}); err == nil {
		t.Fatal("attached in a file")
	}
}

func TestStateDirectoriesMayHaveLongPathsAndStayPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	attach(t, dir, nil)
	st, err := os.Stat(filepath.Join(dir, "router"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
}
