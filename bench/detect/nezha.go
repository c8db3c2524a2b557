package main

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
	"github.com/fettle-dev/fettle/internal/score"
)

// Nezha's faults, as the data's authors and its README describe them.
const (
	nezhaEvery = time.Minute
	// baseline is how much of the day's end is train: the faults come in its first hours.
	baseline = 12 * 60 // rows
	shows    = 300     // seconds after an injection in which the pod's highest score counts
	before   = 60      // seconds before an injection, and
	after    = 360     // after it, in which an alarm is no false one
)

// pod is a container's telemetry.
type pod struct {
	score.Member
	times []int64 // of the test rows
}

// fault is an injected one.
type fault struct {
	at  int64
	pod string
}

// nezha ranks the pods after each injected fault by their highest score, and counts false alarms. The pods run different
// services, so that each is judged by itself.
func nezha(ctx context.Context, b *bench, p *part) error {
	dir := filepath.Join(b.data, p.folder)
	pods, err := readPods(dir)
	if err != nil {
		return err
	}
	faults, err := readFaults(filepath.Join(dir, "faults.csv"), pods)
	if err != nil {
		return err
	}
	report.Say("%s: %d pods, %d faults", p.name, len(pods), len(faults))
	said := map[string][]verdicts{}
	for _, name := range methods() {
		said[name] = make([]verdicts, len(pods))
	}
	c := score.Config{Every: nezhaEvery, FalseAlarms: rate, Alone: true}
	err = each(ctx, p.name+": pods", len(pods), func(ctx context.Context, i int) error {
		rows, err := score.Run(ctx, c, []score.Member{pods[i].Member})
		if err != nil {
			return err
		}
		said[fettle][i] = fromRows(rows[0])
		for _, y := range yardstick.Methods() {
			if said[y.Name][i], err = fit(y, pods[i].Train, pods[i].Test, nezhaEvery); err != nil {
				return fmt.Errorf("%s on %s: %w", y.Name, pods[i].Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tellNezha(b, pods, faults, said)
}

// ranking is what one method said of the faults.
type ranking struct {
	ranks       []float64 // of the injected pod, from 1; equals rank before it
	falseAlarms float64   // runs that began away from faults, per pod-day
}

func rank(pods []pod, faults []fault, said []verdicts) *ranking {
	r := &ranking{}
	for _, f := range faults {
		highest := make([]float64, len(pods))
		injected := 0
		for i := range pods {
			highest[i] = math.Inf(-1)
			for t, at := range pods[i].times {
				if at > f.at && at <= f.at+shows {
					highest[i] = max(highest[i], said[i].scores[t])
				}
			}
			if pods[i].Name == f.pod {
				injected = i
			}
		}
		place := 0.0
		for _, v := range highest {
			if v >= highest[injected] {
				place++
			}
		}
		r.ranks = append(r.ranks, place)
	}
	runs, rows := 0, 0
	for i := range pods {
		for t, at := range pods[i].times {
			if slices.ContainsFunc(faults, func(f fault) bool { return at >= f.at-before && at <= f.at+after }) {
				continue
			}
			rows++
			if said[i].alarms[t] && (t == 0 || !said[i].alarms[t-1]) {
				runs++
			}
		}
	}
	r.falseAlarms = float64(runs) / days(rows, nezhaEvery)
	return r
}

// within tells for each fault whether the injected pod was among the first k.
func (r *ranking) within(k float64) []float64 {
	out := make([]float64, len(r.ranks))
	for i, place := range r.ranks {
		if place <= k {
			out[i] = 1
		}
	}
	return out
}

// tellNezha prints and reports.
func tellNezha(b *bench, pods []pod, faults []fault, said map[string][]verdicts) error {
	by := map[string]*ranking{}
	for _, name := range methods() {
		by[name] = rank(pods, faults, said[name])
	}
	fmt.Fprintf(b.out, "\nNezha: the injected pod among the first k of %d, %d faults; the baseline was learnt after the faults\n", len(pods), len(faults))
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tTO REACH\tFETTLE\t95 % INTERVAL\t"+strings.ToUpper(strings.Join(methods()[1:], "\t")))
	tell := func(row report.Row, budget float64, ours string, of func(*ranking) float64) {
		if fmt.Fprint(w, row.Metric, "\t"); budget > 0 {
			row.Budget = &budget
			fmt.Fprint(w, report.Digits(budget))
		}
		fmt.Fprint(w, "\t", ours)
		for _, name := range methods()[1:] {
			fmt.Fprint(w, "\t", report.Digits(of(by[name])))
		}
		fmt.Fprintln(w)
		row.Metric = "Nezha: " + row.Metric
		beside(b.report, row, methods()[1:], func(peer string) float64 { return of(by[peer]) })
	}
	ours := by[fettle]
	for _, at := range []struct{ k, budget float64 }{{1, 0.65}, {3, 0.80}, {5, 0}} {
		row := report.Row{Metric: fmt.Sprintf("AC@%g", at.k), Unit: "1", Better: report.Higher}.FromMean(ours.within(at.k))
		tell(row, at.budget, interval(ours.within(at.k), "\t"), func(r *ranking) float64 { return report.Mean(r.within(at.k)) })
	}
	row := report.Row{Metric: "false alarms per pod-day", Unit: "1", Better: report.Lower, Value: ours.falseAlarms}
	tell(row, 2*rate, report.Digits(ours.falseAlarms)+"\t", func(r *ranking) float64 { return r.falseAlarms })
	return w.Flush()
}

// readPods reads POD.csv.gz: the time in seconds, then the metrics, an empty cell where one is missing.
func readPods(dir string) ([]pod, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.csv.gz"))
	if err != nil || len(paths) == 0 {
		return nil, cmp.Or(err, fmt.Errorf("FETTLE_DATA is incomplete: %s has no POD.csv.gz", dir))
	}
	out := make([]pod, len(paths))
	for i, path := range paths {
		if out[i], err = readPod(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

func readPod(path string) (pod, error) {
	p := pod{Member: score.Member{Name: strings.TrimSuffix(filepath.Base(path), ".csv.gz")}}
	f, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return p, err
	}
	lines, err := csv.NewReader(z).ReadAll()
	if err != nil {
		return p, err
	}
	if len(lines) <= baseline+1 {
		return p, fmt.Errorf("%d lines, of which %d would be the baseline", len(lines), baseline)
	}
	p.Columns = lines[0][1:]
	for i, line := range lines[1:] {
		at, err := strconv.ParseInt(line[0], 10, 64)
		if err != nil {
			return p, fmt.Errorf("line %d: %w", i+2, err)
		}
		row := make([]float64, len(line)-1)
		for c, cell := range line[1:] {
			if row[c], err = strconv.ParseFloat(cmp.Or(cell, "NaN"), 64); err != nil {
				return p, fmt.Errorf("line %d, column %d: %w", i+2, c+2, err)
			}
		}
		if i < len(lines)-1-baseline {
			p.times, p.Test = append(p.times, at), append(p.Test, row)
		} else {
			p.Train = append(p.Train, row)
		}
	}
	return p, nil
}

// readFaults reads lines of time, pod and type, the first one of which has their names.
func readFaults(path string, pods []pod) ([]fault, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("FETTLE_DATA is incomplete: %w", err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []fault
	for i, line := range lines[min(1, len(lines)):] {
		at, err := strconv.ParseInt(line[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+2, err)
		}
		k := slices.IndexFunc(pods, func(p pod) bool { return p.Name == line[1] })
		if k < 0 {
			return nil, fmt.Errorf("%s:%d: there is no pod %q", path, i+2, line[1])
		}
		if last := pods[k].times[len(pods[k].times)-1]; at+after > last {
			return nil, fmt.Errorf("%s:%d: the fault reaches into the baseline, which begins after %d", path, i+2, last)
		}
		out = append(out, fault{at, line[1]})
	}
	return out, nil
}
