package telemetry

import (
	"math"
	"testing"
	"time"
)

// TestBusiestThread: of many threads and processes one runs more than the others.
func TestBusiestThread(t *testing.T) {
	c := newChild(t)
	c.do("threads 70")
	r := attachTo(t, c.instance())
	readRow(t, r)
	span := func(lines ...string) (cpu, top float64) {
		before, from := readRow(t, r), time.Now()
		for _, line := range lines {
			c.do(line)
		}
		time.Sleep(max(0, briefest-time.Since(from))) // not shorter than what is told
		after := readRow(t, r)
		if math.IsNaN(after[colTopThread]) {
			t.Fatal("not told")
		}
		return after[colCPU] - before[colCPU], after[colTopThread] * time.Since(from).Seconds()
	}
	if _, top := span(); top > 0.03 {
		t.Errorf("all are idle, and one ran %g s", top)
	}
	_, top := span("burn 400")
	near(t, "the thread that burns", top, 0.4, 0.04)
	cpu, top := span("kid 300", "burnt", "burn 300", "reap")
	near(t, "one of two that burn", top, 0.3, 0.06)
	if cpu < 0.55 {
		t.Errorf("both used %g s", cpu)
	}
	readRow(t, r)
	if got := readRow(t, r)[colTopThread]; !math.IsNaN(got) {
		t.Errorf("over no time at all it is %g cores", got)
	}
}

// TestReadAllocatesNothing: in steady state, with as many threads as descriptors are kept of.
func TestReadAllocatesNothing(t *testing.T) {
	c := newChild(t)
	c.do("threads 20")
	r := attachTo(t, c.instance())
	row, now := make([]float64, procColumns), time.Now()
	read := func() {
		now = now.Add(time.Millisecond)
		if err := r.Read(now, row, nil); err != nil {
			t.Error(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n >= 1 {
		t.Errorf("%g allocations a read", n)
	}
}
