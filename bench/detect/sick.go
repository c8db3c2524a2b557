package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"

	"github.com/fettle-dev/fettle/bench/internal/metric"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
	"github.com/fettle-dev/fettle/internal/score"
)

// One sick member: what is changed, and how often.
const (
	shiftColumns = 3
	shiftRows    = 24
	shiftEvery   = 288 // one in so many rows without labels, a day
	shiftRest    = 48  // rows at least from the end of one to the begin of the next
	shiftSeed    = 1
	sickBudget   = 0.80
	quickSick    = 3 // members with -quick
)

// patient is a member that is made ill.
type patient struct {
	pool []*machine
	who  int // in the pool
}

// sick measures whether the one member is found that deviates from its peers: in rows in which no member of the pool has
// a label, three of its columns are shifted by a standard deviation of train for 24 rows, once a day, up or down. Each member has
// its turn, with all others as they are. Rows with a label anywhere in the pool are left out of the measure.
func sick(ctx context.Context, b *bench, p *part) error {
	machines, err := load(filepath.Join(b.data, p.folder))
	if err != nil {
		return err
	}
	patients := sickMembers(machines)
	if b.quick {
		slices.SortStableFunc(patients, func(a, b patient) int { return len(a.pool) - len(b.pool) })
		patients = patients[:min(quickSick, len(patients))]
	}
	report.Say("%s: %d members, one at a time", p.name, len(patients))
	vus := map[string][]float64{}
	names := append([]string{fettle, alone}, methods()[1:]...)
	for _, name := range names {
		vus[name] = make([]float64, len(patients))
	}
	err = each(ctx, p.name+": members", len(patients), func(ctx context.Context, i int) error {
		found, err := patients[i].measure(ctx, rand.New(rand.NewPCG(shiftSeed, uint64(i))))
		for name, v := range found {
			vus[name][i] = v
		}
		return err
	})
	if err != nil {
		return err
	}
	return tellSick(b, patients, names, vus)
}

// sickMembers are all members of pools.
func sickMembers(machines []machine) []patient {
	var out []patient
	for _, pool := range pooled(machines) {
		for k := range pool {
			if len(pool) > 1 {
				out = append(out, patient{pool, k})
			}
		}
	}
	return out
}

// alone is the method that sees the sick member only.
const alone = "Fettle, alone"

// measure gives VUS-PR by method.
func (p *patient) measure(ctx context.Context, rng *rand.Rand) (map[string]float64, error) {
	healthy := p.pool[p.who]
	quiet := p.quiet()
	ill, injected := shift(healthy, quiet, rng)
	found := map[string]float64{}
	rank := func(name string, scores []float64) { found[name] = p.rank(scores, quiet, injected) }
	pool := members(p.pool)
	pool[p.who] = ill
	c := score.Config{Every: jumpstarter.every, FalseAlarms: rate}
	rows, err := score.Run(ctx, c, pool)
	if err != nil {
		return nil, err
	}
	rank(fettle, fromRows(rows[p.who]).scores)
	c.Alone = true
	if rows, err = score.Run(ctx, c, pool[p.who:p.who+1]); err != nil {
		return nil, err
	}
	rank(alone, fromRows(rows[0]).scores)
	for _, y := range yardstick.Methods() {
		v, err := fit(y, ill.Train, ill.Test, jumpstarter.every)
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", y.Name, ill.Name, err)
		}
		rank(y.Name, v.scores)
	}
	return found, nil
}

// rank is VUS-PR against the injected rows, without those in which a member of the pool has a label.
func (p *patient) rank(scores []float64, quiet, injected []bool) float64 {
	var s []float64
	var l []bool
	for i, v := range scores {
		if quiet[i] {
			s, l = append(s, v), append(l, injected[i])
		}
	}
	return metric.VUSPR(s, l, p.pool[p.who].buffer)
}

// quiet are the test rows in which no member of the pool has a label.
func (p *patient) quiet() []bool {
	out := make([]bool, len(p.pool[p.who].labels))
	for i := range out {
		out[i] = !slices.ContainsFunc(p.pool, func(m *machine) bool { return i < len(m.labels) && m.labels[i] })
	}
	return out
}

// shift makes a member ill, and tells in which rows.
func shift(m *machine, quiet []bool, rng *rand.Rand) (score.Member, []bool) {
	out, injected := m.Member, make([]bool, len(m.Test))
	out.Test = slices.Clone(m.Test)
	var varies []int
	deviations := make([]float64, len(m.Columns))
	for c := range m.Columns {
		values := slices.DeleteFunc(column(m.Train, c), math.IsNaN)
		if deviations[c] = stat.StdDev(values, nil); deviations[c] > 0 {
			varies = append(varies, c)
		}
	}
	for _, stretch := range metric.Segments(quiet) {
		for first := stretch.First; first+shiftEvery-1 <= stretch.Last; first += shiftEvery {
			at := first + rng.IntN(shiftEvery-shiftRows-shiftRest+1)
			columns := rng.Perm(len(varies))[:min(shiftColumns, len(varies))]
			signs := []float64{sign(rng), sign(rng), sign(rng)}
			for row := at; row < at+shiftRows; row++ {
				injected[row] = true
				out.Test[row] = slices.Clone(out.Test[row])
				for k, c := range columns {
					out.Test[row][varies[c]] += signs[k] * deviations[varies[c]]
				}
			}
		}
	}
	return out, injected
}

func sign(rng *rand.Rand) float64 { return float64(2*rng.IntN(2) - 1) }

// tellSick prints and reports the members of all pools as one, and those of each size of pool.
func tellSick(b *bench, patients []patient, names []string, vus map[string][]float64) error {
	var sizes []int
	for _, p := range patients {
		sizes = append(sizes, len(p.pool))
	}
	slices.Sort(sizes)
	fmt.Fprintf(b.out, "\nOne sick member of JumpStarter's pools: VUS-PR, to reach %s\n", report.Digits(sickBudget))
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOLS\tMEMBERS\tFETTLE\t95 % INTERVAL\t"+strings.ToUpper(strings.Join(names[1:], "\t")))
	for _, size := range append([]int{0}, slices.Compact(sizes)...) {
		of := func(name string) []float64 {
			var out []float64
			for i, p := range patients {
				if size == 0 || len(p.pool) == size {
					out = append(out, vus[name][i])
				}
			}
			return out
		}
		row := report.Row{Metric: "One sick member: VUS-PR", Unit: "1", Better: report.Higher}.FromMean(of(fettle))
		pools := "all"
		if size == 0 {
			budget := sickBudget
			row.Budget = &budget
		} else {
			pools = "of " + strconv.Itoa(size)
			row.Metric += ", pools " + pools
		}
		beside(b.report, row, names[1:], func(peer string) float64 { return report.Mean(of(peer)) })
		fmt.Fprint(w, pools, "\t", len(of(fettle)), "\t", interval(of(fettle), "\t"))
		for _, name := range names[1:] {
			fmt.Fprint(w, "\t", report.Digits(report.Mean(of(name))))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
