package stress

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/goccy/go-yaml"
)

// Table says what each worker must show, and what it may stir beside that. See table.yaml.
type Table struct {
	// Within is how far a value may be from the truth, as a share of it.
	Within float64 `yaml:"within"`
	// Quiet is how much of each dimension a worker may have that the table does not name for it.
	Quiet   map[string]float64 `yaml:"quiet"`
	Workers []Worker           `yaml:"workers"`
}

// Worker is one run of stress-ng, or of a program of the test's own.
type Worker struct {
	Name string `yaml:"name"`
	// Why says what the worker does.
	Why string `yaml:"why"`
	// Run is the arguments of stress-ng.
	Run string `yaml:"run"`
	// Own is the program of the test's own that runs instead.
	Own string `yaml:"own"`
	// Net runs it in a network namespace of its own, whose counters are the truth.
	Net bool `yaml:"net"`
	// Queue is what the loopback interface of that namespace sends through, in the words of tc(8).
	Queue string `yaml:"queue"`
	// Calls counts its system calls from begin to end.
	Calls bool `yaml:"calls"`
	// Shows maps dimensions to the name of their truth.
	Shows map[string]string `yaml:"shows"`
	// Stirs maps dimensions that the worker moves too to the most that they may reach.
	Stirs map[string]float64 `yaml:"stirs"`
}

// ReadTable reads a table.
func ReadTable(path string) (*Table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	t := &Table{}
	if err := yaml.UnmarshalWithOptions(b, t, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("read the table %s: %w", path, err)
	}
	return t, nil
}

// Complaints says what is wrong with what was measured of a worker: dimensions that must show and are not the truth,
// and others that are beyond what is tolerated. Both maps are by dimension and by name of a truth.
func (t *Table) Complaints(w *Worker, measured, truth map[string]float64) []string {
	var out []string
	for _, dim := range slices.Sorted(maps.Keys(w.Shows)) {
		got, isMeasured := measured[dim]
		want, isKnown := truth[w.Shows[dim]]
		switch {
		case !isMeasured:
			out = append(out, dim+" must show, and was not measured")
		case !isKnown:
			out = append(out, fmt.Sprintf("%s: nothing tells the truth %q", dim, w.Shows[dim]))
		case !(math.Abs(got-want) <= t.Within*math.Abs(want)):
			out = append(out, fmt.Sprintf("%s is %.4g, and %s says %.4g: off by %+.1f %%", dim, got, w.Shows[dim], want, (got/want-1)*100))
		}
	}
	for _, dim := range slices.Sorted(maps.Keys(measured)) {
		if _, shown := w.Shows[dim]; shown {
			continue
		}
		most, listed := w.Stirs[dim]
		if !listed {
			if most, listed = t.Quiet[dim]; !listed {
				out = append(out, dim+" has no line under quiet in the table: how much of it is nothing?")
				continue
			}
		}
		if !(math.Abs(measured[dim]) <= most) {
			out = append(out, fmt.Sprintf("%s is %.4g, and the table tolerates %.4g", dim, measured[dim], most))
		}
	}
	return out
}
