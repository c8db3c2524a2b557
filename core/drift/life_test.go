package drift

import (
	"math"
	"slices"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// reborn gives member i a new generation now.
func (w *world) reborn(i int) {
	g := w.members[i].generation + 1
	w.members[i] = w.fresh(i)
	w.members[i].generation = g
}

// TestFullReset: a new life is judged after a few rows by what its group knows, and warming up is no drift.
func TestFullReset(t *testing.T) {
	for _, n := range poolSizes {
		for seed := range uint64(3) {
			w := newWorld(n, 300+seed)
			j := newJudge(t, w, Config{})
			watch(t, w, j, 400)
			w.reborn(0)
			vs := watch(t, w, j, 800)
			if at := firstAt(vs, 0, atLeast(ft.Steady)); at < 400 || at > 420 {
				t.Errorf("n=%d seed=%d: judged again at %d, reborn at 400", n, seed, at)
			}
			if at := firstAt(vs, 0, atLeast(ft.Medium)); at >= 0 {
				t.Errorf("n=%d seed=%d: a healthy new life drifts at %d:%s", n, seed, at, told(vs))
			}
		}
	}
}

// TestUncured: a full reset that does not cure is seen, though the sick state is all that the new life ever knew.
func TestUncured(t *testing.T) {
	for _, n := range poolSizes {
		w := newWorld(n, 310)
		w.faults = []fault{{at: 400, victim: 0, lock: 0.05}}
		j := newJudge(t, w, Config{})
		watch(t, w, j, 440)
		w.reborn(0)
		vs := watch(t, w, j, 520)
		if at := firstAt(vs, 0, sick(ft.High)); at < 0 || at > 490 {
			t.Errorf("n=%d: a lock that outlasts the reset at 440 is found at %d:%s", n, at, told(vs))
		}
	}
}

// TestRecovery: drift that ends is told to have ended, and not at once.
func TestRecovery(t *testing.T) {
	w := newWorld(4, 311)
	w.faults = []fault{{at: 300, until: 340, victim: 1, lock: 0.05}}
	vs := watch(t, w, newJudge(t, w, Config{}), 420)
	vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < 340 })
	at := firstAt(vs, 1, func(s *seen) bool { return s.v.Level == ft.Steady })
	if at < 340+recoverRows || at > 340+45 {
		t.Errorf("fault ended at 340, steady at %d:%s", at, told(vs))
	}
}

// TestHeld: rows under an action are judged, but train nothing.
func TestHeld(t *testing.T) {
	w := newWorld(4, 312)
	w.held = func(i int) bool { return i == 2 && w.t >= 300 }
	w.faults = []fault{{at: 300, until: 1500, victim: 2, lock: 0.05}}
	j := newJudge(t, w, Config{})
	vs := watch(t, w, j, 1500)
	if at := firstAt(vs, 2, sick(ft.High)); at < 300 || at > 310 {
		t.Errorf("a held row's lock at 300 is found at %d:%s", at, told(vs))
	}
	if v := j.Verdict(2); v.Level < ft.High {
		t.Errorf("after 20 minutes held the lock is taken for usual: %+v", v)
	}
	w.held = nil
	vs = watch(t, w, j, 1600)
	if v := j.Verdict(2); v.Level != ft.Steady {
		t.Errorf("healthy again, but %v:%s", v.Level, told(vs))
	}
}

// TestNotServing: a row out of service is not judged.
func TestNotServing(t *testing.T) {
	w := newWorld(3, 313)
	j := newJudge(t, w, Config{})
	watch(t, w, j, 300)
	was := j.Verdict(1)
	for range 100 {
		f := w.next()
		f.Rows[1].Serving = false
		for c := range w.schema.Len() {
			f.X[w.schema.Len()+c] = 1e9
		}
		for _, v := range j.Observe(nil, f) {
			if v.Slot == 1 && !v.Pool {
				t.Fatalf("row %d is out of service but judged: %+v", w.t, v)
			}
		}
	}
	if got := j.Verdict(1); got.Level != was.Level {
		t.Errorf("level %v out of service, was %v", got.Level, was.Level)
	}
}

