package plane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

func TestWebSocketIsInFlightUntilItEnds(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		c, err := websocket.Accept(w, q, nil)
		if err != nil {
			return
		}
		for {
			kind, b, err := c.Read(q.Context())
			if err != nil || c.Write(q.Context(), kind, b) != nil {
				return
			}
		}
	})
	ref := r.admit(ep)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	open := func() *websocket.Conn {
		c, resp, err := websocket.Dial(ctx, r.url+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("X-Fettle-Instance") == "" {
			t.Error("no instance named")
		}
		for i := range 3 {
			msg := fmt.Sprintf("message %d", i)
			if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.Read(ctx); err != nil || string(b) != msg {
				t.Fatalf("got %q, %v", b, err)
			}
		}
		return c
	}
	c := open()
	if n := r.Stats().InFlight; n != 1 {
		t.Fatalf("%d in flight", n)
	}
	drained := make(chan error, 1)
	go func() { drained <- r.drain(ref) }()
	eventually(t, "draining", func() bool { return r.stateOf(ref) == "draining" })
	select {
	case err := <-drained:
		t.Fatalf("drained with an open WebSocket: %v", err)
	default:
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	r.change(func(t *wire.Table) { t.Members[0].Draining = false })
	c = open()
	r.remove(ref) // cuts it
	if _, _, err := c.Read(ctx); err == nil {
		t.Fatal("still open after the instance was removed")
	}
	eventually(t, "the cut is counted", func() bool { return r.Stats().Cut == 1 })
}

func TestDrainEndsAtItsDeadlineWithStreams(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		http.NewResponseController(w).Flush()
		<-q.Context().Done()
	})
	ref := r.admit(ep)
	resp := r.get("/stream")
	defer resp.Body.Close()
	r.change(func(t *wire.Table) { t.Members[0].Draining = true })
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx, ref); !errors.Is(err, ft.ErrDeadline) {
		t.Fatalf("got %v", err)
	}
	r.remove(ref)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Fatal("a cut stream looks whole")
	}
	eventually(t, "the cut is counted apart", func() bool {
		s := r.Stats()
		return s.Cut == 1 && s.Broken == 0 && s.Lost["reset"] == 0
	})
	if err := r.Drain(context.Background(), ref); err != nil {
		t.Fatalf("gone is not drained: %v", err)
	}
}

// loadResult is what clients saw, counted on their own.
type loadResult struct {
	sent, refused, broken, timeouts, failed atomic.Int64
}

func (l *loadResult) do(c *http.Client, q *http.Request) {
	l.sent.Add(1)
	resp, err := c.Do(q)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && (resp.StatusCode != 200 || len(b) == 0) {
			l.failed.Add(1)
		}
	}
	var ne net.Error
	switch {
	case err == nil:
	case errors.Is(err, syscall.ECONNREFUSED):
		l.refused.Add(1)
	case errors.As(err, &ne) && ne.Timeout():
		l.timeouts.Add(1)
	default:
		l.broken.Add(1)
	}
}

func (l *loadResult) check(t *testing.T) {
	t.Helper()
	if l.refused.Load()+l.broken.Load()+l.timeouts.Load()+l.failed.Load() > 0 || l.sent.Load() == 0 {
		t.Errorf("of %d requests %d were refused, %d reset, %d timed out, %d answered with an error",
			l.sent.Load(), l.refused.Load(), l.broken.Load(), l.timeouts.Load(), l.failed.Load())
	}
}

func TestNothingIsLostWhileInstancesComeAndGo(t *testing.T) {
	r := newRig(t, nil)
	handler := func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		if rand.N(10) == 0 {
			time.Sleep(rand.N(5 * time.Millisecond)) // requests overlap with the changes
		}
		fmt.Fprintf(w, "got %d", len(b))
	}
	type running struct {
		ref  ft.Ref
		stop func()
	}
	var live []running
	start := func() {
		ep, s := instance(t, handler)
		live = append(live, running{r.admit(ep), s.Close})
	}
	for range 3 {
		start()
	}
	ctx, stop := context.WithCancel(context.Background())
	var load loadResult
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var body io.Reader
				method := http.MethodGet
				switch (n + i) % 3 {
				case 1:
					method, body = http.MethodPost, strings.NewReader("a short body")
				case 2:
					method, body = http.MethodPost, io.MultiReader(strings.NewReader(strings.Repeat("chunked", 20000)))
				}
				q, _ := http.NewRequest(method, r.url+"/x", body)
				load.do(r.client, q)
			}
		})
	}
	for range 25 {
		start()
		old := live[0]
		live = live[1:]
		if err := r.drain(old.ref); err != nil {
			t.Fatal(err)
		}
		old.stop() // the driver acts as soon as the drain is over
		r.remove(old.ref)
	}
	stop()
	wg.Wait()
	load.check(t)
	s := r.Stats()
	t.Logf("%d requests, %d retries", s.Requests, s.Retries)
	if s.Cut+s.Broken > 0 || s.Lost["reset"]+s.Lost["refused"]+s.Lost["timeout"] > 0 {
		t.Errorf("the router says: %+v", s)
	}
}

