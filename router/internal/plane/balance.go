package plane

import (
	"context"
	"net/http"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/pick"
)

// The retry budget is a token bucket (as in Finagle's RetryBudget): each request puts Route.RetryShare in, each retry
// takes one out, so that retries never add more than that share to the load, but for what a quiet time saved up.
const (
	budgetBurst = 10
	budgetMost  = 100
)

// flight is one request on its way. The ring and the fields above mu are guarded by the pool's mutex.
type flight struct {
	next, prev *flight
	m          *member // that has it now
	tried      *member // that failed it before
	turn       chan struct{}
	given      time.Time // when m got it
	counted    bool      // as an arrival

	key        uint64
	keyed      bool
	idempotent bool
	body       *body // what it sends

	mu       sync.Mutex
	conn     *conn
	cause    cause
	answered bool // the response header came
}

// cause is why a flight was stopped from outside.
type cause uint8

const (
	notStopped  cause = iota
	causeClient       // the client is gone
	causeCut          // the member was removed
	causeMoved        // the member does not answer: try elsewhere
)

// stop ends the flight's exchange with its member.
func (f *flight) stop(c cause) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cause == notStopped || f.cause == causeMoved {
		f.cause = c
	}
	if f.conn != nil {
		f.conn.Close()
	}
}

// attach names the connection that stop closes; false where it was stopped already.
func (f *flight) attach(c *conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = c
	return f.cause == notStopped
}

func (f *flight) stopped() cause {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause
}

func (f *flight) answer() {
	f.mu.Lock()
	f.answered = true
	f.mu.Unlock()
}

// again readies the flight for another member.
func (f *flight) again() {
	f.mu.Lock()
	f.conn, f.answered = nil, false
	if f.cause != causeClient {
		f.cause = notStopped
	}
	f.mu.Unlock()
}

// acquire finds a member for the flight, waiting in the queue if none can take it. It returns why not, or zero.
func (p *Pool) acquire(ctx context.Context, f *flight, route *ft.Route) kind {
	now := time.Now()
	p.mu.Lock()
	p.arrive(f)
	if p.closed || p.hopeless() {
		p.mu.Unlock()
		return noInstance
	}
	if len(p.queue) == 0 {
		if m := p.choose(f, now); m != nil {
			p.begin(f, m, now)
			p.mu.Unlock()
			return answered
		}
	}
	if len(p.queue) >= route.Queue {
		p.rejected++
		p.mu.Unlock()
		return queueFull
	}
	f.turn = make(chan struct{})
	p.queue = append(p.queue, f)
	p.mu.Unlock()
	p.totals.waited.Add(1)
	return p.wait(ctx, f, route.QueueFor.D())
}

