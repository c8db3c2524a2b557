package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// Each of the first scales keeps the minima of intervals eight times as long as those of the one before: 8, 64 and 512 rows. The
// last one's are days, as near as 64 rows divide them. Minima leave out the teeth of a garbage-collected heap.
const (
	slopeEvery = 8
	dayScale   = profile.Scales - 1
	dayFeed    = 1 // the scale whose minima those of a day are taken from
	// What grows each day for ten of them is no warm-up, however little it is: so much of what else is material counts.
	dayMaterial = 0.2
	// leastMinima must be there before a slope counts; forecasts of a drift already seen need fewer.
	leastMinima   = 10
	forecastRows  = 2
	slopeConcord  = 0.7  // of pairs must rise (Kendall's tau)
	slopeLasting  = 0.8  // of the slope must be left in the second half: what saturates is a warm-up
	growthPrior   = 4    // windows that the least material growth is worth as the healthy one
	growthRows    = 8000 // evaluations over which healthy growth is forgotten
	growthClip    = 4
	forecastReach = 0.6 // of a slope's threshold, from where on a limit is foreseen
)

// slopeAge is the age in rows that an instance must have before growth of a scale counts without peers of like age
// that stay: heaps and caches fill in the first minutes.
var slopeAge = [dayScale]float64{300, 1500, 8000}

// slopeDays is the same of the last scale, in days.
const slopeDays = 3

func (j *Judge) slopeAge(k int) float64 {
	if k == dayScale {
		return slopeDays / j.day
	}
	return slopeAge[k]
}

// scaleRows is the length of a scale's intervals.
func (j *Judge) scaleRows(k int) int {
	if k == dayScale {
		feed := j.scaleRows(dayFeed)
		return feed * max(1, int(math.Round(1/(j.day*float64(feed)))))
	}
	return slopeEvery << (3 * k)
}

// lowest folds the unbounded columns of row r, the work removed, into the minima of the interval under way.
func (j *Judge) lowest(r int, p *profile.Profile, g *profile.Group) {
	d := len(j.cols)
	x, z := j.scratch.x[r*d:(r+1)*d], j.scratch.z[r*d:(r+1)*d]
	for u, c := range j.unbounded {
		if x[c] != x[c] {
			continue
		}
		v := j.cols[c].back(p.Mu[c] + stat.Color(g.L, z, c, j.work))
		if low := &p.Lowest[u]; *low == 0 || v < *low {
			*low = max(v, math.SmallestNonzeroFloat64)
		}
	}
}

// grow closes the intervals that end with this frame and rates the growth over their minima.
func (j *Judge) grow() {
	for k := range profile.Scales {
		if j.tick%uint64(j.scaleRows(k)) != 0 {
			continue
		}
		for r := range j.scratch.index {
			if j.scratch.judged(r) {
				p := &j.scratch.profiles[r]
				j.close(p, r, k)
				if !j.scratch.peer[r] { // no peers to compare it with: still learnt, or held
					clear(p.Grown[k*len(j.unbounded) : (k+1)*len(j.unbounded)])
				}
			}
		}
		for g := range j.scratch.group {
			for u := range j.unbounded {
				j.outgrow(int32(g), k, u)
			}
		}
	}
}

// close shifts the lowest value of scale k into its minima and into the next scale's interval.
func (j *Judge) close(p *profile.Profile, r, k int) {
	n, d := len(j.unbounded), len(j.cols)
	t := &j.tracks[j.scratch.index[r]]
	some := false
	for u, c := range j.unbounded {
		low := p.Lowest[k*n+u]
		if y := j.scratch.y[r*d+c]; low == 0 && c >= j.firstSlow && y == y {
			low = p.MinimaOf(k, u)[profile.Minima-1] // there was no reading: it is held
		}
		if low == 0 {
			continue
		}
		some = true
		m := p.MinimaOf(k, u)
		copy(m, m[1:])
		m[profile.Minima-1] = low
		p.Lowest[k*n+u] = 0
		if k+1 < dayScale {
			lower(&p.Lowest[(k+1)*n+u], low)
		}
		if k == dayFeed {
			lower(&p.Lowest[dayScale*n+u], low)
		}
		steady := false
		p.Grown[k*n+u], steady = j.growth(p, k, u)
		t.grows &^= 1 << (k*n + u)
		if steady {
			t.grows |= 1 << (k*n + u)
		}
	}
	if some && p.Filled[k] < profile.Minima {
		p.Filled[k]++
	}
}

// lower takes v for the lowest value of an interval if it is; 0 is none yet.
func lower(low *float64, v float64) {
	if *low == 0 || v < *low {
		*low = v
	}
}

