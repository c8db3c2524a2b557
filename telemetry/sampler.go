package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const (
	// patience is how long one reader may take before the others go on without it.
	patience = 400 * time.Millisecond
	// leastPatience is how long one may take after many others blocked in the same round.
	leastPatience = 25 * time.Millisecond
	// roundPatience is how long all readers may take together; who did not get a turn is the first in the next round.
	roundPatience = time.Second
	// longSpan is how many usual intervals a row may cover before its rates tell nothing.
	longSpan = 5
	// attachAgain is how long an instance that could not be attached to is left alone.
	attachAgain = 5 * time.Second
	// closeWithin is how long Close waits for readers that block.
	closeWithin = 2 * time.Second
)

// Sampler measures the instances of one pool: it attaches sources to them, differences counters, and fills frames.
// Sample and Close are called by one goroutine at a time; the other methods are safe at any time.
type Sampler struct {
	log     *slog.Logger
	schema  *ft.Schema
	sources []*source
	crew    *crew
	epoch   time.Time     // all durations are since then, on the monotonic clock
	last    time.Duration // of the previous Sample, 0 before the first
	usual   time.Duration // between Samples
	round   uint64
	pending []*attachment
	cut     bool // the last round was cut short
	brake   brake
	joined  uint64 // members ever
	met     int    // members that something was attached to in this round

	one     sync.Mutex // held while it samples: one round at a time, and none while it is closed
	mu      sync.Mutex
	members map[ft.Ref]*member
	closed  bool
}

// source is a source with its place in the schema.
type source struct {
	ft.Source
	batcher  ft.Batcher
	dims     []ft.Dimension
	columns  []int // of each dimension
	category int   // where its counts begin
	ncat     int
	labels   []string // of its categories, where they are known at once
	batch    batch
}

// member is an instance under measurement.
type member struct {
	in          ft.Instance
	serial      uint64
	attachments []*attachment
	have        ft.Dims
	known       uint64        // changes of attachments that have is computed from
	round       uint64        // the last Sample that it was in
	at          time.Duration // of the last row, 0 before the first
}

