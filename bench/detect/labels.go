package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
	"github.com/fettle-dev/fettle/internal/score"
)

// set is a data set whose test rows have labels.
type set struct {
	title   string
	every   time.Duration
	alone   bool // its machines do different work
	budgets map[string]float64
}

// The sets, and what is to be reached on them.
var (
	smd = set{"SMD", time.Minute, true, map[string]float64{
		"VUS-PR": 0.70, "F1, own threshold": 0.55, "segment recall": 0.80, "median delay": 2,
		"false alarms per instance-day": 2 * rate, "normal time in alarm": 0.01,
	}}
	asd = set{"ASD", 5 * time.Minute, true, map[string]float64{
		"VUS-PR": 0.50, "segment recall": 0.80, "false alarms per instance-day": 2 * rate, "normal time in alarm": 0.04,
	}}
	jumpstarter = set{"JumpStarter", 5 * time.Minute, false, map[string]float64{
		"VUS-PR": 0.50, "segment recall": 0.80, "false alarms per instance-day": 2 * rate, "normal time in alarm": 0.08,
	}}
)

// quickMachines of a set are measured with -quick.
const quickMachines = 2

// labels measures all methods on a set by its labels.
func labels(ctx context.Context, b *bench, p *part) error {
	machines, err := load(filepath.Join(b.data, p.folder))
	if err != nil {
		return err
	}
	if b.quick {
		machines = machines[:min(quickMachines, len(machines))]
	}
	report.Say("%s: %d machines of %d columns", p.name, len(machines), len(machines[0].Columns))
	results, err := compare(ctx, p, machines)
	if err != nil {
		return err
	}
	c := &comparison{p.set, results}
	c.add(b.report)
	if err := c.print(b.out); err != nil || !b.machines {
		return err
	}
	return c.printMachines(b.out, machines)
}

// methods are Fettle and the yardsticks, in the order of tables.
func methods() []string {
	out := []string{fettle}
	for _, m := range yardstick.Methods() {
		out = append(out, m.Name)
	}
	return out
}

