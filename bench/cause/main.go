// Command cause measures how well a verdict tells the cause of a drift and its scope: a confusion matrix over scenarios on
// real applications, the demo's, gunicorn, Node and Redis. It is run in the repository (`make bench-cause`).
//
// It has two halves. -record runs each application once a seed, as a pool of eight under load, and records one healthy
// stretch and one of each scenario. -judge lets the judge learn from the healthy one and see the others, for pools of 1,
// 2, 3, 4 and 8 that are made of the recorded rows: seconds, so that it can be done again after each change of the judge.
// Without either it does both. What is recorded already is not recorded again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is what was chosen.
type bench struct {
	timing
	dir       string
	apps      []application
	seeds     []uint64
	scenarios []scenario
	sizes     []int // of pools
	exe       string
	verbose   bool
	trace     bool
	out       string
	whole     bool // nothing is left out
	json      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := do(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench cause:", err)
		os.Exit(1)
	}
}

func do(ctx context.Context, args []string) error {
	b := &bench{}
	f := flag.NewFlagSet("cause", flag.ContinueOnError)
	onlyRecord := f.Bool("record", false, "only record what is missing")
	onlyJudge := f.Bool("judge", false, "only judge what is recorded")
	f.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "fettle-cause"), "where the recordings are; they are kept")
	apps := f.String("apps", "", "comma-separated: demo, gunicorn, node, redis; all if empty")
	seeds := f.String("seeds", "1,2,3,4,5", "comma-separated; each gives its own victims, sizes, order and arrivals")
	only := f.String("scenarios", "", "comma-separated kinds, such as leak,slow lock; all if empty")
	sizes := f.String("n", "1,2,3,4,8", "sizes of the pools that are judged")
	f.StringVar(&b.out, "out", "", "where to write the JSON (default bench/results/cause.json where all is measured)")
	format := f.String("o", "text", "text or json")
	f.BoolVar(&b.verbose, "v", false, "print each answer that is wrong, with its evidence")
	f.BoolVar(&b.trace, "trace", false, "print the victim's and the pool's verdict of each second")
	f.DurationVar(&b.interval, "interval", 250*time.Millisecond, "between frames")
	f.DurationVar(&b.learn, "learn", 30*time.Second, "how long a first baseline is learnt")
	f.DurationVar(&b.warm, "warm", 20*time.Second, "before the healthy stretch")
	f.DurationVar(&b.healthy, "healthy", 90*time.Second, "the healthy stretch")
	f.DurationVar(&b.before, "before", 6*time.Second, "healthy time at the head of each stretch")
	f.DurationVar(&b.during, "during", 18*time.Second, "how long a scenario lasts")
	f.DurationVar(&b.settle, "settle", 4*time.Second, "after a scenario, until the next stretch")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *format != "text" && *format != "json" {
		return fmt.Errorf("-o %s: text or json", *format)
	}
	b.json = *format == "json"
	if err := b.choose(*apps, *seeds, *only, *sizes); err != nil {
		return err
	}
	b.whole = *apps+*only == "" && len(b.seeds) == 5 && len(b.sizes) == 5
	if !*onlyJudge {
		if err := b.recordAll(ctx); err != nil {
			return err
		}
	}
	if *onlyRecord {
		return nil
	}
	return b.judgeAll(ctx)
}

// choose reads the flags that are lists.
func (b *bench) choose(apps, seeds, only, sizes string) error {
	for _, a := range applications() {
		if apps == "" || slices.Contains(strings.Split(apps, ","), a.name) {
			b.apps = append(b.apps, a)
		}
	}
	for s := range strings.SplitSeq(seeds, ",") {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("-seeds: %w", err)
		}
		b.seeds = append(b.seeds, v)
	}
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > members {
			return fmt.Errorf("-n %s: not a number from 1 to %d", s, members)
		}
		b.sizes = append(b.sizes, n)
	}
	for _, s := range scenarios() {
		if only == "" || slices.Contains(strings.Split(only, ","), string(s.kind)) {
			b.scenarios = append(b.scenarios, s)
		}
	}
	if len(b.apps) == 0 || len(b.scenarios) == 0 {
		return errors.New("-apps or -scenarios: nothing of that name")
	}
	return nil
}

// recordAll records one application and seed after the other: they share the machine with nothing.
func (b *bench) recordAll(ctx context.Context) error {
	temp, err := os.MkdirTemp("", "fettle-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for what is built: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }() // only of what was built
	b.exe = filepath.Join(temp, "fettle")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", b.exe, "./cmd/fettle").CombinedOutput(); err != nil {
		return fmt.Errorf("build fettle: %w: %s", err, text)
	}
	for i := range b.apps {
		a := &b.apps[i]
		if a.program != "" {
			if _, err := exec.LookPath(a.program); err != nil {
				return fmt.Errorf("%s is measured with %s, which is not installed here; -apps leaves it out", a.name, a.program)
			}
		}
		for _, seed := range b.seeds {
			if err := b.record(ctx, a, seed); err != nil {
				return fmt.Errorf("%s, seed %d: %w", a.name, seed, err)
			}
		}
	}
	return nil
}
