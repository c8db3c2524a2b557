package drift

import (
	"slices"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// alarms runs a healthy world and counts, by level, the runs that reach it.
func alarms(t *testing.T, w *world, rows int) (runs [ft.Critical + 1]int, text string) {
	t.Helper()
	level := make(map[int]ft.Level)
	vs := watch(t, w, newJudge(t, w, Config{}), rows)
	for _, s := range vs {
		who := int(s.v.Slot)
		if s.v.Pool {
			who = -1
		}
		for l := ft.Low; l <= s.v.Level; l++ {
			if level[who] < l {
				runs[l]++
			}
		}
		level[who] = s.v.Level
	}
	return runs, told(slices.DeleteFunc(vs, func(s seen) bool { return s.v.Level < ft.Low }))
}

// TestRichIsCalm: more than fifty columns, many of them sparse, near 0, constant, slow or not there for some members,
// and three category sets give no more false alarms than the base columns of the same worlds do.
func TestRichIsCalm(t *testing.T) {
	const rows = 3600
	days := 0.0
	var base, all [ft.Critical + 1]int
	for _, n := range poolSizes {
		for seed := range uint64(4) {
			b, _ := alarms(t, newRich(n, seed).base(), rows)
			w := newRich(n, seed)
			if seed%2 == 1 {
				w.rich.narrow = func(i int) ft.Dims {
					if i%3 == 1 {
						return w.schema.Set(ft.DimWrites, ft.DimWSSTurn, ft.DimResent, "app_hits", "app_pause", ft.DimCallTime, ft.DimPressMem)
					}
					return 0
				}
			}
			a, text := alarms(t, w, rows)
			for l := range a {
				base[l], all[l] = base[l]+b[l], all[l]+a[l]
			}
			if a[ft.Medium] > b[ft.Medium] {
				t.Logf("%s: more than the base columns say:%s", where(n, seed), text)
			}
			days += float64(n) * rows / 86400
		}
	}
	t.Logf("runs by level in %.1f instance-days: base columns %v, all %d columns %v", days, base, richSchema().Len(), all)
	if float64(all[ft.Low]) > days+2 || all[ft.Low] > base[ft.Low]+2 || all[ft.Medium] > base[ft.Medium]+1 {
		t.Errorf("runs by level in %.1f instance-days of health: base columns %v, all %v", days, base, all)
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
		{"lock of 20 ms", fault{lock: 0.02}, 5, 0, []string{ft.DimP50, ft.DimP99}}, // answers of others vary by as much
		{"lock of 50 ms", fault{lock: 0.05}, 5, 10, []string{ft.DimP50, ft.DimP99}},
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

// TestWorkingSetGrows: what is measured twice a minute is found too, later, and named.
func TestWorkingSetGrows(t *testing.T) {
	for _, n := range poolSizes {
		for seed := range uint64(2) {
			w := newRich(n, 540+seed)
			f := fault{at: 900, victim: int(seed) % n, touch: 60 * mebi}
			w.faults = []fault{f}
			vs := after(watch(t, w, newJudge(t, w, Config{}), f.at+300), f.at)
			if at := firstAt(vs, f.victim, func(s *seen) bool { return sick(ft.Low)(s) && named(ft.DimWSS)(s) }); at < 0 {
				t.Errorf("%s: not found:%s", where(n, seed), told(vs))
			}
		}
	}
}

// TestSlowColumnsWait: a new life is judged after a few rows by its fast columns; the slow ones join when they have
// readings of their own, and that is no drift.
func TestSlowColumnsWait(t *testing.T) {
	for _, n := range poolSizes {
		w := newRich(n, 560)
		j := newJudge(t, w, Config{})
		watch(t, w, j, 700)
		w.reborn(0)
		vs := watch(t, w, j, 900)
		if at := firstAt(vs, 0, atLeast(ft.Steady)); at < 700 || at > 720 {
			t.Errorf("n=%d: judged again at %d, reborn at 700", n, at)
		}
		if at := firstAt(vs, 0, atLeast(ft.Medium)); at >= 0 {
			t.Errorf("n=%d: a healthy new life drifts at %d:%s", n, at, told(vs))
		}
		p := j.bank.At(j.indexOf(0))
		wss := slices.IndexFunc(j.cols, func(c column) bool { return c.Name == ft.DimWSS })
		if !p.Counts.Has(wss) || p.Seen[wss] > 10 {
			t.Errorf("n=%d: after 200 rows %g readings of the working set; it counts %v", n, p.Seen[wss], p.Counts.Has(wss))
		}
		w = newRich(n, 561)
		w.faults = []fault{{at: 715, victim: 0, lock: 0.05}}
		j = newJudge(t, w, Config{})
		watch(t, w, j, 700)
		w.reborn(0)
		vs = watch(t, w, j, 760)
		if at := firstAt(vs, 0, sick(ft.High)); at < 715 || at > 755 {
			t.Errorf("n=%d: a new life's lock at 715 is found at %d:%s", n, at, told(vs))
		}
	}
}

// TestDependencyRecovers: what outlasts a slow dependency is not called a sick instance either, and it ends.
func TestDependencyRecovers(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		for seed := range uint64(3) {
			w := newRich(n, 570+seed)
			w.faults = []fault{{at: 400, until: 460, victim: -1, call: 0.2}}
			j := newJudge(t, w, Config{})
			vs := after(watch(t, w, j, 600), 400)
			for k := range vs {
				if v := &vs[k].v; v.Cause == ft.InstanceChanged && v.Level >= ft.Low {
					t.Errorf("%s: at %d %s", where(n, seed), vs[k].row, vs[k].text)
				}
			}
			if v := j.Pool(); v.Level != ft.Steady {
				t.Errorf("%s: 140 rows after the dependency recovered the pool is %v:%s", where(n, seed), v.Level, told(vs))
			}
		}
	}
}

// TestSickBesideSlowDependency: a slow dependency does not hide an instance that fills its memory.
func TestSickBesideSlowDependency(t *testing.T) {
	for _, n := range []int{2, 4, 8} {
		for seed := range uint64(3) {
			w := newRich(n, 580+seed)
			w.faults = []fault{{at: 400, victim: -1, call: 0.05}, {at: 450, victim: 1, leak: 6 * mebi}}
			vs := after(watch(t, w, newJudge(t, w, Config{}), 540), 450)
			at := firstAt(vs, 1, func(s *seen) bool { return sick(ft.High)(s) && (named(ft.DimAnon)(s) || named(ft.DimRSS)(s)) })
			if at < 0 || at > 490 {
				t.Errorf("%s: a leak at 450 beside a slow dependency is found at %d:%s", where(n, seed), at, told(vs))
			}
			for k := range vs {
				if v := &vs[k].v; !v.Pool && v.Slot != 1 && v.Cause == ft.InstanceChanged && v.Level >= ft.Medium {
					t.Errorf("%s: healthy, but at %d %s", where(n, seed), vs[k].row, vs[k].text)
				}
			}
		}
	}
}

// TestOnlyCaller: the one instance that makes calls has no peers to say that its calls are slow by its own fault.
func TestOnlyCaller(t *testing.T) {
	w := newRich(4, 590)
	w.rich.narrow = func(i int) ft.Dims {
		if i != 2 {
			return w.schema.Set(ft.DimCalls, ft.DimCallTime, ft.DimCallFail)
		}
		return 0
	}
	w.faults = []fault{{at: 400, victim: 2, call: 0.2}}
	vs := after(watch(t, w, newJudge(t, w, Config{}), 460), 400)
	at := firstAt(vs, 2, func(s *seen) bool {
		return s.v.Level >= ft.Low && s.v.Cause == ft.DependencyChanged && s.v.Extent == ft.ThisInstance && s.dims[0] == ft.DimCallTime
	})
	if at < 0 || at > 415 {
		t.Errorf("found at %d:%s", at, told(vs))
	}
}
