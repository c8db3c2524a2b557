package drift

import (
	"slices"
	"strings"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// named tells whether a verdict's evidence has a name.
func named(name string) func(*seen) bool {
	return func(s *seen) bool { return slices.Contains(s.dims, name) }
}

// TestAnswersChange: an instance that answers the same requests in other ways is ill, and the class is named, though no
// column shows it.
func TestAnswersChange(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  fault
		rows   int
		called string
	}{
		{"not found", fault{missing: 0.4}, 15, "status 4xx"},
		{"locks", fault{storm: 8}, 60, "system call lock"}, // one burst each 10 s
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, n := range poolSizes {
				for seed := range uint64(3) {
					w := newRich(n, 600+seed)
					f := tt.fault
					f.at, f.victim = 600, int(seed)%n
					w.faults = []fault{f}
					vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+90), f.at)
					at := firstAt(vs, f.victim, func(s *seen) bool { return sick(ft.Low)(s) && named(tt.called)(s) })
					if at < 0 || at > f.at+tt.rows {
						t.Errorf("%s: found at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
					}
					for k := range vs {
						if v := &vs[k].v; v.Level >= ft.Medium && (v.Pool || int(v.Slot) != f.victim) {
							t.Errorf("%s: at %d %s", where(n, seed), vs[k].row, vs[k].text)
						}
					}
				}
			}
		})
	}
}

// TestAllAnswersChange: where all instances answer in other ways, none of them is ill.
func TestAllAnswersChange(t *testing.T) {
	for _, n := range []int{2, 3, 4, 8} {
		for seed := range uint64(3) {
			w := newRich(n, 620+seed)
			w.faults = []fault{{at: 600, victim: -1, missing: 0.4}}
			vs := after(watch(t, w, newJudge(t, w, Config{}), 690), 600)
			at := firstAt(vs, -1, func(s *seen) bool {
				return s.v.Level >= ft.Medium && s.v.Cause == ft.InstanceChanged && s.v.Extent == ft.WholePool && named("status 4xx")(s)
			})
			if at < 0 || at > 615 {
				t.Errorf("%s: found at %d, planted at 600:%s", where(n, seed), at, told(vs))
			}
			for k := range vs {
				if v := &vs[k].v; !v.Pool && (v.Cause == ft.InstanceChanged && v.Extent != ft.WholePool || v.Level >= ft.Medium) {
					t.Errorf("%s: at %d %s", where(n, seed), vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestNewMixAnswersOtherwise: other routes are answered and served otherwise; that is the work.
func TestNewMixAnswersOtherwise(t *testing.T) {
	for name, tt := range map[string]struct {
		mix  []float64
		rows int // until it is found, 0: it may stay below the threshold
	}{"strong": {[]float64{.1, .1, .1, .5, .1, .1}, 20}, "weak": {[]float64{.36, .20, .11, .29, .03, .01}, 0}} {
		t.Run(name, func(t *testing.T) {
			for _, n := range poolSizes {
				for seed := range uint64(3) {
					w := newRich(n, 640+seed)
					f := fault{at: 400, victim: int(seed) % n, mix: tt.mix}
					w.faults = []fault{f}
					vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+200), f.at)
					at := firstAt(vs, f.victim, func(s *seen) bool {
						return s.v.Level >= ft.Low && s.v.Cause == ft.WorkloadChanged && len(s.dims) > 0 && strings.HasPrefix(s.dims[0], "route ")
					})
					if tt.rows > 0 && (at < 0 || at > f.at+tt.rows) {
						t.Errorf("%s: found at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
					}
					for k := range vs {
						if vs[k].v.Cause == ft.InstanceChanged {
							t.Errorf("%s: at %d new work is called a sick instance: %s", where(n, seed), vs[k].row, vs[k].text)
						}
					}
				}
			}
		})
	}
}

// TestWeakMix: one route, which costs more than the others, takes 29 % of the requests instead of 10 % while the
// reference of the routes is half learnt. It must not learn while the routes stir, or the responses stay unexplained.
func TestWeakMix(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		for seed := range uint64(8) {
			w := newWorld(n, 660+seed)
			w.rate, w.heavy = 150, 2
			f := fault{at: 150 + 60*int(seed), victim: int(seed) % n, mix: []float64{.36, .20, .11, .29, .03, .01}}
			w.faults = []fault{f}
			vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+600), f.at)
			if at := firstAt(vs, f.victim, func(s *seen) bool { return s.v.Cause == ft.WorkloadChanged }); at < 0 || at > f.at+200 {
				t.Errorf("%s: found at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
			}
			for k := range vs {
				if vs[k].v.Cause == ft.InstanceChanged {
					t.Errorf("%s: new mix at %d, but at %d %s", where(n, seed), f.at, vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestRoutesOfNewLife: a new life's routes are judged at once, by what its group knows of them.
func TestRoutesOfNewLife(t *testing.T) {
	for _, n := range poolSizes {
		for seed := range uint64(3) {
			w := newWorld(n, 680+seed)
			j := newJudge(t, w, Config{})
			watch(t, w, j, 400)
			w.reborn(0)
			w.faults = []fault{{at: 405, victim: 0, mix: []float64{.1, .1, .1, .2, .3, .2}}}
			vs := watch(t, w, j, 500)
			at := firstAt(vs, 0, func(s *seen) bool { return s.v.Level >= ft.Medium && s.v.Cause == ft.WorkloadChanged })
			if at < 0 || at > 425 {
				t.Errorf("%s: new mix of a new life at 405 is found at %d:%s", where(n, seed), at, told(vs))
			}
			for k := range vs {
				if vs[k].v.Cause == ft.InstanceChanged {
					t.Errorf("%s: at %d %s", where(n, seed), vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestLevelFalls: when the score has fallen the level does not stay behind.
func TestLevelFalls(t *testing.T) {
	for _, n := range poolSizes {
		w := newWorld(n, 690)
		w.faults = []fault{{at: 300, until: 340, victim: 0, lock: 0.05}}
		j := newJudge(t, w, Config{})
		calm := 0
		for w.t < 420 {
			j.Observe(nil, w.next())
			v := j.Verdict(0)
			if calm++; v.Score >= release || w.t <= 340 {
				calm = 0
			}
			if calm > 1 && v.Level > ft.Low {
				t.Errorf("n=%d: at %d the level is %v, the score %.2f for %d rows", n, w.t, v.Level, v.Score, calm)
			}
		}
		if v := j.Verdict(0); v.Level != ft.Steady {
			t.Errorf("n=%d: 80 rows after the cure: %v", n, v.Level)
		}
	}
}
