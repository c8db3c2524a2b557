package drift

import (
	"errors"
	"fmt"
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

// Config says how drift is judged. Zero fields take the defaults of [ft.Detect].
type Config struct {
	Interval    time.Duration // between frames; all spans are multiples of it
	Learn       time.Duration // how long a first baseline is learnt
	FalseAlarms float64       // tolerated runs per instance-day at level Low
	Persist     time.Duration // how long drift must last before anything is done: the planner's; here for completeness
	MemoryLimit float64       // bytes, for forecasts; 0 is none
	Seed        uint64        // reserved: nothing here is random
}

// Defaults in rows. They are spans in time at the configured interval.
const (
	quickRows     = 10   // a fresh instance of a known group is judged after so many
	settleRows    = 20   // rows of a new life that do not train the scatter
	warmRows      = 15   // in so many the extra variance of a young instance falls by e
	recoverRows   = 10   // drift ends when it was below the release level for so many
	lowerRows     = 5    // a level is lowered when it was lower for so many
	calmRows      = 2    // it is Low when the score was below the release level for so many
	gapRows       = 10   // after so many rows without service or frames the streams start anew
	absentRows    = 600  // an instance not in the frames for so many is forgotten
	sweepRows     = 64   // thresholds are set and absences looked for once in so many
	adoptSpans    = 10   // workload changed: the candidate is adopted after so many times Learn
	adoptSick     = 60   // instance changed or unknown: after so many times Learn, if nobody is harmed
	locationSpans = 10   // the location forgets in so many times Learn
	scatterRows   = 20e3 // the scatter forgets in so many rows of the group
	maxSlots      = 1 << 20
	mostSlopes    = 64 / profile.Scales // unbounded columns that are watched
)

// Judge folds frames into verdicts. It is deterministic: the same frames give the same verdicts, bit for bit, on one
// architecture. It is not safe for concurrent use.
type Judge struct {
	schema *ft.Schema
	config Config
	learn  float64 // rows
	day    float64 // an interval in days
	// Of the streams, in their rows where nothing else is said.
	recover               int  // rows below the release level that end a drift
	coarse                bool // frames are as far apart as their rows
	rowNanos, dayRows     float64
	longLearn, longAnchor float64
	rankLow               float64 // threshold when learning ended: what ranks is divided by does not move
	hourPace, forget      float64 // weights of a row in the mean of the last hours, and in what is learnt

	cols      []column // in the judge's order: intake, load, dependencies, other responses, slow responses
	unbounded []int    // columns whose slope is watched
	firstLoad int
	work      int // the number of intake and load columns
	own       int // where the responses begin that are not of dependencies
	firstSlow int // where the slow ones begin
	sets      []set
	bank      *profile.Bank
	ladders   [parts]ladder
	tracks    []track // by the profile's index
	slots     []int32 // profile's index + 1 of a slot, 0 none
	tick      uint64
	last      ft.Instant
	pool      poolTrack
	scratch   scratch
}

// New makes a judge of frames of one schema.
func New(schema *ft.Schema, c Config) (*Judge, error) {
	if schema == nil {
		return nil, errors.New("drift: no schema")
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Learn == 0 {
		c.Learn = 120 * c.Interval
	}
	if c.FalseAlarms == 0 {
		c.FalseAlarms = 1
	}
	if c.Interval < 0 || c.Learn < 30*c.Interval || !(c.FalseAlarms > 0) || math.IsInf(c.FalseAlarms, 0) {
		return nil, fmt.Errorf("drift: interval %s, learn %s (at least 30 intervals), %g false alarms a day are out of range",
			c.Interval, c.Learn, c.FalseAlarms)
	}
	j := &Judge{schema: schema, config: c, learn: float64(c.Learn / c.Interval), day: c.Interval.Hours() / 24}
	j.setSpans()
	j.arrange()
	if err := j.arrangeSets(); err != nil {
		return nil, err
	}
	j.pool.verdict = ft.Verdict{Pool: true}
	return j, j.reset()
}

// arrange puts the schema's columns into the judge's order.
func (j *Judge) arrange() {
	for _, at := range [...]struct {
		begin *int
		takes func(c *column) bool
	}{
		{nil, func(c *column) bool { return c.Role == ft.Intake }},
		{&j.firstLoad, func(c *column) bool { return c.Role == ft.Load }},
		{&j.work, func(c *column) bool { return c.Role == ft.Response && c.dependency }},
		{&j.own, func(c *column) bool { return c.Role == ft.Response && !c.dependency && c.every == 0 }},
		{&j.firstSlow, func(c *column) bool { return c.Role == ft.Response && !c.dependency && c.every > 0 }},
	} {
		if at.begin != nil {
			*at.begin = len(j.cols)
		}
		for i := range j.schema.Len() {
			c := newColumn(j.schema.At(i), i, j.config.Interval)
			if !at.takes(&c) {
				continue
			}
			if c.Unbounded && c.Role == ft.Response && len(j.unbounded) < mostSlopes {
				c.slope = len(j.unbounded)
				j.unbounded = append(j.unbounded, len(j.cols))
			}
			j.cols = append(j.cols, c)
		}
	}
}

// shape is that of the judge's bank.
func (j *Judge) shape() profile.Shape {
	return profile.Shape{
		Columns: len(j.cols), Work: j.work, Slow: len(j.cols) - j.firstSlow, Unbounded: len(j.unbounded),
		Categories: j.schema.Categories(), Sets: len(j.sets),
	}
}

// reset empties the bank and takes the shipped thresholds.
func (j *Judge) reset() error {
	b, err := profile.NewBank(j.shape())
	if err != nil {
		return fmt.Errorf("drift: %w", err)
	}
	b.Tails = j.shippedTails()
	j.bank, j.tracks, j.rankLow = b, nil, 0
	clear(j.slots)
	j.setLadders()
	return nil
}

// Observe folds one frame and appends the verdicts that changed to dst: at most one a row, and one with Pool set. A
// verdict changed when its level, cause or extent did, or, from Low on, when its score moved by more than a quarter
// or another column leads its explanation. Frames of another schema are left alone. Steady state allocates nothing.
func (j *Judge) Observe(dst []ft.Verdict, f *ft.Frame) []ft.Verdict {
	if f == nil || f.Schema == nil || f.Schema.Digest() != j.schema.Digest() || !complete(f) {
		return dst
	}
	j.tick++
	now := ft.InstantOf(f.At)
	if gap := now - j.last; gap > gapRows*ft.Instant(j.config.Interval) || gap < 0 {
		j.quietAll()
	}
	j.last = now
	j.prepare(f)
	for r := range f.Rows {
		if j.scratch.index[r] >= 0 && f.Rows[r].Serving {
			j.gather(f, r)
		}
	}
	j.compare()
	for r := range f.Rows {
		if j.scratch.judged(r) {
			j.stream(f, r)
		}
	}
	if j.tick%slopeEvery == 0 {
		j.grow()
	}
	for r := range f.Rows {
		if j.scratch.judged(r) {
			j.rate(r)
		}
	}
	j.cohere()
	dst = j.judgePool(dst, f)
	for r := range f.Rows {
		if i := j.scratch.index[r]; i >= 0 {
			dst = j.settle(dst, f, r)
			if f.Rows[r].Serving {
				j.train(f, r)
			}
		}
	}
	j.refresh()
	if j.tick%sweepRows == 0 {
		j.setLadders()
		j.sweep()
	}
	return dst
}

// complete tells whether the frame's buffers have the sizes that its rows ask for.
func complete(f *ft.Frame) bool {
	n, d, c := len(f.Rows), f.Schema.Len(), f.Schema.Categories()
	return len(f.X) >= n*d && len(f.Counts) >= n*c
}

// Verdict is the present verdict of a slot. A slot that was never seen is Learning.
func (j *Judge) Verdict(s ft.Slot) ft.Verdict {
	if t := j.trackOf(s); t != nil {
		return t.verdict
	}
	return ft.Verdict{Slot: s}
}

// Pool is the present verdict of the pool.
func (j *Judge) Pool() ft.Verdict { return j.pool.verdict }

// FirstVerdict is the time until the first verdict of a slot can be expected if it serves from now on, 0 if it is
// judged already.
func (j *Judge) FirstVerdict(s ft.Slot) time.Duration {
	i := j.indexOf(s)
	if i < 0 {
		return j.config.Learn
	}
	h := j.bank.At(i).Head
	return time.Duration(math.Ceil(max(0, h.Need-h.Rows))) * j.config.Interval
}

func (j *Judge) indexOf(s ft.Slot) int32 {
	if int(s) >= len(j.slots) {
		return -1
	}
	return j.slots[s] - 1
}

func (j *Judge) trackOf(s ft.Slot) *track {
	if i := j.indexOf(s); i >= 0 {
		return &j.tracks[i]
	}
	return nil
}

// Accept takes what the slot does now for its usual: location and routes are learnt anew within a few rows, the
// scatter stays, and its drift ends.
func (j *Judge) Accept(s ft.Slot) {
	if i := j.indexOf(s); i >= 0 {
		j.relocate(i)
	}
}

// Forget drops what was learnt of the slot; it learns for the full time.
func (j *Judge) Forget(s ft.Slot) {
	if i := j.indexOf(s); i >= 0 {
		j.relocate(i)
		p := j.bank.At(i)
		p.ForgetLong()
		p.Need, p.Anchored = j.learn, false
	}
}

// AcceptAll accepts every slot and ends the pool's drift.
func (j *Judge) AcceptAll() {
	for s := range j.slots {
		j.Accept(ft.Slot(s))
	}
	j.pool.episode = episode{}
}

// ForgetAll forgets every slot, the groups' scatter, and the calibration.
func (j *Judge) ForgetAll() {
	for g := range j.bank.Groups() {
		j.bank.ClearGroup(int32(g))
	}
	for s := range j.slots {
		j.Forget(ft.Slot(s))
	}
	j.bank.Tails, j.rankLow = j.shippedTails(), 0
	j.setLadders()
	j.pool.episode = episode{}
}

// relocate lets the location of profile i be learnt anew.
func (j *Judge) relocate(i int32) {
	p, t := j.bank.At(i), &j.tracks[i]
	p.Rows, p.Need, p.Candidate, p.Prior, p.Ever, p.Counts = 0, quickRows, 0, false, 0, 0
	p.Filled = [profile.Scales]int32{}
	for _, v := range [...][]float64{p.Ref, p.Reference, p.Lent, p.Fed, p.Seen} {
		clear(v)
	}
	j.acceptLong(&p)
	t.quiet(&p)
	t.episode, t.worked, t.above = episode{}, 0, [parts]uint32{}
}
