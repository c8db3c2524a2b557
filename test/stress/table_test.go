package stress

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTableIsSound(t *testing.T) {
	table, err := ReadTable("table.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if table.Within != 0.1 {
		t.Errorf("within %g; the promise is 10 %%", table.Within)
	}
	names := map[string]bool{}
	for _, w := range table.Workers {
		if names[w.Name] || w.Name == "" || w.Why == "" || len(w.Shows) == 0 {
			t.Errorf("worker %q: each has a name of its own, a reason, and shows something", w.Name)
		}
		names[w.Name] = true
		if (w.Run == "") == (w.Own == "") || w.Queue != "" && !w.Net {
			t.Errorf("worker %s: either stress-ng runs or the test's own program, and a queue is that of its own network", w.Name)
		}
		for _, dim := range slices.Concat(slices.Collect(maps.Keys(w.Shows)), slices.Collect(maps.Keys(w.Stirs))) {
			if _, ok := table.Quiet[dim]; !ok {
				t.Errorf("worker %s names %s, which is not under quiet", w.Name, dim)
			}
		}
		for dim, most := range w.Stirs {
			if _, both := w.Shows[dim]; both || most <= table.Quiet[dim] {
				t.Errorf("worker %s: %s under stirs is shown too, or less than quiet", w.Name, dim)
			}
		}
	}
}

func TestFaultsAreComplainedOf(t *testing.T) {
	table := &Table{Within: 0.1, Quiet: map[string]float64{"cpu": 0.05, "memory_rss": 1e6, "io_read": 10}}
	w := &Worker{Name: "cpu", Shows: map[string]string{"cpu": "rusage.cpu"}, Stirs: map[string]float64{"memory_rss": 5e6}}
	truth := map[string]float64{"rusage.cpu": 0.5}
	for _, c := range []struct {
		name     string
		measured map[string]float64
		want     string
	}{
		{"all as it is", map[string]float64{"cpu": 0.52, "memory_rss": 4e6, "io_read": 9}, ""},
		{"a dimension scaled by 1.2", map[string]float64{"cpu": 0.6}, "cpu is 0.6, and rusage.cpu says 0.5: off by +20.0 %"},
		{"a dimension that is missing", map[string]float64{"io_read": 9}, "cpu must show, and was not measured"},
		{"another that must be quiet", map[string]float64{"cpu": 0.5, "io_read": 11}, "io_read is 11, and the table tolerates 10"},
		{"another below zero", map[string]float64{"cpu": 0.5, "io_read": -11}, "io_read is -11, and the table tolerates 10"},
		{"another beyond its line", map[string]float64{"cpu": 0.5, "memory_rss": 6e6}, "memory_rss is 6e+06, and the table tolerates 5e+06"},
		{"one that the table does not know", map[string]float64{"cpu": 0.5, "new": 1}, "new has no line under quiet in the table: how much of it is nothing?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(table.Complaints(w, c.measured, truth), "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
