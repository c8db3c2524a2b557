package yardstick

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Part is one of the parts of [Streams], of which it can be told to do without.
type Part int

// All parts but [Whole], which is none.
const (
	Whole Part = iota
	Level
	Season
	HighPass
	Difference
	Spans
	Clip
	Guard
	Floors
	Adoption
)

func (p Part) String() string {
	return [...]string{"nothing", "level", "season", "high pass", "difference", "spans", "clip", "guard", "floors", "adoption"}[p]
}

// Parts are all of them, Whole first.
func Parts() []Part {
	return []Part{Whole, Level, Season, HighPass, Difference, Spans, Clip, Guard, Floors, Adoption}
}

const (
	streams    = 3
	memoryDays = 7   // half-life of high pass and difference
	highHours  = 2   // of the mean that the high pass is against
	clipAt     = 200 // squares of whitened deviations count at most so much
	learnDays  = 2   // rows before have no say in what is usual, and no more than a quarter of train
	strangeLog = 1   // excess of the level's logarithm that has to last until it is adopted
	lastsDays  = 0.5 // and for how long
	adoptDays  = 0.25
	adoptSpan  = 30 // rows that the logarithm is smoothed over
	notStrange = 3  // rows that a calm one takes back
	tiny       = 1e-9
)

// spans that the sum is smoothed over, in rows. Alarms are by the first ones: what takes hours to fade would hold them.
var spans = [...]float64{3, 10, 30, 100, 300}

const alarmSpans = 3

// floors are the least scales of level, high pass and difference, as parts of the greatest magnitude of the column: many
// columns are rounded, and all but constant for days.
var floors = [streams]float64{0.1, 0.03, 0.1}

// Streams looks at rows three ways: the level against the same time of other days, the deviation from an exponentially
// weighted mean of two hours, and the difference from the row before. Each way has a quadratic form
//
//	q = Σ min(z², 200)/d, z = L⁻¹ (e - mean)/scale, L Lᵀ = correlation + ridge
//
// divided by its median m over train. The score is
//
//	Σ over spans of EWMA_span(q_level/m_level + q_high/m_high + q_diff/m_diff)
//
// over its median in train, less 1, the spans being 3 to 300 rows, and 3 to 30 for alarms. The scatter and the mean of the level are those of train, an anchor; the other two go on
// learning with a half-life of a week, where strange rows teach little. Scales have floors. Alarms are by a level that is
// adopted: if log q_level stays one above what is usual for half a day, what is usual follows it by a half-life of six
// hours, and back down at once when it falls. A score to rank by keeps the anchor; an alarm ends.
//
// State is that of three forms, d(d+1) numbers each, and 48 d of the season. A row costs O(d²). Not safe for concurrent use.
type Streams struct {
	without      Part
	day          float64 // rows
	pace         float64 // weight of a row in the mean of two hours
	season       *season
	forms        [streams]*form
	streams      [streams][]float64
	last, mean   []float64 // the row before, the mean of two hours
	least        [streams][]float64
	peak         []float64
	begun        bool
	anchored     bool
	usual        [streams]float64 // medians, 0 where a stream never varies
	level        adoption
	ranks, warns smoothing
}

// NewStreams learns train, rows every so far apart. It gives the scores of train from the third day on too, or of its last
// three quarters where that is longer: what alarms are by.
func NewStreams(train [][]float64, every time.Duration, without Part) (*Streams, []float64, error) {
	if len(train) < fewRows {
		return nil, nil, fmt.Errorf("yardstick: %d train rows, streams need %d", len(train), fewRows)
	}
	d, day := len(train[0]), max(int(24*time.Hour/every), bins)
	s := &Streams{
		without: without, day: float64(day), pace: 1 - math.Exp(-24/(highHours*float64(day))), season: newSeason(d, day),
		last: make([]float64, d), mean: make([]float64, d), peak: make([]float64, d),
	}
	forget := 1 - math.Exp2(-1/(memoryDays*s.day))
	for k, f := range [streams]float64{0, forget, forget} {
		s.forms[k], s.streams[k], s.least[k] = newForm(d, f), make([]float64, d), make([]float64, d)
	}
	forms := make([][streams]float64, len(train))
	for i, row := range train {
		forms[i] = s.look(row)
	}
	s.anchored = true
	from := min(learnDays*day, len(train)/4)
	s.calibrate(forms[from:])
	scores := make([]float64, 0, len(forms)-from)
	for i, q := range forms {
		if _, alarm := s.score(q, i >= from); i >= from {
			scores = append(scores, alarm)
		}
	}
	return s, scores, nil
}

// Next gives the score of a row, and that which alarms are by.
func (s *Streams) Next(row []float64) (score, alarm float64) {
	return s.score(s.look(row), true)
}