// New makes a sampler for one pool. Its schema is the union of the sources' dimensions: where two measure the same, an
// instance's value comes from the first that can measure that instance; they must agree on unit, role and transform.
func New(log *slog.Logger, sources ...ft.Source) (*Sampler, error) {
	s := &Sampler{log: log, epoch: time.Now(), members: map[ft.Ref]*member{}}
	var dims []ft.Dimension
	var sets []ft.CategorySet
	ncat := 0
	for _, src := range sources {
		v := &source{Source: src, dims: src.Dimensions(), category: ncat}
		v.batcher, _ = src.(ft.Batcher)
		for _, c := range src.Categories() {
			sets = append(sets, c)
			v.labels = append(v.labels, c.Labels...)
			v.ncat += c.Size
			v.labels = append(v.labels, make([]string, v.ncat-len(v.labels))...)
		}
		ncat += v.ncat
		for _, d := range v.dims {
			i := slices.IndexFunc(dims, func(o ft.Dimension) bool { return o.Name == d.Name })
			if i < 0 {
				dims = append(dims, d)
				continue
			}
			if o := dims[i]; o.Unit != d.Unit || o.Role != d.Role || o.Transform != d.Transform {
				return nil, fmt.Errorf("telemetry: sources disagree on %s: %s, %s, %s and %s, %s, %s", d.Name, o.Unit, o.Role, o.Transform, d.Unit, d.Role, d.Transform)
			}
		}
		s.sources = append(s.sources, v)
	}
	schema, err := ft.NewSchema(dims, sets...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	s.schema = schema
	for _, v := range s.sources {
		for _, d := range v.dims {
			v.columns = append(v.columns, schema.Index(d.Name))
		}
	}
	s.crew = newCrew()
	return s, nil
}

// Schema is the union of the sources' dimensions.
func (s *Sampler) Schema() *ft.Schema { return s.schema }

// Sample measures members; members[i] is f.Rows[i], and f was reset to their number. Instances that are not among the
// members any more are detached. A reader or batch that fails or blocks leaves NaN in its own columns and is logged when
// that begins and ends; the error is for misuse and for an ended ctx only. now becomes the frame's time; rates and
// spans are over the time between the readings themselves, on the monotonic clock: it does not step, and stands still
// while the machine is suspended, as the instances do.
func (s *Sampler) Sample(ctx context.Context, now time.Time, members []ft.Instance, f *ft.Frame) error {
	if f.Schema != s.schema || len(f.Have) != len(members) {
		return fmt.Errorf("sample %d instances: the frame has %d rows of schema %p: %w", len(members), len(f.Have), f.Schema, ft.ErrInvalid)
	}
	s.one.Lock()
	defer s.one.Unlock()
	s.mu.Lock()
	done := s.closed
	s.mu.Unlock()
	if done {
		return fmt.Errorf("sample: the sampler is closed: %w", ft.ErrConflict)
	}
	s.round++
	f.At = now
	at := time.Since(s.epoch)
	s.tick(at)
	s.crew.runBatches(ctx, now, s.sources)
	s.enlist(at, members)
	s.passOver(s.crew.run(s.pending, now))
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	s.met = 0
	for i := range members {
		s.fill(s.members[members[i].Ref], i, at, f)
	}
	s.slow(len(members))
	s.shared(f)
	s.dismiss()
	return nil
}

// tick follows how far apart Samples usually are.
func (s *Sampler) tick(now time.Duration) {
	if s.last != 0 {
		span := now - s.last
		if s.usual == 0 {
			s.usual = span
		}
		s.usual += (min(span, 2*s.usual) - s.usual) / 8
	}
	s.last = now
}

// enlist makes the list of what is to be read, attaching to who is new.
func (s *Sampler) enlist(now time.Duration, members []ft.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = s.pending[:0]
	for i := range members {
		m := s.members[members[i].Ref]
		if m != nil && (!sameScope(m.in.Scope, members[i].Scope) || m.in.Endpoint != members[i].Endpoint) {
			m.detach()
			m = nil
		}
		if m == nil {
			m = s.newMember(members[i])
			s.members[m.in.Ref] = m
		}
		m.round = s.round
		for _, a := range m.attachments {
			if a.ready(now, s.brake.ration(m.serial, s.round, s.usual)) && a.source.ready() {
				s.pending = append(s.pending, a)
			}
		}
	}
	if s.cut {
		slices.SortStableFunc(s.pending, func(a, b *attachment) int { return cmp.Compare(b.passes(), a.passes()) })
	}
}

// passOver notes whom a round that was cut short did not come to.
func (s *Sampler) passOver(left []*attachment) {
	for _, a := range left {
		a.pass()
	}
	if cut := len(left) > 0; cut != s.cut {
		s.cut = cut
		if cut {
			s.log.Warn("a round of readings was cut short", "left out", len(left), "of", len(s.pending), "after", roundPatience)
		} else {
			s.log.Info("rounds of readings are whole again")
		}
	}
}

// slow brakes where readings cost too much. What it takes to attach to many is no reason to.
func (s *Sampler) slow(members int) {
	used, known := s.crew.used()
	if !known || s.usual == 0 || 100*s.met > members || !s.brake.adjust(used, s.usual) {
		return
	}
	if n := 1 << s.brake.level; n > 1 {
		s.log.Warn("reading everything of so many instances takes too long: what is dear of each is read in turns", "instances", members,
			"frames apart", n, "budget", mostReading)
	} else {
		s.log.Info("everything of all instances is read each time again", "instances", members)
	}
}

// ready tells whether the source can be read now: a batcher only when its batch of this round was made.
func (s *source) ready() bool {
	if s.batcher == nil {
		return true
	}
	ok, _, _ := s.batch.state()
	return ok
}

func (s *Sampler) newMember(in ft.Instance) *member {
	s.joined++
	m := &member{in: in, serial: s.joined}
	for _, src := range s.sources {
		m.attachments = append(m.attachments, newAttachment(src, in, s.epoch))
	}
	return m
}

func sameScope(a, b ft.Scope) bool {
	return a.PID == b.PID && a.StartTime == b.StartTime && a.CgroupV2 == b.CgroupV2 && maps.Equal(a.CgroupV1, b.CgroupV1)
}

// fill writes row i of the frame from what the member's attachments read.
func (s *Sampler) fill(m *member, i int, now time.Duration, f *ft.Frame) {
	if m.resolve() {
		s.met++
	}
	f.Have[i] = m.have
	if m.at != 0 {
		f.Span[i] = float32((now - m.at).Seconds())
	}
	m.at = now
	row := f.X[i*s.schema.Len() : (i+1)*s.schema.Len()]
	counts := f.Counts[i*s.schema.Categories() : (i+1)*s.schema.Categories()]
	for _, a := range m.attachments {
		fresh, at, fault := a.take()
		if a.turned(fault) {
			s.tell(m.in.Ref, fault)
		}
		if !fresh {
			a.hold(now, row)
			continue
		}
		a.difference(longSpan*s.usual, at.Sub(s.epoch), row, counts[a.source.category:a.source.category+a.source.ncat])
	}
}

// tell logs that a reader began or ceased to fail.
func (s *Sampler) tell(ref ft.Ref, fault error) {
	if fault != nil {
		s.log.Warn("cannot measure an instance", "instance", ref.String(), "err", fault)
		return
	}
	s.log.Info("measuring an instance again", "instance", ref.String())
}

// resolve decides for each column which attachment it comes from, and tells whether something was attached.
func (m *member) resolve() bool {
	var sum uint64
	for _, a := range m.attachments {
		sum += a.changes.Load()
	}
	if sum == m.known {
		return false
	}
	m.known, m.have = sum, 0
	for _, a := range m.attachments {
		able := a.able()
		a.use = 0
		for d, c := range a.source.columns {
			if able.Has(d) && !m.have.Has(c) {
				a.use = a.use.With(d)
				m.have = m.have.With(c)
			}
		}
	}
	return true
}

// shared copies what the batchers say of the whole pool.
func (s *Sampler) shared(f *ft.Frame) {
	f.Labels = f.Labels[:0]
	for _, src := range s.sources {
		f.Labels = append(f.Labels, src.labels...)
		if src.batcher == nil {
			continue
		}
		usable, _, fault := src.batch.state()
		if src.batch.turned(fault) {
			if fault != nil {
				s.log.Warn("cannot read a source", "err", fault)
			} else {
				s.log.Info("reading a source again")
			}
		}
		if !usable {
			continue
		}
		d := src.batcher.Demand()
		f.Demand.Arrivals += d.Arrivals
		f.Demand.Rejected += d.Rejected
		f.Demand.InFlight += d.InFlight
		f.Demand.Queued += d.Queued
		for i, l := range src.batcher.Labels() {
			if i < src.ncat && l != "" {
				f.Labels[src.category+i] = l
			}
		}
	}
}

// dismiss detaches who was not sampled.
func (s *Sampler) dismiss() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, m := range s.members {
		if m.round != s.round {
			m.detach()
			delete(s.members, ref)
		}
	}
}