// TestAdoption: a new mix that stays becomes the usual one after ten times the time of learning; the old one is then
// the stranger. A slow lock is not adopted in that time.
func TestAdoption(t *testing.T) {
	w := newWorld(3, 314)
	w.faults = []fault{
		{at: 300, until: 1900, victim: 0, mix: []float64{.1, .1, .1, .2, .3, .2}},
		{at: 300, victim: 1, lock: 0.05},
	}
	j := newJudge(t, w, Config{})
	watch(t, w, j, 1400)
	if v := j.Verdict(0); v.Level < ft.Low || v.Cause != ft.WorkloadChanged {
		t.Errorf("after 1100 rows of a new mix: %v %v, want it to drift still", v.Level, v.Cause)
	}
	vs := watch(t, w, j, 1800)
	if v := j.Verdict(0); v.Level != ft.Steady {
		t.Errorf("after 1500 rows of a new mix: %v %v, want it taken for usual:%s", v.Level, v.Cause, told(vs))
	}
	if v := j.Verdict(1); v.Level < ft.High || v.Cause != ft.InstanceChanged {
		t.Errorf("after 1500 rows of a lock: %v %v, want it not to be adopted", v.Level, v.Cause)
	}
	vs = watch(t, w, j, 1950)
	vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < 1900 })
	if at := firstAt(vs, 0, func(s *seen) bool { return s.v.Level >= ft.Low && s.v.Cause == ft.WorkloadChanged }); at < 0 {
		t.Errorf("the old mix came back at 1900 and was not noticed:%s", told(vs))
	}
}

// TestAccept: the present state becomes the usual one within a few rows, for one and for all; forgetting starts anew.
func TestAccept(t *testing.T) {
	w := newWorld(3, 315)
	w.faults = []fault{{at: 300, victim: 0, lock: 0.05}}
	j := newJudge(t, w, Config{})
	watch(t, w, j, 330)
	j.Accept(0)
	vs := watch(t, w, j, 450)
	if v := j.Verdict(0); v.Level != ft.Steady {
		t.Errorf("accepted at 330, but %v:%s", v.Level, told(vs))
	}
	j.Forget(0)
	if got := j.FirstVerdict(0); got != 120*time.Second {
		t.Errorf("forgotten: first verdict in %s, want 2m", got)
	}
	watch(t, w, j, 451)
	if v := j.Verdict(0); v.Level != ft.Learning || v.Progress > 0.1 {
		t.Errorf("forgotten: %v, progress %g", v.Level, v.Progress)
	}
	j.ForgetAll()
	watch(t, w, j, 500)
	if v := j.Verdict(2); v.Level != ft.Learning || j.FirstVerdict(2) <= 0 {
		t.Errorf("all forgotten: %v, first verdict in %s", v.Level, j.FirstVerdict(2))
	}
	watch(t, w, j, 640)
	if v := j.Verdict(2); v.Level < ft.Steady || j.FirstVerdict(2) != 0 {
		t.Errorf("learnt again: %v, first verdict in %s", v.Level, j.FirstVerdict(2))
	}
	j.AcceptAll()
	watch(t, w, j, 660)
	if v := j.Verdict(2); v.Level != ft.Steady {
		t.Errorf("all accepted: %v", v.Level)
	}
}

// TestSettings: an adjustment changes what is measured: the location is learnt anew and that is no drift.
func TestSettings(t *testing.T) {
	w := newWorld(3, 316)
	w.faults = []fault{{at: 300, victim: 0, cold: 0.5}}
	j := newJudge(t, w, Config{})
	watch(t, w, j, 300)
	var low bool
	for w.t < 500 {
		f := w.next()
		f.Rows[0].Settings = 7
		for _, v := range j.Observe(nil, f) {
			low = low || v.Slot == 0 && !v.Pool && v.Level >= ft.Low
		}
	}
	if low {
		t.Error("an adjusted instance drifts from what it was before the adjustment")
	}
	if v := j.Verdict(0); v.Level != ft.Steady {
		t.Errorf("200 rows after the adjustment: %v", v.Level)
	}
}

