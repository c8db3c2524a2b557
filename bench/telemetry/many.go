package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
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
	l := &looker{s, members, &ft.Frame{Schema: s.Schema(), Rows: make([]ft.Row, len(members))}}
	l.frame.Reset(len(members))
	return l, nil
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

// mostMeeting bounds meet.
const mostMeeting = 4 * time.Minute

// meet samples each second until all instances have a value of CPU, or for mostMeeting, and tells how long that was.
func (l *looker) meet(ctx context.Context) (time.Duration, error) {
	from := time.Now()
	for l.measured(ft.DimCPU) < len(l.members) && time.Since(from) < mostMeeting {
		if _, err := l.look(ctx, time.Second, nil); err != nil {
			return 0, err
		}
	}
	return time.Since(from), nil
}

// measured is how many instances had a value in the column at the last look.
func (l *looker) measured(name string) (n int) {
	c := l.frame.Schema.Index(name)
	for r := range l.members {
		if c >= 0 && !math.IsNaN(l.frame.Value(r, c)) {
			n++
		}
	}
	return n
}

// told says of how many instances there is what: a column of each source, and destinations.
func (l *looker) told(p *telemetry.Probes) string {
	var out []string
	for _, name := range []string{ft.DimCPU, ft.DimNetOut, ft.DimCalls, ft.DimAnon, ft.DimThrottle, ft.DimPressMem, ft.DimWSS, messagesColumn} {
		out = append(out, fmt.Sprintf("%s %d", name, l.measured(name)))
	}
	n := 0
	for _, in := range l.members {
		if len(p.Destinations(in.Ref)) > 0 {
			n++
		}
	}
	out = append(out, fmt.Sprintf("destinations %d", n))
	return strings.Join(out, ", ") + "; dear readings: " + cmp.Or(l.sampler.Unavailable(l.members[0].Ref)[ft.DimFDs], "each time")
}

// descriptors says how many are open, and may be.
func descriptors() string {
	var most unix.Rlimit
	open, err := os.ReadDir("/proc/self/fd")
	if err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_NOFILE, &most)); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d descriptors are open of %d that may be", len(open), most.Cur)
}

// cpuTime is the CPU time of this program, in user and kernel mode.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// everything is the name of the whole set.
const everything = "everything but system calls"

// messagesColumn is made of a metric that workers serve.
const messagesColumn = "messages"

// wholePool has the settings of the whole set: the defaults, and a metric of the application.
func wholePool(c *config) *ft.Pool {
	p := &ft.Pool{Metrics: &ft.Metrics{Series: []ft.Series{{Metric: messagesMetric, Column: messagesColumn}}}}
	p.Telemetry.WorkingSet.Every = ft.Duration(c.every)
	p.Defaults()
	return p
}

// scene is what is watched, and who counts what that costs.
type scene struct {
	*workers
	probes   *telemetry.Probes
	programs *programs
}

// set is sources whose cost together is measured.
type set struct {
	name    string
	sources func() []ft.Source
	whole   bool // it is everything but system calls
}

// many measures the CPU of sampling up to c.instances at 1 Hz, source by source.
func many(ctx context.Context, c *config, r *report.Report) (err error) {
	report.Say("many: starting %d processes", c.instances)
	w, err := start(ctx, c.instances)
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
	pool := wholePool(c)
	sc := &scene{workers: w, probes: p, programs: before.since()}
	defer sc.programs.close()
	r.Note("many: each instance is a Go program of some threads, %s, that each second touches 1 MiB and calls itself over TCP, and that serves %d bytes of metrics. What it takes to answer a scrape is the instance's and is not counted", w.grouped(), len(exposition(1)))
	r.Note("many: everything but system calls is: network and destinations by eBPF, control groups, /proc, working set (every %s, stretched so that all together take a hundredth of a core at most), a scrape of each instance every %s", pool.Telemetry.WorkingSet.Every, pool.Metrics.Every)

	sets := []set{
		{"/proc", func() []ft.Source { return []ft.Source{telemetry.ProcFS()} }, false},
		{"/proc, network, control groups", func() []ft.Source { return []ft.Source{p.Network(true), telemetry.Cgroup(), telemetry.ProcFS()} }, false},
		{everything, func() []ft.Source {
			return []ft.Source{p.Network(true), telemetry.Cgroup(), telemetry.ProcFS(), telemetry.WorkingSet(pool.Telemetry.WorkingSet), telemetry.Scrape(pool.Metrics)}
		}, true},
	}
	for _, s := range sets {
		for _, n := range []int{c.instances / 100, c.instances / 10, c.instances} {
			if n > 0 {
				if err := s.measure(ctx, c, r, sc, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measure adds the rows of a set and some instances.
//
// Of the whole set each instance's working set is measured once an interval, and their turns are spread over the first
// one: then come windows that hold each turn once. Of all instances the turns stretch until they cost no more than the
// hundredth of a core that they may, and come in waves that are so far apart: c.waves intervals hold them all.
func (s *set) measure(ctx context.Context, c *config, r *report.Report, sc *scene, n int) (err error) {
	in := sc.instances[:n]
	l, err := newLooker(s.name, in, s.sources()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.sampler.Close()) }()
	settle, window, rounds := 3*time.Second, c.window, 1
	all := n == c.instances
	switch {
	case s.whole && all:
		settle, window, rounds = 4*c.every, c.every, c.waves // the first intervals are all of one length
	case s.whole:
		settle, window = c.every, c.every
	case all:
		settle, rounds = 45*time.Second, 3 // until it has found out how often it can read what is dear
	}
	report.Say("many: %d instances: %s: settling for %s, then %d times %s", n, s.name, settle, rounds, window)
	after, err := l.meet(ctx)
	if err != nil {
		return err
	}
	if all {
		r.Note("many: %d instances: %s: %d of them had values after %s", n, s.name, l.measured(ft.DimCPU), after.Round(time.Second/10))
	}
	if _, err := l.look(ctx, settle, sc.programs); err != nil {
		return err
	}
	var sums, inKernel []float64
	for range rounds {
		u, err := l.look(ctx, window, sc.programs)
		if err != nil {
			return err
		}
		sums = append(sums, (u.self+u.probes).Seconds()/window.Seconds()*100)
		inKernel = append(inKernel, u.probes.Seconds()/window.Seconds()*100)
		report.Say("many: %.2f %% of a core, %.2f of it eBPF programs", sums[len(sums)-1], inKernel[len(inKernel)-1])
	}
	row := report.Row{Metric: fmt.Sprintf("%d instances at 1 Hz: %s", len(in), s.name), Unit: "% of a core", Better: report.Lower}
	if s.whole && n == 1000 {
		row.Budget = new(5.0)
	}
	r.Add(row.FromMean(sums))
	if s.whole && all {
		r.Add(report.Row{Metric: "of that eBPF programs, in the time of the watched", Unit: "% of a core", Better: report.Lower}.FromMean(inKernel))
		r.Note("many: at the end, of %d instances had a value: %s; %s", n, l.told(sc.probes), descriptors())
	}
	return nil
}
