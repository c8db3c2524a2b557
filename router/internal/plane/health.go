package plane

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// State is what the router knows of a member's health. Only Up members get requests (and Ejected ones where nothing
// else is left).
//
//	Warming --probe--> Up --connection refused--> Refusing --connects again--> Up
//	                   Up --failures in a row---> Ejected  --hold over, probe passes--> Up
//	                   Up --requests wait, nothing comes--> Silent --a byte comes, or on trial--> Up
//	               any of them --readiness fails in a row--> Unready --probe passes--> Up
type State uint8

// The states.
const (
	Warming  State = iota // not yet probed
	Up                    // in routing
	Unready               // its readiness probe fails
	Refusing              // nobody listens there
	Ejected               // failed too often in a row
	Silent                // takes requests and answers nothing
)

var stateNames = [...]string{"warming", "routed", "unready", "refusing", "ejected", "silent"}

func (s State) String() string { return stateNames[s] }

// health of one member, guarded by the pool's mutex.
type health struct {
	state     State
	changed   time.Time
	returned  time.Time // when it last came back into routing
	failures  int       // in a row, of requests
	ejections uint64
	holds     int       // ejections that followed each other closely
	until     time.Time // Ejected: not probed before; Silent: not tried before
	silent    time.Time // since when nothing came; zero unless it is or was Silent and has answered nothing since
	gaveUp    int       // requests that ended without an answer since
	reported  [wireProbes]bool
}

// The probes that an event can name.
const (
	byReadiness = iota
	byPassive
	wireProbes
)

var probeNames = [wireProbes]string{"readiness", "passive"}

// turn moves a member to a state. Holds p.mu.
func (p *Pool) turn(m *member, to State, now time.Time) {
	h := &m.health
	from := h.state
	if from == to || m.gone {
		return
	}
	h.state, h.changed = to, now
	switch to {
	case Up:
		h.failures = 0
		if from != Warming {
			h.returned = now
		}
		p.responsive(m, byReadiness, now)
		p.pump(now)
	case Ejected, Silent:
		h.ejections++
		if now.Sub(h.returned) > calm*p.config.Load().interval {
			h.holds = 0
		}
		h.until = now.Add(2 * p.config.Load().interval << min(h.holds, holdMost))
		h.holds++
	case Warming, Unready, Refusing:
	}
	p.log.Info("member", "instance", m.name, "from", from.String(), "to", to.String())
	m.wake()
	if to != Up {
		select {
		case m.kick <- struct{}{}:
		default:
		}
	}
}

const (
	calm     = 60 // intervals after a return until an ejection counts as the first again
	holdMost = 5  // doublings of the hold of an ejection, which begins with two intervals
)

// routable counts the members other than m that requests can go to. Holds p.mu.
func (p *Pool) routable(m *member) int {
	n := 0
	for _, o := range p.members {
		if o != m && o.health.state == Up && !o.draining && o.weight > 0 {
			n++
		}
	}
	return n
}

// outcome is how a flight ended, as far as the member is concerned.
type outcome struct {
	kind   kind
	status int           // answered
	ttfb   time.Duration // answered: until the response header
	took   time.Duration // answered: until the end
	broken bool          // the response ended early by the member's fault
	stale  bool          // a kept connection had been closed: nobody's fault
}

// result is passive health: failures of the connection (refused, reset, time-outs, responses cut short) in a row eject
// a member. An answer is an answer whatever its status: plain 5xx of the application are for the brain to judge, since
// ejecting for them would hide from users nothing but the error's text. Holds p.mu.
func (p *Pool) result(m *member, o outcome, now time.Time) {
	h := &m.health
	switch {
	case o.kind == clientGone || o.kind == cutOff || o.stale:
		if !h.silent.IsZero() {
			h.gaveUp++
		}
		return
	case o.kind == answered && !o.broken:
		h.failures = 0
		p.slowest = max(p.slowest, o.ttfb.Seconds())
		return
	}
	h.failures++
	if !h.silent.IsZero() {
		h.gaveUp++
	}
	if h.state != Up {
		return
	}
	if o.kind == refused {
		p.turn(m, Refusing, now)
		return
	}
	if h.failures >= p.table.Route.EjectAfter && p.routable(m) > 0 {
		p.turn(m, Ejected, now)
	}
}

// watch looks for silence until the pool closes.
func (p *Pool) watch() {
	last := time.Now()
	for {
		c := p.config.Load()
		t := time.NewTimer(min(max(c.interval/4, 5*time.Millisecond), 250*time.Millisecond))
		select {
		case <-p.closing:
			t.Stop()
			return
		case <-t.C:
		}
		now := time.Now()
		p.silence(now, now.Sub(last), c)
		last = now
		for _, m := range p.snapshot() {
			m.up.prune(now)
		}
	}
}

func (p *Pool) snapshot() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members
}

// hasty is the least silence that means anything on a busy machine.
const hasty = 500 * time.Millisecond

// memory is the time in which the slowest header seen is forgotten to a third.
const memory = 10 * time.Minute

