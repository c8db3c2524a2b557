package load

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a client waits for its answer.
const patience = 15 * time.Second

// Generator sends the schedule's requests to a pool. Its methods are safe for concurrent use while Run runs.
type Generator struct {
	Ledger Ledger

	host   string
	client *http.Client
	began  time.Time

	mu     sync.Mutex
	sched  *Schedule         // guarded by mu
	twist  *twist            // guarded by mu
	owners map[string]string // instance that last served each key; guarded by mu
}

// twist is another mix for the keys of one instance.
type twist struct {
	instance string
	fresh    []string
	rnd      *rand.Rand
}

// NewGenerator makes one for the pool at an address. All records are stamped with the time since began. The transport
// may be nil for a real one.
func NewGenerator(addr string, began time.Time, s *Schedule, rt http.RoundTripper) *Generator {
	if rt == nil {
		// Idle connections are given up long before a server would, so that a request which has to be sent twice
		// met a connection that was cut under it.
		rt = &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: 5 * time.Second, DisableCompression: true}
	}
	return &Generator{
		host: addr, client: &http.Client{Transport: rt, Timeout: patience}, began: began,
		sched: s, owners: map[string]string{},
	}
}

// Run sends requests until halt is closed and then waits for the answers in flight; the end of ctx gives up on them.
func (g *Generator) Run(ctx context.Context, halt <-chan struct{}) {
	var wg sync.WaitGroup
	defer g.client.CloseIdleConnections()
	defer wg.Wait()
	offset := time.Since(g.began)
	for {
		r, owner := g.next()
		if !sleepUntil(ctx, halt, g.began.Add(offset+r.At)) {
			return
		}
		wg.Go(func() { g.send(ctx, r, owner) })
	}
}

func sleepUntil(ctx context.Context, halt <-chan struct{}, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-halt:
		return false
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// next draws the next request and says who owns its key.
func (g *Generator) next() (Request, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.sched.Next()
	owner := ""
	if r.Route != Search {
		owner = g.owners[r.Key]
	}
	if g.twist != nil && owner == g.twist.instance {
		g.twist.apply(&r)
	}
	return r, owner
}

// newReports is the share of reports in the new mix.
const newReports = 0.75

// apply turns a usual request into one of the new mix: heavier routes, and keys that are asked for rarely.
func (t *twist) apply(r *Request) {
	r.Route = Item
	if t.rnd.Float64() < newReports {
		r.Route = Report
	}
	r.Key = t.fresh[t.rnd.IntN(len(t.fresh))]
}

// Scale multiplies the rate from now on.
func (g *Generator) Scale(factor float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sched.Scale(factor)
}

// Twist gives the keys of one instance another mix of keys and routes from now on, at the same rate. It returns how
// many keys the new mix has; 0 changes nothing.
func (g *Generator) Twist(instance string, seed uint64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &twist{instance: instance, rnd: rand.New(rand.NewPCG(seed, 0x7477697374))}
	for key, owner := range g.owners {
		if owner == instance && Cold(key) {
			t.fresh = append(t.fresh, key)
		}
	}
	slices.Sort(t.fresh)
	if len(t.fresh) > 0 {
		g.twist = t
	}
	return len(t.fresh)
}

// Untwist ends the other mix.
func (g *Generator) Untwist() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.twist = nil
}

// send sends one request and books what became of it.
func (g *Generator) send(ctx context.Context, r Request, owner string) {
	rec := Record{Sent: time.Since(g.began), Owner: owner}
	var tries atomic.Int32
	// A transport repeats a GET by itself when a kept connection is cut. The user would not notice; the books do.
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { tries.Add(1) }}
	res, err := g.client.Do(r.http(g.host).WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		err = errors.Join(err, res.Body.Close())
	}
	rec.Took = time.Since(g.began) - rec.Sent
	switch {
	case err != nil:
		rec.Outcome = outcomeOf(err)
	case tries.Load() > 1:
		rec.Outcome = Reset
	case res.Header.Get("X-Fettle-Error") != "":
		rec.Outcome, rec.Error = Made, res.Header.Get("X-Fettle-Error")
	case res.StatusCode >= 400:
		rec.Outcome = Failed
	}
	if res != nil {
		rec.Instance = instanceID(res.Header.Get("X-Fettle-Instance"))
	}
	if rec.Outcome == Answered && rec.Instance != "" && r.Route != Search {
		g.mu.Lock()
		g.owners[r.Key] = rec.Instance
		g.mu.Unlock()
	}
	g.Ledger.Add(rec)
}

// http makes the request itself.
func (r Request) http(host string) *http.Request {
	req := &http.Request{
		Method: http.MethodGet, Host: host, Header: http.Header{},
		URL: &url.URL{Scheme: "http", Host: host, Path: "/item/" + r.Key},
	}
	switch r.Route {
	case Item:
	case Note:
		body := `{"note":"seen at ` + r.At.String() + `"}`
		req.Method, req.ContentLength = http.MethodPost, int64(len(body))
		req.Body = io.NopCloser(strings.NewReader(body))
	case Search:
		req.URL.Path, req.URL.RawQuery = "/search", url.Values{"q": {r.Key}}.Encode()
	case Report:
		req.URL.Path = "/report/" + r.Key
	}
	return req
}

func outcomeOf(err error) Outcome {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.As(err, &ne) && ne.Timeout():
		return Timeout
	default:
		return Reset
	}
}
