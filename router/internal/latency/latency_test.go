package latency

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsCoverAllDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1<<lowest, 1<<39).Draw(t, "ns"))
		i := bucket(d)
		if lo, hi := bound(i), bound(i+1); d.Seconds() < lo || d.Seconds() >= hi || hi > lo*1.126 {
			t.Fatalf("%s is in bucket %d, [%g, %g)", d, i, lo, hi)
		}
	})
}

func TestQuantileIsNearTheExactOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		var before, after [Buckets]uint64
		for _, v := range rapid.SliceOfN(rapid.Int64Range(1000, 1e10), 0, 20).Draw(t, "earlier") {
			h.Add(time.Duration(v))
		}
		h.Read(&before)
		vs := rapid.SliceOfN(rapid.Int64Range(1000, 1e10), 1, 200).Draw(t, "interval")
		for _, v := range vs {
			h.Add(time.Duration(v))
		}
		h.Read(&after)
		slices.Sort(vs)
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		exact := float64(vs[max(0, int(math.Ceil(q*float64(len(vs))))-1)]) / 1e9
		if got := Quantile(q, &after, &before); math.Abs(got-exact) > 0.126*exact {
			t.Fatalf("quantile %g is %g, exactly %g", q, got, exact)
		}
	})
}

func TestQuantileOfNothingIsMissing(t *testing.T) {
	var a [Buckets]uint64
	if q := Quantile(0.5, &a, nil); !math.IsNaN(q) {
		t.Fatalf("got %g", q)
	}
}
