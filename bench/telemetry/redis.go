package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// Where things run. The watcher shares the core of the server, so that all that it costs, it costs the server, and the
// client's clock is its own.
const (
	serverCore = 0
	clientCore = 1
)

// clients of redis-benchmark at once.
const clients = 8

// redis measures by how much a Redis under redis-benchmark is slower while it is watched by `fettle watch` with the
// working set on. Runs with and without follow each other as A B B A.
func redis(ctx context.Context, c *config, r *report.Report) (err error) {
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("needs two cores, one for the server and one for redis-benchmark; here is %d", runtime.NumCPU())
	}
	fettle := filepath.Join(c.dir, "fettle")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", fettle, "./cmd/fettle").CombinedOutput(); err != nil {
		return fmt.Errorf("build fettle: %w\n%s", err, out)
	}
	s, err := startRedis(ctx, c.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r.Peer("redis-server, redis-benchmark", report.First("redis-server", "--version"))
	r.Note("redis: server and watcher pinned to core %d, redis-benchmark to core %d (-c %d -t set,get -n %d -r 100000 -d 256, no rate limit); watcher: fettle watch --working-set", serverCore, clientCore, clients, c.requests)
	if _, err := s.benchmark(ctx, max(c.requests/4, 10_000)); err != nil { // fills it
		return err
	}
	without, with := map[string]results{}, map[string]results{}
	for i := range c.rounds {
		for _, watched := range []bool{i%2 == 1, i%2 == 0} {
			say("redis: pair %d of %d, watched: %t", i+1, c.rounds, watched)
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
	var p99, rate []float64
	for _, test := range []string{"SET", "GET"} {
		a, b := without[test], with[test]
		r.Add(report.Row{Metric: "Redis " + test + ": p99 latency, watched", Unit: "us", Better: report.Lower, Peer: "not watched", PeerValue: new(report.Median(a.p99))}.From(b.p99))
		r.Add(report.Row{Metric: "Redis " + test + ": throughput, watched", Unit: "1/s", Better: report.Higher, Peer: "not watched", PeerValue: new(report.Median(a.rate))}.From(b.rate))
		p99 = append(p99, report.Overheads(a.p99, b.p99)...)
		rate = append(rate, report.Overheads(b.rate, a.rate)...)
	}
	r.Add(report.Row{Metric: "Redis: p99 latency added by watching", Unit: "%", Better: report.Lower, Budget: new(1.0)}.From(p99))
	r.Add(report.Row{Metric: "Redis: time for each request added by watching", Unit: "%", Better: report.Lower}.From(rate))
	return nil
}

// results of runs of one test of redis-benchmark.
type results struct{ p99, rate []float64 } // us, 1/s

func (r results) add(o results) results {
	return results{append(r.p99, o.p99...), append(r.rate, o.rate...)}
}

// redisServer is one that listens on loopback.
type redisServer struct {
	cmd  *exec.Cmd
	port string
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for redis-server: %w", err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close() // it only told a free port
	s := &redisServer{port: port}
	s.cmd = pinned(context.WithoutCancel(ctx), serverCore, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
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
		w := pinned(ctx, serverCore, fettle, "watch", strconv.Itoa(s.cmd.Process.Pid), "--working-set", "--state", state)
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
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.benchmark(ctx, requests)
}

func (s *redisServer) benchmark(ctx context.Context, requests int) (map[string]results, error) {
	cmd := pinned(ctx, clientCore, "redis-benchmark", "-h", "127.0.0.1", "-p", s.port, "-t", "set,get", "-c", strconv.Itoa(clients), "-n", strconv.Itoa(requests), "-r", "100000", "-d", "256", "--csv")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("redis-benchmark (Debian's package redis-tools): %w", err)
	}
	return parseRedis(out)
}

// parseRedis reads what redis-benchmark --csv prints: a header, then a line for each test.
func parseRedis(out []byte) (map[string]results, error) {
	lines, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err == nil && len(lines) < 2 {
		err = errors.New("no lines")
	}
	if err != nil {
		return nil, fmt.Errorf("redis-benchmark printed no table: %w\n%s", err, out)
	}
	column := map[string]int{}
	for i, name := range lines[0] {
		column[name] = i
	}
	got := map[string]results{}
	for _, line := range lines[1:] {
		rate, err1 := strconv.ParseFloat(line[column["rps"]], 64)
		p99, err2 := strconv.ParseFloat(line[column["p99_latency_ms"]], 64)
		if err1 != nil || err2 != nil || rate <= 0 || p99 <= 0 {
			return nil, fmt.Errorf("redis-benchmark printed %q: no rate and p99 in it", line)
		}
		got[line[column["test"]]] = results{[]float64{p99 * 1000}, []float64{rate}}
	}
	return got, nil
}

// pinned is a command that runs on one core.
func pinned(ctx context.Context, core int, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "taskset", append([]string{"-c", strconv.Itoa(core), name}, args...)...)
}
