package drift

import (
	"slices"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// calmly runs a healthy world and gives the Low runs, and tells what is above.
func calmly(t *testing.T, w *world, name string, rows int) (low int) {
	t.Helper()
	level := make(map[int]ft.Level)
	for _, s := range watch(t, w, newJudge(t, w, Config{}), rows) {
		who := int(s.v.Slot)
		if s.v.Pool {
			who = -1
		}
		if s.v.Level >= ft.Low && level[who] < ft.Low {
			low++
			t.Logf("%s: at %d: %s", name, s.row, s.text)
		}
		level[who] = s.v.Level
		if s.v.Level >= ft.Medium {
			t.Errorf("%s: healthy, but at %d: %s", name, s.row, s.text)
		}
	}
	return low
}

// TestRichIsCalm: more than fifty columns, many of them sparse, near 0, constant, slow or not there for some members,
// and three category sets give no more false alarms than the base columns do.
func TestRichIsCalm(t *testing.T) {
	const rows = 3600
	days, low := 0.0, 0
	for _, n := range poolSizes {
		for seed := range uint64(4) {
			w := newRich(n, seed)
			if seed%2 == 1 {
				w.rich.narrow = func(i int) ft.Dims {
					if i%3 == 1 {
						return w.schema.Set(ft.DimWrites, ft.DimWSSTurn, ft.DimResent, "app_hits", "app_pause", ft.DimCallTime, ft.DimPressMem)
					}
					return 0
				}
			}
			low += calmly(t, w, where(n, seed), rows)
			days += float64(n) * rows / 86400
		}
	}
	t.Logf("%d Low runs in %.1f instance-days of %d columns", low, days, richSchema().Len())
	if float64(low) > days+2 {
		t.Errorf("%d Low runs in %.1f instance-days of health", low, days)
	}
}

// TestRichFaults: among so many columns one sick member is still found as fast.
func TestRichFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    fault
		low      int
		critical int
		dims     []string
	}{
		{"leak of 3 MiB/s", fault{leak: 3 * mebi}, 10, 25, []string{ft.DimRSS, ft.DimAnon}},
		{"lock of 20 ms", fault{lock: 0.02}, 5, 20, []string{ft.DimP50, ft.DimP99}},
		{"spin", fault{spin: 0.8}, 5, 10, []string{ft.DimCPU, ft.DimCPUUser}},
		{"descriptor leak", fault{fds: 1}, 25, 45, []string{ft.DimFDs}},
		{"errors", fault{errors: 0.2}, 10, 0, []string{ft.DimErrors, "status 5xx"}},
		{"cold cache", fault{cold: 1}, 10, 30, []string{ft.DimRead, ft.DimP50}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, n := range poolSizes {
				for seed := range uint64(3) {
					w := newRich(n, 100+seed)
					f := tt.fault
					f.at, f.victim = 300+int(seed)*150, int(seed)%n
					w.faults = []fault{f}
					vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+60), f.at)
					checkFound(t, where(n, seed), vs, f, tt.low, tt.critical, tt.dims)
				}
			}
		})
	}
}

// TestDependencySlow: what all instances call answers slowly. That is nobody's fault, however many there are.
func TestDependencySlow(t *testing.T) {
	for name, tt := range map[string]struct {
		fault fault
		dim   string
	}{
		"slow":  {fault{call: 0.2}, ft.DimCallTime},
		"fails": {fault{refuse: 0.5}, ft.DimCallFail},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 4, 8} {
				for seed := range uint64(3) {
					w := newRich(n, 500+seed)
					f := tt.fault
					f.at, f.victim = 400, -1
					w.faults = []fault{f}
					vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+120), f.at)
					is := func(s *seen) bool {
						return s.v.Level >= ft.High && s.v.Cause == ft.DependencyChanged && s.v.Extent == ft.WholePool && s.dims[0] == tt.dim
					}
					if at := firstAt(vs, -1, is); at < 0 || at > f.at+15 {
						t.Errorf("%s: told of the pool at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
					}
					if at := firstAt(vs, 0, is); n == 1 && (at < 0 || at > f.at+15) {
						t.Errorf("%s: told of the instance at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
					}
					for k := range vs {
						if v := &vs[k].v; v.Cause == ft.InstanceChanged && v.Level >= ft.Low {
							t.Errorf("%s: at %d a slow dependency is called a sick instance: %s", where(n, seed), vs[k].row, vs[k].text)
						}
					}
				}
			}
		})
	}
}

// TestOnlyItsCallsAreSlow: beside peers that make the same calls and get their answers in time, it is the instance.
func TestOnlyItsCallsAreSlow(t *testing.T) {
	for _, n := range []int{2, 4, 8} {
		for seed := range uint64(3) {
			w := newRich(n, 520+seed)
			f := fault{at: 400, victim: int(seed) % n, call: 0.2}
			w.faults = []fault{f}
			vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+60), f.at)
			if at := firstAt(vs, f.victim, sick(ft.High)); at < 0 || at > f.at+15 {
				t.Errorf("%s: found at %d, planted at %d:%s", where(n, seed), at, f.at, told(vs))
			}
			if firstAt(vs, f.victim, func(s *seen) bool { return slices.Contains(s.dims, ft.DimCallTime) }) < 0 {
				t.Errorf("%s: %s is not named:%s", where(n, seed), ft.DimCallTime, told(vs))
			}
			for k := range vs {
				if vs[k].v.Cause == ft.DependencyChanged {
					t.Errorf("%s: at %d %s", where(n, seed), vs[k].row, vs[k].text)
				}
			}
		}
	}
}