func (m *member) detach() {
	for _, a := range m.attachments {
		a.detach()
	}
}

// Unavailable says what of an instance cannot be measured and why; nil when the instance is not known, or not yet.
func (s *Sampler) Unavailable(ref ft.Ref) ft.Unavailable {
	s.mu.Lock()
	m := s.members[ref]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	reasons := map[string][]string{}
	have := map[string]bool{}
	for _, a := range m.attachments {
		missing, known := a.missing()
		if !known {
			return nil
		}
		for _, d := range a.source.dims {
			if _, is := missing[d.Name]; !is {
				have[d.Name] = true
			}
		}
		for name, why := range missing {
			if !slices.Contains(reasons[name], why) {
				reasons[name] = append(reasons[name], why)
			}
		}
	}
	u := ft.Unavailable{}
	for name, why := range reasons {
		if !have[name] {
			u[name] = strings.Join(why, "; ")
		}
	}
	return u
}

// Close detaches all and ends the sampler's goroutines. It waits a little for readers that block, and says which
// still do.
func (s *Sampler) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.one.Lock() // a round that is under way ends within a second or two
	defer s.one.Unlock()
	blocked := s.crew.close(closeWithin)
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for ref, m := range s.members {
		for _, a := range m.attachments {
			if a.detach() {
				errs = append(errs, fmt.Errorf("close telemetry: the reader of %s still blocks", ref))
			}
		}
		delete(s.members, ref)
	}
	if blocked && len(errs) == 0 {
		errs = append(errs, errors.New("close telemetry: the batch of a source still blocks"))
	}
	return errors.Join(errs...)
}

var nan = math.NaN()
