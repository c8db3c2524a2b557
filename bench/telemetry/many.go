package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/telemetry"
)

// looker samples instances by some sources.
type looker struct {
	sampler *telemetry.Sampler
	members []ft.Instance
	frame   *ft.Frame
}

func newLooker(name string, members []ft.Instance, sources ...ft.Source) (*looker, error) {
	s, err := telemetry.New(quiet(), sources...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &looker{s, members, &ft.Frame{Schema: s.Schema(), Rows: make([]ft.Row, len(members))}}, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// used is how much CPU time was used.
type used struct {
	self   time.Duration // by this program
	probes time.Duration // by eBPF programs, in the time of the watched
}

// look samples each second for so long.
func (l *looker) look(ctx context.Context, span time.Duration, probes *programs) (used, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	from, fromProbes := cpuTime(), probes.runTime()
	for end := time.Now().Add(span); time.Now().Before(end); {
		l.frame.Reset(len(l.members))
		if err := l.sampler.Sample(ctx, time.Now(), l.members, l.frame); err != nil {
			return used{}, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return used{}, ctx.Err()
		}
	}
	return used{cpuTime() - from, probes.runTime() - fromProbes}, nil
}

// measured tells how many of the instances have a value in the column.
func (l *looker) measured(name string) (n int) {
	c := l.frame.Schema.Index(name)
	for r := range l.members {
		if v := 0.; c >= 0 {
			if v = l.frame.Value(r, c); v == v { // no NaN
				n++
			}
		}
	}
	return n
}

// cpuTime is the CPU time of this program, in user and kernel mode.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// set is sources whose cost together is measured.
type set struct {
	name    string
	sources func() []ft.Source
	settle  time.Duration
	whole   bool // it is everything but system calls
}

// many measures the CPU of sampling up to c.instances at 1 Hz, source by source.
func many(ctx context.Context, c *config, r *report.Report) (err error) {
	say("many: starting %d processes", c.instances)
	w, err := start(c.instances)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	before, err := loaded()
	if err != nil {
		r.Note("many: the run time of eBPF programs is not counted: %v", err)
	}
	p, err := telemetry.OpenProbes(quiet())
	if err != nil {
		r.Note("many: without eBPF: %v", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	probes := before.since()
	defer probes.close()
	r.Note("many: each instance is a Go program with 5 MiB or so, some threads, that touches 1 MiB and sends itself a message over TCP each second")

	var pool ft.Pool
	pool.Defaults()
	sets := []set{
		{"/proc", func() []ft.Source { return []ft.Source{telemetry.ProcFS()} }, 3 * time.Second, false},
		{"/proc, network", func() []ft.Source { return []ft.Source{p.Network(true), telemetry.ProcFS()} }, 3 * time.Second, false},
		{"/proc, network, working set", func() []ft.Source {
			return []ft.Source{p.Network(true), telemetry.Cgroup(), telemetry.ProcFS(), telemetry.WorkingSet(pool.Telemetry.WorkingSet)}
		}, c.settle, true},
	}
	for _, s := range sets {
		for _, n := range []int{c.instances / 100, c.instances / 10, c.instances} {
			if n > 0 {
				if err := s.measure(ctx, c, r, w.instances[:n], probes); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measure adds the rows of a set and some instances: three windows where they are all, one else.
func (s *set) measure(ctx context.Context, c *config, r *report.Report, in []ft.Instance, probes *programs) (err error) {
	l, err := newLooker(s.name, in, s.sources()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.sampler.Close()) }()
	rounds, window := 1, c.window/3
	if len(in) == c.instances {
		rounds = 3
		if s.whole {
			window = c.window
		}
	}
	say("many: %d instances: %s: settling for %s, then %d times %s", len(in), s.name, s.settle, rounds, window)
	if _, err := l.look(ctx, s.settle, probes); err != nil {
		return err
	}
	var all, inKernel []float64
	for range rounds {
		u, err := l.look(ctx, window, probes)
		if err != nil {
			return err
		}
		all = append(all, (u.self+u.probes).Seconds()/window.Seconds()*100)
		inKernel = append(inKernel, u.probes.Seconds()/window.Seconds()*100)
	}
	row := report.Row{Metric: fmt.Sprintf("%d instances at 1 Hz: %s", len(in), s.name), Unit: "% of a core", Better: report.Lower}.From(all)
	if s.whole && len(in) == 1000 {
		row.Budget = new(5.0)
	}
	r.Add(row)
	if s.whole && len(in) == c.instances {
		r.Add(report.Row{Metric: "of that eBPF programs, in the time of the watched", Unit: "% of a core", Better: report.Lower}.From(inKernel))
		for _, col := range []string{ft.DimCPU, ft.DimNetOut, ft.DimWSS} {
			r.Note("many: %d of %d instances had a value of %s at the end", l.measured(col), len(in), col)
		}
	}
	return nil
}