// TestSlowLeak: growth that level and smoothing would absorb is found by its slope, with a forecast of the limit;
// filling a cache for minutes is not.
func TestSlowLeak(t *testing.T) {
	const limit, rate = 512 * mebi, 0.15 * mebi
	for _, n := range poolSizes {
		w := newWorld(n, 320)
		w.faults = []fault{{at: 600, victim: 0, leak: rate}}
		j := newJudge(t, w, Config{MemoryLimit: limit})
		vs := watch(t, w, j, 600+1800)
		at := firstAt(vs, 0, func(s *seen) bool {
			return sick(ft.Low)(s) && (slices.Contains(s.dims, ft.DimRSS) || slices.Contains(s.dims, ft.DimAnon))
		})
		if at < 600 || at > 600+1200 {
			t.Errorf("n=%d: leak of 0.15 MiB/s planted at 600 found at %d:%s", n, at, told(vs))
		}
		var foreseen *ft.Foreseen
		for k := range vs {
			if v := &vs[k].v; v.Forecast.At != 0 && v.Slot == 0 && !v.Pool {
				_, _, foreseen = Explain(w.schema, nil, "web-0", v)
			}
		}
		if foreseen == nil {
			t.Errorf("n=%d: no forecast:%s", n, told(vs))
			continue
		}
		if foreseen.Slope < 0.3*rate || foreseen.Slope > 3*rate || foreseen.Limit != limit {
			t.Errorf("n=%d: foreseen %+v, true slope %g", n, foreseen, rate)
		}
		for k := range vs {
			if v := &vs[k].v; !v.Pool && v.Slot != 0 && v.Level >= ft.Medium {
				t.Errorf("n=%d: at %d %s", n, vs[k].row, vs[k].text)
			}
		}
	}
}

