package main

import (
	"bufio"
	"bytes"
	"cmp"
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
	"strings"
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

// arm is one way to have the server watched.
type arm struct {
	name  string   // "" is not watched
	flags []string // of fettle watch
	long  bool     // its sessions last an interval of the working set
}

var (
	alone      = &arm{}
	defaults   = &arm{name: "with defaults"}
	workingSet = &arm{name: "with --working-set", flags: []string{"--working-set"}, long: true}
)

// cycle is the order of sessions. It reads the same backwards, so that what changes steadily on the machine cancels out.
var cycle = []*arm{alone, defaults, defaults, alone, workingSet, alone, defaults, defaults, alone}

// redis measures by how much a Redis under redis-benchmark is slower while `fettle watch` watches it, with defaults and
// with the working set. Sessions with and without follow each other; in a session short runs of redis-benchmark do.
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
	s.fettle = fettle
	r.Peer("Redis", versionOf("redis-server", "--version"))
	r.Note("redis: server and watcher pinned to core %d, redis-benchmark to core %d, all three %s (-t set,get -c %d -n %d -r 100000 -d 256, no rate limit)", serverCore, clientCore, priority, clients, c.requests)
	r.Note("redis: sessions of %s in the order %s, %d times over; one with the working set lasts for its interval, %s, so that it holds each of its passes over the memory once, like any other such span of time", c.session, ordered(), c.cycles, c.every)
	if _, err := s.benchmark(ctx, 100_000); err != nil { // fills it
		return err
	}
	seen := map[*arm][]results{}
	for i := range c.cycles {
		for _, a := range cycle {
			report.Say("redis: cycle %d of %d: %s", i+1, c.cycles, cmp.Or(a.name, "not watched"))
			span := c.session
			if a.long {
				span = c.every
			}
			got, serr := s.session(ctx, a, filepath.Join(c.dir, "state"+strings.Join(a.flags, "")), c.requests, span)
			if serr != nil {
				err = serr
				break
			}
			seen[a] = append(seen[a], got)
		}
	}
	if len(seen[alone]) >= len(cycle)/2 {
		compare(r, seen)
	}
	return err
}

func ordered() string {
	var out []string
	for _, a := range cycle {
		out = append(out, cmp.Or(a.name, "not watched"))
	}
	return strings.Join(out, ", ")
}

// compare adds the rows of whole cycles: sessions with defaults beside their neighbours that are not watched, a session with
// the working set beside the mean of the two around it.
func compare(r *report.Report, seen map[*arm][]results) {
	pairs := map[*arm][][2]results{}
	for i, d := range seen[defaults] {
		if i < len(seen[alone]) {
			pairs[defaults] = append(pairs[defaults], [2]results{seen[alone][i], d})
		}
	}
	const each = 4 // sessions that are not watched in a cycle
	for i, w := range seen[workingSet] {
		if at := i*each + each/2; at < len(seen[alone]) {
			around := []results{seen[alone][at-1], seen[alone][at]}
			pairs[workingSet] = append(pairs[workingSet], [2]results{mean(around), w})
		}
	}
	for _, a := range []*arm{defaults, workingSet} {
		var p99, each, cpu []float64
		for _, p := range pairs[a] {
			p99 = append(p99, p[1].p99.over(p[0].p99))
			each = append(each, p[1].each.over(p[0].each))
			cpu = append(cpu, (p[1].cpu/p[0].cpu-1)*100)
		}
		row := report.Row{Metric: "Redis: p99 latency added by watching " + a.name, Unit: "%", Better: report.Lower}
		if a == defaults {
			row.Budget = new(1.0)
		}
		r.Add(row.From(p99))
		r.Add(report.Row{Metric: "Redis: time for each request added by watching " + a.name, Unit: "%", Better: report.Lower}.From(each))
		r.Add(report.Row{Metric: "Redis: CPU time of the server added by watching " + a.name, Unit: "%", Better: report.Lower}.From(cpu))
	}
	for _, test := range tests {
		for _, a := range []*arm{defaults, workingSet} {
			is, was := column(seen[a], test), column(seen[alone], test)
			r.Add(report.Row{Metric: "Redis " + test + ": p99 latency, watched " + a.name, Unit: "us", Better: report.Lower, Peer: "not watched", PeerValue: new(report.Median(was))}.From(is))
		}
	}
}

// tests of redis-benchmark.
var tests = []string{"SET", "GET"}

// times are us, by test.
type times map[string]float64

// over is by how many percent they are above others: the mean of the tests.
func (t times) over(o times) float64 {
	sum := 0.0
	for _, test := range tests {
		sum += (t[test]/o[test] - 1) * 100
	}
	return sum / float64(len(tests))
}

// results of runs of redis-benchmark.
type results struct {
	p99, each times   // latency, and the time between two requests that were answered
	cpu       float64 // seconds of the server for all tests of a run
}

// mean of runs: what is rare counts by its share of the time.
func mean(runs []results) results {
	m := results{times{}, times{}, 0}
	n := float64(len(runs))
	for _, one := range runs {
		for _, test := range tests {
			m.p99[test] += one.p99[test] / n
			m.each[test] += one.each[test] / n
		}
		m.cpu += one.cpu / n
	}
	return m
}

func column(sessions []results, test string) []float64 {
	var out []float64
	for _, s := range sessions {
		out = append(out, s.p99[test])
	}
	return out
}

// redisServer is one that listens on loopback.
type redisServer struct {
	cmd    *exec.Cmd
	port   string
	first  []string // the command that makes another run before all else
	fettle string
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

// session is runs of redis-benchmark for so long, with the server watched in one way.
func (s *redisServer) session(ctx context.Context, a *arm, state string, requests int, span time.Duration) (_ results, err error) {
	if a != alone {
		args := append([]string{"watch", strconv.Itoa(s.cmd.Process.Pid), "--state", state}, a.flags...)
		w := s.pinned(ctx, serverCore, s.fettle, args...)
		var said bytes.Buffer
		w.Stdout, w.Stderr = &said, &said
		if err := w.Start(); err != nil {
			return results{}, fmt.Errorf("start fettle watch: %w", err)
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
	// All wait as long, so that the server was idle for as long.
	select {
	case <-time.After(settled):
	case <-ctx.Done():
		return results{}, ctx.Err()
	}
	var runs []results
	for end := time.Now().Add(span); time.Now().Before(end); {
		got, err := s.benchmark(ctx, requests)
		if err != nil {
			return results{}, err
		}
		runs = append(runs, got)
	}
	return mean(runs), nil
}

func (s *redisServer) benchmark(ctx context.Context, requests int) (results, error) {
	cmd := s.pinned(ctx, clientCore, "redis-benchmark", "-h", "127.0.0.1", "-p", s.port, "-t", "set,get", "-c", strconv.Itoa(clients), "-n", strconv.Itoa(requests), "-r", "100000", "-d", "256")
	before := s.cpu()
	out, err := cmd.Output()
	if err != nil {
		return results{}, fmt.Errorf("redis-benchmark (Debian's package redis-tools): %w", err)
	}
	spent := s.cpu() - before
	got, err := parseRedis(out)
	got.cpu = spent
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
func parseRedis(out []byte) (results, error) {
	got := results{p99: times{}, each: times{}}
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
			got.p99[test], got.each[test] = p99, 1e6/rate
		}
	}
	if slices.ContainsFunc(tests, func(test string) bool { return got.p99[test] == 0 }) {
		return got, fmt.Errorf("redis-benchmark printed no latencies or no throughput of GET and SET:\n%s", out)
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
