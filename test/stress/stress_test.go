//go:build stress

package stress

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/fettle-dev/fettle/telemetry"
)

// plant is by how much a measured value is made wrong to see that it is noticed.
const plant = 1.2

// attempts is how often a worker is measured until it shows what it must. Two cores that are busy with something else shift
// what falls into an interval; what is measured wrong stays wrong.
const attempts = 3

func TestWorkersShowWhereTheyMust(t *testing.T) {
	if _, err := exec.LookPath("stress-ng"); err != nil {
		t.Fatalf("needs stress-ng (Debian's package stress-ng): %v", err)
	}
	// The first of all would be charged with reading stress-ng itself from the disk.
	if out, err := exec.Command("stress-ng", "--cpu", "1", "--timeout", "1s").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	table, err := ReadTable("table.yaml")
	if err != nil {
		t.Fatal(err)
	}
	probes, err := telemetry.OpenProbes(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Logf("without eBPF: %v", err)
	}
	t.Cleanup(func() { _ = probes.Close() })
	for i := range table.Workers {
		w := &table.Workers[i]
		t.Run(w.Name, func(t *testing.T) {
			if w.Net && os.Geteuid() != 0 {
				t.Skip("its truth is the counters of a network namespace of its own, which only root can make")
			}
			if (w.Net || w.Own == "call") && err != nil {
				t.Skipf("nothing measures it here: %v", err)
			}
			if err := narrows(w.Queue); err != nil {
				t.Skipf("nothing is lost here: %v", err)
			}
			show(t, table, w, probes)
		})
	}
}

func show(t *testing.T, table *Table, w *Worker, probes *telemetry.Probes) {
	var measured, truth map[string]float64
	for n := 1; ; n++ {
		measured, truth = measureOnce(t, w, probes)
		complaints := table.Complaints(w, measured, truth)
		if len(complaints) == 0 {
			break
		}
		if n == attempts {
			for _, c := range complaints {
				t.Error(c)
			}
			return
		}
		t.Logf("attempt %d of %d: %q", n, attempts, complaints)
	}
	// The check is no better than what it notices: each dimension in turn, made wrong.
	for dim := range w.Shows {
		wrong := maps.Clone(measured)
		if measured[dim] < truth[w.Shows[dim]] {
			wrong[dim] /= plant
		} else {
			wrong[dim] *= plant
		}
		if len(table.Complaints(w, wrong, truth)) == 0 {
			t.Errorf("%s made wrong by a factor of %g would pass too", dim, plant)
		}
	}
}

// measureOnce gives what the sampler says of a worker, and what stress-ng or the kernel does.
func measureOnce(t *testing.T, w *Worker, probes *telemetry.Probes) (measured, truth map[string]float64) {
	r := begin(t, w, probes)
	if err := r.measure(); err != nil {
		t.Fatal(err)
	}
	measured = r.result()
	truth, err := r.truth()
	if err != nil {
		t.Fatal(err)
	}
	for _, dim := range slices.Sorted(maps.Keys(measured)) {
		note := ""
		if source, is := w.Shows[dim]; is {
			note = fmt.Sprintf("%-16s %.4g (%+.1f %%)", source, truth[source], (measured[dim]/truth[source]-1)*100)
		}
		t.Logf("%-22s %12.4g  %s", dim, measured[dim], note)
	}
	return measured, truth
}
