// Command telemetry measures what watching costs: one sample beside prometheus/procfs, a thousand instances, a Redis
// that is watched, system calls that are counted. It prints a table and writes bench/results/telemetry.json. It is run
// in the repository (`make bench-telemetry`), as root where eBPF is to be measured too.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// part is one of the measurements.
type part struct {
	name string
	run  func(ctx context.Context, c *config, r *report.Report) error
}

var parts = []part{{"base", base}, {"many", many}, {"redis", redis}, {"bursts", bursts}}

// config is how long and how often to measure.
type config struct {
	short     bool
	rounds    int           // of what is repeated; pairs where two things are compared
	instances int           // of many
	window    time.Duration // one round of many
	every     time.Duration // of the working set
	waves     int           // intervals of it in which the working sets of all instances are measured
	cycles    int           // of sessions with Redis
	session   time.Duration // how long runs of redis-benchmark follow each other in one
	requests  int           // of one run of each of its tests
	bytes     int           // of one run of dd
	dir       string        // for what is built
}

func full() *config {
	return &config{
		rounds: 8, instances: 1000, window: 6 * time.Second, every: 30 * time.Second, waves: 8,
		cycles: 5, session: 4 * time.Second, requests: 50_000, bytes: 8_000_000,
	}
}

func smoke() *config {
	return &config{
		short: true, rounds: 2, instances: 50, window: 2 * time.Second, every: 2 * time.Second, waves: 2,
		cycles: 1, session: time.Second, requests: 20_000, bytes: 1_000_000,
	}
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == workerArg {
		worker(os.Args[2])
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench telemetry:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	c := full()
	f := flag.NewFlagSet("telemetry", flag.ContinueOnError)
	short := f.Bool("short", false, "a smoke run of a few seconds; writes no file unless -out is given")
	only := f.String("only", "", "comma-separated parts: base, many, redis, bursts; writes no file unless -out is given")
	out := f.String("out", "", "where to write the JSON (default bench/results/telemetry.json)")
	rounds := f.Int("rounds", 0, "rounds of each measurement, pairs where two are compared (default 8; 2 with -short)")
	cycles := f.Int("cycles", 0, "cycles of sessions with Redis, watched and not (default 5; 1 with -short)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *short {
		c = smoke()
	}
	c.rounds, c.cycles = cmp.Or(*rounds, c.rounds), cmp.Or(*cycles, c.cycles)
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *out == "" && !c.short && *only == "" {
		*out = "bench/results/telemetry.json"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if c.dir, err = os.MkdirTemp("", "fettle-bench-"); err != nil {
		return fmt.Errorf("make a directory for what is built: %w", err)
	}
	defer func() { _ = os.RemoveAll(c.dir) }() // only of what was built
	r := report.New("telemetry")
	err = measure(ctx, c, chosen, r)
	r.End()
	if perr := r.Print(os.Stdout); perr != nil {
		err = errors.Join(err, fmt.Errorf("print: %w", perr))
	}
	if *out != "" && len(r.Rows) > 0 && ctx.Err() == nil { // one that was broken off replaces no other
		err = errors.Join(err, r.Write(*out))
	}
	return err
}

// measure makes the parts. One that fails keeps no other from being measured; what it brought before stays in the report.
func measure(ctx context.Context, c *config, chosen []part, r *report.Report) error {
	var errs []error
	for i, p := range chosen {
		report.Say("%s (part %d of %d)", p.name, i+1, len(chosen))
		from := time.Now()
		if err := p.run(ctx, c, r); err != nil {
			r.Note("%s: failed: %v", p.name, err)
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		if ctx.Err() != nil {
			break
		}
		report.Say("%s took %s", p.name, time.Since(from).Round(time.Second))
	}
	return errors.Join(errs...)
}

func choose(only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %s: there is no part of that name; there are base, many, redis, bursts", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

var number = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

// versionOf is the first version number that a program tells of itself, "" where it does not.
func versionOf(name string, args ...string) string {
	return number.FindString(report.First(name, args...))
}
