package drift

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// seen is one verdict that the judge told, with the row it was told at.
type seen struct {
	row  int
	v    ft.Verdict
	text string
	dims []string
}

// watch runs a world until a row and collects what the judge tells.
func watch(t testing.TB, w *world, j *Judge, until int) []seen {
	t.Helper()
	var out []seen
	var buf []ft.Verdict
	for w.t < until {
		buf = j.Observe(buf[:0], w.next())
		for k := range buf {
			s := seen{row: w.t, v: buf[k]}
			name := fmt.Sprintf("web-%d", buf[k].Slot)
			if buf[k].Pool {
				name = "web"
			}
			var ev []ft.Evidence
			s.text, ev, _ = Explain(w.schema, w.frame.Labels, name, &buf[k])
			for _, e := range ev {
				s.dims = append(s.dims, e.Dimension)
			}
			out = append(out, s)
		}
	}
	return out
}

func newJudge(t testing.TB, w *world, c Config) *Judge {
	t.Helper()
	j, err := New(w.schema, c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// firstAt is the row of the first verdict of a slot (pool: -1) that a condition holds for, -1 for none.
func firstAt(vs []seen, slot int, cond func(*seen) bool) int {
	for k := range vs {
		if vs[k].v.Pool == (slot < 0) && (slot < 0 || int(vs[k].v.Slot) == slot) && cond(&vs[k]) {
			return vs[k].row
		}
	}
	return -1
}

func atLeast(l ft.Level) func(*seen) bool { return func(s *seen) bool { return s.v.Level >= l } }

func sick(l ft.Level) func(*seen) bool {
	return func(s *seen) bool {
		return s.v.Level >= l && s.v.Cause == ft.InstanceChanged && s.v.Extent == ft.ThisInstance
	}
}

func told(vs []seen) string {
	var b strings.Builder
	for _, s := range vs {
		if s.v.Level != ft.Steady || s.v.Pool {
			fmt.Fprintf(&b, "\n\t%d %s", s.row, s.text)
		}
	}
	return b.String()
}

var poolSizes = []int{1, 2, 3, 4, 8}

// TestHealthyIsCalm: hours of unsteady load, bursts, pauses, idle seconds and stalls of the machine give next to no
// Low verdict, and none above.
func TestHealthyIsCalm(t *testing.T) {
	const rows = 3600
	days, low := 0.0, 0
	for _, n := range poolSizes {
		for seed := range uint64(4) {
			w := newWorld(n, seed)
			vs := watch(t, w, newJudge(t, w, Config{}), rows)
			if got := firstAt(vs, 0, atLeast(ft.Steady)); got < 100 || got > 180 {
				t.Errorf("n=%d seed=%d: first verdict after %d rows, want after about 120, within 3 minutes", n, seed, got)
			}
			days += float64(n) * rows / 86400
			level := make(map[string]ft.Level)
			for k := range vs {
				who := fmt.Sprint(vs[k].v.Pool, vs[k].v.Slot)
				if vs[k].v.Level >= ft.Low && level[who] < ft.Low {
					low++
				}
				level[who] = vs[k].v.Level
				if vs[k].v.Level >= ft.Medium {
					t.Errorf("n=%d seed=%d: healthy, but at %d: %s", n, seed, vs[k].row, vs[k].text)
				}
			}
		}
	}
	t.Logf("%d Low runs in %.1f instance-days", low, days)
	if float64(low) > days+2 { // about one a day is tolerated; 2 is chance
		t.Errorf("%d Low runs in %.1f instance-days of health", low, days)
	}
}

// TestFaults: one sick member is found, named, and told from its healthy peers.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    fault
		low      int // rows until Low at the latest
		critical int // rows until Critical at the latest, 0: not asked for
		dims     []string
	}{
		{"leak of 1 MiB/s", fault{leak: 1 * mebi}, 35, 45, []string{ft.DimRSS, ft.DimAnon}},
		{"leak of 3 MiB/s", fault{leak: 3 * mebi}, 10, 25, []string{ft.DimRSS, ft.DimAnon}},
		{"leak of 10 MiB/s", fault{leak: 10 * mebi}, 8, 10, []string{ft.DimRSS, ft.DimAnon}},
		{"lock of 20 ms", fault{lock: 0.02}, 5, 20, []string{ft.DimP50, ft.DimP99}},
		{"lock of 50 ms", fault{lock: 0.05}, 5, 10, []string{ft.DimP50, ft.DimP99}},
		{"spin", fault{spin: 0.8}, 5, 10, []string{ft.DimCPU, ft.DimCPUUser}},
		{"descriptor leak", fault{fds: 1}, 25, 45, []string{ft.DimFDs}},
		{"errors", fault{errors: 0.2}, 10, 0, []string{ft.DimErrors}},
		{"cold cache", fault{cold: 1}, 10, 30, []string{ft.DimRead, ft.DimP50}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, n := range poolSizes {
				for seed := range uint64(3) {
					w := newWorld(n, 100+seed)
					f := tt.fault
					f.at, f.victim = 300+int(seed)*150, int(seed)%n
					w.faults = []fault{f}
					vs := watch(t, w, newJudge(t, w, Config{}), f.at+60)
					vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < f.at })
					checkFound(t, fmt.Sprintf("n=%d seed=%d", n, seed), vs, f, tt.low, tt.critical, tt.dims)
				}
			}
		})
	}
}

