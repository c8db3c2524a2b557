package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// base runs the package's own benchmarks of one sample, several times in turn.
func base(ctx context.Context, c *config, r *report.Report) error {
	test := filepath.Join(c.dir, "telemetry.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./telemetry").CombinedOutput(); err != nil {
		return fmt.Errorf("build the benchmarks: %w\n%s", err, out)
	}
	span := "300ms"
	if c.short {
		span = "50ms"
	}
	seen := map[string][]float64{}
	for i := range c.rounds {
		out, err := exec.CommandContext(ctx, test, "-test.run=^$", "-test.bench=^Benchmark(Process|Sample)$", "-test.benchmem", "-test.benchtime="+span).Output()
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		for key, v := range parseBenchmarks(out) {
			seen[key] = append(seen[key], v)
		}
	}
	us := func(key string) []float64 {
		var out []float64
		for _, v := range seen[key] {
			out = append(out, v/1000)
		}
		return out
	}
	const peer = "prometheus/procfs"
	r.Peer(peer, report.First("go", "list", "-m", "-f", "{{.Version}}", "github.com/prometheus/procfs"))
	for _, key := range []string{"Process/fettle ns/op", "Process/prometheus-procfs ns/op", "Sample/1 ns/instance", "Sample/20 ns/instance"} {
		if len(seen[key]) != c.rounds {
			return fmt.Errorf("telemetry/bench_test.go printed no %q", key)
		}
	}
	r.Add(report.Row{Metric: "base sample of one process", Unit: "us", Better: report.Lower, Budget: new(25.0), Peer: peer, PeerValue: new(report.Median(us("Process/prometheus-procfs ns/op")))}.From(us("Process/fettle ns/op")))
	r.Add(report.Row{Metric: "base sample of one process, allocations", Unit: "1", Better: report.Lower, Budget: new(0.0), Peer: peer, PeerValue: new(report.Median(seen["Process/prometheus-procfs allocs/op"]))}.From(seen["Process/fettle allocs/op"]))
	r.Add(report.Row{Metric: "a whole tick of one process, with what is done once a tick", Unit: "us", Better: report.Lower}.From(us("Sample/1 ns/instance")))
	r.Add(report.Row{Metric: "a whole tick of 20 processes, each", Unit: "us", Better: report.Lower, Budget: new(25.0)}.From(us("Sample/20 ns/instance")))
	r.Add(report.Row{Metric: "a whole tick of 20 processes, allocations", Unit: "1", Better: report.Lower, Budget: new(0.0)}.From(seen["Sample/20 allocs/op"]))
	return nil
}

// parseBenchmarks gives each value that go's benchmarks printed, under "Name/sub unit".
func parseBenchmarks(out []byte) map[string]float64 {
	values := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i] // -GOMAXPROCS
			}
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				values[name+" "+f[i+1]] = v
			}
		}
	}
	return values
}
