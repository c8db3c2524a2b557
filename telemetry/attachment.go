package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// attachment joins one source and one instance. A worker of the crew attaches and reads; the sampler takes what was
// read. A worker that blocks in it keeps it, and the sampler goes on without.
type attachment struct {
	source *source
	in     ft.Instance
	epoch  time.Time // of the sampler

	// Of the worker that holds it.
	reader ft.Reader
	pacer  Pacer // the reader, where it is one
	thrift Thrifty
	raw    []float64
	counts []uint64
	readAt time.Time

	changes atomic.Uint64 // counts attaching, so that the sampler resolves columns again

	mu          sync.Mutex
	held        bool // a worker is in it
	detached    bool
	fresh       bool // raw was read and not taken yet
	late        bool // it blocked: what it reads is of no tick
	passed      int  // rounds that were cut short before the end of its turn, since the last reading
	fault       error
	ableTo      ft.Dims // of the source's dimensions
	unavailable ft.Unavailable
	reporter    Reporter      // the reader, where it is one
	final       bool          // it can never be attached to
	retryAt     time.Duration // since the epoch
	pace        time.Duration // of the reader's slow dimensions, where it has one of its own
	ration      ration
	dear        ft.Dims // of the reader, where it is thrifty

	// Of the sampler.
	use       ft.Dims // the source's dimensions that come from here
	last      []float64
	lastAt    []time.Duration // since the sampler's epoch; -1 for never
	shown     []float64
	was       []uint64
	wasAt     time.Duration
	apart     time.Duration // pace, as of the last take
	turns     time.Duration // between readings of what is dear, as of the last take; 0 where that is each
	rationed  ft.Dims       // dear, as of the last take
	lastFault bool
}

func newAttachment(src *source, in ft.Instance, epoch time.Time) *attachment {
	n := len(src.dims)
	a := &attachment{
		source: src, in: in, epoch: epoch,
		raw: make([]float64, n), counts: make([]uint64, src.ncat),
		last: make([]float64, n), lastAt: make([]time.Duration, n), shown: make([]float64, n),
		was: make([]uint64, src.ncat), wasAt: -1,
	}
	for i := range a.lastAt {
		a.lastAt[i] = -1
		a.shown[i] = nan
	}
	return a
}

// ready tells whether a worker may be sent into it now, in time since the epoch, for which it is told what to read.
func (a *attachment) ready(now time.Duration, r ration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh, a.ration = false, r
	told := a.unavailable != nil && len(a.source.dims) == 0 && a.source.ncat == 0 // and nothing is to be read
	return !a.held && !a.detached && !a.final && !told && now >= a.retryAt
}

// work attaches, if that was not done yet, and reads. It runs on a worker.
func (a *attachment) work(now time.Time) {
	a.mu.Lock()
	if a.held || a.detached {
		a.mu.Unlock()
		return
	}
	a.held = true
	spared := a.ration.spared && a.reader != nil && a.thrift != nil // the first time all is read
	a.mu.Unlock()
	err := a.attach()
	pace := time.Duration(0)
	if err == nil {
		a.readAt = a.clock()
		if spared {
			err = a.thrift.ReadLess(now, a.raw, a.counts)
		} else {
			err = a.reader.Read(now, a.raw, a.counts)
		}
		if err != nil {
			err = fmt.Errorf("read %s: %w", a.in.Ref, err)
		}
		if a.pacer != nil {
			pace = a.pacer.Pace()
		}
	}
	a.mu.Lock()
	a.held, a.pace = false, pace
	a.fault = err
	a.fresh = err == nil && !a.late
	if !a.late {
		a.passed = 0
	}
	a.late = false
	gone := a.detached
	a.mu.Unlock()
	if gone {
		a.closeReader()
	}
}

// clock is when what is read now was so.
func (a *attachment) clock() time.Time {
	if a.source.batcher == nil {
		return time.Now()
	}
	_, at, _ := a.source.batch.state()
	return at
}

func (a *attachment) attach() error {
	if a.reader != nil {
		return nil
	}
	r, missing, err := a.source.Attach(a.in)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.unavailable = ft.Unavailable{}
		for _, d := range a.source.dims {
			a.unavailable[d.Name] = reason(err)
		}
		a.ableTo = 0
		a.final = errors.Is(err, ft.ErrUnavailable)
		a.retryAt = time.Since(a.epoch) + attachAgain
		a.changes.Add(1)
		if a.final {
			return errNotHere
		}
		return err
	}
	a.reader, a.unavailable, a.retryAt = r, missing, 0
	a.pacer, _ = r.(Pacer)
	if a.thrift, _ = r.(Thrifty); a.thrift != nil {
		a.dear = a.thrift.Dear()
	}
	a.reporter, _ = r.(Reporter)
	if a.unavailable == nil {
		a.unavailable = ft.Unavailable{}
	}
	a.ableTo = 0
	for i, d := range a.source.dims {
		if _, is := missing[d.Name]; !is {
			a.ableTo = a.ableTo.With(i)
		}
	}
	a.changes.Add(1)
	return nil
}

// reason is an error as it stands in [ft.Unavailable]: without what those who ask know, whom it is about and that it is
// not available.
func reason(err error) string {
	if inner := errors.Unwrap(err); inner != nil && errors.Unwrap(inner) != nil {
		err = inner
	}
	return strings.TrimSuffix(err.Error(), ": "+ft.ErrUnavailable.Error())
}

