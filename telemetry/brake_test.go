package telemetry

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// TestBrakeFindsALevel: readings of which a part is dear come within the budget where they can, stay at one level, and
// are whole again once they cost little.
func TestBrakeFindsALevel(t *testing.T) {
	for _, c := range []struct {
		name        string
		cheap, dear time.Duration // of all instances
		want        uint
	}{
		{"few", 5 * time.Millisecond, 10 * time.Millisecond, 0},
		{"some", 10 * time.Millisecond, 15 * time.Millisecond, 1},
		{"many", 17 * time.Millisecond, 20 * time.Millisecond, 3},
		{"too many", 100 * time.Millisecond, 200 * time.Millisecond, mostTurns},
		{"all is dear", 0, 50 * time.Millisecond, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b brake
			rounds := func(n int, part float64) (changes int) {
				for range n {
					cost := float64(c.cheap) + float64(c.dear)/float64(int(1)<<b.level)
					if b.adjust(time.Duration(cost*part), time.Second) {
						changes++
					}
				}
				return changes
			}
			rounds(10*steadyRounds, 1)
			if b.level != c.want {
				t.Errorf("level %d, want %d", b.level, c.want)
			}
			if n := rounds(100*steadyRounds, 1); n > 0 {
				t.Errorf("%d more changes of the level", n)
			}
			if rounds(10*steadyRounds, 0.1); c.name != "too many" && b.level != 0 {
				t.Errorf("level %d when all is cheap", b.level)
			}
		})
	}
}

// thrifty is a fake whose last column is dear.
type thrifty struct {
	*fake
	full  atomic.Int64  // readings in full
	takes time.Duration // one of them
}

type thriftyReader struct {
	ft.Reader
	s *thrifty
}

func (s *thrifty) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	r, u, err := s.fake.Attach(in)
	return &thriftyReader{r, s}, u, err
}

func (r *thriftyReader) Dear() ft.Dims { return ft.Dims(0).With(1) }

func (r *thriftyReader) Read(now time.Time, row []float64, counts []uint64) error {
	r.s.full.Add(1)
	time.Sleep(r.s.takes)
	return r.Reader.Read(now, row, counts)
}

func (r *thriftyReader) ReadLess(now time.Time, row []float64, counts []uint64) error {
	err := r.Reader.Read(now, row, counts)
	row[1] = math.NaN()
	return err
}

// TestDearReadingsTakeTurns: an instance in four is read in full, rates are over the time between readings, and what was
// not read in a round is what it was, for as long as two turns.
func TestDearReadingsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &thrifty{fake: &fake{dims: []ft.Dimension{counter("cheap"), counter("dear")}, row: []float64{0, 0}}}
		b := newBench(t, 8, src)
		count := 0.
		step := func(n float64) {
			b.s.brake = brake{level: 2}
			count += n
			src.set(count, 10*count)
			b.step(time.Second)
		}
		step(1)
		if n := src.full.Swap(0); n != 8 {
			t.Errorf("at first %d of 8 were read in full", n)
		}
		for range 8 {
			step(1)
			if n := src.full.Swap(0); n != 2 {
				t.Errorf("%d of 8 were read in full", n)
			}
		}
		for range 4 {
			step(1)
			for i := range b.in {
				b.want(i, "cheap=1 dear=10")
			}
		}
		// A burst is in the row of the cheap one at once; the dear one shows its mean over a turn, and never more.
		step(5)
		total := 0.
		for range 8 {
			if v := b.f.Value(0, 1); v != 10 && v != 20 {
				t.Errorf("the dear rate is %g", v)
			}
			total += b.f.Value(0, 1)
			step(1)
		}
		if total != 4*20+4*10 {
			t.Errorf("the dear rates add up to %g", total)
		}
		if why := b.s.Unavailable(b.in[0].Ref); len(why) != 1 || !strings.Contains(why["dear"], "only in one of 4 frames") {
			t.Errorf("told: %v", why)
		}
		src.set(count, math.NaN())
		shown := 0
		for ; !math.IsNaN(b.f.Value(0, 1)) && shown < 20; shown++ {
			b.s.brake = brake{level: 2}
			b.step(time.Second)
		}
		if shown < 5 || shown > 9 {
			t.Errorf("without readings it is shown for %d s", shown)
		}
		b.s.brake = brake{}
		src.set(count+1, 10*count+10)
		b.step(time.Second)
		b.step(time.Second)
		if why := b.s.Unavailable(b.in[0].Ref); len(why) > 0 {
			t.Errorf("told when all is read each time: %v", why)
		}
	})
}

// TestBrakeOfRoundsThatAreCutShort: where readings take so long together that there is no end to be seen, less is read;
// that it takes long to attach to so many does not matter.
func TestBrakeOfRoundsThatAreCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &thrifty{fake: &fake{dims: []ft.Dimension{gauge("cheap"), gauge("dear")}, row: []float64{1, 2}}, takes: 60 * time.Millisecond}
		b := newBench(t, 200, src)
		const braked = "what is dear of each is read in turns"
		for range 12 { // 16 a round
			b.step(time.Second)
		}
		if strings.Contains(b.w.String(), braked) {
			t.Error("attaching braked")
		}
		for range 2 * steadyRounds {
			b.step(time.Second)
		}
		if !strings.Contains(b.w.String(), braked) {
			t.Error("rounds that have no end did not brake")
		}
	})
}

// TestLessReadingLosesNothing: with readings of less between those in full, what a process, its kid, and one that came and
// went did is counted once.
func TestLessReadingLosesNothing(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	less := r.(Thrifty)
	row := make([]float64, procColumns)
	before, was := readRow(t, r), c.usage()
	last := before[colCPU]
	for i, line := range []string{
		"burn 60", "sleep 50", "burn 35", "kid 50", "burnt", "burn 25", "write 4194304", "kidsay write 4194304", "reap", "burn 5", "burn 5", "write 4194304",
		"shorts 2", "burn 30", "threads 3", "burn 30", "burn 30",
	} {
		c.do(line)
		if i%4 == 3 {
			row = readRow(t, r)
		} else if err := less.ReadLess(time.Now(), row, nil); err != nil {
			t.Fatal(err)
		}
		if row[colCPU] < last {
			t.Errorf("after %q the CPU time runs backwards, from %g to %g s", line, last, row[colCPU])
		}
		last = row[colCPU]
	}
	is, after := c.usage(), readRow(t, r)
	grown := func(col int) float64 { return after[col] - before[col] }
	want := is.user + is.system - was.user - was.system + is.kidsUser + is.kidsSystem - was.kidsUser - was.kidsSystem
	near(t, "cpu", grown(colCPU), want, 0.05)
	near(t, "written", grown(colWritten), is.written-was.written, 65536)
	if grown(colSwitches) < 50 {
		t.Errorf("%g switches, at least 50 were made", grown(colSwitches))
	}
}

// TestLessReadingIsLess: what is dear is not there, the rest is.
func TestLessReadingIsLess(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	row := make([]float64, procColumns)
	if err := r.(Thrifty).ReadLess(time.Now(), row, nil); err != nil {
		t.Fatal(err)
	}
	for i, v := range row {
		if dear := r.(Thrifty).Dear().Has(i); dear != math.IsNaN(v) {
			t.Errorf("%s is %g", ProcFS().Dimensions()[i].Name, v)
		}
	}
}
