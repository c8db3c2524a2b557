package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	r.Peer("dd", versionOf("dd", "--version"))
	for _, one := range []struct {
		metric   string
		syscalls ft.Syscalls
		rounds   int
		bytes    int
		budget   *float64
	}{
		{fmt.Sprintf("dd bs=1: time added by bursts of %s", budgeted.Burst), budgeted, c.rounds, c.bytes, new(100 * budgeted.Budget)},
		{"dd bs=1: time added by counting all the time", all, min(c.rounds, 3), c.bytes / 4, nil},
	} {
		var off, on []float64
		for i := range one.rounds {
			wait := time.Second + rand.N(longestPeriod)
			for _, counted := range []bool{i%2 == 1, i%2 == 0} {
				report.Say("bursts: %s: pair %d of %d, counted: %t", one.metric, i+1, one.rounds, counted)
				s := ft.Syscalls{Collect: ft.Off}
				if counted {
					s = one.syscalls
				}
				took, err := copied(ctx, one.bytes, wait, s)
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
		r.Add(report.Row{Metric: one.metric, Unit: "%", Better: report.Lower, Budget: one.budget}.FromMean(report.Overheads(off, on)))
	}
	return nil
}

// longestPeriod is between two bursts at the default settings, at most: their first period, before what they cost is known.
// dd begins at any moment of it, since a first burst comes at once and would be in each run.
const longestPeriod = 4 * time.Second

// copied is how many seconds dd takes for so many bytes, one system call to read and one to write each, under a sampler
// that was there for a while before.
func copied(ctx context.Context, n int, wait time.Duration, s ft.Syscalls) (seconds float64, err error) {
	p, err := telemetry.OpenProbes(quiet())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	cmd := exec.CommandContext(ctx, "sh", "-c", `read -r go && exec dd if=/dev/zero of=/dev/null bs=1 count="$0"`, strconv.Itoa(n))
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("start dd: %w", err)
	}
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
	begin := time.After(wait)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		l.frame.Reset(1)
		if err := l.sampler.Sample(ctx, time.Now(), l.members, l.frame); err != nil {
			return 0, errors.Join(err, cmd.Process.Kill())
		}
		select {
		case <-tick.C:
		case <-begin:
			if _, err := stdin.Write([]byte("go\n")); err != nil {
				return 0, errors.Join(fmt.Errorf("start dd: %w", err), cmd.Process.Kill())
			}
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