// errNotHere is not told as a fault: what a machine does not offer is in Unavailable.
var errNotHere = errors.New("not available")

// take gives whether there is a new reading, of when, and the fault if there is one.
func (a *attachment) take() (fresh bool, at time.Time, fault error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.apart, a.turns, a.rationed = a.pace, a.ration.every, a.dear
	if a.held {
		a.late = true
		return false, at, errBlocks
	}
	fresh, a.fresh = a.fresh, false
	if fresh {
		at = a.readAt
	}
	if !errors.Is(a.fault, errNotHere) {
		fault = a.fault
	}
	return fresh, at, fault
}

var errBlocks = errors.New("its reader blocks")

// passedOver is why there is no reading where a round was cut short.
const passedOver = "left out this time: other readings took too long"

// seldom is why a value is not of its row.
const seldom = "only in one of %d frames, and held meanwhile: reading all of so many instances each time would take too long"

// pass notes that a round was cut short before its turn, or in it.
func (a *attachment) pass() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.fresh {
		a.passed++
	}
}

func (a *attachment) passes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.passed
}

// turned tells whether a fault began or ended.
func (a *attachment) turned(fault error) bool {
	was := a.lastFault
	a.lastFault = fault != nil
	return was != a.lastFault
}

func (a *attachment) able() ft.Dims {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ableTo
}

// Reporter is a reader that finds out later, or for a while only, what it cannot tell.
type Reporter interface {
	// Missing says what cannot be told at present and why; nil where all can. It may be called while Read runs, and
	// after Close.
	Missing() ft.Unavailable
}

// Pacer is a reader whose slow dimensions may come more seldom than their Every says.
type Pacer interface {
	// Pace is how far apart readings of its slow dimensions are at present. It is asked after each Read, by the same
	// goroutine.
	Pace() time.Duration
}

// missing is what cannot be measured, once that is known.
func (a *attachment) missing() (ft.Unavailable, bool) {
	a.mu.Lock()
	known, reporter, why := a.unavailable, a.reporter, ""
	dear, of := a.dear, a.ration.of
	switch {
	case a.held && a.late:
		why = errBlocks.Error()
	case a.passed > 0:
		why = passedOver
	}
	a.mu.Unlock()
	if why != "" {
		all := ft.Unavailable{}
		for _, d := range a.source.dims {
			all[d.Name] = why
		}
		maps.Copy(all, known) // what can never be told has that reason
		return all, true
	}
	if known == nil || reporter == nil && (dear == 0 || of <= 1) {
		return known, known != nil
	}
	all := ft.Unavailable{}
	for i, d := range a.source.dims {
		if of > 1 && dear.Has(i) {
			all[d.Name] = fmt.Sprintf(seldom, of)
		}
	}
	maps.Copy(all, known)
	if reporter != nil {
		maps.Copy(all, reporter.Missing())
	}
	return all, true
}

// detach closes the reader, or leaves that to the worker that blocks in it, and tells which.
func (a *attachment) detach() (blocks bool) {
	a.mu.Lock()
	blocks = a.held
	a.detached = true
	a.mu.Unlock()
	if !blocks {
		a.closeReader()
	}
	return blocks
}

func (a *attachment) closeReader() {
	if a.reader != nil {
		_ = a.reader.Close() // it only read
		a.reader = nil
	}
}

// difference writes the row's values: gauges as they are, counters as rates since their last reading. A counter that
// ran backwards, or was not read for longer than the longest span, gives NaN and begins anew.
func (a *attachment) difference(longest, at time.Duration, row []float64, counts []uint32) {
	for i, d := range a.source.dims {
		v := a.raw[i]
		if math.IsNaN(v) {
			continue
		}
		out := v
		if d.Kind == ft.Counter {
			span := at - a.lastAt[i]
			switch {
			case a.lastAt[i] < 0, span <= 0, span > max(longest, a.holds(i)), v < a.last[i]:
				out = nan
			default:
				out = (v - a.last[i]) / span.Seconds()
			}
		}
		a.last[i], a.lastAt[i], a.shown[i] = v, at, out
		if a.use.Has(i) {
			row[a.source.columns[i]] = out
		}
	}
	a.hold(at, row)
	a.count(longest, at, counts)
}

// hold repeats the values of slow dimensions, and of those that are read in turns, for two of their intervals at most.
func (a *attachment) hold(at time.Duration, row []float64) {
	for i := range a.source.dims {
		if a.use.Has(i) && a.lastAt[i] >= 0 && at > a.lastAt[i] && at-a.lastAt[i] <= a.holds(i) {
			row[a.source.columns[i]] = a.shown[i]
		}
	}
}

// holds is how long a value of a dimension is worth showing; 0 is not beyond its own row.
func (a *attachment) holds(i int) time.Duration {
	long := time.Duration(0)
	if every := a.source.dims[i].Every; every > 0 {
		long = max(every, a.apart)
	}
	if a.rationed.Has(i) {
		long = max(long, a.turns)
	}
	return 2 * long
}

// count differences the category counts; what cannot be told counts nothing.
func (a *attachment) count(longest, at time.Duration, counts []uint32) {
	for i, n := range a.counts {
		if a.wasAt >= 0 && at-a.wasAt <= longest && n >= a.was[i] {
			counts[i] = uint32(min(n-a.was[i], 1<<32-1))
		}
		a.was[i] = n
	}
	a.wasAt = at
}
