package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/telemetry"
)

// bursts measures by how much dd bs=1, which does little but system calls, is slower while they are counted. It runs in
// the order A B B A, sampled once a second in both.
func bursts(ctx context.Context, c *config, r *report.Report) error {
	p, err := telemetry.OpenProbes(quiet())
	if err != nil {
		r.Note("bursts: not measured: %v", err)
		return nil
	}
	if err := p.Close(); err != nil {
		return err
	}
	var pool ft.Pool
	pool.Defaults()
	budgeted := pool.Telemetry.Syscalls
	budgeted.Collect = ft.On
	all := ft.Syscalls{Collect: ft.On, Budget: 1, Burst: ft.Duration(10 * time.Minute)} // one burst, longer than dd runs
	r.Peer("dd", report.First("dd", "--version"))
	for _, one := range []struct {
		metric   string
		syscalls ft.Syscalls
		rounds   int
		budget   *float64
	}{
		{fmt.Sprintf("dd bs=1: time added by bursts of %s", budgeted.Burst), budgeted, c.rounds, new(100 * budgeted.Budget)},
		{"dd bs=1: time added by counting all the time", all, min(c.rounds, 5), nil},
	} {
		var off, on []float64
		for i := range one.rounds {
			for _, counted := range []bool{i%2 == 1, i%2 == 0} {
				say("bursts: %s: pair %d of %d, counted: %t", one.metric, i+1, one.rounds, counted)
				s := ft.Syscalls{Collect: ft.Off}
				if counted {
					s = one.syscalls
				}
				took, err := copied(ctx, c.bytes, s)
				if err != nil {
					return err
				}
				if counted {
					on = append(on, took)
				} else {
					off = append(off, took)
				}
			}
		}
		r.Add(report.Row{Metric: one.metric, Unit: "%", Better: report.Lower, Budget: one.budget}.From(report.Overheads(off, on)))
	}
	return nil
}

// copied is how many seconds dd takes for so many bytes, one system call to read and one to write each, under a sampler.
func copied(ctx context.Context, n int, s ft.Syscalls) (seconds float64, err error) {
	p, err := telemetry.OpenProbes(quiet())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	cmd := exec.CommandContext(ctx, "dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count="+strconv.Itoa(n))
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start dd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	l, err := newLooker("dd", []ft.Instance{instance(1, cmd.Process.Pid)}, telemetry.ProcFS(), p.Syscalls(s))
	if err != nil {
		return 0, errors.Join(err, cmd.Process.Kill())
	}
	defer func() { err = errors.Join(err, l.sampler.Close()) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		l.frame.Reset(1)
		if err := l.sampler.Sample(ctx, time.Now(), l.members, l.frame); err != nil {
			return 0, errors.Join(err, cmd.Process.Kill())
		}
		select {
		case <-tick.C:
		case err := <-ended:
			if err != nil {
				return 0, fmt.Errorf("dd: %w\n%s", err, said.Bytes())
			}
			return parseDD(said.Bytes())
		}
	}
}

var ddTook = regexp.MustCompile(`copied, ([0-9.e+-]+) s`)

// parseDD reads "12000000 bytes (12 MB, 11 MiB) copied, 7.1 s, 1.7 MB/s".
func parseDD(out []byte) (float64, error) {
	m := ddTook.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("dd printed no time: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
