package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// Where things run. The watcher shares the core of the server, so that all that it costs, it costs the server, and the
// client's clock is its own. All three run before all else on the machine where that is allowed (SCHED_RR, one priority):
// what others do would otherwise be most of the tail.
const (
	serverCore = 0
	clientCore = 1
)

// clients of redis-benchmark at once.
const clients = 8

// settled is how long a watcher has to begin before it is measured.
const settled = 2500 * time.Millisecond

// redis measures by how much a Redis under redis-benchmark is slower while it is watched by `fettle watch` with the
// working set on. Short runs with and without follow each other as A B B A, many of them: what else the machine does
// changes from second to second.
func redis(ctx context.Context, c *config, r *report.Report) (err error) {
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("needs two cores, one for the server and one for redis-benchmark; here is %d", runtime.NumCPU())
	}
	fettle := filepath.Join(c.dir, "fettle")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", fettle, "./cmd/fettle").CombinedOutput(); err != nil {
		return fmt.Errorf("build fettle: %w\n%s", err, out)
	}
	priority, first := "before all else (SCHED_RR)", []string{"chrt", "--rr", "1"}
	if exec.CommandContext(ctx, "chrt", "--rr", "1", "true").Run() != nil {
		priority, first = "like all else", nil
	}
	s, err := startRedis(ctx, c.dir, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r.Peer("redis-server, redis-benchmark", report.First("redis-benchmark", "--version"))
	r.Note("redis: server and watcher pinned to core %d, redis-benchmark to core %d, all three %s (-t set,get -c %d -n %d -r 100000 -d 256, no rate limit); watcher: fettle watch --working-set", serverCore, clientCore, priority, clients, c.requests)
	if _, err := s.benchmark(ctx, 100_000); err != nil { // fills it
		return err
	}
	without, with := map[string]results{}, map[string]results{}
	for i := range c.pairs {
		if i%5 == 0 {
			say("redis: pair %d of %d", i+1, c.pairs)
		}
		for _, watched := range []bool{i%2 == 1, i%2 == 0} {
			got, err := s.once(ctx, fettle, filepath.Join(c.dir, "state"), c.requests, watched)
			if err != nil {
				return err
			}
			into := without
			if watched {
				into = with
			}
			for test, v := range got {
				into[test] = into[test].add(v)
			}
		}
	}
	var p99, rate, cpu []float64
	for _, test := range []string{"SET", "GET"} {
		a, b := without[test], with[test]
		r.Add(report.Row{Metric: "Redis " + test + ": p99 latency, watched", Unit: "us", Better: report.Lower, Peer: "not watched", PeerValue: new(report.Median(a.p99))}.From(b.p99))
		r.Add(report.Row{Metric: "Redis " + test + ": throughput, watched", Unit: "1/s", Better: report.Higher, Peer: "not watched", PeerValue: new(report.Median(a.rate))}.From(b.rate))
		p99 = append(p99, report.Overheads(a.p99, b.p99)...)
		rate = append(rate, report.Overheads(b.rate, a.rate)...)
		cpu = report.Overheads(a.cpu, b.cpu) // of both tests together
	}
	r.Add(report.Row{Metric: "Redis: p99 latency added by watching", Unit: "%", Better: report.Lower, Budget: new(1.0)}.From(p99))
	r.Add(report.Row{Metric: "Redis: time for each request added by watching", Unit: "%", Better: report.Lower}.From(rate))
	r.Add(report.Row{Metric: "Redis: CPU time of the server added by watching", Unit: "%", Better: report.Lower}.From(cpu))
	return nil
}

// results of runs of one test of redis-benchmark.
type results struct{ p99, rate, cpu []float64 } // us, 1/s, seconds of the server for all tests of the run

func (r results) add(o results) results {
	return results{append(r.p99, o.p99...), append(r.rate, o.rate...), append(r.cpu, o.cpu...)}
}

// redisServer is one that listens on loopback.
type redisServer struct {
	cmd   *exec.Cmd
	port  string
	first []string // the command that makes another run before all else
}

func startRedis(ctx context.Context, dir string, first []string) (*redisServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for redis-server: %w", err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close() // it only told a free port
	s := &redisServer{port: port, first: first}
	s.cmd = s.pinned(context.WithoutCancel(ctx), serverCore, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server (Debian's package redis-server): %w", err)
	}
	for range 100 {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			return s, conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("redis-server did not listen within 5s"), s.stop())
}

func (s *redisServer) stop() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("stop redis-server: %w", err)
	}
	_ = s.cmd.Wait() // it was killed
	return nil
}

