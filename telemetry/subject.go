package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// subject is an instance whose working set is measured, by turns:
//
//	resting --begin--> begun --middle--> halved --finish, begin--> begun ...
//
// and back to resting for an interval whenever it is to be left alone.
type subject struct {
	source *workingSets
	kin    *kin
	strain *strain

	stage    stage
	interval time.Duration
	level    uint // the interval is config.Every << level at least, for the budget
	begunAt  time.Time
	ticks    uint64        // clock ticks since boot at the begin: who is younger was born within the interval
	used     time.Duration // of CPU, since the begin
	half     uint64        // bytes referenced until the middle
	own      float64       // seconds of CPU that an interval takes us, smoothed
	cost     float64       // seconds that an interval costs in all, smoothed
	last     uint64        // working set of the interval before
	lastAt   time.Time     // its end; zero when there was none
	lastSpan time.Duration // its interval
	strange  int           // intervals in a row in which something else cleared bits
	buf      [4096]byte

	mu    sync.Mutex
	row   [setColumns]float64
	fresh bool
	why   string // it is left alone
	pace  time.Duration
}

type stage uint8

const (
	resting stage = iota
	begun
	halved
)

// turn implements [taker].
func (s *subject) turn(now time.Time) time.Time {
	from := threadTime()
	next := s.act(now)
	s.used += max(threadTime()-from, 0)
	return next
}

// threadTime is the CPU time that the calling thread used so far.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (s *subject) act(now time.Time) time.Time {
	switch s.stage {
	case begun:
		if err := s.middle(now); err != nil {
			return s.rest(now, err.Error())
		}
		s.stage = halved
		return s.begunAt.Add(s.interval)
	case halved:
		if err := s.finish(now); err != nil {
			return s.rest(now, err.Error())
		}
	case resting:
	}
	if err := s.begin(now); err != nil {
		return s.rest(now, err.Error())
	}
	s.stage = begun
	return s.begunAt.Add(s.interval / 2)
}

// rest leaves the instance alone for an interval.
func (s *subject) rest(now time.Time, why string) time.Time {
	s.stage, s.lastAt = resting, time.Time{}
	s.say(why)
	return now.Add(s.interval)
}

func (s *subject) say(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
	s.fresh = s.fresh && why == ""
}

// partial is why one process cannot be measured, so that the whole instance is not told.
func partial(pid int, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("no permission to measure its process %d, of another user", pid)
	}
	return fmt.Errorf("its process %d cannot be measured: %w", pid, err)
}

// begin clears the bits of all processes. The error says why the instance is left alone.
func (s *subject) begin(now time.Time) error {
	resident, err := s.gather(now)
	if err != nil {
		return err
	}
	if why := s.strain.since(now, resident); why != "" {
		return errors.New(why)
	}
	c := s.source.config
	if most := uint64(c.MaxSize); most > 0 && resident > most {
		return fmt.Errorf("it holds more than %s: left alone (telemetry.workingSet.maxSize)", c.MaxSize)
	}
	s.interval = c.Every.D() << max(s.level, s.source.level)
	s.mu.Lock()
	s.pace = s.interval
	s.mu.Unlock()
	for i := range s.kin.members {
		r := &s.kin.members[i]
		r.known, r.cleared, r.held = false, true, 0
		if s.source.noWrites == "" {
			err = r.clear(clearWritten)
		}
		if err == nil {
			err = r.clear(clearReferenced)
		}
		if err != nil && !isGone(err) {
			return partial(r.pid, err)
		}
	}
	s.begunAt, s.ticks = time.Now(), bootTicks()
	return nil
}

// gather finds the processes; the error says why they are not all known.
func (s *subject) gather(now time.Time) (uint64, error) {
	for i := range s.kin.members {
		s.kin.members[i].cleared = s.kin.members[i].cleared && s.stage != resting
	}
	return s.kin.gather(now)
}

// middle counts what was referenced in the first half.
func (s *subject) middle(now time.Time) error {
	if _, err := s.gather(now); err != nil {
		return err
	}
	s.half = 0
	for i := range s.kin.members {
		r := &s.kin.members[i]
		if !s.counts(r) {
			continue
		}
		set, rss, err := r.referenced(s.buf[:])
		if err != nil {
			if isGone(err) {
				continue
			}
			return partial(r.pid, err)
		}
		r.half, r.halfRSS, r.known = set, rss, true
		s.half += set
	}
	return nil
}

// counts tells whether all that is referenced of a process was so since the begin: its bits were cleared, or it was born
// later, with none set.
func (s *subject) counts(r *relative) bool { return r.cleared || r.start >= s.ticks }

