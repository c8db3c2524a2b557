package router

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/latency"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// dimensions are what the router measures, in the order of a reading.
var dimensions = []ft.Dimension{
	{Name: ft.DimOffered, Unit: "1/s", Role: ft.Load, Transform: ft.Log1p, Kind: ft.Counter},
	{Name: ft.DimBytesIn, Unit: "B/s", Role: ft.Intake, Transform: ft.Log1p, Kind: ft.Counter},
	{Name: ft.DimRequests, Unit: "1/s", Role: ft.Intake, Transform: ft.Log1p, Kind: ft.Counter},
	{Name: ft.DimBytesOut, Unit: "B/s", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Counter},
	{Name: ft.DimInFlight, Unit: "1", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Gauge},
	{Name: ft.DimErrors, Unit: "share", Role: ft.Response, Transform: ft.Logit, Kind: ft.Gauge},
	{Name: ft.DimP50, Unit: "s", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Gauge},
	{Name: ft.DimP99, Unit: "s", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Gauge},
}

const (
	colOffered = iota
	colBytesIn
	colRequests
	colBytesOut
	colInFlight
	colErrors
	colP50
	colP99
	columns
)

// source holds the last batch and what came before it.
type source struct {
	mu     sync.Mutex
	last   wire.Counters
	next   wire.Counters
	rows   map[ft.Ref]*reading
	demand ft.Demand
	batch  uint64 // number of the batch
	any    bool   // last is filled
}

// reading is one member's row. Counters go on over a restart of the router, which begins at zero.
type reading struct {
	batch  uint64
	row    [columns]float64
	counts [wire.Categories + wire.Statuses]uint64
}

func (s *source) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last.Labels)
}

// Dimensions are what the router measures of an instance: offered load by key or fair share, requests and request
// bytes that it was given, response bytes, mean in flight, share of requests answered with 5xx or not at all, and
// quantiles of the time until the end of the response (until its header for event streams and upgrades).
func (p *PoolFront) Dimensions() []ft.Dimension { return slices.Clone(dimensions) }

// Categories are two sets. The routes, "GET /users/{n}": what was asked of the instance, however it answered, the last
// for all routes without a label. And the classes of its answers, the first for requests that it did not answer, or not
// to the end.
func (p *PoolFront) Categories() []ft.CategorySet {
	names := make([]string, wire.Categories)
	names[wire.Categories-1] = "other routes"
	return []ft.CategorySet{
		{Name: ft.SetRoutes, Role: ft.Load, Size: wire.Categories, Labels: names},
		{Name: ft.SetStatus, Role: ft.Response, Size: wire.Statuses, Labels: []string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}},
	}
}

// Attach gives a reader of the instance. Everything can be measured of every instance; one that is not in service
// has no values.
func (p *PoolFront) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	return &reader{s: &p.source, ref: in.Ref}, nil, nil
}

// Batch fetches the counters of the whole pool.
func (p *PoolFront) Batch(ctx context.Context, _ time.Time) error {
	r, _, err := p.f.link.ask(ctx, &wire.Request{Op: wire.OpCounters, Pool: p.name}, nil)
	if err != nil {
		return fmt.Errorf("pool %s: counters: %w", p.name, err)
	}
	s := &p.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.next.UnmarshalBinary(r.Counters); err != nil {
		return fmt.Errorf("pool %s: %w", p.name, err)
	}
	s.fold()
	return nil
}

// fold makes readings of the difference between next and last.
func (s *source) fold() {
	if s.rows == nil {
		s.rows = map[ft.Ref]*reading{}
	}
	s.batch++
	same := s.any && s.last.Began == s.next.Began
	span := float64(s.next.Clock-s.last.Clock) / 1e9
	s.demand = ft.Demand{InFlight: float64(s.next.InFlight), Queued: float64(s.next.Queued)}
	if same && span > 0 {
		s.demand.Arrivals = float64(s.next.Arrivals-s.last.Arrivals) / span
		s.demand.Rejected = float64(s.next.Rejected-s.last.Rejected) / span
	}
	for i := range s.next.Members {
		now := &s.next.Members[i]
		var was *wire.MemberCounters
		if same {
			if was = find(&s.last, i, now.Ref); was != nil && was.Joined != now.Joined {
				was = nil
			}
		}
		r := s.rows[now.Ref]
		if r == nil {
			r = &reading{}
			s.rows[now.Ref] = r
		}
		r.batch = s.batch
		r.fold(now, was, span)
	}
	for ref, r := range s.rows {
		if s.batch-r.batch > keepRows {
			delete(s.rows, ref)
		}
	}
	s.last, s.next = s.next, s.last
	s.any = true
}

// keepRows is for how many batches the counters of an instance that is not in service are kept: they go on where they
// were when it comes back.
const keepRows = 3600

// find is the member's counts in c, most often at the same place.
func find(c *wire.Counters, i int, ref ft.Ref) *wire.MemberCounters {
	if i < len(c.Members) && c.Members[i].Ref == ref {
		return &c.Members[i]
	}
	for j := range c.Members {
		if c.Members[j].Ref == ref {
			return &c.Members[j]
		}
	}
	return nil
}

var none wire.MemberCounters

// fold adds what was counted since was to the row; without was the router began anew, and gauges are missing.
func (r *reading) fold(now, was *wire.MemberCounters, span float64) {
	fresh := was == nil
	if fresh {
		was = &none
	}
	r.row[colOffered] += now.Offered - was.Offered
	r.row[colBytesIn] += float64(now.BytesIn - was.BytesIn)
	r.row[colRequests] += float64(now.Requests - was.Requests)
	r.row[colBytesOut] += float64(now.BytesOut - was.BytesOut)
	for i := range now.Routes {
		r.counts[i] += now.Routes[i] - was.Routes[i]
	}
	for i := range now.Status {
		r.counts[wire.Categories+i] += now.Status[i] - was.Status[i]
	}
	nan := math.NaN()
	r.row[colInFlight], r.row[colErrors], r.row[colP50], r.row[colP99] = nan, nan, nan, nan
	if fresh {
		return
	}
	if span > 0 {
		r.row[colInFlight] = (now.Busy - was.Busy) / span
	}
	var done uint64
	for i := range now.Latency {
		done += now.Latency[i] - was.Latency[i]
	}
	lost := now.Lost - was.Lost
	bad := now.Errors - was.Errors + lost
	if total := max(done, bad); total > 0 {
		r.row[colErrors] = float64(bad) / float64(total)
	}
	r.row[colP50] = latency.Quantile(0.5, &now.Latency, &was.Latency)
	r.row[colP99] = latency.Quantile(0.99, &now.Latency, &was.Latency)
}

// Demand is what was asked of the pool between the last two batches.
func (p *PoolFront) Demand() ft.Demand {
	p.source.mu.Lock()
	defer p.source.mu.Unlock()
	return p.source.demand
}

// Labels are the names of the routes so far, in the order of the counts.
func (p *PoolFront) Labels() []string { return p.source.names() }

// reader reads one instance's row of the last batch.
type reader struct {
	s   *source
	ref ft.Ref
}

// Read gives the row of the last batch; all values are missing while the instance is not in service.
func (r *reader) Read(_ time.Time, row []float64, counts []uint64) error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	v := r.s.rows[r.ref]
	if v == nil || v.batch != r.s.batch {
		for i := range row {
			row[i] = math.NaN()
		}
		clear(counts)
		return nil
	}
	copy(row, v.row[:])
	copy(counts, v.counts[:])
	return nil
}

// Close has nothing to do.
func (r *reader) Close() error { return nil }