// look gives the quadratic forms of a row, and learns it.
func (s *Streams) look(row []float64) (q [streams]float64) {
	for c, v := range row {
		if s.peak[c] < math.Abs(v) {
			s.peak[c] = math.Abs(v)
			for k, floor := range floors {
				if s.without == Floors {
					floor = leastSpread
				}
				s.least[k][c] = floor * s.peak[c]
			}
		}
		if !s.begun {
			s.last[c], s.mean[c] = v, v
		}
	}
	s.begun = true
	s.season.without(row, s.streams[0])
	if s.without == Season {
		copy(s.streams[0], row)
	}
	for c, v := range row {
		s.streams[1][c], s.streams[2][c] = v-s.mean[c], v-s.last[c]
		switch {
		case math.IsNaN(v):
		case math.IsNaN(s.mean[c]):
			s.last[c], s.mean[c] = v, v
		default:
			s.mean[c] += s.pace * (v - s.mean[c])
			s.last[c] = v
		}
	}
	most := float64(clipAt)
	if s.without == Clip {
		most = math.Inf(1)
	}
	for k, f := range s.forms {
		q[k] = f.distance(s.streams[k], most)
		switch {
		case k > 0:
			f.learn(s.least[k], s.without != Guard)
		case !s.anchored:
			f.learn(s.least[k], false)
		}
	}
	return q
}

// calibrate learns what is usual of the quadratic forms, and of the smoothed sums.
func (s *Streams) calibrate(forms [][streams]float64) {
	column := make([]float64, len(forms))
	for k := range s.usual {
		for i, q := range forms {
			column[i] = q[k]
		}
		s.usual[k] = median(column)
	}
	s.ranks, s.warns = smoothing{usual: 1}, smoothing{usual: 1}
	s.level = adoption{usual: math.Log(s.usual[0]), least: math.Log(s.usual[0])}
	s.level.recent = s.level.usual
	other := slices.Clone(column)
	for i, q := range forms {
		score, alarm := s.score(q, true)
		column[i], other[i] = score+1, alarm+1
	}
	s.ranks, s.warns = smoothing{usual: median(column)}, smoothing{usual: median(other)}
	s.level.usual, s.level.recent, s.level.lasts = s.level.least, s.level.least, 0
}

// score is that of the quadratic forms of a row.
func (s *Streams) score(q [streams]float64, adopts bool) (score, alarm float64) {
	rank, warn := 0.0, 0.0
	for k, v := range q {
		if s.usual[k] == 0 || s.without == Level && k == 0 || s.without == HighPass && k == 1 || s.without == Difference && k == 2 {
			continue
		}
		rank += v / s.usual[k]
		usual := s.usual[k]
		if k == 0 && s.without != Adoption {
			if usual = math.Exp(s.level.usual); adopts {
				s.level.follow(v, s.day)
			}
		}
		warn += v / usual
	}
	if s.without == Spans {
		return s.ranks.excess(rank), s.warns.excess(warn)
	}
	return s.ranks.excess(s.ranks.smooth(rank, len(spans))), s.warns.excess(s.warns.smooth(warn, alarmSpans))
}

// smoothing is the mean of several exponentially weighted ones.
type smoothing struct {
	means [len(spans)]float64
	usual float64
}

// smooth takes a value, and gives the mean of the first spans.
func (m *smoothing) smooth(v float64, first int) float64 {
	sum := 0.0
	for k, span := range spans[:first] {
		m.means[k] += 2 / (span + 1) * (v - m.means[k])
		sum += m.means[k]
	}
	return sum / float64(first)
}

func (m *smoothing) excess(v float64) float64 {
	if m.usual == 0 {
		return 0
	}
	return v/m.usual - 1
}

// adoption is what is usual of the level, as a logarithm.
type adoption struct {
	usual, least float64
	recent       float64
	lasts        float64 // rows
}

func (a *adoption) follow(q, day float64) {
	a.recent += 2.0 / (adoptSpan + 1) * (math.Log(q+tiny) - a.recent)
	if a.recent > a.usual+strangeLog {
		a.lasts++
	} else {
		a.lasts = max(0, a.lasts-notStrange)
	}
	if a.lasts > lastsDays*day || a.recent < a.usual {
		a.usual = max(a.least, a.usual+(1-math.Exp2(-1/(adoptDays*day)))*(a.recent-a.usual))
	}
}

// median is their mean where most are 0.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if m := sorted[len(sorted)/2]; m > 0 {
		return m
	}
	sum := 0.0
	for _, v := range sorted {
		sum += v
	}
	return sum / float64(len(sorted))
}