func checkFound(t *testing.T, where string, vs []seen, f fault, low, critical int, dims []string) {
	t.Helper()
	if at := firstAt(vs, f.victim, sick(ft.Low)); at < 0 || at > f.at+low {
		t.Errorf("%s: instance changed first told at %d, fault at %d, want within %d rows:%s", where, at, f.at, low, told(vs))
	}
	if at := firstAt(vs, f.victim, sick(ft.Critical)); critical > 0 && (at < 0 || at > f.at+critical) {
		t.Errorf("%s: critical first told at %d, fault at %d, want within %d rows:%s", where, at, f.at, critical, told(vs))
	}
	named := firstAt(vs, f.victim, func(s *seen) bool {
		return s.v.Level >= ft.High && slices.ContainsFunc(s.dims, func(d string) bool { return slices.Contains(dims, d) })
	})
	if named < 0 {
		t.Errorf("%s: none of %v is named:%s", where, dims, told(vs))
	}
	for k := range vs {
		if !vs[k].v.Pool && int(vs[k].v.Slot) != f.victim && vs[k].v.Level >= ft.Medium {
			t.Errorf("%s: healthy peer at %d: %s", where, vs[k].row, vs[k].text)
		}
		if vs[k].v.Level >= ft.Low && vs[k].v.Cause == ft.WorkloadChanged && int(vs[k].v.Slot) == f.victim && !vs[k].v.Pool {
			t.Errorf("%s: at %d a fault is called a change of work: %s", where, vs[k].row, vs[k].text)
		}
	}
}

// TestFaultOnCrest: a fault that begins on a passing crest of the load, which explains it at first, is not taken for
// the work once the crest is gone. Alone, without peers, this is hardest.
func TestFaultOnCrest(t *testing.T) {
	for name, f := range map[string]fault{
		"leak": {leak: 10 * mebi}, "spin": {spin: 0.8}, "errors": {errors: 0.2},
	} {
		w := newWorld(1, 7006)
		f.at = 1200
		w.faults = []fault{f}
		vs := watch(t, w, newJudge(t, w, Config{}), f.at+60)
		vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < f.at })
		if at := firstAt(vs, 0, sick(ft.High)); at < 0 || at > f.at+35 {
			t.Errorf("%s on a crest at %d is called a sick instance at %d:%s", name, f.at, at, told(vs))
		}
	}
}

// TestNewMix: one instance gets other routes and bigger requests. All its responses move, but that is the work.
func TestNewMix(t *testing.T) {
	for name, mix := range map[string][]float64{
		"strong": {.1, .1, .1, .2, .3, .2}, "mild": {.2, .2, .1, .2, .1, .2},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range poolSizes {
				for seed := range uint64(3) {
					w := newWorld(n, 200+seed)
					f := fault{at: 300, victim: int(seed) % n, mix: mix}
					w.faults = []fault{f}
					vs := watch(t, w, newJudge(t, w, Config{}), f.at+200)
					vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < f.at })
					extent := ft.ThisInstance
					if n == 1 {
						extent = ft.WholePool // the work of a pool of one is the pool's
					}
					at := firstAt(vs, f.victim, func(s *seen) bool {
						return s.v.Level >= ft.Low && s.v.Cause == ft.WorkloadChanged && s.v.Extent == extent
					})
					if at < 0 || at > f.at+15 {
						t.Errorf("n=%d seed=%d: new mix found at %d, planted at %d:%s", n, seed, at, f.at, told(vs))
					}
					for k := range vs {
						if vs[k].v.Cause == ft.InstanceChanged {
							t.Errorf("n=%d seed=%d: at %d new work is called a sick instance: %s", n, seed, vs[k].row, vs[k].text)
						}
					}
					if n > 1 && firstAt(vs, -1, atLeast(ft.Low)) >= 0 {
						t.Errorf("n=%d seed=%d: one instance's new mix is called the pool's:%s", n, seed, told(vs))
					}
				}
			}
		})
	}
}