// TestSlowWarmUp: caches that fill for a quarter of an hour grow by more than a slow leak does, but ever slower.
func TestSlowWarmUp(t *testing.T) {
	for _, n := range poolSizes {
		for seed := range uint64(2) {
			w := newWorld(n, 340+seed)
			w.fill, w.more = 400, 80
			if seed == 1 {
				w.fill, w.more = 700, 280
			}
			vs := watch(t, w, newJudge(t, w, Config{MemoryLimit: 512 * mebi}), 3000)
			for k := range vs {
				if vs[k].v.Level >= ft.Medium && vs[k].v.Cause != ft.WorkloadChanged {
					t.Errorf("n=%d seed=%d: filling caches at %d: %s", n, seed, vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestCheckpoint: a new judge that takes a checkpoint judges from the first frame, and as well.
func TestCheckpoint(t *testing.T) {
	w := newWorld(4, 330)
	w.faults = []fault{{at: 420, victim: 3, lock: 0.05}}
	j := newJudge(t, w, Config{})
	watch(t, w, j, 400)
	b, err := j.AppendBinary([]byte("prefix"))
	if err != nil {
		t.Fatal(err)
	}
	k := newJudge(t, w, Config{})
	if err := k.UnmarshalBinary(b[len("prefix"):]); err != nil {
		t.Fatal(err)
	}
	k.Retell()
	vs := watch(t, w, k, 460)
	for slot := range 4 {
		if at := firstAt(vs, slot, atLeast(ft.Steady)); at != 401 {
			t.Errorf("slot %d: judged again at %d, want at the first frame, 401", slot, at)
		}
	}
	if at := firstAt(vs, 3, sick(ft.High)); at < 420 || at > 430 {
		t.Errorf("lock at 420 found at %d:%s", at, told(vs))
	}
	again, err := j.AppendBinary(nil)
	if err != nil || string(again) != string(b[len("prefix"):]) {
		t.Errorf("a checkpoint is not the same twice (%v)", err)
	}
	other := newJudge(t, &world{schema: poolSchema(false)}, Config{})
	if err := other.UnmarshalBinary(again); err == nil {
		t.Error("a checkpoint of another schema is taken")
	}
	for _, cut := range []int{0, 3, 20, len(again) / 2, len(again) - 1} {
		if err := k.UnmarshalBinary(again[:cut]); err == nil {
			t.Errorf("a checkpoint cut to %d bytes is taken", cut)
		}
	}
	if v := k.Verdict(3); v.Level < ft.High {
		t.Errorf("refused checkpoints changed the judge: %v", v.Level)
	}
}

// TestSlotReuse: profiles follow lives, not slots, and those that are gone for long are forgotten.
func TestSlotReuse(t *testing.T) {
	w := newWorld(3, 331)
	j := newJudge(t, w, Config{})
	watch(t, w, j, 300)
	for range 20 { // slots turn round
		f := w.next()
		for i := range f.Rows {
			f.Rows[i].Slot = ft.Slot((i + 1) % 3)
		}
		for _, v := range j.Observe(nil, f) {
			if !v.Pool {
				t.Errorf("row %d: moving a life to another slot is told as %+v", w.t, v)
			}
		}
	}
	if v := j.Verdict(1); v.Life != w.frame.Rows[0].Life || v.Level != ft.Steady {
		t.Errorf("slot 1 has life %x at %v", v.Life, v.Level)
	}
	w.n, w.members = 2, w.members[:2]
	watch(t, w, j, w.t+absentRows+2*sweepRows)
	if v := j.Verdict(2); v.Level != ft.Learning || v.Life != 0 {
		t.Errorf("an instance that is long gone is still %v", v.Level)
	}
}

// TestDeterministic: the same frames give the same verdicts, bit for bit.
func TestDeterministic(t *testing.T) {
	run := func() []seen {
		w := newWorld(4, 332)
		w.faults = []fault{{at: 200, victim: 1, leak: 3 * mebi}, {at: 400, victim: -1, load: 1}}
		return watch(t, w, newJudge(t, w, Config{MemoryLimit: 512 * mebi}), 500)
	}
	a, b := run(), run()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d verdicts, then %d", len(a), len(b))
	}
	for k := range a {
		if a[k].v != b[k].v || a[k].text != b[k].text {
			t.Fatalf("verdict %d differs:\n%+v\n%+v", k, a[k].v, b[k].v)
		}
	}
}

// TestInterval: spans are multiples of the interval: at 100 ms all is ten times as fast.
func TestInterval(t *testing.T) {
	w := newWorld(3, 333)
	w.faults = []fault{{at: 300, victim: 1, lock: 0.05}}
	j := newJudge(t, w, Config{Interval: 100 * time.Millisecond})
	if got := j.FirstVerdict(0); got != 12*time.Second {
		t.Errorf("first verdict in %s, want 12s", got)
	}
	for w.t < 320 {
		f := w.next()
		f.At = w.start.Add(time.Duration(w.t) * 100 * time.Millisecond)
		for i := range f.Rows {
			f.Rows[i].Age /= 10
		}
		j.Observe(nil, f)
	}
	if v := j.Verdict(1); v.Level < ft.High || v.Cause != ft.InstanceChanged {
		t.Errorf("lock after 2 s: %v %v", v.Level, v.Cause)
	}
	if since := j.Verdict(1).Since.Time().Sub(w.start).Seconds(); math.Abs(since-30.3) > 1 {
		t.Errorf("since %.1f s, planted at 30 s", since)
	}
}

// TestConfig: what cannot work is refused in words.
func TestConfig(t *testing.T) {
	s := poolSchema(true)
	for _, c := range []Config{
		{Interval: -1}, {Learn: 5 * time.Second}, {FalseAlarms: -1}, {FalseAlarms: math.NaN()}, {FalseAlarms: math.Inf(1)},
	} {
		if _, err := New(s, c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if _, err := New(nil, Config{}); err == nil {
		t.Error("no schema is accepted")
	}
}

// TestGrowth: what rises steadily grows, what saturates, jumps or only swings does not.
func TestGrowth(t *testing.T) {
	w := newWorld(1, 350)
	j := newJudge(t, w, Config{})
	watch(t, w, j, 5)
	p := j.bank.At(0)
	for name, tt := range map[string]struct {
		f    func(x float64) float64
		want bool
	}{
		"leak":      {func(x float64) float64 { return 60 + 2*x }, true},
		"saturates": {func(x float64) float64 { return 60 + 40*(1-math.Exp(-x/5)) }, false},
		"jumps":     {func(x float64) float64 { return 60 + 30*math.Floor(x/8) }, false},
		"swings":    {func(x float64) float64 { return 60 + 10*math.Sin(x) }, false},
		"shrinks":   {func(x float64) float64 { return 60 - 2*x }, false},
	} {
		m := p.MinimaOf(0, 0)
		for i := range m {
			m[i] = tt.f(float64(i)) * mebi
		}
		p.Filled[0] = int32(len(m))
		if rise, got := j.growth(&p, 0, 0); got != tt.want {
			t.Errorf("%s: growth %g MiB counts %v, want %v", name, rise/mebi, got, tt.want)
		}
	}
}
