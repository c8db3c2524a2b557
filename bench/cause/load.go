package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/demo/app"
)

const (
	patience = 10 * time.Second // of clients
	keys     = 1200
	swing    = 0.15 // of the usual rate, in waves
	wave     = 20.0 // seconds
	waiting  = 16   // connections of the clients of one Redis
)

// change is what the workload is meanwhile.
type change struct {
	kind kind
	of   ft.InstanceID // only its work; all if empty
	size float64
}

func (c *change) is(k kind) bool { return c != nil && c.kind == k }

// factor is by how much an instance's work is more than usual.
func (c *change) factor() float64 {
	if c.is(loadUp) || c.is(loadDown) {
		return c.size
	}
	return 1
}

// load is an open loop: Poisson arrivals that wait for no answer, at a rate that swings.
type load struct {
	rate  float64 // of the pool
	seed  uint64
	send  func(ctx context.Context, rnd *rand.Rand, c *change) // draws a request and sends it in a goroutine
	sent  atomic.Int64
	wrong atomic.Int64 // not answered, or by an error

	now atomic.Pointer[change]
	wg  sync.WaitGroup
}

// run sends until ctx ends and waits for the answers.
func (l *load) run(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(l.seed, 0x6c6f6164))
	begun, at := time.Now(), 0.0
	for ctx.Err() == nil {
		c := l.now.Load()
		most := max(1, c.factor())
		at += rnd.ExpFloat64() / (l.rate * most * (1 + swing*math.Sin(2*math.Pi*at/wave)))
		if !sleep(ctx, time.Until(begun.Add(time.Duration(at*float64(time.Second))))) {
			break
		}
		l.send(ctx, rnd, c)
	}
	l.wg.Wait()
}

// keep tells whether an arrival for an instance is one that comes.
func keep(rnd *rand.Rand, c *change, applies bool) bool {
	f := 1.0
	if applies {
		f = c.factor()
	}
	return rnd.Float64()*max(1, c.factor()) < f
}

// book counts one request.
func (l *load) book(ok bool) {
	l.sent.Add(1)
	if !ok {
		l.wrong.Add(1)
	}
}

// owners is which instance answered a key last.
type owners struct {
	mu sync.Mutex
	of map[string]ft.InstanceID
}

// httpLoad asks the router.
func httpLoad(addr string, rate float64, seed uint64) *load {
	l := &load{rate: rate, seed: seed}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	o := &owners{of: map[string]ft.InstanceID{}}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(seed, 0x7a697066)), 1.1, 100, keys-1)
	n := 0
	l.send = func(ctx context.Context, rnd *rand.Rand, c *change) {
		key := app.Key(int(zipf.Uint64()))
		if n < keys { // each once, so that the caches are warm and it is known where each key is
			key = app.Key(n)
			n++
		}
		o.mu.Lock()
		owner := o.of[key]
		o.mu.Unlock()
		applies := c != nil && (c.of == "" || c.of == owner)
		if !keep(rnd, c, applies) {
			return
		}
		if !applies {
			c = nil
		}
		req := httpRequest(rnd, addr, key, c)
		l.wg.Go(func() {
			res, err := client.Do(req.WithContext(context.WithoutCancel(ctx)))
			if err != nil {
				l.book(false)
				return
			}
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			l.book(err == nil && res.StatusCode < 400)
			if id := res.Header.Get("X-Fettle-Instance"); id != "" && req.URL.RawQuery == "" {
				id, _, _ = strings.Cut(id, "/")
				o.mu.Lock()
				o.of[key] = ft.InstanceID(id)
				o.mu.Unlock()
			}
		})
	}
	return l
}

// Shares of the usual requests; the rest asks for items. The new mix has mostly reports.
const (
	noteShare   = 0.20
	searchShare = 0.10
	reportShare = 0.05
	newReports  = 0.60
)

func httpRequest(rnd *rand.Rand, addr, key string, c *change) *http.Request {
	req := &http.Request{Method: http.MethodGet, Host: addr, Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: addr, Path: "/item/" + key}}
	u := rnd.Float64()
	switch {
	case c.is(routes):
		if u < newReports {
			req.URL.Path = "/report/" + key
		}
	case u < noteShare:
		size := 60.0
		if c.is(payloads) {
			size = c.size
		}
		body := `{"note":"` + strings.Repeat("n", int(size)) + `"}`
		req.Method, req.ContentLength, req.Body = http.MethodPost, int64(len(body)), io.NopCloser(strings.NewReader(body))
	case u < noteShare+searchShare:
		req.URL.Path, req.URL.RawQuery = "/search", "q="+app.Word(rnd.IntN(64))
	case u < noteShare+searchShare+reportShare:
		req.URL.Path = "/report/" + key
	}
	return req
}

// redisLoad asks each instance itself, as clients of a sharded cache do.
func redisLoad(ctx context.Context, ins []instance, rate float64, seed uint64) (*load, error) {
	l := &load{rate: rate, seed: seed}
	idle := make([]chan *redisConn, len(ins))
	for i, in := range ins {
		idle[i] = make(chan *redisConn, waiting)
		for range waiting {
			c, err := dialRedis(ctx, in.addr)
			if err != nil {
				return nil, err
			}
			idle[i] <- c
		}
	}
	l.send = func(ctx context.Context, rnd *rand.Rand, c *change) {
		i := rnd.IntN(len(ins))
		applies := c != nil && (c.of == "" || c.of == ins[i].id)
		if !keep(rnd, c, applies) {
			return
		}
		if !applies {
			c = nil
		}
		ask := redisRequest(rnd, c)
		l.wg.Go(func() {
			conn := <-idle[i]
			err := ask(conn)
			if err != nil && ctx.Err() == nil {
				conn.close()
				if again, err := dialRedis(ctx, ins[i].addr); err == nil {
					conn = again
				}
			}
			idle[i] <- conn
			l.book(err == nil)
		})
	}
	return l, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// backend is what the instances call before they answer.
type backend struct {
	addr  string
	delay atomic.Int64
	srv   *http.Server
}

// usualDelay of the backend.
const usualDelay = 2 * time.Millisecond

func startBackend() (*backend, error) {
	b := &backend{}
	b.delay.Store(int64(usualDelay))
	l, err := listen()
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	b.addr = l.Addr().String()
	b.srv = &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Duration(b.delay.Load()))
		_, _ = io.WriteString(w, "ok") // the instance went away: nobody to tell
	})}
	go func() { _ = b.srv.Serve(l) }() // until it is closed
	return b, nil
}
