package telemetry

import (
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
)

func TestCountersBecomeRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{gauge("g"), counter("c")}, ncat: 2}
		b := newBench(t, 2, src)
		read := func(after time.Duration, g, c float64, a, z uint64) {
			src.set(g, c)
			src.counts = []uint64{a, z}
			b.step(after)
		}
		read(time.Second, 5, 100, 7, 7)
		b.want(0, "g=5 c=NaN")
		read(time.Second, 6, 110, 9, 7)
		b.want(1, "g=6 c=10")
		if diff := cmp.Diff([]uint32{2, 0, 2, 0}, b.f.Counts); diff != "" {
			t.Error(diff)
		}
		read(2*time.Second, 6, 110, 9, 8)
		b.want(0, "g=6 c=0")
		if b.f.Span[0] != 2 {
			t.Errorf("span is %g", b.f.Span[0])
		}
		read(time.Second, 6, 50, 3, 9) // it began anew
		b.want(0, "g=6 c=NaN")
		if diff := cmp.Diff([]uint32{0, 1}, b.f.Counts[:2]); diff != "" {
			t.Error(diff)
		}
		read(time.Second, 6, 53, 3, 9)
		b.want(0, "g=6 c=3")
		read(time.Minute, 6, 1e9, 1e9, 9) // the machine was suspended, or the daemon was
		b.want(0, "g=6 c=NaN")
		if diff := cmp.Diff([]uint32{0, 0}, b.f.Counts[:2]); diff != "" {
			t.Error(diff)
		}
		read(time.Second, 6, 1e9+1, 1e9, 9)
		b.want(0, "g=6 c=1")
		read(time.Second, 6, math.NaN(), 1e9, 9)
		b.want(0, "g=6 c=NaN")
		read(time.Second, 6, 1e9+5, 1e9, 9)
		b.want(0, "g=6 c=2") // over the two seconds since it was last read
	})
}

func TestWallClockStepsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{counter("c")}, row: []float64{1}}
		b := newBench(t, 1, src)
		b.step(time.Second)
		src.set(3)
		time.Sleep(time.Second)
		b.f.Reset(1)
		// Without its monotonic part, the time given is a day off.
		off := time.Now().Round(0).Add(24 * time.Hour)
		if err := b.s.Sample(t.Context(), off, b.in, b.f); err != nil {
			t.Fatal(err)
		}
		b.want(0, "c=2")
	})
}

func TestSlowDimensionsAreHeldForTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := gauge("slow")
		slow.Every = 3 * time.Second
		src := &fake{dims: []ft.Dimension{slow, gauge("g")}}
		b := newBench(t, 1, src)
		src.set(4, 1)
		b.step(time.Second)
		src.set(math.NaN(), 1)
		for i := range 6 {
			b.step(time.Second)
			if got := b.f.Value(0, 0); got != 4 {
				t.Errorf("%d s later it is %g", i+1, got)
			}
		}
		b.step(time.Second)
		b.want(0, "slow=NaN g=1")
	})
}

func TestFirstSourceThatCanMeasuresWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &fake{dims: []ft.Dimension{gauge("a"), gauge("b"), gauge("c")}, row: []float64{1, 2, 3}, missing: ft.Unavailable{"b": "not here", "c": "no such file"}}
		second := &fake{dims: []ft.Dimension{gauge("b"), gauge("a"), gauge("c")}, row: []float64{20, 10, 30}, missing: ft.Unavailable{"c": "no permission"}}
		b := newBench(t, 1, first, second)
		if got := b.s.Unavailable(b.in[0].Ref); got != nil {
			t.Errorf("before the first sample %v is not available", got)
		}
		b.step(time.Second)
		b.want(0, "a=1 b=20 c=NaN")
		if want := b.f.Schema.Set("a", "b"); b.f.Have[0] != want {
			t.Errorf("have %b, want %b", b.f.Have[0], want)
		}
		if diff := cmp.Diff(ft.Unavailable{"c": "no such file; no permission"}, b.s.Unavailable(b.in[0].Ref)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSourcesMustAgree(t *testing.T) {
	a, b := gauge("x"), gauge("x")
	b.Unit = "B"
	if _, err := New(slog.Default(), &fake{dims: []ft.Dimension{a}}, &fake{dims: []ft.Dimension{b}}); err == nil {
		t.Error("two units of one dimension were accepted")
	}
	if s, err := New(slog.Default(), Cgroup(), ProcFS()); err != nil {
		t.Error(err)
	} else if s.Schema().Index(ft.DimAnon) < 0 || s.Schema().Len() != int(procColumns)+int(groupColumns)-1 {
		t.Errorf("%d columns", s.Schema().Len())
	}
}

func TestReaderThatFailsStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, fail: map[ft.InstanceID]error{"web-2": errors.New("broken")}}
		b := newBench(t, 3, src)
		for range 3 {
			b.step(time.Second)
			b.want(0, "g=1")
			b.want(1, "g=NaN")
			b.want(2, "g=1")
		}
		src.fail = nil
		b.step(time.Second)
		b.want(1, "g=1")
		if got := b.w.String(); strings.Count(got, "broken") != 1 || strings.Count(got, "again") != 1 {
			t.Errorf("the log is not of one fault and its end:\n%s", got)
		}
	})
}

func TestReaderThatBlocksStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		src := &fake{dims: []ft.Dimension{gauge("g"), counter("c")}, row: []float64{1, 0}}
		b := newBench(t, 4, src)
		b.step(time.Second)
		src.mu.Lock()
		src.block = map[ft.InstanceID]chan struct{}{"web-2": let, "web-4": let}
		src.mu.Unlock()
		for i := range 3 {
			from := time.Now()
			src.set(2, float64(i+1)*10)
			b.step(time.Second)
			for r, want := range []string{"g=2", "g=NaN", "g=2", "g=NaN"} {
				if got, _, _ := strings.Cut(b.row(r), " "); got != want {
					t.Errorf("row %d is %s, want %s", r, got, want)
				}
			}
			if took := time.Since(from) - time.Second; i > 0 && took > 0 {
				t.Errorf("known to block, they kept the others waiting for %s", took)
			}
		}
		src.mu.Lock()
		src.block = nil
		src.mu.Unlock()
		close(let)
		synctest.Wait()
		src.set(3, 50)
		b.step(time.Second)
		b.step(time.Second)
		b.want(1, "g=3 c=0")
	})
}

func TestBlockedReaderIsClosedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		src := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, block: map[ft.InstanceID]chan struct{}{"web-1": let}}
		b := newBench(t, 2, src)
		b.step(time.Second)
		b.in = b.in[1:] // it is gone, and its reader blocks still
		b.step(time.Second)
		b.want(0, "g=1")
		if src.readers != 2 {
			t.Errorf("%d readers are open", src.readers)
		}
		close(let)
		synctest.Wait()
		if src.readers != 1 {
			t.Errorf("%d readers are open", src.readers)
		}
	})
}

func TestCloseSaysWhoBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		src := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, block: map[ft.InstanceID]chan struct{}{"web-1": let}}
		b := newBench(t, 2, src)
		b.step(time.Second)
		if err := b.s.Close(); err == nil || !strings.Contains(err.Error(), "web-1") {
			t.Errorf("close: %v", err)
		}
		close(let)
		synctest.Wait()
		if src.readers != 0 {
			t.Errorf("%d readers are open", src.readers)
		}
		if err := b.s.Sample(t.Context(), time.Now(), b.in, b.f); !errors.Is(err, ft.ErrConflict) {
			t.Errorf("sampled after the close: %v", err)
		}
	})
}

func TestBatchedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &batcher{fake: &fake{dims: []ft.Dimension{counter("requests")}, ncat: 3, row: []float64{1}}}
		src.demand, src.labels = ft.Demand{Arrivals: 4, Queued: 2}, []string{"/a", "/b"}
		other := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}}
		b := newBench(t, 1, other, src)
		b.step(time.Second)
		src.set(11)
		b.step(time.Second)
		b.want(0, "g=1 requests=10")
		if diff := cmp.Diff(src.demand, b.f.Demand); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(append(src.labels, ""), b.f.Labels); diff != "" {
			t.Error(diff)
		}
		// A batch that fails: what its readers have is of before, and would be a false rate of 0.
		src.err = errors.New("router is away")
		b.step(time.Second)
		b.want(0, "g=1 requests=NaN")
		if b.f.Demand != (ft.Demand{}) {
			t.Errorf("demand is %+v", b.f.Demand)
		}
		src.err = nil
		src.set(31)
		b.step(time.Second)
		b.want(0, "g=1 requests=10")
		// One that blocks.
		let := make(chan struct{})
		src.block = let
		b.step(time.Second)
		b.want(0, "g=1 requests=NaN")
		b.step(time.Second)
		b.want(0, "g=1 requests=NaN")
		src.mu.Lock()
		src.block = nil
		src.mu.Unlock()
		close(let)
		synctest.Wait()
		b.step(time.Second)
		b.step(time.Second)
		b.want(0, "g=1 requests=0")
		if got := b.w.String(); strings.Count(got, "cannot read a source") != 2 || strings.Count(got, "reading a source again") != 2 {
			t.Errorf("the log is not of two faults and their ends:\n%s", got)
		}
	})
}

func TestAttachIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, attach: errors.New("too many open files")}
		b := newBench(t, 1, src)
		b.step(time.Second)
		if got := b.s.Unavailable(b.in[0].Ref)["g"]; got != "too many open files" {
			t.Errorf("reason %q", got)
		}
		src.attach = nil
		b.step(time.Second)
		b.want(0, "g=NaN")
		b.step(attachAgain)
		b.want(0, "g=1")
		if got := b.s.Unavailable(b.in[0].Ref); len(got) != 0 {
			t.Errorf("not available: %v", got)
		}
	})
}

func TestNewGenerationAndNewScopeBeginAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{counter("c")}, row: []float64{100}}
		b := newBench(t, 1, src)
		b.step(time.Second)
		b.in[0].Generation = 2
		src.set(200)
		b.step(time.Second)
		b.want(0, "c=NaN")
		src.set(201)
		b.step(time.Second)
		b.want(0, "c=1")
		b.in[0].Scope.PID = 77
		src.set(500)
		b.step(time.Second)
		b.want(0, "c=NaN")
		if src.readers != 1 {
			t.Errorf("%d readers are open", src.readers)
		}
	})
}

func TestFrameOfAnotherShapeIsRefused(t *testing.T) {
	s, err := New(slog.Default(), &fake{dims: []ft.Dimension{gauge("g")}})
	if err != nil {
		t.Fatal(err)
	}
	f := &ft.Frame{Schema: s.Schema()}
	f.Reset(1)
	if err := s.Sample(t.Context(), time.Now(), instances(2), f); !errors.Is(err, ft.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestSampleOfRealProcess(t *testing.T) {
	c := newChild(t)
	s, err := New(slog.New(slog.DiscardHandler), Cgroup(), ProcFS())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := []ft.Instance{c.instance()}
	f := &ft.Frame{Schema: s.Schema()}
	f.Reset(1)
	sample := func() time.Time {
		f.Reset(1)
		now := time.Now()
		if err := s.Sample(t.Context(), now, in, f); err != nil {
			t.Fatal(err)
		}
		return now
	}
	// A busy machine may keep a reading waiting: what has a value must be right.
	got := math.NaN()
	for deadline := time.Now().Add(time.Minute); math.IsNaN(got); {
		from, was := sample(), c.usage()
		c.do("burn 500")
		is := c.usage()
		span := sample().Sub(from).Seconds()
		if got = f.Value(0, f.Schema.Index(ft.DimCPU)); !math.IsNaN(got) {
			near(t, "cpu", got, (is.user+is.system-was.user-was.system)/span, 0.02)
			near(t, "span", float64(f.Span[0]), span, 0.001)
		} else if time.Now().After(deadline) {
			t.Fatal("the CPU is never measured")
		}
	}
	why := s.Unavailable(in[0].Ref)
	if why[ft.DimThrottle] == "" || why[ft.DimCPU] != "" {
		t.Errorf("not available: %v", why)
	}
	if f.Have[0].Has(f.Schema.Index(ft.DimThrottle)) || !f.Have[0].Has(f.Schema.Index(ft.DimAnon)) {
		t.Errorf("have %b", f.Have[0])
	}
}
