// Package score judges telemetry in files row by row, as a live pool is judged, and says for each row how far it is from what is
// usual. It uses no labels, and what it says of a row rests on the rows up to that one.
//
// A member is read from NAME_train.csv and NAME_test.csv ([Load]). The judge sees the rows of train first, then those of test,
// in one stream: train is its first baseline where it has at least [drift.LongLeast] rows, it goes on learning, and only rows of
// test are given. Columns without a unit are brought to a scale that is found in train alone ([Roles]).
//
// A [Stream] is the same without files: one judge, and the scores of each frame that it is given.
package score

import (
	"context"
	"fmt"
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
)

// Config says how members are judged.
type Config struct {
	Every       time.Duration // between rows; a minute if 0
	FalseAlarms float64       // tolerated alarm runs per instance-day; 1 if 0
	Alone       bool          // no member is a peer of another
	Roles       *Roles        // what the columns are; nil: all are responses
	Progress    func(n int)   // told now and then that so many more rows were judged; nil: nobody asks
}

// Defaults of a [Config].
const (
	Every       = time.Minute
	FalseAlarms = 1.0
)

// Row is what is said of one row of one member.
type Row struct {
	// Score is the one number to rank rows by: the greatest of the channels, before coherence raises a threshold. 0 where
	// nothing is said yet.
	Score float64
	// Self, Peers and Pool are the channels, in units of their thresholds; NaN where there is none.
	Self, Peers, Pool float64
	Alarm             bool // the verdict on the member, or on its pool, is Low or above
	Level             ft.Level
}

// Stream judges the frames of one pool. It is not safe for concurrent use.
type Stream struct {
	judge    *drift.Judge
	verdicts []ft.Verdict
	scores   []drift.Scores
}

// NewStream makes the stream of frames of a schema.
func NewStream(schema *ft.Schema, c drift.Config) (*Stream, error) {
	j, err := drift.New(schema, c)
	if err != nil {
		return nil, err
	}
	return StreamOf(j), nil
}

// StreamOf scores what a judge sees that already is at work.
func StreamOf(j *drift.Judge) *Stream { return &Stream{judge: j} }

// Step judges a frame and appends what is said of its rows, in their order.
func (s *Stream) Step(dst []Row, f *ft.Frame) []Row {
	s.verdicts = s.judge.Observe(s.verdicts[:0], f)
	return s.Last(dst)
}

// Last appends what is said of the rows of the frame that the judge saw last.
func (s *Stream) Last(dst []Row) []Row {
	s.scores = s.judge.Scores(s.scores[:0])
	pool := s.judge.Pool().Level
	for i := range s.scores {
		c := &s.scores[i]
		level := s.judge.Verdict(c.Slot).Level
		score := c.Best()
		if score != score {
			score = 0
		}
		dst = append(dst, Row{
			Score: score, Self: c.Self, Peers: c.Peers, Pool: c.Pool, Level: level,
			Alarm: level >= ft.Low || pool >= ft.Low && c.Pool == c.Pool,
		})
	}
	return dst
}

// Run judges the members of one pool, row by row, and returns the test rows of each in the order of members. The first test rows
// of all stand at one time; a member with fewer rows before it came later, one with fewer after it went.
func Run(ctx context.Context, c Config, members []Member) ([][]Row, error) {
	if c.Every == 0 {
		c.Every = Every
	}
	if c.FalseAlarms == 0 {
		c.FalseAlarms = FalseAlarms
	}
	out := make([][]Row, len(members))
	if !c.Alone {
		return out, run(ctx, &c, members, out)
	}
	for i := range members {
		if err := run(ctx, &c, members[i:i+1], out[i:i+1]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// start is the time of the first test row. Nothing is told of it.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	old    = 24 * time.Hour // that members run for before their first row: they are no cold starts
	asking = 256            // rows of each member from one look at the context to the next
)

func run(ctx context.Context, c *Config, members []Member, out [][]Row) error {
	if len(members) == 0 {
		return nil
	}
	cols, err := fit(c.Roles, members)
	if err != nil {
		return err
	}
	schema, err := cols.schema()
	if err != nil {
		return err
	}
	before, after := 0, 0
	for i := range members {
		m := &members[i]
		before, after = max(before, len(m.Train)), max(after, len(m.Test))
		out[i] = make([]Row, 0, len(m.Test))
	}
	s, err := NewStream(schema, drift.Config{Interval: c.Every, FalseAlarms: c.FalseAlarms, Learn: learn(members, c.Every)})
	if err != nil {
		return fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	f := &ft.Frame{Schema: schema}
	var rows []Row
	judged := 0
	for t := -before; t < after; t++ {
		if t%asking == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.Progress != nil {
				c.Progress(judged)
			}
			judged = 0
		}
		who := cols.frame(f, members, t, c.Every)
		rows = s.Step(rows[:0], f)
		judged += len(rows)
		if t < 0 {
			continue
		}
		for r, i := range who {
			out[i] = append(out[i], rows[r])
		}
	}
	if c.Progress != nil {
		c.Progress(judged)
	}
	return nil
}

// learn is the time that the judge takes for its first baseline: all of train, which is what it was chosen for, where that is
// long enough for what the judge sees over longer times; else its default.
func learn(members []Member, every time.Duration) time.Duration {
	n := shortest(members)
	if n < drift.LongLeast {
		return 0
	}
	return time.Duration(n) * every
}

// shortest is the fewest rows that a member has in train.
func shortest(members []Member) int {
	n := math.MaxInt
	for i := range members {
		n = min(n, len(members[i].Train))
	}
	return n
}

// frame fills f with the rows of time t and tells whose they are.
func (cs *columns) frame(f *ft.Frame, members []Member, t int, every time.Duration) []int {
	f.At, f.Rows, cs.who = start.Add(time.Duration(t)*every), f.Rows[:0], cs.who[:0]
	for i := range members {
		m := &members[i]
		if at := t + len(m.Train); at < 0 || t >= len(m.Test) {
			continue
		}
		age := old + time.Duration(t+len(m.Train))*every
		f.Rows = append(f.Rows, ft.Row{Slot: ft.Slot(i), Life: ft.Life(i + 1), Group: 1, Age: float32(age.Seconds()), Serving: true})
		cs.who = append(cs.who, i)
	}
	f.Reset(len(f.Rows))
	d := f.Schema.Len()
	for r, i := range cs.who {
		f.Span[r] = float32(every.Seconds())
		values := members[i].row(t)
		x := f.X[r*d : (r+1)*d]
		for k, c := range cs.list {
			if v := values[c.from]; !math.IsInf(v, 0) {
				x[k] = c.scale.forward(v)
			}
		}
	}
	return cs.who
}
