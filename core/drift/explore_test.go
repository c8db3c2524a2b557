package drift

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

func TestExploreHealthy(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip("set EXPLORE")
	}
	var sums [parts][32]float64
	var days [parts]float64
	hours, _ := strconv.Atoi(os.Getenv("HOURS"))
	defer func() {
		for k := range sums {
			fmt.Printf("%d %.1f %.0f\n", k, days[k], sums[k])
		}
	}()
	for _, n := range []int{1, 2, 3, 4, 8} {
		for seed := range uint64(4) {
			w := newWorld(n, seed)
			j, err := New(w.schema, Config{})
			if err != nil {
				t.Fatal(err)
			}
			var maxs [parts]float64
			at := [parts]int{}
			runs, med := 0, 0
			pools := 0
			var texts []string
			for w.t < 3600*hours {
				vs := j.Observe(nil, w.next())
				for k := range vs {
					if vs[k].Pool {
						if vs[k].Level >= ft.Low {
							pools++
						}
						if len(texts) < 6 {
							s, _, _ := Explain(w.schema, w.frame.Labels, "pool", &vs[k])
							texts = append(texts, fmt.Sprint(w.t, " ", s))
						}
						continue
					}
					if vs[k].Level >= ft.Low {
						runs++
					}
					if vs[k].Level >= ft.Medium {
						med++
					}
					if len(texts) < 6 && vs[k].Level >= ft.Low {
						s, _, _ := Explain(w.schema, w.frame.Labels, fmt.Sprint("web-", vs[k].Slot), &vs[k])
						texts = append(texts, fmt.Sprint(w.t, " ", s))
					}
				}
				for i := range j.tracks {
					for k := range maxs {
						if j.tracks[i].score[k] > maxs[k] {
							maxs[k], at[k] = j.tracks[i].score[k], w.t
						}
					}
				}
			}
			for k := range sums {
				for i, v := range j.bank.Tails[k].Counts {
					sums[k][i] += v
				}
				days[k] += j.bank.Tails[k].Days
			}
			fmt.Printf("n=%d seed=%d period=%.0f low=%d med=%d pool=%d max %.2f at %v\n", n, seed, w.period, runs, med, pools, maxs, at)
			for _, s := range texts {
				fmt.Println("    ", s)
			}
		}
	}
}

var faultKinds = []struct {
	name string
	f    fault
}{
	{"leak1", fault{leak: 1 * mebi}},
	{"leak3", fault{leak: 3 * mebi}},
	{"leak10", fault{leak: 10 * mebi}},
	{"leak.1", fault{leak: .1 * mebi}},
	{"lock20", fault{lock: 0.02}},
	{"lock50", fault{lock: 0.05}},
	{"spin", fault{spin: 0.8}},
	{"fds", fault{fds: 1}},
	{"errors", fault{errors: 0.2}},
	{"cold", fault{cold: 1}},
	{"mix", fault{mix: []float64{.1, .1, .1, .2, .3, .2}}},
	{"mild", fault{mix: []float64{.2, .2, .1, .2, .1, .2}}},
	{"double", fault{victim: -1, load: 1}},
}

func TestExploreFaults(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip("set EXPLORE")
	}
	for _, k := range faultKinds {
		for _, n := range []int{1, 2, 3, 4, 8} {
			for seed := range uint64(4) {
				w := newWorld(n, 100+seed)
				f := k.f
				f.at = 300 + int(seed)*200
				if f.victim >= 0 {
					f.victim = int(seed) % n
				}
				w.faults = []fault{f}
				j, _ := New(w.schema, Config{MemoryLimit: 512 * mebi})
				first := map[string]int{}
				var firstV string
				for w.t < f.at+200 {
					vs := j.Observe(nil, w.next())
					for k := range vs {
						if w.t < f.at || vs[k].Level < ft.Low {
							continue
						}
						who := "other"
						if vs[k].Pool {
							who = "pool"
						} else if f.victim == int(vs[k].Slot) {
							who = "victim"
						}
						key := fmt.Sprint(who, " ", vs[k].Level, " ", vs[k].Cause, " ", vs[k].Extent)
						if _, ok := first[key]; !ok {
							first[key] = w.t - f.at
						}
						if vs[k].Level >= ft.Critical && firstV == "" || vs[k].Level >= ft.Low && vs[k].Pool && firstV == "" {
							firstV, _, _ = Explain(w.schema, w.frame.Labels, fmt.Sprint("web-", vs[k].Slot), &vs[k])
						}
					}
				}
				fmt.Printf("%s n=%d seed=%d victim=%d: %v\n", k.name, n, seed, f.victim, first)
				if os.Getenv("EXPLORE") == "2" {
					fmt.Println("     ", firstV)
				}
			}
		}
	}
}
