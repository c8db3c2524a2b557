package main

import (
	"context"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks([]byte(`goos: linux
BenchmarkProcess/fettle-2         	  131072	      8935 ns/op	       0 B/op	       0 allocs/op
BenchmarkSample/20-2  	 4444	  250000.5 ns/op	 12500 ns/instance	 0 B/op	 0 allocs/op
PASS
`))
	want := map[string]float64{
		"Process/fettle ns/op": 8935, "Process/fettle B/op": 0, "Process/fettle allocs/op": 0,
		"Sample/20 ns/op": 250000.5, "Sample/20 ns/instance": 12500, "Sample/20 B/op": 0, "Sample/20 allocs/op": 0,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// printed is shortened from redis-benchmark 7.0.15.
const printed = "SET: rps=0.0 (overall: 0.0) avg_msec=nan (overall: nan)\r                                    \r" + `====== SET ======
  100000 requests completed in 1.30 seconds
  8 parallel clients
  256 bytes payload

Latency by percentile distribution:
0.000% <= 0.055 milliseconds (cumulative count 14)
98.438% <= 0.400 milliseconds (cumulative count 98000)
99.219% <= 0.800 milliseconds (cumulative count 99500)
100.000% <= 7.967 milliseconds (cumulative count 100000)

Cumulative distribution of latencies:
48.605% <= 0.207 milliseconds (cumulative count 48605)

Summary:
  throughput summary: 41180.51 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.122     0.032     0.111     0.215     0.800     5.207
====== GET ======
50.000% <= 0.500 milliseconds (cumulative count 99000)
100.000% <= 7.967 milliseconds (cumulative count 100000)
  throughput summary: 31004.55 requests per second
`

func TestParseRedis(t *testing.T) {
	got, err := parseRedis([]byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	set, get := 41180.51, 31004.55
	if want := (times{"SET": 1e6 / set, "GET": 1e6 / get}); !maps.Equal(got.each, want) {
		t.Errorf("times between requests: %v, want %v", got.each, want)
	}
	// A share of 2 % took longer than 400 us, 0.5 % longer than 800: halfway between them, in logarithms, 1 %.
	if p := got.p99["SET"]; p < 565 || p > 567 {
		t.Errorf("p99 of SET is %g us, want 400 times the root of 2", p)
	}
	for _, bad := range []string{"", "WARNING: no table\n", printed[:len(printed)/2]} {
		if got, err := parseRedis([]byte(bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestParseDD(t *testing.T) {
	got, err := parseDD([]byte("12000000+0 records in\n12000000+0 records out\n12000000 bytes (12 MB, 11 MiB) copied, 7.10231 s, 1.7 MB/s\n"))
	if err != nil || got != 7.10231 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseDD([]byte("dd: no such thing\n")); err == nil {
		t.Errorf("%v, want an error", got)
	}
}

// sessions are those of cycles on a machine that slows down by a percent of the beginning with each, with what the arms cost in
// percent.
func sessions(cycles int, cost map[*arm]float64) map[*arm][]results {
	seen := map[*arm][]results{}
	for i := range cycles * len(cycle) {
		a := cycle[i%len(cycle)]
		v := (100 + float64(i)) * (1 + cost[a]/100)
		seen[a] = append(seen[a], results{p99: times{"SET": 2 * v, "GET": v}, each: times{"SET": 2 * v, "GET": v}, cpu: v})
	}
	return seen
}

func TestCompareTellsWhatWatchingCosts(t *testing.T) {
	r := &report.Report{}
	compare(r, sessions(4, map[*arm]float64{defaults: 2, workingSet: 5}))
	for metric, want := range map[string]float64{
		"Redis: p99 latency added by watching with defaults":                 2,
		"Redis: time for each request added by watching with defaults":       2,
		"Redis: CPU time of the server added by watching with defaults":      2,
		"Redis: p99 latency added by watching with --working-set":            5,
		"Redis: CPU time of the server added by watching with --working-set": 5,
	} {
		i := slices.IndexFunc(r.Rows, func(row report.Row) bool { return row.Metric == metric })
		if i < 0 {
			t.Errorf("no row %q", metric)
			continue
		}
		if got := r.Rows[i].Value; math.Abs(got-want) > 0.1 {
			t.Errorf("%s: %g, want %g", metric, got, want)
		}
		if budget := r.Rows[i].Budget; (budget != nil) != (metric == "Redis: p99 latency added by watching with defaults") {
			t.Errorf("%s: budget %v", metric, budget)
		}
	}
}

func TestMeanOfRunsCountsWhatIsRare(t *testing.T) {
	quiet := results{p99: times{"SET": 100, "GET": 100}, each: times{"SET": 10, "GET": 10}, cpu: 1}
	hit := results{p99: times{"SET": 200, "GET": 100}, each: times{"SET": 10, "GET": 30}, cpu: 3}
	got := mean([]results{quiet, quiet, quiet, hit})
	if want := (results{p99: times{"SET": 125, "GET": 100}, each: times{"SET": 10, "GET": 15}, cpu: 1.5}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOneFailureKeepsNothingElseBack(t *testing.T) {
	r := &report.Report{}
	row := func(name string, err error) part {
		return part{name, func(_ context.Context, _ *config, r *report.Report) error {
			r.Add(report.Row{Metric: name})
			return err
		}}
	}
	err := measure(t.Context(), smoke(), []part{row("first", errors.New("no such thing")), row("second", nil)}, r)
	if err == nil || !strings.Contains(err.Error(), "first: no such thing") {
		t.Errorf("error %v", err)
	}
	if len(r.Rows) != 2 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "no such thing") {
		t.Errorf("rows %v, notes %q", r.Rows, r.Notes)
	}
}
