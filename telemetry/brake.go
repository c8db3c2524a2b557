package telemetry

import (
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const (
	// mostReading is the share of one core that the readings of a pool may take before what is dear is read in turns.
	mostReading = 0.02
	// mostTurns is among how many instances one is read in full, at the least, as a power of two.
	mostTurns = 4
	// steadyRounds is how many rounds the cost is watched before anything is changed.
	steadyRounds = 10
	// leastUsual is the shortest interval that the share is taken of: who samples more often has asked for what it costs.
	leastUsual = time.Second
)

// Thrifty is a reader that can leave out what is dear.
type Thrifty interface {
	// ReadLess is Read without what it takes to know the dimensions of Dear, which are NaN then. All others are as exact
	// as by Read.
	ReadLess(now time.Time, row []float64, counts []uint64) error
	// Dear are those dimensions, by their index among the source's. They do not change.
	Dear() ft.Dims
}

// brake keeps the cost of readings within mostReading: where many instances are sampled, what is dear of each is only read
// in each second to sixteenth round, in turns, and its last value is held meanwhile.
type brake struct {
	level  uint    // one instance in 1 << level is read in full
	cost   float64 // seconds of CPU that a round takes at this level, a mean
	rounds int     // that it is of
}

// adjust takes what a round of readings took and how far apart they are, and tells whether the level changed. One more
// level saves less than half, so a level that takes less than half of what is allowed can be left.
func (b *brake) adjust(used, usual time.Duration) (changed bool) {
	b.rounds++
	b.cost += (used.Seconds() - b.cost) / float64(min(b.rounds, 2*steadyRounds))
	if b.rounds < steadyRounds {
		return false
	}
	share := b.cost / max(usual, leastUsual).Seconds()
	level := b.level
	switch {
	case share > mostReading && level < mostTurns:
		level++
	case share < mostReading/2 && level > 0:
		level--
	}
	if level == b.level {
		return false
	}
	*b = brake{level: level}
	return true
}

// ration is how much of one member is read.
type ration struct {
	of     int           // one in so many readings is in full
	every  time.Duration // how far apart those are; 0 where each is
	spared bool          // this one is without what is dear
}

// ration of the member with the serial number in a round; usual is how far apart rounds are.
func (b *brake) ration(serial, round uint64, usual time.Duration) ration {
	if b.level == 0 {
		return ration{of: 1}
	}
	return ration{1 << b.level, usual << b.level, (serial+round)&(1<<b.level-1) != 0}
}

// drop makes the dimensions unknown.
func drop(row []float64, dims ft.Dims) {
	for i := range row {
		if dims.Has(i) {
			row[i] = math.NaN()
		}
	}
}
