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

func TestParseRedis(t *testing.T) {
	got, err := parseRedis([]byte(`"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","92592.59","0.271","0.096","0.263","0.351","0.431","1.287"
"GET","95238.10","0.264","0.088","0.255","0.343","0.407","1.231"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]results{"SET": {[]float64{431}, []float64{92592.59}}, "GET": {[]float64{407}, []float64{95238.10}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(results{})); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "WARNING: no table\n", "\"test\",\"rps\"\n\"SET\",\"1\"\n"} {
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
