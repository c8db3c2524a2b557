// Package latency counts durations in logarithmic buckets: eight to an octave, from 512 ns to 18 minutes, so that a
// quantile read from the counts is off by at most 6 %. Counts are cumulative; a quantile of an interval comes from the
// difference of two readings.
package latency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	lowest  = 9 // 2^9 ns
	octaves = 31
	sub     = 3 // bits: eight buckets an octave
)

// Buckets is the number of buckets.
const Buckets = octaves << sub

// Histogram is written by many goroutines at once. The zero value is ready.
type Histogram struct {
	n [Buckets]atomic.Uint64
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) { h.n[bucket(d)].Add(1) }

// Read copies the counts.
func (h *Histogram) Read(dst *[Buckets]uint64) {
	for i := range h.n {
		dst[i] = h.n[i].Load()
	}
}

func bucket(d time.Duration) int {
	v := uint64(max(d, 1<<lowest))
	o := bits.Len64(v) - 1
	i := (o-lowest)<<sub + int(v>>(o-sub))&(1<<sub-1)
	return min(i, Buckets-1)
}

// bound is the least duration of bucket i, in seconds.
func bound(i int) float64 {
	return float64(uint64(1<<sub+i&(1<<sub-1))<<(lowest+i>>sub)>>sub) / 1e9
}

// Quantile of the durations counted between two readings, in seconds, interpolated within a bucket; NaN where there
// are none. since may be nil: since the beginning.
func Quantile(q float64, now, since *[Buckets]uint64) float64 {
	var total uint64
	count := func(i int) uint64 {
		if since == nil {
			return now[i]
		}
		return now[i] - min(since[i], now[i])
	}
	for i := range now {
		total += count(i)
	}
	if total == 0 {
		return math.NaN()
	}
	rank := q * float64(total)
	for i := range now {
		n := float64(count(i))
		if n > 0 && rank <= n {
			return bound(i) + (bound(i+1)-bound(i))*rank/n
		}
		rank -= n
	}
	return bound(Buckets)
}