func name(t *testing.T, r *rig, header ...string) string {
	t.Helper()
	resp := r.get("/", header...)
	text(t, resp)
	if resp.StatusCode != 200 {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	return resp.Header.Get("X-Fettle-Instance")
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

func TestOnlyTheKeysOfARemovedInstanceMove(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Route.Key = &ft.RouteKey{Header: "X-Key"} })
	var refs []ft.Ref
	for range 4 {
		ep, _ := instance(t, ok)
		refs = append(refs, r.admit(ep))
	}
	before := map[string]string{}
	count := map[string]int{}
	for i := range 200 {
		k := fmt.Sprintf("key %d", i)
		before[k] = name(t, r, "X-Key", k)
		count[before[k]]++
	}
	if len(count) != 4 {
		t.Fatalf("keys are on %v", count)
	}
	gone := string(refs[1].ID) + "/1"
	r.remove(refs[1])
	for k, was := range before {
		if now := name(t, r, "X-Key", k); was != gone && now != was || now == gone {
			t.Errorf("%s moved from %s to %s", k, was, now)
		}
	}
	s := r.Stats()
	var offered float64
	for _, m := range s.Members {
		offered += m.Offered
	}
	if got := float64(count[gone]); s.Requests != 400 || offered != 400-got {
		t.Errorf("%d requests, %g offered to those that are left, %g to the other", s.Requests, offered, got)
	}
}

func TestOfferedIsSharedEquallyWithoutKeyWhateverTheWeights(t *testing.T) {
	r := newRig(t, nil)
	for range 4 {
		ep, _ := instance(t, ok)
		r.admit(ep)
	}
	r.change(func(t *wire.Table) { t.Members[0].Weight, t.Members[1].Draining = 0.01, true })
	for range 40 {
		name(t, r)
	}
	for _, m := range r.Stats().Members {
		if m.Offered < 9.999 || m.Offered > 10.001 {
			t.Errorf("%s was offered %g of 40", m.Ref, m.Offered)
		}
	}
}

func TestQueueWaitsThenRefuses(t *testing.T) {
	r := newRig(t, func(t *wire.Table) {
		t.Route.Queue, t.Route.QueueFor = 2, ft.Duration(300*time.Millisecond)
	})
	statuses := make(chan *http.Response, 10)
	ask := func() {
		resp, err := r.client.Get(r.url + "/")
		if err != nil {
			t.Error(err)
		}
		statuses <- resp
	}
	expect := func(status int, kind string) {
		t.Helper()
		resp := <-statuses
		if resp == nil {
			t.FailNow()
		}
		text(t, resp)
		if resp.StatusCode != status || resp.Header.Get("X-Fettle-Error") != kind {
			t.Fatalf("got %s %v, want %d %s", resp.Status, resp.Header, status, kind)
		}
		if status == 503 && resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	go ask()
	go ask()
	eventually(t, "two wait", func() bool { return r.Stats().Queued == 2 })
	go ask()
	expect(503, "queue-full")
	expect(503, "no-instance")
	expect(503, "no-instance")
	go ask()
	eventually(t, "one waits", func() bool { return r.Stats().Queued == 1 })
	ep, _ := instance(t, ok)
	r.admit(ep)
	expect(200, "")
	if l := r.Stats().Lost; l["queue-full"] != 1 || l["no-instance"] != 2 {
		t.Errorf("lost: %v", l)
	}
}

func TestConcurrencyLimitHoldsAndTheQueueIsServedInOrder(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Concurrency = 2 })
	var now, most atomic.Int32
	release := make(chan struct{})
	var order []string
	var mu sync.Mutex
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		mu.Lock()
		order = append(order, q.URL.Path)
		mu.Unlock()
		<-release
		io.WriteString(w, "ok")
	})
	r.admit(ep)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { text(t, r.get(fmt.Sprintf("/%d", i))) })
		eventually(t, "it arrived", func() bool { s := r.Stats(); return s.InFlight+s.Queued == i+1 })
	}
	for i := range 6 {
		eventually(t, "next in order", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == min(6, i+2) })
		release <- struct{}{}
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d at once", most.Load())
	}
	for i, path := range order[2:] {
		if path != fmt.Sprintf("/%d", i+2) {
			t.Errorf("order %v", order)
		}
	}
}

// breaker is a server that takes requests and closes without an answer, counting them by method.
func breaker(t *testing.T) (ft.Endpoint, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					n.Add(1)
				}
			}()
		}
	}()
	return ft.Endpoint{Network: "tcp", Address: l.Addr().String()}, &n
}

