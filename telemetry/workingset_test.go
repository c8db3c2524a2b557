package telemetry

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const mib = 1 << 20

// quick is measured often and whatever it costs.
func quick() ft.WorkingSet {
	return ft.WorkingSet{Every: ft.Duration(200 * time.Millisecond), Budget: 1, Writes: true}
}

// subjectOf is an instance whose turns the test takes itself.
func subjectOf(t testing.TB, c ft.WorkingSet, in ft.Instance) *subject {
	t.Helper()
	if err := WorkingSetError(); err != nil {
		t.Skip("no working set can be measured here: ", err)
	}
	w := WorkingSet(c).(*workingSets)
	k, err := newKin(w.census, in)
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{source: w, kin: k, strain: newStrain(in.Scope), interval: c.Every.D()}
	t.Cleanup(s.close)
	return s
}

// round takes the turns of one interval with something done in each half, and gives the row.
func (s *subject) round(t testing.TB, first, second func()) []float64 {
	t.Helper()
	if s.stage != begun {
		s.turn(time.Now())
	}
	s.interval = time.Hour // however long it takes: it is never late
	first()
	s.turn(time.Now())
	s.lastSpan = s.interval
	second()
	for !time.Now().After(s.strain.at) { // a machine's clock may be as coarse as its timer
		time.Sleep(time.Millisecond)
	}
	s.turn(time.Now())
	row := make([]float64, setColumns)
	if err := (&setReader{subject: s}).Read(time.Now(), row, nil); err != nil {
		t.Fatal(err)
	}
	return row
}

func TestWorkingSetIsWhatWasReferenced(t *testing.T) {
	c := newChild(t)
	c.do(fmt.Sprint("region ", 96*mib))
	s := subjectOf(t, quick(), c.instance())
	touch := func(word string, from, to int) func() {
		return func() { c.do(fmt.Sprint(word, " ", from, " ", to)) }
	}
	nothing := func() {}
	idle := s.round(t, nothing, nothing)
	t.Logf("idle: %v", idle)
	if idle[colSet] > 8*mib {
		t.Errorf("idle, it referenced %g bytes", idle[colSet])
	}
	row := s.round(t, touch("touch", 0, 32), touch("touch", 0, 32))
	near(t, "one part, twice", row[colSet]/mib, 32, 4)
	if row[colTurnover] > 0.1 {
		t.Errorf("the same part twice turned over by %g", row[colTurnover])
	}
	row = s.round(t, touch("touch", 0, 32), touch("touch", 64, 96))
	near(t, "two parts", row[colSet]/mib, 64, 4)
	if row[colTurnover] < 0.9 {
		t.Errorf("another part turned over by %g", row[colTurnover])
	}
	row = s.round(t, touch("touch", 0, 32), touch("touch", 16, 48))
	near(t, "two parts that meet", row[colSet]/mib, 48, 4)
	near(t, "turnover", row[colTurnover], 0.5, 0.08)
	row = s.round(t, touch("dirty", 0, 16), touch("touch", 0, 32))
	if why := s.source.noWrites; why != "" {
		t.Logf("write share: %s", why)
		if !math.IsNaN(row[colWrites]) {
			t.Errorf("the kernel cannot tell, and %g of it was written to", row[colWrites])
		}
		return
	}
	near(t, "write share", row[colWrites], 0.5, 0.08)
	row = s.round(t, nothing, touch("touch", 0, 64))
	if row[colWrites] > 0.1 {
		t.Errorf("only read, %g of it was written to", row[colWrites])
	}
}

func TestGrowthIsSinceTheIntervalBefore(t *testing.T) {
	s := &subject{source: &workingSets{noWrites: "off"}, interval: time.Minute}
	at := time.Now()
	read := func(set uint64, after, interval time.Duration) float64 {
		at = at.Add(after)
		s.interval = interval
		s.publish(tally{processes: 1, set: set}, at)
		return s.row[colGrowth]
	}
	if got := read(100, 0, time.Minute); !math.IsNaN(got) {
		t.Errorf("of the first it is %g", got)
	}
	if got := read(700, time.Minute, time.Minute); got != 10 {
		t.Errorf("growth %g, want 10", got)
	}
	if got := read(100, 2*time.Minute, time.Minute); got != -5 {
		t.Errorf("growth %g, want -5", got)
	}
	if got := read(900, time.Minute, 2*time.Minute); !math.IsNaN(got) {
		t.Errorf("compared with a shorter interval it is %g", got)
	}
}