func (p *Pool) wait(ctx context.Context, f *flight, most time.Duration) kind {
	t := time.NewTimer(most)
	defer t.Stop()
	why := noInstance
	select {
	case <-f.turn:
	case <-t.C:
	case <-ctx.Done():
		why = clientGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.m != nil {
		return answered
	}
	for i, q := range p.queue {
		if q == f {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			break
		}
	}
	if why == noInstance {
		p.rejected++
	}
	return why
}

// arrive counts the request once: at its key's first choice among all members, else shared equally.
func (p *Pool) arrive(f *flight) {
	if f.counted {
		return
	}
	f.counted = true
	p.arrivals++
	p.tokens = min(p.tokens+p.table.Route.RetryShare, budgetMost)
	if len(p.members) == 0 {
		return
	}
	if !f.keyed {
		p.share += 1 / float64(len(p.members))
		return
	}
	for i, m := range p.members {
		p.choice[i] = pick.Candidate{Seed: m.seed}
	}
	p.members[pick.First(p.choice, f.key)].keyed++
}

// choose is the member for the flight, nil where none can take it now. The member that failed it before is the last
// resort; ejected ones serve where no other is left, since a bad answer is better than none. Holds p.mu.
func (p *Pool) choose(f *flight, now time.Time) *member {
	if m := p.among(f, now, f.tried, Up); m != nil {
		return m
	}
	if f.tried != nil {
		if m := p.among(f, now, nil, Up); m != nil {
			return m
		}
	}
	for _, m := range p.members {
		if m.health.state == Up && !m.draining {
			return nil // only busy
		}
	}
	return p.among(f, now, nil, Ejected)
}

func (p *Pool) among(f *flight, now time.Time, not *member, state State) *member {
	weightless := true
	for i, m := range p.members {
		c := &p.choice[i]
		*c = pick.Candidate{Seed: m.seed, InFlight: m.inFlight, Limit: m.limit}
		if !m.health.silent.IsZero() {
			c.Limit = 1 // on trial
		}
		c.Out = m == not || m.draining || m.health.state != state
		if !c.Out {
			c.Weight = m.effective(&p.table.Route, now)
			weightless = weightless && c.Weight == 0
		}
	}
	if weightless {
		for i := range p.choice {
			p.choice[i].Weight = 1
		}
	}
	var i int
	if f.keyed {
		i = pick.ByKey(p.choice, f.key)
	} else {
		i = pick.Least(p.choice, uniform)
	}
	if i < 0 {
		return nil
	}
	return p.members[i]
}

// begin gives the flight to m. Holds p.mu.
func (p *Pool) begin(f *flight, m *member, now time.Time) {
	m.integrate(now)
	m.inFlight++
	f.m, f.given = m, now
	head := &m.flights
	f.prev, f.next = head.prev, head
	f.prev.next, head.prev = f, f
	m.meter.requests.Add(1)
}

// finish takes the flight from its member, which then may take the next of the queue.
func (p *Pool) finish(f *flight, o outcome) {
	now := time.Now()
	p.mu.Lock()
	m := f.m
	m.integrate(now)
	m.inFlight--
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev, f.m = nil, nil, nil
	if o.kind == reset {
		m.broke = now
	}
	p.result(m, o, now)
	if m.inFlight == 0 && m.draining {
		m.wake()
	}
	if len(p.queue) > 0 {
		p.pump(now)
	}
	p.mu.Unlock()
}

// alone tells whether a flight that failed is the only one that its member had when it did.
func (p *Pool) alone(f *flight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.m.inFlight == 1 && f.m.broke.Before(f.given)
}

// pump serves the queue in order, as far as there is room. Holds p.mu.
func (p *Pool) pump(now time.Time) {
	n := 0
	for _, f := range p.queue {
		m := p.choose(f, now)
		if m == nil {
			break
		}
		p.begin(f, m, now)
		close(f.turn)
		n++
	}
	if n > 0 {
		p.queue = append(p.queue[:0], p.queue[n:]...)
	}
}

// retry takes a token of the budget.
func (p *Pool) retry() bool {
	p.mu.Lock()
	ok := p.spend()
	p.mu.Unlock()
	if !ok {
		p.totals.denied.Add(1)
	}
	return ok
}

// spend takes one retry out of the budget if it has one. Holds p.mu.
func (p *Pool) spend() bool {
	if p.tokens < 1 {
		return false
	}
	p.tokens--
	p.totals.retries.Add(1)
	return true
}

// kind is how a request ended for the client: answered by an instance, or by the router itself and why.
type kind uint8

const (
	answered kind = iota
	refused
	reset
	timeout
	queueFull
	noInstance
	clientGone
	cutOff
	kinds
)

var kindNames = [kinds]string{"", "refused", "reset", "timeout", "queue-full", "no-instance", "client-gone", "cut"}

func (k kind) String() string { return kindNames[k] }

// status is what the client gets.
func (k kind) status() int {
	switch k {
	case timeout:
		return http.StatusGatewayTimeout
	case queueFull, noInstance:
		return http.StatusServiceUnavailable
	case answered, refused, reset, clientGone, cutOff, kinds:
	}
	return http.StatusBadGateway
}
