package plane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/pick"
)

// exchange is one request and its answer.
type exchange struct {
	p       *Pool
	w       http.ResponseWriter
	r       *http.Request
	route   *ft.Route
	f       flight
	body    body
	upgrade string
	expect  bool

	start    time.Time
	instance string // that answered or failed
	retried  int
	counted  bool // its route
	status   int
	sent     int64 // bytes of the response body
	end      kind
	broken   bool // the response ended early
}

// ServeHTTP routes one request.
func (p *Pool) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{p: p, w: w, r: r, route: &p.config.Load().route, start: time.Now()}
	x.f.key, x.f.keyed = keyOf(x.route.Key, r)
	x.f.idempotent, x.f.body = idempotent(r), &x.body
	x.upgrade = upgrade(r.Header)
	x.expect = r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	defer x.account()
	if r.Method == http.MethodConnect {
		x.status = http.StatusNotImplemented
		http.Error(w, "fettle: CONNECT is for forward proxies", x.status)
		return
	}
	if err := x.body.open(r, x.expect, func() { x.f.stop(causeClient) }); err != nil {
		x.fail(clientGone)
		return
	}
	x.run()
}

// keyOf is the hash of the request's key; false where it has none.
func keyOf(k *ft.RouteKey, r *http.Request) (uint64, bool) {
	if k == nil {
		return 0, false
	}
	var v string
	switch {
	case k.Header != "":
		v = r.Header.Get(k.Header)
	case k.Path > 0:
		rest := r.URL.Path
		for range k.Path {
			_, tail, ok := strings.Cut(rest, "/")
			if !ok {
				return 0, false
			}
			rest = tail
		}
		v, _, _ = strings.Cut(rest, "/")
	case k.Query != "":
		if strings.Contains(r.URL.RawQuery, url.QueryEscape(k.Query)) {
			v = r.URL.Query().Get(k.Query)
		}
	case k.Host:
		v = strings.ToLower(r.Host)
	}
	return pick.Hash(v), v != ""
}

// idempotent tells whether the request may be sent twice (RFC 9110, 9.2.2), by its method or because its sender says so.
func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return upgrade(r.Header) == ""
	}
	return r.Header.Get("Idempotency-Key") != "" || r.Header.Get("X-Idempotency-Key") != ""
}

// tries is how many members a request is tried at, most: one more where it was or may have been sent, two more where
// each refused the connection.
const (
	triesSent    = 2
	triesRefused = 3
)

func (x *exchange) run() {
	for try := 1; ; try++ {
		why := x.p.acquire(x.r.Context(), &x.f, x.route)
		if why != answered {
			x.fail(why)
			return
		}
		m := x.f.m
		x.instance = m.name
		x.classify(m)
		o, rule := x.attempt(m)
		if o.kind == answered && !x.counted {
			x.counted = true
			m.meter.routes[x.p.labels.find(x.r.Method, x.r.URL.Path, o.status, x.p.config.Load().keySegment())].Add(1)
		}
		m.meter.count(o)
		x.p.finish(&x.f, o)
		if o.kind == answered {
			x.finishResponse(o)
			return
		}
		if o.kind == cutOff {
			x.p.totals.cut.Add(1)
		}
		if !x.again(rule, try) {
			x.fail(o.kind)
			return
		}
		x.retried++
		x.f.again()
		x.f.tried = m
		if rule == retryStale {
			x.f.tried = nil
		}
	}
}

// classify counts the request's route for the first member that gets it, whatever will come of it there: a retry is not
// the client's work, and an instance that hangs or fails on a route must not look like one that is not asked for it.
// Routes that were not seen yet are named, and counted, with their answer.
func (x *exchange) classify(m *member) {
	if x.counted {
		return
	}
	var label int
	if label, x.counted = x.p.labels.know(x.r.Method, x.r.URL.Path, x.p.config.Load().keySegment()); x.counted {
		m.meter.routes[label].Add(1)
	}
}

// rule is whether a failed attempt may be followed by another.
type rule uint8

const (
	retryNever   rule = iota // also a request that was alone in an instance that died of something: the next may die of it too
	retrySafe                // it may be sent twice: if the budget allows
	retryRefused             // nobody listened, so it costs nobody anything to ask another
	retryMoved               // its member fell silent; the budget has paid already
	retryStale               // a kept connection that had just been closed: the next one is new
)

func (x *exchange) again(r rule, try int) bool {
	if !x.body.again() || x.r.Context().Err() != nil {
		return false
	}
	switch r {
	case retryNever:
	case retryRefused:
		if try < triesRefused {
			x.p.totals.retries.Add(1)
			return true
		}
	case retrySafe:
		return try < triesSent && x.p.retry()
	case retryMoved:
		return try <= triesSent // once in a request, see move
	case retryStale:
		return try < triesSent
	}
	return false
}

// attempt sends the request to m and passes the answer on. Where that fails before a byte of an answer was passed on,
// the rule says whether to try another.
func (x *exchange) attempt(m *member) (outcome, rule) {
	f := &x.f
	ctx := x.r.Context()
	c, err := m.up.get(ctx)
	if err != nil {
		return x.undialed(ctx, err)
	}
	if !f.attach(c) {
		c.Close()
		return x.failed(c, nil)
	}
	release := context.AfterFunc(ctx, func() { f.stop(causeClient) })
	resp, pump, err := x.send(c)
	var o outcome
	var rule rule
	if err == nil {
		f.answer()
		o = x.respond(m, c, resp)
	} else {
		o, rule = x.failed(c, err) // before the pump is halted, which may look like the client's fault
	}
	whole := pump.halt() && err == nil && !o.broken && o.kind == answered && !resp.Close && c.br.Buffered() == 0 &&
		resp.StatusCode != http.StatusSwitchingProtocols
	if !release() {
		whole = false
	}
	if !f.attach(nil) {
		whole = false
	}
	if whole {
		m.up.put(c)
	} else {
		c.Close()
	}
	return o, rule
}

