package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
	if s := got["SET"]; len(s.rate) != 1 || s.rate[0] != 41180.51 || got["GET"].rate[0] != 31004.55 {
		t.Errorf("rates: %v", got)
	}
	// A share of 2 % took longer than 400 us, 0.5 % longer than 800: halfway between them, in logarithms, 1 %.
	if p := got["SET"].p99[0]; p < 565 || p > 567 {
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