// compare gives the results by method and machine.
func compare(ctx context.Context, p *part, machines []machine) (map[string][]result, error) {
	results := map[string][]result{}
	for _, m := range methods() {
		results[m] = make([]result, len(machines))
	}
	index := map[string]int{}
	for i := range machines {
		index[machines[i].Name] = i
	}
	pools := pooled(machines)
	if p.set.alone {
		pools = nil
		for i := range machines {
			pools = append(pools, []*machine{&machines[i]})
		}
	}
	ours := make([]verdicts, len(machines))
	c := score.Config{Every: p.set.every, FalseAlarms: rate, Alone: p.set.alone}
	err := each(ctx, p.name+": pools judged", len(pools), func(ctx context.Context, i int) error {
		rows, err := score.Run(ctx, c, members(pools[i]))
		if err != nil {
			return err
		}
		for k, m := range pools[i] {
			ours[index[m.Name]] = fromRows(rows[k])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, each(ctx, p.name+": machines measured", len(machines), func(_ context.Context, i int) error {
		m := &machines[i]
		results[fettle][i] = measure(ours[i], m, p.set.every)
		for _, y := range yardstick.Methods() {
			v, err := fit(y, m.Train, m.Test, p.set.every)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", y.Name, m.Name, err)
			}
			results[y.Name][i] = measure(v, m, p.set.every)
		}
		return nil
	})
}

func members(pool []*machine) []score.Member {
	out := make([]score.Member, len(pool))
	for i, m := range pool {
		out[i] = m.Member
	}
	return out
}

// comparison is the results of one set by method.
type comparison struct {
	set
	results map[string][]result
}

// print writes the table of all methods.
func (c *comparison) print(out io.Writer) error {
	machines, peers := len(c.results[fettle]), methods()[1:]
	fmt.Fprintf(out, "\n%s: means of %d machines, rows %s apart, %d false alarms stated per instance-day\n", c.title, machines, c.every, rate)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, ours string, theirs func(peer string) string) {
		fmt.Fprint(w, name, "\t", ours)
		for _, peer := range peers {
			fmt.Fprint(w, "\t", theirs(peer))
		}
		fmt.Fprintln(w)
	}
	line("MEASURE\tTO REACH", "FETTLE\t95 % INTERVAL", func(peer string) string { return strings.ToUpper(peer) })
	for _, m := range all {
		budget := ""
		if v, ok := c.budgets[m.name]; ok {
			budget = report.Digits(v)
		}
		line(m.name+"\t"+budget, interval(m.values(c.results[fettle]), "\t"), func(peer string) string {
			return report.Digits(report.Mean(m.values(c.results[peer])))
		})
	}
	line(togetherName+"\t", report.Digits(together(c.results[fettle]))+"\t", func(peer string) string {
		return report.Digits(together(c.results[peer]))
	})
	line(wonName+"\t", "\t", func(peer string) string {
		won, _, _ := c.paired(peer)
		return fmt.Sprintf("%d of %d", won, machines)
	})
	line("gain in VUS-PR, paired\t", "\t", func(peer string) string {
		_, _, gains := c.paired(peer)
		return interval(gains, " (") + ")"
	})
	return w.Flush()
}

// printMachines writes VUS-PR of each machine.
func (c *comparison) printMachines(out io.Writer, machines []machine) error {
	fmt.Fprintf(out, "\n%s: VUS-PR of each machine\n", c.title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tPOOL\tBUFFER\t"+strings.ToUpper(strings.Join(methods(), "\t")))
	for i := range machines {
		fmt.Fprintf(w, "%s\t%s\t%d", machines[i].Name, machines[i].pool, machines[i].buffer)
		for _, name := range methods() {
			fmt.Fprint(w, "\t", report.Digits(c.results[name][i].vus))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// interval writes the mean of the machines and what 95 % of the resamples lie in.
func interval(values []float64, between string) string {
	row := report.Row{}.FromMean(values)
	return report.Digits(row.Value) + between + report.Digits(*row.Low) + " to " + report.Digits(*row.High)
}

// paired compares VUS-PR machine by machine. Equals are nobody's.
func (c *comparison) paired(peer string) (won, lost int, gains []float64) {
	for i := range c.results[fettle] {
		gain := c.results[fettle][i].vus - c.results[peer][i].vus
		gains = append(gains, gain)
		switch {
		case gain > 0:
			won++
		case gain < 0:
			lost++
		}
	}
	return won, lost, gains
}

// Names of measures of the set as a whole.
const (
	togetherName = "median delay, all segments as one"
	wonName      = "machines with the higher VUS-PR"
)

// add adds the rows of the report: each measure beside each yardstick, the interval and what is to be reached once.
func (c *comparison) add(r *report.Report) {
	for _, m := range all {
		row := report.Row{Metric: c.title + ": " + m.name, Unit: m.unit, Better: m.better}.FromMean(m.values(c.results[fettle]))
		if v, ok := c.budgets[m.name]; ok {
			row.Budget = &v
		}
		beside(r, row, methods()[1:], func(peer string) float64 { return report.Mean(m.values(c.results[peer])) })
	}
	row := report.Row{Metric: c.title + ": " + togetherName, Unit: "rows", Better: report.Lower, Value: together(c.results[fettle])}
	beside(r, row, methods()[1:], func(peer string) float64 { return together(c.results[peer]) })
	for _, peer := range methods()[1:] {
		won, lost, gains := c.paired(peer)
		row := report.Row{Metric: c.title + ": " + wonName, Unit: "of " + strconv.Itoa(len(gains)), Better: report.Higher, Value: float64(won)}
		beside(r, row, []string{peer}, func(string) float64 { return float64(lost) })
		r.Add(report.Row{Metric: c.title + ": gain in VUS-PR over " + peer, Unit: "1", Better: report.Higher}.FromMean(gains))
	}
}

// beside adds a row for each peer, the interval and what is to be reached in the first one only.
func beside(r *report.Report, row report.Row, peers []string, of func(peer string) float64) {
	for _, peer := range peers {
		v := of(peer)
		if row.Peer, row.PeerValue = peer, nil; !math.IsNaN(v) {
			row.PeerValue = &v
		}
		r.Add(row)
		row.Low, row.High, row.Rounds, row.Budget = nil, nil, 0, nil
	}
}
