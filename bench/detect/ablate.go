package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
)

// heldOut are the machines that nothing was chosen on: every second one, in the order of the names of their files.
func heldOut(machines []machine) map[string]bool {
	var files []string
	for i := range machines {
		files = append(files, machines[i].Name+"_train.csv.gz")
	}
	slices.Sort(files)
	out := map[string]bool{}
	for i, file := range files {
		out[strings.TrimSuffix(file, "_train.csv.gz")] = i%2 == 1
	}
	return out
}

// ablate prints what the streams reach without each of their parts, on both halves of the machines.
func ablate(ctx context.Context, data string, quick bool, out io.Writer) error {
	sets := []part{parts()[0], parts()[1], parts()[2]}
	machines, held := make([][]machine, len(sets)), make([]map[string]bool, len(sets))
	for k, p := range sets {
		var err error
		if machines[k], err = load(filepath.Join(data, p.folder)); err != nil {
			return err
		}
		held[k] = heldOut(machines[k])
		if quick {
			machines[k] = machines[k][:quickMachines]
		}
	}
	patients := sickMembers(machines[2])
	fmt.Fprintln(out, "\nStreams without one of their parts: VUS-PR of the half that was chosen on / of the half held out; segment recall, false alarms per")
	fmt.Fprintln(out, "instance-day and normal time in alarm of all machines; one sick member likewise")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "WITHOUT")
	for _, p := range sets {
		fmt.Fprintf(w, "\t%s\tRECALL\tFALSE\tIN ALARM", p.set.title)
	}
	fmt.Fprintln(w, "\tONE SICK")
	var methods []yardstick.Method
	var names []string
	for _, p := range yardstick.Parts() {
		methods, names = append(methods, yardstick.StreamsWithout(p)), append(names, p.String())
	}
	strict := methods[0]
	strict.Runs = 1
	methods, names = append(methods, strict), append(names, "second run a day")
	for n, method := range methods {
		fmt.Fprint(w, names[n])
		for k, p := range sets {
			results := make([]result, len(machines[k]))
			err := each(ctx, p.name+" without "+names[n], len(results), func(_ context.Context, i int) error {
				m := &machines[k][i]
				v, err := fit(method, m.Train, m.Test, p.set.every)
				if err == nil {
					results[i] = measure(v, m, p.set.every)
				}
				return err
			})
			if err != nil {
				return err
			}
			of := func(name string) string {
				for _, m := range all {
					if m.name == name {
						return report.Digits(report.Mean(m.values(results)))
					}
				}
				return ""
			}
			var h halves
			for i := range results {
				h.add(results[i].vus, held[k][machines[k][i].Name])
			}
			fmt.Fprint(w, "\t", h, "\t", of("segment recall"), "\t", of("false alarms per instance-day"), "\t", of("normal time in alarm"))
		}
		vus := make([]float64, len(patients))
		err := each(ctx, "sick without "+names[n], len(patients), func(_ context.Context, i int) error {
			p := patients[i]
			quiet := p.quiet()
			ill, injected := shift(p.pool[p.who], quiet, rand.New(rand.NewPCG(shiftSeed, uint64(i))))
			v, err := fit(method, ill.Train, ill.Test, jumpstarter.every)
			if err == nil {
				vus[i] = p.rank(v.scores, quiet, injected)
			}
			return err
		})
		if err != nil {
			return err
		}
		var h halves
		for i, p := range patients {
			h.add(vus[i], held[2][p.pool[p.who].Name])
		}
		fmt.Fprint(w, "\t", h, "\n")
	}
	return w.Flush()
}

// halves are the values of the machines that were chosen on, and of those held out.
type halves [2][]float64

func (h *halves) add(v float64, held bool) {
	k := 0
	if held {
		k = 1
	}
	h[k] = append(h[k], v)
}

func (h halves) String() string {
	return report.Digits(report.Mean(h[0])) + " / " + report.Digits(report.Mean(h[1]))
}
