// Command detect measures the detector on labelled telemetry of real servers, beside plain methods in the same run: SMD,
// ASD and JumpStarter by their labels, one sick member in JumpStarter's pools, the faults of Nezha. It prints a table for
// each and writes bench/results/detect.json. It is run in the repository (`make bench-detect`); FETTLE_DATA names the folder
// with the data.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// part is one of the measurements.
type part struct {
	name   string
	folder string // of the data
	run    func(ctx context.Context, b *bench, p *part) error
	set    set // what is measured by labels
}

// bench is what all parts share.
type bench struct {
	data     string // the folder
	quick    bool
	machines bool      // each is told too
	out      io.Writer // for tables
	report   *report.Report
}

func parts() []part {
	return []part{
		{name: "smd", folder: "smd", run: labels, set: smd},
		{name: "asd", folder: "asd", run: labels, set: asd},
		{name: "jumpstarter", folder: "jumpstarter", run: labels, set: jumpstarter},
		{name: "sick", folder: "jumpstarter", run: sick},
		{name: "nezha", folder: "nezha-ob", run: nezha},
	}
}

func main() {
	if err := run(os.Args[1:], os.Getenv("FETTLE_DATA"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench detect:", err)
		os.Exit(1)
	}
}

func run(args []string, data string, tables io.Writer) error {
	f := flag.NewFlagSet("detect", flag.ContinueOnError)
	quick := f.Bool("quick", false, "few machines of each set, for a smoke run; writes no file unless -out is given")
	only := f.String("set", "", "comma-separated: smd, asd, jumpstarter, sick, nezha; writes no file unless -out is given")
	machines := f.Bool("machines", false, "print VUS-PR of each machine too")
	without := f.Bool("ablate", false, "print only what the streams reach without each of their parts; writes no file")
	out := f.String("out", "", "where to write the JSON (default bench/results/detect.json)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	b := &bench{data: data, quick: *quick, machines: *machines, out: tables}
	if err := complete(b.data, chosen); err != nil {
		return err
	}
	if *without {
		return ablate(context.Background(), b.data, b.quick, b.out)
	}
	if *out == "" && !*quick && *only == "" {
		*out = "bench/results/detect.json"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b.report = report.New("detect")
	b.report.Note("intervals are of bootstrap resamples of machines; Fettle has its defaults but for the interval between rows, all columns are responses")
	b.report.Peer("gonum", report.ModuleVersion("gonum.org/v1/gonum"))
	for i := range chosen {
		p := &chosen[i]
		if err := p.run(ctx, b, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.report.End()
	if *out == "" {
		return nil
	}
	return b.report.Write(*out)
}

func choose(only string) ([]part, error) {
	all := parts()
	if only == "" {
		return all, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-set %s: there is no set of that name; there are smd, asd, jumpstarter, sick, nezha", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// each does n pieces of work on as many cores as there are, and tells how far it is.
func each(ctx context.Context, what string, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	begun := time.Now()
	var done atomic.Int64
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(ctx, i); err != nil {
				return err
			}
			if k := int(done.Add(1)); k == n || k%max(n/10, 1) == 0 {
				report.Say("%s: %d of %d, %s", what, k, n, time.Since(begun).Round(time.Second))
			}
			return nil
		})
	}
	return group.Wait()
}