// TestWorkingSetOfTheWholeTree: kids count from their birth on, and what they did before they were found does not.
func TestWorkingSetOfTheWholeTree(t *testing.T) {
	c := newChild(t)
	s := subjectOf(t, quick(), c.instance())
	nothing := func() {}
	alone := s.round(t, nothing, nothing)[colSet]
	born := s.round(t, nothing, func() {
		c.do("kid 10")
		c.do("burnt")
		time.Sleep(lookEvery) // births are not looked at more often
	})[colSet]
	if len(s.kin.members) != 2 || born < alone+mib {
		t.Errorf("%d processes; alone it referenced %g bytes, with a kid's start %g", len(s.kin.members), alone, born)
	}
	c.do("reap")
	if row := s.round(t, nothing, nothing); len(s.kin.members) != 1 || row[colSet] > born {
		t.Errorf("%d processes, %g bytes after the kid's end", len(s.kin.members), row[colSet])
	}
	c.end()
	if row := s.round(t, nothing, nothing); !math.IsNaN(row[colSet]) || s.why == "" {
		t.Errorf("it is dead, and references %g bytes (%s)", row[colSet], s.why)
	}
}

func TestIntervalStretchesToTheBudget(t *testing.T) {
	w := &workingSets{config: ft.WorkingSet{Every: ft.Duration(10 * time.Second), Budget: 0.001}, noWrites: "off"}
	w.prices = func() prices { return prices{reference: 100e-9} }
	s := &subject{source: w}
	w.rounds.seats = []*seat{{taker: s}}
	after := func(own time.Duration, set uint64) time.Duration {
		for range 30 { // until the means have come
			s.used = own
			s.weigh(tally{set: set, held: own})
		}
		return w.config.Every.D() << max(s.level, w.level)
	}
	for _, c := range []struct {
		own  time.Duration
		set  uint64
		want time.Duration
	}{
		{time.Millisecond, 0, 10 * time.Second},               // 2 ms of 10 s
		{8 * time.Millisecond, 0, 20 * time.Second},           // 16 ms are a thousandth of 16 s
		{100 * time.Microsecond, 3 << 30, 80 * time.Second},   // 3 GiB are 786,432 pages: 79 ms
		{time.Millisecond, 1 << 30, 40 * time.Second},         // 28 ms
		{4900 * time.Microsecond, 0, 20 * time.Second},        // just within 10 s: it stays longer
		{3900 * time.Microsecond, 0, 10 * time.Second},        // 7.8 ms
		{time.Microsecond, 4 << 20, 10 * time.Second},         // never below
		{time.Second, 0, 10 * time.Second << (mostLevel - 1)}, // 2 s are a thousandth of 2,000 s
	} {
		got := after(c.own, c.set)
		if c.own == time.Second {
			if got < 2000*time.Second || got > 4000*time.Second {
				t.Errorf("%s: every %s", c.own, got)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s and %d bytes: every %s, want %s", c.own, c.set, got, c.want)
		}
	}
}

// TestManyInstancesShareACore: a thousand instances that take 1 ms each are measured every 2 minutes or so, not every
// 30 s: a hundredth of a core in all.
func TestManyInstancesShareACore(t *testing.T) {
	w := &workingSets{config: ft.WorkingSet{Every: ft.Duration(30 * time.Second), Budget: 0.001}}
	for i := range 1000 {
		s := &subject{source: w}
		if i < 500 {
			s.own = 0.001
		}
		w.rounds.seats = append(w.rounds.seats, &seat{taker: s})
	}
	for range 100 {
		w.adjust()
	}
	if got := w.config.Every.D() << w.level; got != 2*time.Minute {
		t.Errorf("every %s", got)
	}
	w.rounds.seats = w.rounds.seats[:100]
	for range 100 {
		w.adjust()
	}
	if w.level != 0 {
		t.Errorf("a hundred instances: level %d", w.level)
	}
}

func TestLargeInstancesAreLeftAlone(t *testing.T) {
	c := newChild(t)
	c.do(fmt.Sprint("alloc ", 32*mib))
	config := quick()
	config.MaxSize = 32 * mib
	s := subjectOf(t, config, c.instance())
	s.turn(time.Now())
	if s.stage != resting || !strings.Contains(s.why, "maxSize") {
		t.Errorf("stage %d: %q", s.stage, s.why)
	}
	if got := (&setReader{subject: s}).Missing()[ft.DimWSS]; got != s.why {
		t.Errorf("reason %q", got)
	}
	s.source.config.MaxSize = 1 << 40
	if row := s.round(t, func() {}, func() {}); math.IsNaN(row[colSet]) || s.why != "" {
		t.Errorf("small enough it reads %v (%s)", row, s.why)
	}
}

// TestNotWhereMemoryIsShort: refaults and stalls of its control group above a hundredth end the measuring.
func TestNotWhereMemoryIsShort(t *testing.T) {
	dir := groupDir(t, map[string]string{"memory.stat": "anon 1\nworkingset_refault_anon 0\n", "memory.pressure": fmt.Sprintf(pressure, 0)})
	c := newChild(t)
	in := c.instance()
	in.Scope.CgroupV2 = dir
	s := subjectOf(t, quick(), in)
	nothing := func() {}
	for _, step := range []struct {
		file, text, word string
	}{
		{"memory.stat", "anon 1\nworkingset_refault_anon 3\nworkingset_refault_file 4\n", ""},
		{"memory.stat", "anon 1\nworkingset_refault_anon 90000\nworkingset_refault_file 9\n", "read back"},
		{"memory.pressure", fmt.Sprintf(pressure, 90_000_000), "stalled"},
		{"memory.pressure", fmt.Sprintf(pressure, 90_000_001), ""},
	} {
		row := s.round(t, nothing, func() { put(t, filepath.Join(dir, step.file), step.text) })
		if short := step.word != ""; short != math.IsNaN(row[colSet]) || short != (s.stage == resting) || !strings.Contains(s.why, step.word) {
			t.Errorf("%s %q: %v, stage %d, reason %q", step.file, step.text, row, s.stage, s.why)
		}
	}
}

// TestAnotherThatClearsIsNoticed: what was referenced cannot become less while it stays resident.
func TestAnotherThatClearsIsNoticed(t *testing.T) {
	c := newChild(t)
	c.do(fmt.Sprint("region ", 32*mib))
	s := subjectOf(t, quick(), c.instance())
	touch := func() { c.do("touch 0 32") }
	other := func() {
		if err := s.kin.members[0].clear(clearReferenced); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"", "something else"} {
		if row := s.round(t, touch, other); !math.IsNaN(row[colSet]) || !strings.HasPrefix(s.why, want) || want == "" && s.why != "" {
			t.Errorf("interval %d: %v, reason %q", i, row, s.why)
		}
	}
	if row := s.round(t, touch, touch); math.IsNaN(row[colSet]) || s.why != "" {
		t.Errorf("alone again it reads %v, reason %q", row, s.why)
	}
}

// TestWorkingSetThroughASampler: readings come by themselves, are held for two intervals, and the process's own end ends them.
func TestWorkingSetThroughASampler(t *testing.T) {
	if err := WorkingSetError(); err != nil {
		t.Skip("no working set can be measured here: ", err)
	}
	c := newChild(t)
	c.do(fmt.Sprint("region ", 32*mib))
	s, err := New(slog.New(slog.DiscardHandler), WorkingSet(quick()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	in, f := []ft.Instance{c.instance()}, &ft.Frame{Schema: s.Schema()}
	sample := func() float64 {
		f.Reset(1)
		if err := s.Sample(t.Context(), time.Now(), in, f); err != nil {
			t.Fatal(err)
		}
		return f.Value(0, f.Schema.Index(ft.DimWSS))
	}
	until := func(what string, cond func(float64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !cond(sample()); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never seen: ", what)
			}
			if c.cmd.ProcessState == nil {
				c.do("touch 0 32")
			}
		}
	}
	until("a working set", func(v float64) bool { return v >= 32*mib })
	if v := sample(); v < 32*mib {
		t.Errorf("it is not held: %g", v)
	}
	if !f.Have[0].Has(f.Schema.Index(ft.DimWSSTurn)) || f.Have[0].Has(f.Schema.Index(ft.DimWrites)) != (whyNoWrites() == "") {
		t.Errorf("have %b: %v", f.Have[0], s.Unavailable(in[0].Ref))
	}
	c.end()
	// A busy machine may sample too late for a value to be held, before anybody noticed the end.
	until("nothing any more, and why", func(v float64) bool {
		return math.IsNaN(v) && s.Unavailable(in[0].Ref)[ft.DimWSS] != ""
	})
}

func TestWorkingSetIsOff(t *testing.T) {
	s, err := New(slog.New(slog.DiscardHandler), WorkingSet(ft.WorkingSet{Collect: ft.Off}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Schema().Len() != 0 {
		t.Errorf("it takes %d columns", s.Schema().Len())
	}
	w := WorkingSet(ft.WorkingSet{Every: ft.Duration(time.Second)}).(*workingSets)
	want := "off: telemetry.workingSet.writes"
	if why := whyNoWrites(); why != "" {
		want += "; it could not be measured here: " + why
	}
	if w.noWrites != want {
		t.Errorf("write share: %q, want %q", w.noWrites, want)
	}
}