// referenced is what of a process was referenced, and what is resident, in bytes.
func (r *relative) referenced(buf []byte) (set, rss uint64, err error) {
	f, err := r.open("smaps_rollup", unix.O_RDONLY)
	if err != nil {
		return 0, 0, err
	}
	defer f.close()
	from := time.Now()
	b, err := f.read(buf)
	r.held += time.Since(from)
	if err != nil {
		return 0, 0, err
	}
	v := [2]uint64{}
	if parseKeyed(b, rollupKeys, v[:]) != len(rollupKeys) {
		return 0, 0, errors.New("its smaps_rollup is not understood")
	}
	return v[1] << 10, v[0] << 10, nil
}

var rollupKeys = []string{"Rss", "Referenced"}

// tally is what an interval found.
type tally struct {
	processes    int
	set, written uint64        // bytes
	held         time.Duration // that the kernel held the address spaces for us
	lost         uint64        // bytes that were referenced in the middle, are still there, and not referenced any more
}

// finish counts what was referenced in the interval and hands it over. The error says why nothing can be told.
func (s *subject) finish(now time.Time) error {
	resident, err := s.gather(now)
	if err != nil {
		return err
	}
	t, err := s.tally()
	if err != nil {
		return err
	}
	s.weigh(t)
	if t.processes == 0 {
		return errors.New("none of its processes has memory: they have ended")
	}
	if why := s.strain.since(now, resident); why != "" {
		return errors.New(why)
	}
	if late := now.Sub(s.begunAt) - s.interval; late > s.interval/4+lateness {
		s.lastAt = time.Time{} // the machine was too busy: another interval than the others
		return nil
	}
	if t.lost > s.half/16+lossFree {
		s.lastAt = time.Time{}
		if s.strange++; s.strange >= 2 {
			s.say("something else clears the referenced bits of its pages too: the kernel, or another program that measures working sets")
		}
		return nil
	}
	s.strange = 0
	s.publish(t, now)
	return nil
}

const (
	// lateness is how late the end of an interval may be in any case.
	lateness = 100 * time.Millisecond
	// lossFree is how much may be lost between middle and end without a question: single mappings are dropped and made anew.
	lossFree = 1 << 20
)

func (s *subject) tally() (tally, error) {
	var t tally
	for i := range s.kin.members {
		r := &s.kin.members[i]
		if !s.counts(r) {
			continue
		}
		set, rss, err := r.referenced(s.buf[:])
		if err == nil && s.source.noWrites == "" {
			var w uint64
			w, err = r.written(s.kin, s.buf[:])
			t.written += w
		}
		if err != nil {
			if isGone(err) {
				continue
			}
			return t, partial(r.pid, err)
		}
		t.processes++
		t.held += r.held
		t.set += set
		if r.known {
			t.lost += less(less(r.half, set), less(r.halfRSS, rss))
		}
	}
	return t, nil
}

// weigh takes what the interval cost and sets how long the next must be.
func (s *subject) weigh(t tally) {
	p := s.source.prices()
	own := s.used.Seconds()
	s.used = 0
	cost := own + t.held.Seconds() + float64(t.set/pageSize)*p.reference + float64(t.written/pageSize)*p.write
	if s.cost == 0 {
		s.own, s.cost = own, cost
	}
	// One interval in which a call waited for a CPU for long is no reason to stay away for hours.
	s.own += (min(own, 4*s.own) - s.own) / 4
	s.cost += (min(cost, 4*s.cost) - s.cost) / 4
	every, budget := s.source.config.Every.D().Seconds(), s.source.config.Budget
	for s.level < mostLevel && s.cost > budget*every*float64(uint64(1)<<s.level) {
		s.level++
	}
	if s.level > 0 && s.cost < 0.8*budget*every*float64(uint64(1)<<(s.level-1)) {
		s.level--
	}
	s.source.adjust()
}

// leastSet is what shares are of at least: of the few pages of an idle process they would say nothing.
const leastSet = 1 << 20

// publish hands over the readings of an interval.
func (s *subject) publish(t tally, now time.Time) {
	row := [setColumns]float64{colSet: float64(t.set), colGrowth: math.NaN(), colTurnover: math.NaN(), colWrites: math.NaN()}
	if !s.lastAt.IsZero() && s.lastSpan == s.interval {
		row[colGrowth] = (float64(t.set) - float64(s.last)) / now.Sub(s.lastAt).Seconds()
	}
	second := less(t.set, s.half)
	row[colTurnover] = float64(second) / float64(max(s.half, second, leastSet))
	if s.source.noWrites == "" {
		row[colWrites] = min(float64(t.written)/float64(max(t.set, leastSet)), 1)
	}
	s.last, s.lastAt, s.lastSpan = t.set, now, s.interval
	s.mu.Lock()
	defer s.mu.Unlock()
	s.row, s.fresh, s.why = row, true, ""
}

// close implements [taker].
func (s *subject) close() {
	s.kin.close()
	s.strain.close()
}

var (
	_ Reporter  = (*setReader)(nil)
	_ Pacer     = (*setReader)(nil)
	_ ft.Reader = (*setReader)(nil)
)
