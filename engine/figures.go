package engine

import (
	"math"

	ft "github.com/fettle-dev/fettle"
)

// healthFrames is how many frames one Health event covers.
const healthFrames = 5

// meter sums frames up to the objective's figures. Latencies and errors are means weighted by requests: of quantiles
// that is an estimate, good enough to compare like with like.
type meter struct {
	schema *ft.Schema
	cols   struct{ requests, errors, p50, p99, cpu, rss int }
	frames int
	sums   []sums // by slot
	demand ft.Demand
}

// sums of one life in the frames since the last Health.
type sums struct {
	life               ft.Life
	requests, span     float64
	errors, errorsBy   float64 // weighted value and its weight
	p50, p50By         float64
	p99, p99By         float64
	cpu, cpuBy         float64
	memory, memoryRows float64
}

// add folds a frame; every [healthFrames] frames it returns the event.
func (m *meter) add(f *ft.Frame, ref func(ft.Slot) (ft.Ref, bool)) *ft.Health {
	if m.schema != f.Schema {
		m.bind(f.Schema)
	}
	m.frames++
	m.demand.Arrivals += f.Demand.Arrivals / healthFrames
	m.demand.Rejected += f.Demand.Rejected / healthFrames
	m.demand.InFlight += f.Demand.InFlight / healthFrames
	m.demand.Queued += f.Demand.Queued / healthFrames
	for r := range f.Rows {
		m.row(f, r)
	}
	if m.frames < healthFrames {
		return nil
	}
	h := &ft.Health{Demand: m.demand}
	var all sums
	for r := range f.Rows {
		s := &m.sums[f.Rows[r].Slot]
		id, ok := ref(f.Rows[r].Slot)
		if !ok || id.Life() != s.life {
			continue
		}
		g := s.figures()
		h.Members = append(h.Members, ft.MemberFigures{Ref: id, Figures: g})
		h.Pool.Rate += g.Rate
		h.Pool.CPU += g.CPU
		h.Pool.Memory += g.Memory
		all.errors, all.errorsBy = all.errors+s.errors, all.errorsBy+s.errorsBy
		all.p50, all.p50By = all.p50+s.p50, all.p50By+s.p50By
		all.p99, all.p99By = all.p99+s.p99, all.p99By+s.p99By
	}
	h.Pool.Errors, h.Pool.P50, h.Pool.P99 = ratio(all.errors, all.errorsBy), ratio(all.p50, all.p50By), ratio(all.p99, all.p99By)
	m.frames, m.demand = 0, ft.Demand{}
	clear(m.sums)
	return h
}

func (m *meter) bind(s *ft.Schema) {
	*m = meter{schema: s}
	m.cols.requests, m.cols.errors = s.Index(ft.DimRequests), s.Index(ft.DimErrors)
	m.cols.p50, m.cols.p99 = s.Index(ft.DimP50), s.Index(ft.DimP99)
	m.cols.cpu, m.cols.rss = s.Index(ft.DimCPU), s.Index(ft.DimRSS)
}

func (m *meter) row(f *ft.Frame, r int) {
	row := &f.Rows[r]
	for int(row.Slot) >= len(m.sums) {
		m.sums = append(m.sums, sums{})
	}
	s := &m.sums[row.Slot]
	if s.life != row.Life {
		*s = sums{life: row.Life}
	}
	span := float64(f.Span[r])
	if !(span > 0) {
		return // nothing was measured yet
	}
	requests := value(f, r, m.cols.requests)
	if math.IsNaN(requests) {
		requests = 0
	}
	n := requests * span
	s.requests += n
	s.span += span
	weigh(&s.errors, &s.errorsBy, value(f, r, m.cols.errors), n)
	weigh(&s.p50, &s.p50By, value(f, r, m.cols.p50), n)
	weigh(&s.p99, &s.p99By, value(f, r, m.cols.p99), n)
	weigh(&s.cpu, &s.cpuBy, value(f, r, m.cols.cpu), span)
	weigh(&s.memory, &s.memoryRows, value(f, r, m.cols.rss), 1)
}

func (s *sums) figures() ft.Figures {
	return ft.Figures{
		Rate: ratio(s.requests, s.span), Errors: ratio(s.errors, s.errorsBy),
		P50: ratio(s.p50, s.p50By), P99: ratio(s.p99, s.p99By),
		CPU: ratio(s.cpu, s.cpuBy), Memory: ratio(s.memory, s.memoryRows),
	}
}

// value is NaN where the schema has no such column.
func value(f *ft.Frame, r, c int) float64 {
	if c < 0 {
		return math.NaN()
	}
	return f.Value(r, c)
}

func weigh(sum, by *float64, v, w float64) {
	if w > 0 && !math.IsNaN(v) && !math.IsInf(v, 0) {
		*sum += v * w
		*by += w
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