func (x *exchange) undialed(ctx context.Context, err error) (outcome, rule) {
	switch {
	case ctx.Err() != nil:
		return outcome{kind: clientGone}, retryNever
	case refusal(err):
		return outcome{kind: refused}, retryRefused
	case timedOut(err):
		return outcome{kind: timeout}, retrySafe
	default:
		return outcome{kind: reset}, retrySafe
	}
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// failed says how an exchange failed that brought no answer.
func (x *exchange) failed(c *conn, err error) (outcome, rule) {
	safe := retryNever
	if x.f.idempotent || c.wrote == 0 {
		safe = retrySafe
	}
	switch x.f.stopped() {
	case causeClient:
		return outcome{kind: clientGone}, retryNever
	case causeCut:
		return outcome{kind: cutOff}, safe
	case causeMoved:
		return outcome{kind: timeout}, retryMoved
	case notStopped:
	}
	switch {
	case timedOut(err):
		return outcome{kind: timeout}, safe
	case x.f.idempotent && (x.body.stream || c.wrote > 0) && !x.route.RetryAfterDeath && x.p.alone(&x.f) && c.up.dead(x.r.Context()):
		return outcome{kind: reset}, retryNever
	case c.reused && safe == retrySafe && errors.Is(err, errNoAnswer):
		return outcome{kind: reset, stale: true}, retryStale
	default:
		return outcome{kind: reset}, safe
	}
}

// errNoAnswer: the connection ended before the first byte of an answer.
var errNoAnswer = errors.New("closed without an answer")

var heads = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// send writes the request and reads the response's header.
func (x *exchange) send(c *conn) (*http.Response, *pump, error) {
	hp := heads.Get().(*[]byte)
	h := appendHead((*hp)[:0], x.r, x)
	_, err := c.bw.Write(h)
	*hp = h[:0]
	heads.Put(hp)
	if err == nil && !x.body.stream {
		_, err = c.bw.Write(x.body.kept)
	}
	if err == nil {
		err = c.bw.Flush()
	}
	if err != nil && c.wrote == 0 {
		return nil, nil, errors.Join(errNoAnswer, err)
	}
	// A member may answer and close before it read everything: the answer counts, so it is read even so.
	proceed := make(chan struct{})
	var p *pump
	if x.body.stream {
		if err := http.NewResponseController(x.w).EnableFullDuplex(); err != nil {
			return nil, nil, err
		}
		p = x.body.pump(c, proceed)
	}
	resp, err := x.receive(c, proceed)
	return resp, p, err
}

// receive reads the response's header and passes informational ones on. The body may proceed at once, or, where the
// client expects to be asked for it, when the member asks or says nothing for a second.
func (x *exchange) receive(c *conn, proceed chan struct{}) (*http.Response, error) {
	var once sync.Once
	letBody := func() { once.Do(func() { close(proceed) }) }
	if x.expect && x.body.stream {
		t := time.AfterFunc(time.Second, letBody)
		defer t.Stop()
	} else {
		letBody()
	}
	if d := x.route.Timeout.D(); d > 0 {
		if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
			return nil, err
		}
	}
	for n := 0; ; n++ {
		c.head = headerMost
		if _, err := c.br.Peek(1); err != nil {
			return nil, errors.Join(errNoAnswer, err)
		}
		resp, err := http.ReadResponse(c.br, x.r)
		if err != nil {
			return nil, err
		}
		c.head = 0
		switch s := resp.StatusCode; {
		case s == http.StatusSwitchingProtocols && (x.upgrade == "" || upgrade(resp.Header) == ""):
			return nil, errors.New("switches protocols unasked")
		case s >= 200 || s == http.StatusSwitchingProtocols:
			if x.route.Timeout > 0 {
				err = c.SetReadDeadline(time.Time{})
			}
			return resp, err
		case n > 8:
			return nil, errors.New("too many informational responses")
		case s == http.StatusContinue:
			letBody()
		default:
			copyHeader(x.w.Header(), resp.Header)
			x.w.WriteHeader(s)
			clear(x.w.Header())
		}
	}
}

// statusClientGone is what nginx logs for a client that hung up.
const statusClientGone = 499

// fail answers the client in the place of an instance.
func (x *exchange) fail(k kind) {
	x.end = k
	if k == clientGone {
		x.status = statusClientGone
		x.w.WriteHeader(x.status) // or net/http would say 200, should anybody still listen
		return
	}
	says := k
	if k == cutOff {
		says = reset
	} else {
		x.p.totals.lost[k].Add(1)
	}
	x.status = k.status()
	h := x.w.Header()
	h.Set("X-Fettle-Error", says.String())
	if x.instance != "" {
		h.Set("X-Fettle-Instance", x.instance)
	}
	if x.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	x.w.WriteHeader(x.status)
	_, _ = io.WriteString(x.w, "fettle: "+sayings[says]+"\n") // the client's loss, and it sees it
}

var sayings = [kinds]string{
	refused: "the instance refused the connection", reset: "the instance closed the connection before it answered",
	timeout: "the instance did not answer in time", queueFull: "too many requests wait for an instance",
	noInstance: "no instance can take the request",
}