// TestLoadDoubles: the pool's event, whatever queueing does to the latencies; nobody is called ill.
//
// The worlds are selected: in each of them the doubled load is about twice the learnt mean. Where it doubles from a
// trough of the wave and so ends below about 1.8 times the mean it can stay below the threshold, although it is above
// all that was seen before: that much a load may change without being drift (see loadFloor).
func TestLoadDoubles(t *testing.T) {
	for _, n := range poolSizes {
		for _, seed := range []uint64{0, 1, 3, 4, 7} { // waves of 45 s, 97 s and 30 min
			w := newWorld(n, 100+seed)
			f := fault{at: 400, victim: -1, load: 1}
			w.faults = []fault{f}
			vs := watch(t, w, newJudge(t, w, Config{}), f.at+240)
			vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < f.at })
			at := firstAt(vs, -1, func(s *seen) bool {
				return s.v.Level >= ft.Low && s.v.Cause == ft.WorkloadChanged && slices.Contains(s.dims, ft.DimOffered)
			})
			if at < 0 || at > f.at+100 {
				t.Errorf("n=%d seed=%d: doubled load found at %d, planted at %d:%s", n, seed, at, f.at, told(vs))
			}
			for k := range vs {
				if n > 1 && !vs[k].v.Pool && vs[k].v.Level >= ft.Medium {
					t.Errorf("n=%d seed=%d: the alarm should have moved to the pool, but at %d %s", n, seed, vs[k].row, vs[k].text)
				}
				if vs[k].v.Cause == ft.InstanceChanged {
					t.Errorf("n=%d seed=%d: at %d doubled load is called a sick instance: %s", n, seed, vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestSickInPoolEvent: the self thresholds rise while the pool takes double load, but a sick member is still seen.
func TestSickInPoolEvent(t *testing.T) {
	for _, n := range []int{3, 4, 8} {
		w := newWorld(n, 103)
		w.faults = []fault{{at: 400, victim: -1, load: 1}, {at: 520, victim: 1, lock: 0.05}}
		vs := watch(t, w, newJudge(t, w, Config{}), 560)
		vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < 520 })
		if at := firstAt(vs, 1, sick(ft.High)); at < 0 || at > 540 {
			t.Errorf("n=%d: lock in the middle of a pool event found at %d, planted at 520:%s", n, at, told(vs))
		}
	}
}

// TestPoolSlow: all members slow down alike and the work did not change: the pool did, and nobody in particular is ill.
func TestPoolSlow(t *testing.T) {
	for _, n := range []int{3, 4, 8} {
		w := newWorld(n, 104)
		w.faults = []fault{{at: 400, victim: -1, cold: 1.5}}
		vs := watch(t, w, newJudge(t, w, Config{}), 460)
		vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < 400 })
		at := firstAt(vs, -1, func(s *seen) bool {
			return s.v.Level >= ft.Low && s.v.Cause == ft.InstanceChanged && s.v.Extent == ft.WholePool
		})
		if at < 0 || at > 430 {
			t.Errorf("n=%d: pool-wide slowness found at %d, planted at 400:%s", n, at, told(vs))
		}
		for k := range vs {
			if v := &vs[k].v; v.Cause == ft.InstanceChanged && v.Extent != ft.WholePool && v.Level >= ft.Medium {
				t.Errorf("n=%d: at %d: %s", n, vs[k].row, vs[k].text)
			}
		}
	}
}

// TestTrafficStops: nothing is asked of anybody any more. That is the work, however little the responses are then.
func TestTrafficStops(t *testing.T) {
	for _, n := range poolSizes {
		w := newWorld(n, 106)
		w.faults = []fault{{at: 400, victim: -1, load: -0.97}}
		vs := watch(t, w, newJudge(t, w, Config{}), 700)
		vs = slices.DeleteFunc(vs, func(s seen) bool { return s.row < 400 })
		at := firstAt(vs, -1, func(s *seen) bool { return s.v.Level >= ft.High && s.v.Cause == ft.WorkloadChanged })
		if at < 0 || at > 430 {
			t.Errorf("n=%d: traffic stopped at 400, told at %d:%s", n, at, told(vs))
		}
		for k := range vs {
			if vs[k].v.Cause == ft.InstanceChanged {
				t.Errorf("n=%d: at %d: %s", n, vs[k].row, vs[k].text)
			}
		}
	}
}

// TestWithoutLoad: without load columns the peers decide; alone the cause is unknown.
func TestWithoutLoad(t *testing.T) {
	for _, n := range poolSizes {
		w := newWorld(n, 105)
		w.serve, w.schema = false, poolSchema(false)
		w.frame.Schema = w.schema
		w.faults = []fault{{at: 400, victim: 0, spin: 0.8}}
		vs := watch(t, w, newJudge(t, w, Config{}), 430)
		want := ft.InstanceChanged
		if n == 1 {
			want = ft.CauseUnknown
		}
		at := firstAt(vs, 0, func(s *seen) bool { return s.v.Level >= ft.High && s.v.Cause == want })
		if at < 400 || at > 415 {
			t.Errorf("n=%d: spin found at %d as %v, planted at 400:%s", n, at, want, told(vs))
		}
	}
}
