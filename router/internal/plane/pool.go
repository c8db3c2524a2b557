// Package plane is the router's data plane: it serves a pool's requests by its table.
package plane

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/pick"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// Pool routes the requests of one pool; it is an http.Handler. Safe for concurrent use.
type Pool struct {
	name    ft.PoolName
	log     *slog.Logger
	event   func(wire.Event)
	began   time.Time
	labels  labels
	access  accessLog
	totals  totals
	config  atomic.Pointer[config]
	closing chan struct{}
	done    sync.WaitGroup // the monitor and the probers

	mu       sync.Mutex
	table    *wire.Table
	members  []*member
	choice   []pick.Candidate // of members, filled anew for each choice
	queue    []*flight
	share    float64 // sum over requests without key of 1/members
	arrivals uint64
	rejected uint64
	tokens   float64 // of the retry budget
	slowest  float64 // seconds until a response header, decaying maximum
	closed   bool
	last     bool // no other table comes
}

// config is what requests need of the table, without the lock.
type config struct {
	route     ft.Route
	silence   time.Duration
	interval  time.Duration
	readiness *ft.Probe
	env       []string
	dir       string
}

// keySegment is the path segment that is the routing key, counted from 1; 0 is none.
func (c *config) keySegment() int {
	if c.route.Key == nil {
		return 0
	}
	return c.route.Key.Path
}

// totals are the pool's counters that need no lock.
type totals struct {
	status                                           [6]atomic.Uint64 // by class
	lost                                             [kinds]atomic.Uint64
	broken, cut, clientGone, retries, denied, waited atomic.Uint64
}

// New makes a pool of its first table. Members of the first table are taken to be ready, so that a restarted router
// serves at once; later ones are probed before requests reach them.
func New(t *wire.Table, log *slog.Logger, event func(wire.Event)) *Pool {
	p := &Pool{
		name: t.Pool, log: log.With("pool", string(t.Pool)), event: event, began: time.Now(),
		closing: make(chan struct{}), tokens: budgetBurst,
	}
	p.labels.init(t.Labels)
	p.access.init(p.log)
	p.Apply(t)
	p.done.Go(p.watch)
	return p
}

// Apply makes the table the pool's own. Members that are not in it are forgotten and what they have in flight is cut.
// It returns false where the pool has a table of a later epoch.
func (p *Pool) Apply(t *wire.Table) bool {
	p.mu.Lock()
	first := p.table == nil
	if p.closed || !first && t.Epoch < p.table.Epoch {
		p.mu.Unlock()
		return false
	}
	p.table = t
	c := &config{
		route: t.Route, silence: t.Silence.D(), interval: t.Interval.D(), readiness: t.Readiness,
		env: t.Env, dir: t.Dir,
	}
	p.config.Store(c)
	now := time.Now()
	old := p.members
	var revived, gone []*member
	p.members = make([]*member, 0, len(t.Members))
	for i := range t.Members {
		w := &t.Members[i]
		at := slices.IndexFunc(old, func(m *member) bool { return m.ref == w.Ref && m.up.endpoint == w.Endpoint })
		var m *member
		if at >= 0 {
			m = old[at]
		} else {
			m = newMember(p, w, first, now)
			p.done.Go(func() { p.probe(m) })
		}
		if m.draining && !w.Draining {
			revived = append(revived, m)
		}
		m.weight, m.draining, m.since, m.limit = w.Weight, w.Draining, w.Since, w.Concurrency
		if m.limit == 0 {
			m.limit = t.Concurrency
		}
		p.members = append(p.members, m)
	}
	p.choice = make([]pick.Candidate, len(p.members))
	for _, m := range old {
		if !slices.Contains(p.members, m) {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		p.cut(m)
	}
	for _, m := range revived {
		p.revive(m, now)
	}
	p.pump(now)
	p.mu.Unlock()
	for _, m := range gone {
		m.close()
	}
	p.access.open(t.Route.AccessLog)
	return true
}

// cut ends what the member still has in flight. Holds p.mu.
func (p *Pool) cut(m *member) {
	m.gone = true
	for f := m.flights.next; f != &m.flights; f = f.next {
		f.stop(causeCut)
	}
	m.wake()
}

// Table is the table as it was applied, with the labels found so far.
func (p *Pool) Table() *wire.Table {
	p.mu.Lock()
	t := p.table.Clone()
	p.mu.Unlock()
	t.Labels = p.labels.names()
	return t
}

// Last says that no other table comes: what waits for an instance while none is in service is answered at once.
func (p *Pool) Last() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = true
	if p.hopeless() {
		p.dismiss()
	}
}

