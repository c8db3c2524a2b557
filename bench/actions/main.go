// Command actions counts disruptive actions on healthy instances: what the planner in mode heal, told by the judge, would have
// reset or replaced without need. It replays the pools of JumpStarter outside of labelled time, and recordings of real programs
// (-recordings DIR), through the whole brain as `fettle replay` does. It prints a table and each action with its verdict, and
// writes bench/results/actions.json. It is run in the repository (`make bench-actions`); FETTLE_DATA names the folder with
// the data.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
)

// goal is how many there may be in 100 instance-days.
const goal = 1.0

// The sources, as the rows of the report call them.
const (
	jumpStarter = "JumpStarter"
	recorded    = "recordings"
	together    = "together"
)

// kinds are the disruptive operations.
var kinds = []ft.Operation{ft.SoftResetting, ft.FullResetting, ft.Evict}

func main() {
	if err := run(os.Args[1:], os.Getenv("FETTLE_DATA"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench actions:", err)
		os.Exit(1)
	}
}

func run(args []string, data string, tables io.Writer) error {
	f := flag.NewFlagSet("actions", flag.ContinueOnError)
	recordings := f.String("recordings", "", "a directory of recordings (*.rec) of healthy programs, or comma-separated patterns of their files")
	quick := f.Bool("quick", false, "the smallest pool only, for a smoke run; writes no file unless -out is given")
	out := f.String("out", "", "where to write the JSON (default bench/results/actions.json)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	work, err := sources(data, *recordings, *quick)
	if err != nil {
		return err
	}
	if *out == "" && !*quick {
		*out = "bench/results/actions.json"
	}
	r := report.New("actions")
	r.Note("actions are soft resets, full resets and evictions that the planner in mode heal began for drift; intervals are Garwood's of a Poisson count")
	r.Note("no action has an effect on what was recorded, so each counts as tried in vain: the next step of the ladder follows, and all again a day later while the drift lasts")
	r.Note("in %s, healthy is what has no label and is %d rows beyond one; in %s all of the time after learning", jumpStarter, beyond, recorded)
	outcomes := make([]outcome, len(work))
	group, begun := errgroup.Group{}, time.Now()
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, w := range work {
		group.Go(func() error {
			o, err := w.replay()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			outcomes[i] = o
			report.Say("%s: %d actions in %.1f healthy instance-days, %s", w.name, len(o.actions), o.days, time.Since(begun).Round(time.Second))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	add(r, outcomes)
	r.End()
	if err := errors.Join(r.Print(tables), list(tables, outcomes)); err != nil {
		return err
	}
	if *out == "" {
		return nil
	}
	return r.Write(*out)
}

// source is one recording, or what is made one of.
type source struct {
	set, name string
	replay    func() (outcome, error)
}

// sources finds what is to be replayed. Without data there must be recordings.
func sources(data, recordings string, quick bool) ([]source, error) {
	var out []source
	files, err := recordingsOf(recordings)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name := filepath.Join(filepath.Base(filepath.Dir(f)), filepath.Base(f))
		out = append(out, source{recorded, name, func() (outcome, error) { return replayFile(f, name) }})
	}
	if data == "" {
		if out == nil {
			return nil, errors.New("FETTLE_DATA is not set: it names the folder with the labelled telemetry, which has a folder jumpstarter; else -recordings must be given")
		}
		return out, nil
	}
	pools, err := loadPools(filepath.Join(data, "jumpstarter"))
	if err != nil {
		return nil, err
	}
	if quick {
		pools = slices.SortedFunc(slices.Values(pools), func(a, b pool) int { return len(a.members) - len(b.members) })[:1]
	}
	for _, p := range pools {
		out = append(out, source{jumpStarter, p.name, p.replay})
	}
	return out, nil
}

// recordingsOf lists the files of a directory, or of patterns; none of "".
func recordingsOf(where string) (files []string, err error) {
	if where == "" {
		return nil, nil
	}
	for pattern := range strings.SplitSeq(where, ",") {
		if s, err := os.Stat(pattern); err == nil && s.IsDir() {
			pattern = filepath.Join(pattern, "*.rec")
		}
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("-recordings: there are no files %s", pattern)
		}
		files = append(files, found...)
	}
	return files, nil
}

// outcome is what the replay of one pool came to.
type outcome struct {
	set, pool      string
	members        int
	days           float64  // of instances, in healthy time
	actions        []action // in healthy time
	alarms         int      // verdicts from Low on that began in healthy time
	labelled       int      // actions in labelled time
	labelledAlarms int
}

// action is a disruptive operation that the planner began, or would have begun had it been its to do.
type action struct {
	at    time.Time
	who   string
	kind  ft.Operation
	told  string    // the judge's last verdict on it
	since time.Time // when that drift began
}

// add adds the rows of the report: of each set, and of all where there are more.
func add(r *report.Report, outcomes []outcome) {
	sets := map[string][]outcome{}
	for _, o := range outcomes {
		sets[o.set] = append(sets[o.set], o)
	}
	if len(sets) > 1 {
		sets[together] = outcomes
	}
	for _, set := range slices.Sorted(maps.Keys(sets)) {
		var sum outcome
		n := 0
		by, drifts := map[ft.Operation]int{}, map[string]bool{}
		for _, o := range sets[set] {
			n += len(o.actions)
			sum.members, sum.days, sum.alarms = sum.members+o.members, sum.days+o.days, sum.alarms+o.alarms
			sum.labelled, sum.labelledAlarms = sum.labelled+o.labelled, sum.labelledAlarms+o.labelledAlarms
			for i := range o.actions {
				a := &o.actions[i]
				by[a.kind]++
				drifts[o.pool+a.who+a.since.String()] = true
			}
		}
		if sum.days == 0 {
			r.Note("%s: there is no healthy time in what was judged", set)
			continue
		}
		row := func(metric, unit string, value float64) report.Row {
			return report.Row{Metric: set + ": " + metric, Unit: unit, Better: report.Lower, Value: value}
		}
		rate := row("false disruptive actions", "per 100 instance-days", per100(float64(n), sum.days))
		low, high := garwood(n)
		low, high, most := per100(low, sum.days), per100(high, sum.days), goal
		rate.Low, rate.High, rate.Rounds, rate.Budget = &low, &high, sum.members, &most
		r.Add(rate)
		r.Add(row("false disruptive actions, less than, with 95 % confidence", "per 100 instance-days", per100(atMost(n), sum.days)))
		healthy := row("healthy time", "instance-days", sum.days)
		healthy.Better = report.Higher
		r.Add(healthy)
		r.Add(row("drifts that these actions were for", "drifts", float64(len(drifts))))
		for _, k := range kinds {
			r.Add(row("of these actions "+k.String(), "actions", float64(by[k])))
		}
		r.Add(row("alarms in healthy time", "per instance-day", float64(sum.alarms)/sum.days))
		if set == jumpStarter {
			r.Add(report.Row{Metric: set + ": actions in labelled time", Unit: "actions", Better: report.Higher, Value: float64(sum.labelled)})
			r.Add(report.Row{Metric: set + ": alarms in labelled time", Unit: "alarms", Better: report.Higher, Value: float64(sum.labelledAlarms)})
		}
	}
}

// list prints each action with the verdict that explains it, pools and instances with the most of them first.
func list(out io.Writer, outcomes []outcome) error {
	type key struct{ pool, who string }
	by := map[key][]action{}
	for _, o := range outcomes {
		for _, a := range o.actions {
			k := key{o.pool, a.who}
			by[k] = append(by[k], a)
		}
	}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b key) int {
		if d := len(by[b]) - len(by[a]); d != 0 {
			return d
		}
		return strings.Compare(a.pool+a.who, b.pool+b.who)
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPOOL\tINSTANCE\tACTION\tAT\tVERDICT")
	for _, k := range keys {
		for _, a := range by[k] {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.pool, k.who, a.kind, a.at.Format(time.DateTime), a.told)
		}
	}
	return w.Flush()
}
