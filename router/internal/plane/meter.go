package plane

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/fettle-dev/fettle/router/internal/latency"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// meter counts what goes through one member, without a lock. Padded so that members do not share cache lines.
type meter struct {
	_        [64]byte
	requests atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	errors   atomic.Uint64
	lost     atomic.Uint64
	lastByte atomic.Int64 // when the member last sent anything, Unix nanoseconds
	routes   [wire.Categories]atomic.Uint64
	status   [wire.Statuses]atomic.Uint64
	latency  latency.Histogram
	_        [64]byte
}

// count adds what a flight came to.
func (m *meter) count(o outcome) {
	switch {
	case o.kind == clientGone || o.kind == cutOff || o.stale:
		return
	case o.kind != answered:
		m.lost.Add(1)
		m.status[0].Add(1)
		return
	case o.broken:
		m.lost.Add(1)
		m.status[0].Add(1)
	default:
		if o.status >= 500 {
			m.errors.Add(1)
		}
		m.status[class(o.status)].Add(1)
	}
	m.latency.Add(o.took)
}

// class is the place of a status among [wire.Statuses]. Numbers that no class has are errors.
func class(status int) int { return min(max(status/100, 1), wire.Statuses-1) }

// Counters fills c with the pool's cumulative counts.
func (p *Pool) Counters(c *wire.Counters) {
	now := time.Now()
	labels := p.labels.names()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Began, c.Clock = uint64(p.began.UnixNano()), uint64(now.Sub(p.began))
	c.Arrivals, c.Rejected, c.Queued = p.arrivals, p.rejected, uint64(len(p.queue))
	c.InFlight = 0
	c.Labels = labels
	c.Members = make([]wire.MemberCounters, len(p.members))
	for i, m := range p.members {
		m.integrate(now)
		w := &c.Members[i]
		w.Ref, w.Offered, w.Busy, w.InFlight = m.ref, m.offered(p.share), m.busy, uint64(m.inFlight)
		w.Joined = uint64(m.joined.Sub(p.began))
		w.Requests, w.BytesIn, w.BytesOut = m.meter.requests.Load(), m.meter.bytesIn.Load(), m.meter.bytesOut.Load()
		w.Errors, w.Lost = m.meter.errors.Load(), m.meter.lost.Load()
		m.meter.latency.Read(&w.Latency)
		for j := range w.Routes {
			w.Routes[j] = m.meter.routes[j].Load()
		}
		for j := range w.Status {
			w.Status[j] = m.meter.status[j].Load()
		}
		c.InFlight += uint64(m.inFlight)
	}
}

func (m *member) offered(share float64) float64 { return float64(m.keyed) + share - m.share }

// Stats are the pool's totals; address and process are the caller's to fill.
func (p *Pool) Stats() *wire.Stats {
	now := time.Now()
	t := &p.totals
	s := &wire.Stats{
		Pool: p.name, Since: p.began, Status: map[string]uint64{}, Lost: map[string]uint64{},
		Broken: t.broken.Load(), Cut: t.cut.Load(), ClientGone: t.clientGone.Load(), Retries: t.retries.Load(),
		Denied: t.denied.Load(), Waited: t.waited.Load(), LogDropped: p.access.dropped.Load(),
	}
	for c := 1; c < len(t.status); c++ {
		s.Status[strconv.Itoa(c)+"xx"] = t.status[c].Load()
	}
	for _, k := range []kind{refused, reset, timeout, queueFull, noInstance} {
		s.Lost[k.String()] = t.lost[k].Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Requests, s.Queued = p.arrivals, len(p.queue)
	for _, m := range p.members {
		v := m.stats(p, now)
		s.InFlight += v.InFlight
		switch m.health.state {
		case Ejected, Silent, Refusing, Unready:
			s.Ejected = append(s.Ejected, m.ref)
		case Warming, Up:
		}
		s.Members = append(s.Members, v)
	}
	return s
}

func (m *member) stats(p *Pool, now time.Time) wire.MemberStats {
	var h [latency.Buckets]uint64
	m.meter.latency.Read(&h)
	v := wire.MemberStats{
		Ref: m.ref, Endpoint: m.up.endpoint, State: m.health.state.String(), Weight: m.effective(&p.table.Route, now),
		InFlight: m.inFlight, Requests: m.meter.requests.Load(), Errors: m.meter.errors.Load(), Lost: m.meter.lost.Load(),
		Offered: m.offered(p.share), BytesIn: m.meter.bytesIn.Load(), BytesOut: m.meter.bytesOut.Load(),
		Ejections: m.health.ejections, Status: map[string]uint64{"none": m.meter.status[0].Load()},
	}
	for c := 1; c < wire.Statuses; c++ {
		v.Status[strconv.Itoa(c)+"xx"] = m.meter.status[c].Load()
	}
	if m.draining {
		v.State = "draining"
	}
	if q := latency.Quantile(0.5, &h, nil); q == q { // not NaN, which JSON cannot say
		v.P50, v.P99 = q, latency.Quantile(0.99, &h, nil)
	}
	return v
}

func itoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