// hopeless tells whether no member will take a request any more. Holds p.mu.
func (p *Pool) hopeless() bool {
	return p.last && !slices.ContainsFunc(p.members, func(m *member) bool { return !m.draining })
}

// dismiss ends the waiting of all in the queue. Holds p.mu.
func (p *Pool) dismiss() {
	for _, f := range p.queue {
		close(f.turn)
	}
	p.queue = nil
}

// Close stops probes and cuts what is in flight.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.closing)
	members := p.members
	for _, m := range members {
		p.cut(m)
	}
	p.dismiss()
	p.mu.Unlock()
	for _, m := range members {
		m.close()
	}
	p.done.Wait()
	p.access.close()
}

// member is one instance. Its fields below the first group are guarded by the pool's mutex.
type member struct {
	ref    ft.Ref
	name   string // "web-3/1"
	seed   uint64
	up     *upstream
	meter  meter
	joined time.Time
	kick   chan struct{} // asks the prober to look at once
	quit   chan struct{}

	weight   float64
	draining bool
	gone     bool
	limit    int
	since    time.Time

	inFlight int
	broke    time.Time // when a request last ended here without an answer
	flights  flight    // head of the ring, in the order of their starts
	busy     float64
	busyAt   time.Time
	keyed    uint64
	share    float64 // the pool's when the member joined
	changed  chan struct{}

	health health
}

func newMember(p *Pool, w *wire.Member, ready bool, now time.Time) *member {
	m := &member{
		ref: w.Ref, name: string(w.Ref.ID) + "/" + itoa(w.Ref.Generation), seed: pick.Hash(string(w.Ref.ID)), joined: now,
		kick: make(chan struct{}, 1), quit: make(chan struct{}), busyAt: now, share: p.share,
		changed: make(chan struct{}),
	}
	m.up = newUpstream(w.Endpoint, &m.meter)
	m.flights.next, m.flights.prev = &m.flights, &m.flights
	if ready {
		m.health.state = Up
	}
	return m
}

func (m *member) close() {
	close(m.quit)
	m.up.close()
}

// wake tells those who wait for a change of the member (Ready, Drain). Holds the pool's mutex.
func (m *member) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// integrate brings the time integral of in flight up to now. Holds the pool's mutex.
func (m *member) integrate(now time.Time) {
	if d := now.Sub(m.busyAt); d > 0 {
		m.busy += float64(m.inFlight) * d.Seconds()
		m.busyAt = now
	}
}

// effective is the weight after slow start: a member that came into service, or back, draws a growing share.
func (m *member) effective(route *ft.Route, now time.Time) float64 {
	begin := m.since
	if m.health.returned.After(begin) {
		begin = m.health.returned
	}
	age := now.Sub(begin)
	if age >= route.SlowStart.D() {
		return m.weight
	}
	return m.weight * max(slowStartFloor, age.Seconds()/route.SlowStart.D().Seconds())
}

const slowStartFloor = 0.1

func (p *Pool) find(ref ft.Ref) *member {
	for _, m := range p.members {
		if m.ref == ref {
			return m
		}
	}
	return nil
}

func uniform() float64 { return rand.Float64() }