func TestRetryOnlyWhatMayBeSentTwice(t *testing.T) {
	for _, c := range []struct {
		method string
		header [2]string
		body   string
		again  bool // always
		once   bool // never again
	}{
		{"GET", [2]string{}, "", true, false},
		{"PUT", [2]string{}, "body", true, false},
		{"POST", [2]string{}, "body", false, true},
		{"POST", [2]string{}, "", false, true},
		{"PATCH", [2]string{}, "body", false, true},
		{"POST", [2]string{"Idempotency-Key", "1"}, "body", true, false},
		{"PUT", [2]string{}, strings.Repeat("x", replayMost+1), false, false}, // more than is kept: if none of it was read yet
	} {
		r := newRig(t, func(t *wire.Table) { t.Route.EjectAfter = 1000 })
		broken, badN := breaker(t)
		r.admit(broken)
		var goodN atomic.Int32
		var bodies sync.Map
		good, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
			goodN.Add(1)
			b, _ := io.ReadAll(q.Body)
			bodies.Store(string(b), true)
			io.WriteString(w, "ok")
		})
		r.admit(good)
		sent, failed := 0, 0
		for badN.Load() < 4 { // until the bad one was chosen often enough
			q, _ := http.NewRequest(c.method, r.url+"/", strings.NewReader(c.body))
			if c.header[0] != "" {
				q.Header.Set(c.header[0], c.header[1])
			}
			q.Close = len(c.body) > replayMost // the router ends a connection on which it did not read all
			resp, err := r.client.Do(q)
			sent++
			if err != nil && len(c.body) > replayMost {
				failed++ // net/http's client may see that its upload broke before it sees the answer
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			text(t, resp)
			if resp.StatusCode != 200 {
				failed++
				if resp.StatusCode != 502 || resp.Header.Get("X-Fettle-Error") != "reset" || resp.Header.Get("X-Fettle-Instance") == "" {
					t.Fatalf("got %s %v", resp.Status, resp.Header)
				}
			}
		}
		bad, reached, retries := int(badN.Load()), int(badN.Load()+goodN.Load()), int(r.Stats().Retries)
		if reached != sent+retries || failed+retries != bad || c.again && failed > 0 || c.once && retries > 0 {
			t.Errorf("%s %v: %d of %d failed, %d retried, instances saw %d", c.method, c.header, failed, sent, retries, reached)
		}
		bodies.Range(func(b, _ any) bool {
			if b != c.body {
				t.Errorf("%s: a body of %d bytes came as %d", c.method, len(c.body), len(b.(string)))
			}
			return true
		})
	}
}

// mortal is an instance that dies of a request for /poison; /slow waits until it does.
func mortal(t *testing.T) (ep ft.Endpoint, deaths *atomic.Int32) {
	t.Helper()
	deaths = new(atomic.Int32)
	died := make(chan struct{})
	var s *httptest.Server
	ep, s = instance(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/poison":
			if deaths.Add(1) == 1 {
				s.Listener.Close() // as the kernel does with a process: nobody listens any more, then all connections end
				close(died)
			}
			panic(http.ErrAbortHandler)
		case "/slow":
			select {
			case <-died:
			case <-q.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
	})
	return ep, deaths
}

// TestWhatKillsAnInstanceIsNotSentToAnother: a request that was alone in an instance that died may be the reason.
func TestWhatKillsAnInstanceIsNotSentToAnother(t *testing.T) {
	for name, c := range map[string]struct {
		allowed, company bool
		deaths           int32
		status           int
	}{
		"alone":             {false, false, 1, http.StatusBadGateway},
		"alone, allowed":    {true, false, 2, http.StatusBadGateway},
		"others were in it": {false, true, 2, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(tb *wire.Table) { tb.Route.RetryAfterDeath = c.allowed })
			first, one := mortal(t)
			r.admit(first)
			var company sync.WaitGroup
			if c.company {
				company.Go(func() {
					if resp, err := r.client.Get(r.url + "/slow"); err == nil {
						resp.Body.Close()
					}
				})
				eventually(t, "the slow request is in flight", func() bool { return r.Stats().Members[0].InFlight == 1 })
			}
			text(t, r.get("/")) // leaves a kept connection
			second, other := mortal(t)
			ref := r.admit(second)
			r.change(func(tb *wire.Table) { tb.Members[tb.Find(ref)].Weight = 0 }) // gets only what the first cannot take
			resp := r.get("/poison")
			text(t, resp)
			company.Wait()
			if n := one.Load() + other.Load(); n != c.deaths || resp.StatusCode != c.status {
				t.Errorf("%d instances died of it, answered by %s", n, resp.Status)
			}
		})
	}
}

func TestRetriesStayWithinTheBudget(t *testing.T) {
	r := newRig(t, func(t *wire.Table) { t.Route.EjectAfter, t.Route.RetryShare = 1000, 0.1 })
	var n atomic.Int32
	for range 2 {
		ep, c := breaker(t)
		r.admit(ep)
		defer func() { n.Add(c.Load()) }()
	}
	for range 100 {
		text(t, r.get("/"))
	}
	s := r.Stats()
	if s.Retries < 10 || s.Retries > budgetBurst+100/10 || s.Denied != 100-s.Retries {
		t.Errorf("%d retries of 100 requests, %d denied", s.Retries, s.Denied)
	}
}
