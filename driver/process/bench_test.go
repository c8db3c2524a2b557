package process_test

import (
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// BenchmarkLife starts an instance of this test binary, a Go server, until it serves, and stops it.
func BenchmarkLife(b *testing.B) {
	w := newWorld(b)
	p := w.pool("serve")
	var start, stop time.Duration
	for serial := uint32(1); b.Loop(); serial++ {
		t0 := time.Now()
		in, err := w.d.Start(b.Context(), &p, ref(serial, 1), ft.Work{})
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := w.d.Stop(b.Context(), in.Ref, time.Second); err != nil {
			b.Fatal(err)
		}
		start, stop = start+t1.Sub(t0), stop+time.Since(t1)
	}
	b.ReportMetric(float64(start.Milliseconds())/float64(b.N), "ms/start")
	b.ReportMetric(float64(stop.Milliseconds())/float64(b.N), "ms/stop")
}
