package size

import (
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func TestFloorGoesUpAtOnceAndDownSlowly(t *testing.T) {
	p := ft.Pool{Size: ft.Sizing{Min: 2, Max: 6}, Image: ft.Image{Concurrency: 4}}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var f Floor
	for _, c := range []struct {
		after    time.Duration
		inFlight float64
		queued   float64
		want     int
	}{
		{0, 3, 0, 2},                  // the desired count is enough
		{time.Second, 10, 3, 4},       // 13 at once by 4 each
		{time.Second, 100, 0, 6},      // at most Max
		{time.Minute, 0, 0, 6},        // not down at once
		{Cool + time.Second, 9, 0, 3}, // down after a while, to what is needed
	} {
		now = now.Add(c.after)
		f = f.Observe(&p, now, ft.Demand{InFlight: c.inFlight, Queued: c.queued})
		if got := Target(&p, 2, f); got != c.want {
			t.Fatalf("%g in flight, %g queued: %d instances, want %d", c.inFlight, c.queued, got, c.want)
		}
	}
}

func TestUnknownConcurrencySaysNothing(t *testing.T) {
	p := ft.Pool{Size: ft.Sizing{Min: 2, Max: 6}}
	f := Floor{}.Observe(&p, time.Unix(1, 0), ft.Demand{InFlight: 1000})
	if got := Target(&p, 3, f); got != 3 {
		t.Fatalf("%d instances", got)
	}
}
