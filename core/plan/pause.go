package plan

import "time"

// Pauses after failures.
const (
	firstPause = time.Second
	mostPause  = 5 * time.Minute
	longPause  = 10 * time.Minute // of an instance beyond its restart limit
	skipPause  = time.Second
)

// backoff is the pause after the n-th failure in a row: doubled each time, within bounds, with jitter.
func backoff(n int, seed uint32) time.Duration {
	d := firstPause
	for range min(max(n-1, 0), 16) {
		d = min(2*d, mostPause)
	}
	return jitter(d, seed, n)
}

// jitter spreads a pause over 80 to 120 per cent. It is a hash, not a random number, so that a replay is equal.
func jitter(d time.Duration, seed uint32, n int) time.Duration {
	return d*4/5 + time.Duration(float64(d)*0.4*fraction(uint64(seed)<<16|uint64(uint16(n))))
}

// fraction hashes to [0, 1) by the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
func fraction(x uint64) float64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}