// growth is the rise over a scale's minima in units of the column, and whether it is steady and lasts.
func (j *Judge) growth(p *profile.Profile, k, u int) (rise float64, steady bool) {
	have := int(p.Filled[k])
	if have < leastMinima || float64(j.scaleRows(k)) < j.cols[j.unbounded[u]].every {
		return 0, false
	}
	m := p.MinimaOf(k, u)[profile.Minima-have:]
	if m[0] == 0 { // it came later than the others
		return 0, false
	}
	slope, concord := stat.TheilSen(m)
	late, _ := stat.TheilSen(m[have/2:])
	return slope * float64(have-1), slope > 0 && concord >= slopeConcord && late >= slopeLasting*slope
}

// outgrow replaces the growth of a group's members by what it exceeds that of the others by, and learns what growth
// is healthy.
func (j *Judge) outgrow(g int32, k, u int) {
	s, n := &j.scratch, len(j.unbounded)
	group := &s.groups[g]
	for _, young := range [2]bool{true, false} {
		s.col = s.col[:0]
		for r := s.group[g]; r >= 0; r = s.next[r] {
			if j.ofAge(r, k, young) {
				p := &s.profiles[r]
				s.col = append(s.col, p.Grown[k*n+u])
			}
		}
		m := stat.MiddleOf(s.col)
		for r := s.group[g]; r >= 0; r = s.next[r] {
			if !j.ofAge(r, k, young) {
				continue
			}
			p := &s.profiles[r]
			grown := &p.Grown[k*n+u]
			raw := *grown
			t := &j.tracks[s.index[r]]
			lo, hi := m.Without(raw)
			more := beyond(raw, lo, hi)
			switch alone := more != more; {
			case t.grows>>(k*n+u)&1 == 0, alone && young:
				*grown = 0
			case !alone:
				*grown = max(0, more)
			}
			if !t.frozen && p.Filled[k] >= leastMinima {
				j.learnGrowth(group, p, k, u, *grown)
			}
		}
	}
}

func (j *Judge) ofAge(r int32, k int, young bool) bool {
	s := &j.scratch
	return s.judged(int(r)) && s.peer[r] && (j.tracks[s.index[r]].age < j.slopeAge(k)) == young
}

func (j *Judge) learnGrowth(g *profile.Group, p *profile.Profile, k, u int, grown float64) {
	n := len(j.unbounded)
	m := j.materialOf(p, k, u)
	v := min(grown*grown, growthClip*m*m)
	g.Growth[k*n+u] += stat.Step(g.Grew[k]/float64(n), 1, 1.0/growthRows) * (v - g.Growth[k*n+u])
	g.Grew[k]++
}

// materialOf is how much an unbounded column must at least grow over the minima of a scale to count.
func (j *Judge) materialOf(p *profile.Profile, k, u int) float64 {
	m := j.cols[j.unbounded[u]].material(p.MinimaOf(k, u)[profile.Minima-1])
	if k == dayScale {
		m *= dayMaterial
	}
	return m
}

// slope is the deviation of the fastest growing unbounded column, the column, and the scale it grows on.
func (j *Judge) slope(p *profile.Profile, g *profile.Group) (best float64, col, scale int) {
	n := len(j.unbounded)
	col = -1
	for k := range profile.Scales {
		if p.Filled[k] < leastMinima {
			continue
		}
		seen := g.Grew[k] / float64(n) / profile.Minima // windows overlap
		for u, c := range j.unbounded {
			grown := p.Grown[k*n+u]
			if grown <= 0 {
				continue
			}
			m := j.materialOf(p, k, u)
			usual := max(m*m, (growthPrior*m*m+seen*g.Growth[k*n+u])/(growthPrior+seen))
			if v := grown / math.Sqrt(usual); v > best {
				best, col, scale = v, c, k
			}
		}
	}
	return best, col, scale
}

// foresee says when column c reaches the limit of its unit, from the slope of so many of its latest minima of a scale and
// the interval under way.
func (j *Judge) foresee(p *profile.Profile, c, k, points int, now ft.Instant) ft.Forecast {
	if c < 0 || j.cols[c].slope < 0 || j.cols[c].Unit != "B" || j.config.MemoryLimit <= 0 || points < forecastRows || points > int(p.Filled[k]) {
		return ft.Forecast{}
	}
	u := j.cols[c].slope
	m := j.scratch.points[:0]
	m = append(m, p.MinimaOf(k, u)[profile.Minima-points:]...)
	if low := p.Lowest[k*len(j.unbounded)+u]; low > 0 && len(m) < profile.Minima {
		m = append(m, low)
	}
	slope, concord := stat.TheilSen(m)
	slope /= float64(j.scaleRows(k)) * j.config.Interval.Seconds()
	if slope <= 0 || concord < slopeConcord {
		return ft.Forecast{}
	}
	left := (j.config.MemoryLimit - m[len(m)-1]) / slope
	if left > 30*24*3600 {
		return ft.Forecast{}
	}
	at := now + ft.Instant(max(0, left)*1e9)
	return ft.Forecast{Dim: uint8(j.cols[c].index), At: at, Slope: single(slope), Limit: single(j.config.MemoryLimit)}
}
