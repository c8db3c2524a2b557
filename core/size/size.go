// Package size says how many instances a pool should run: the desired count, raised by a reactive floor while more work
// is in flight than that many instances take at once.
package size

import (
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Cool is how long demand must have been lower before the floor follows it down: fast up, slow down.
const Cool = 5 * time.Minute

// Floor is the least number of instances that recent demand needs. The zero Floor is that of no demand. It is folded
// from the pool's periodic demand and is part of the planner's state.
type Floor struct {
	Need int        `json:"need,omitempty"` // instances, the greatest of the last [Cool]
	At   ft.Instant `json:"at,omitempty"`   // when that was last needed
}

// Observe folds one demand. Without a declared concurrency of the image nothing is known of what an instance can take,
// and the floor stays 0.
func (f Floor) Observe(p *ft.Pool, at time.Time, d ft.Demand) Floor {
	need := 0
	if c := p.Image.Concurrency; c > 0 {
		need = int(math.Ceil((max(d.InFlight, 0) + max(d.Queued, 0)) / float64(c)))
	}
	if need >= f.Need || at.Sub(f.At.Time()) > Cool {
		return Floor{Need: need, At: ft.InstantOf(at)}
	}
	return f
}

// Target is how many instances should run: the desired count, or the floor where that is higher, at most Size.Max.
func Target(p *ft.Pool, desired int, f Floor) int {
	return min(max(desired, f.Need), max(p.Size.Max, desired))
}
