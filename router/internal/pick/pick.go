// Package pick chooses the member that gets a request. It is pure: no clock, no I/O, randomness is handed in.
//
// Requests with a key go by weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by the logarithmic
// method of Schindelhauer and Schomaker 2005), so that only the keys of a member that left, or those that a new one
// draws, ever move. Load is bounded as in "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam
// 2018): a member takes no more than [Factor] times its share of what is in flight, and the key's next choice takes
// the rest. Requests without a key go to the member with the least in flight for its weight.
package pick

import "math"

const (
	// Factor bounds a member's in flight, as a multiple of its share of the pool's.
	Factor = 1.25
	// Floor is the in flight below which a member is never called overloaded: at low concurrency keys stay put.
	Floor = 4
)

// Candidate is a member as the choice sees it.
type Candidate struct {
	Seed     uint64  // of the instance's ID, by [Hash]
	Weight   float64 // effective, 0 to 1; 0 takes nothing
	InFlight int
	Limit    int  // most in flight, 0 for none
	Out      bool // not to be chosen: draining, ejected, already tried
}

func (c *Candidate) can() bool {
	return !c.Out && c.Weight > 0 && (c.Limit == 0 || c.InFlight < c.Limit)
}

// Hash is FNV-1a with a final mix (of SplitMix64), so that similar keys spread over all bits.
func Hash[T string | []byte](s T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// First is the key's first choice among all candidates, whatever their load, weight or state; -1 for none.
func First(cs []Candidate, key uint64) int {
	best, at := uint64(0), -1
	for i := range cs {
		if h := mix(key ^ cs[i].Seed); at < 0 || h > best {
			best, at = h, i
		}
	}
	return at
}

// ByKey is the key's best member that can take the request now, -1 for none. A member at its bound is passed over
// unless all that could take the request are.
func ByKey(cs []Candidate, key uint64) int {
	var weights float64
	flying := 1
	for i := range cs {
		if !cs[i].Out && cs[i].Weight > 0 {
			weights += cs[i].Weight
			flying += cs[i].InFlight
		}
	}
	at, over := -1, -1
	least, leastOver := math.Inf(1), math.Inf(1)
	for i := range cs {
		c := &cs[i]
		if !c.can() {
			continue
		}
		d := distance(key, c)
		if float64(c.InFlight) < max(Floor, math.Ceil(Factor*float64(flying)*c.Weight/weights)) {
			if d < least {
				least, at = d, i
			}
		} else if d < leastOver {
			leastOver, over = d, i
		}
	}
	if at < 0 {
		return over
	}
	return at
}

// distance is -ln(u)/w with u uniform in (0,1) by key and member: the least is the key's choice, and each member is
// it with probability proportional to its weight.
func distance(key uint64, c *Candidate) float64 {
	u := (float64(mix(key^c.Seed)>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / c.Weight
}

// Least is the member with the least in flight for its weight that can take a request now, -1 for none. Ties are
// broken at random in proportion to the weights; random gives uniform values in [0,1).
func Least(cs []Candidate, random func() float64) int {
	at, least, tied := -1, math.Inf(1), 0.0
	for i := range cs {
		c := &cs[i]
		if !c.can() {
			continue
		}
		load := float64(c.InFlight) / c.Weight
		switch {
		case load < least:
			at, least, tied = i, load, c.Weight
		case load == least:
			tied += c.Weight
			if random()*tied < c.Weight {
				at = i
			}
		}
	}
	return at
}