// once is one run of redis-benchmark, watched or not.
func (s *redisServer) once(ctx context.Context, fettle, state string, requests int, watched bool) (got map[string]results, err error) {
	if watched {
		w := s.pinned(ctx, serverCore, fettle, "watch", strconv.Itoa(s.cmd.Process.Pid), "--working-set", "--state", state)
		var said bytes.Buffer
		w.Stdout, w.Stderr = &said, &said
		if err := w.Start(); err != nil {
			return nil, fmt.Errorf("start fettle watch: %w", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Wait() }()
		defer func() {
			_ = w.Process.Signal(os.Interrupt) // an error says that it has ended; then Wait says how
			if werr := <-ended; werr != nil {
				err = errors.Join(err, fmt.Errorf("fettle watch: %w\n%s", werr, said.Bytes()))
			}
		}()
	}
	// Both wait as long, so that the server was idle for as long.
	select {
	case <-time.After(settled):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.benchmark(ctx, requests)
}

func (s *redisServer) benchmark(ctx context.Context, requests int) (map[string]results, error) {
	cmd := s.pinned(ctx, clientCore, "redis-benchmark", "-h", "127.0.0.1", "-p", s.port, "-t", "set,get", "-c", strconv.Itoa(clients), "-n", strconv.Itoa(requests), "-r", "100000", "-d", "256")
	before := s.cpu()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("redis-benchmark (Debian's package redis-tools): %w", err)
	}
	spent := s.cpu() - before
	got, err := parseRedis(out)
	for test, v := range got {
		v.cpu = []float64{spent}
		got[test] = v
	}
	return got, err
}

// cpu is how many seconds the server's main thread, which does all the work, ran so far.
func (s *redisServer) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return math.NaN()
	}
	var ns float64
	_, _ = fmt.Sscan(string(b), &ns) // it begins with a number
	return ns / 1e9
}

var (
	redisTest  = regexp.MustCompile(`^====== (\w+) ======`)
	redisShare = regexp.MustCompile(`^[0-9.]+% <= ([0-9.]+) milliseconds \(cumulative count ([0-9]+)\)`)
	redisRate  = regexp.MustCompile(`throughput summary: ([0-9.]+) requests per second`)
)

// parseRedis reads what redis-benchmark prints: for each test two tables of how many requests took how long at most, and
// the throughput.
func parseRedis(out []byte) (map[string]results, error) {
	got := map[string]results{}
	test := ""
	var took []share
	for s := bufio.NewScanner(bytes.NewReader(bytes.ReplaceAll(out, []byte("\r"), []byte("\n")))); s.Scan(); {
		if m := redisTest.FindStringSubmatch(s.Text()); m != nil {
			test, took = m[1], nil
		}
		if m := redisShare.FindStringSubmatch(s.Text()); m != nil {
			ms, _ := strconv.ParseFloat(m[1], 64) // the pattern lets numbers through
			n, _ := strconv.ParseFloat(m[2], 64)
			took = append(took, share{n, ms * 1000})
		}
		if m := redisRate.FindStringSubmatch(s.Text()); m != nil && test != "" {
			rate, _ := strconv.ParseFloat(m[1], 64)
			p99, ok := tail(took, 0.99)
			if !ok || rate <= 0 {
				break
			}
			got[test] = results{p99: []float64{p99}, rate: []float64{rate}}
		}
	}
	if len(got["GET"].p99) == 0 || len(got["SET"].p99) == 0 {
		return nil, fmt.Errorf("redis-benchmark printed no latencies or no throughput of GET and SET:\n%s", out)
	}
	return got, nil
}

// share says that so many requests took so many us at most.
type share struct{ n, us float64 }

// tail is the quantile q. redis-benchmark rounds it to its buckets of 8 us and more, but tells how many requests are in
// each: between two buckets the logarithm of the time is taken to be linear in that of the share that took longer.
func tail(s []share, q float64) (us float64, ok bool) {
	slices.SortFunc(s, func(a, b share) int { return int(a.us - b.us) })
	if len(s) == 0 {
		return 0, false
	}
	total := s[len(s)-1].n
	if s[0].n >= q*total {
		return s[0].us, true
	}
	for i := 1; i < len(s); i++ {
		a, b := s[i-1], s[i]
		if !(a.n < q*total && b.n >= q*total) || a.us <= 0 {
			continue
		}
		if b.n >= total {
			return b.us, true
		}
		longer := func(n float64) float64 { return math.Log(1 - n/total) }
		part := (math.Log(1-q) - longer(a.n)) / (longer(b.n) - longer(a.n))
		return math.Exp(math.Log(a.us) + part*(math.Log(b.us)-math.Log(a.us))), true
	}
	return 0, false
}

// pinned is a command that runs on one core, before all else where first says so.
func (s *redisServer) pinned(ctx context.Context, core int, name string, args ...string) *exec.Cmd {
	all := slices.Concat([]string{"-c", strconv.Itoa(core)}, s.first, []string{name}, args)
	return exec.CommandContext(ctx, "taskset", all...)
}