// silence takes members out of routing into which requests went and out of which nothing comes, while others answer:
// after two intervals, or four times the slowest header of late. It is reported when it lasted twice as long with at
// least enough requests waiting, and at the latest after the pool's limit of silence, peers or not: then also the last
// member is taken out, since what waits in the queue is served by whatever replaces it. Requests that may be sent
// twice move elsewhere.
func (p *Pool) silence(now time.Time, passed time.Duration, c *config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowest *= 1 - min(1, passed.Seconds()/memory.Seconds())
	early := max(2*c.interval, hasty, time.Duration(4*p.slowest*float64(time.Second)))
	if c.silence > 0 {
		early = min(early, c.silence)
	}
	for _, m := range p.members {
		p.listenTo(m, early, now)
	}
}

// listenTo is silence for one member. Holds p.mu.
func (p *Pool) listenTo(m *member, early time.Duration, now time.Time) {
	h, limit := &m.health, p.table.Silence.D()
	last := time.Unix(0, m.meter.lastByte.Load())
	if !h.silent.IsZero() && last.After(h.silent) {
		h.silent, h.gaveUp = time.Time{}, 0
		if h.state == Silent {
			p.turn(m, Up, now)
		}
		p.responsive(m, byPassive, now)
	}
	waiting, since := m.waiting(last)
	if waiting == 0 {
		if h.state == Silent && now.After(h.until) {
			p.turn(m, Up, now) // on trial, with one request at once
		}
		if h.state != Silent {
			return
		}
	}
	lasted := now.Sub(since)
	peers := p.peerAnswered(m, now.Add(-early))
	if h.state == Up && lasted >= early && peers && p.routable(m) > 0 {
		p.silent(m, since, now)
	}
	if !h.silent.IsZero() {
		lasted = now.Sub(h.silent)
	}
	strong := h.state == Silent && lasted >= 2*early && waiting+h.gaveUp >= enough && peers
	if !h.reported[byPassive] && (strong || limit > 0 && lasted >= limit) {
		p.silent(m, since, now)
		p.unresponsive(m, byPassive, lasted, fmt.Sprintf("%d requests wait", waiting), now)
		p.move(m)
	}
}

// silent takes a member out of routing that answers nothing. Holds p.mu.
func (p *Pool) silent(m *member, since, now time.Time) {
	h := &m.health
	if h.silent.IsZero() {
		h.silent = since
	}
	if h.state == Up {
		p.turn(m, Silent, now)
	}
}

// revive gives a member a chance that comes back into service after something was done about it. Holds p.mu.
func (p *Pool) revive(m *member, now time.Time) {
	if m.health.state == Silent || m.health.state == Ejected {
		p.turn(m, Up, now)
	}
}

// enough requests that wait are more than one slow request, which is no silence.
const enough = 3

// waiting counts the requests without a response header and says since when the member owes them anything: the
// latest of the oldest one's start and the last byte that came. Holds the pool's mutex.
func (m *member) waiting(last time.Time) (n int, since time.Time) {
	for f := m.flights.next; f != &m.flights; f = f.next {
		f.mu.Lock()
		waits := !f.answered
		f.mu.Unlock()
		if waits {
			if n == 0 {
				since = f.given
			}
			n++
		}
	}
	if last.After(since) {
		since = last
	}
	return n, since
}

// move stops the member's waiting requests that will be tried elsewhere: those that may be sent twice, were not moved
// before, and for which the retry budget has room. The others wait on: the member may still answer. Holds p.mu.
func (p *Pool) move(m *member) {
	for f := m.flights.next; f != &m.flights; f = f.next {
		f.mu.Lock()
		waits := !f.answered
		f.mu.Unlock()
		if waits && f.idempotent && f.tried == nil && f.body.again() && p.spend() {
			f.stop(causeMoved)
		}
	}
}

func (p *Pool) peerAnswered(m *member, after time.Time) bool {
	for _, o := range p.members {
		if o != m && o.meter.lastByte.Load() > after.UnixNano() {
			return true
		}
	}
	return false
}

// unresponsive reports once that a member does not answer. Holds p.mu.
func (p *Pool) unresponsive(m *member, probe int, silent time.Duration, detail string, now time.Time) {
	if m.health.reported[probe] || m.gone {
		return
	}
	m.health.reported[probe] = true
	p.event(wire.Event{At: now, Ref: m.ref, Probe: probeNames[probe], Silent: ft.Duration(silent), Detail: detail})
}

// responsive takes the report back. Holds p.mu.
func (p *Pool) responsive(m *member, probe int, now time.Time) {
	h := &m.health
	if !h.reported[probe] {
		return
	}
	h.reported[probe] = false
	if h.reported == [wireProbes]bool{} && !m.gone {
		p.event(wire.Event{At: now, Ref: m.ref, Probe: probeNames[probe], Again: true})
	}
}

// Unresponsive lists what was reported and holds still, for a control side that comes later.
func (p *Pool) Unresponsive() []wire.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var es []wire.Event
	for _, m := range p.members {
		for i, is := range m.health.reported {
			if is {
				es = append(es, wire.Event{At: time.Now(), Ref: m.ref, Probe: probeNames[i], Silent: ft.Duration(time.Since(m.health.changed))})
			}
		}
	}
	return es
}
