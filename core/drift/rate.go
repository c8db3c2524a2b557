package drift

import (
	"math"

	"github.com/fettle-dev/fettle/core/stat"
)

// rate divides the row's deviations by their thresholds.
func (j *Judge) rate(r int) {
	i := j.scratch.index[r]
	p, t := j.bank.At(i), &j.tracks[i]
	g := j.bank.Group(p.Group)
	t.slopes, t.slopeCol, t.slopeScale = j.slope(&p, &g)
	dev := [parts]float64{t.load, t.routes, t.self, t.peers, t.slopes}
	for k := range dev {
		t.score[k] = 0
		if p.Rows >= p.Need {
			t.score[k] = dev[k] / j.ladders[k].low
		}
	}
}

// Coherence.
const (
	alike      = 0.5 // cosine of two drift vectors that point the same way
	stirred    = 0.5 // score from which on an instance's drift counts for its peers
	raiseShare = 2.0 // the self thresholds rise by so much times the share that drifts alike
)

// stir is the score that counts for the peers: routes are counted apart.
func (t *track) stir() float64 { return max(t.score[partLoad], t.score[partSelf]) }

// raw is the greatest of a track's scores against its own past, whatever the pool does.
func (t *track) raw() float64 {
	return max(t.score[partLoad], t.score[partRoutes], t.score[partSelf])
}

// cohere finds which instances drift in the direction of the others, and how much their load and routes differ from
// those of the others.
func (j *Judge) cohere() {
	s, d := &j.scratch, len(j.cols)
	sum := s.sum
	clear(sum)
	members, rerouted := 0, 0
	for r := range s.index {
		if !s.judged(r) || !s.peer[r] {
			continue
		}
		members++
		t := &j.tracks[s.index[r]]
		if t.score[partRoutes] >= stirred {
			rerouted++
		}
		if t.stir() >= stirred {
			addUnit(sum, s.w[r*d:(r+1)*d])
		}
	}
	along := 0
	for r := range s.index {
		if s.judged(r) && s.peer[r] && j.tracks[s.index[r]].stir() >= stirred && cosine(s.w[r*d:(r+1)*d], sum) >= alike {
			along++
		}
	}
	j.pool.members, j.pool.along = members, max(along, rerouted)
	for r := range s.index {
		if s.judged(r) {
			j.share(r, members, along, rerouted)
		}
	}
	j.relative()
}

// share tells row r how much of the pool drifts as it does.
func (j *Judge) share(r, members, along, rerouted int) {
	s, d := &j.scratch, len(j.cols)
	t := &j.tracks[s.index[r]]
	t.shared, t.coherent, t.rerouted, t.common = 0, false, 0, false
	if !s.peer[r] || members < 2 {
		return
	}
	if t.stir() >= stirred && cosine(s.w[r*d:(r+1)*d], s.sum) >= alike {
		t.shared, t.coherent = float64(along)/float64(members), common(along, members)
	}
	if t.score[partRoutes] >= stirred {
		t.rerouted, t.common = float64(rerouted)/float64(members), common(rerouted, members)
	}
}

// raise is what the threshold of a part is multiplied by for what the pool shares. The peers channel is never raised,
// and a slope is beyond that of the peers anyway.
func (t *track) raise(k part) float64 {
	switch {
	case (k == partLoad || k == partSelf) && t.coherent:
		return 1 + raiseShare*t.shared
	case k == partRoutes && t.common:
		return 1 + raiseShare*t.rerouted
	default:
		return 1
	}
}

// common tells whether n of so many members are enough to speak of a common cause: at least three and at least half,
// or both of two.
func common(n, members int) bool {
	switch members {
	case 0, 1:
		return false
	case 2:
		return n == 2
	default:
		return n >= 3 && 2*n >= members
	}
}

func addUnit(sum, v []float64) {
	n := math.Sqrt(stat.Dot(v, v))
	if n == 0 {
		return
	}
	for c := range sum {
		sum[c] += v[c] / n
	}
}

// cosine of the angle between v and the sum of unit vectors without v's own.
func cosine(v, sum []float64) float64 {
	vv := stat.Dot(v, v)
	if vv == 0 {
		return 0
	}
	n := math.Sqrt(vv)
	dot := stat.Dot(v, sum)/n - 1
	rest := stat.Dot(sum, sum) - 2*stat.Dot(v, sum)/n + 1
	if rest <= 1e-12 {
		return 0
	}
	return dot / math.Sqrt(rest)
}

// relative fills the load and routes of each row relative to its peers'.
func (j *Judge) relative() {
	s, d := &j.scratch, len(j.cols)
	for r := range s.index {
		if s.judged(r) {
			j.tracks[s.index[r]].apart = 0
		}
	}
	for c := j.firstLoad; c < j.work; c++ {
		j.apart(func(r int) float64 { return s.w[r*d+c] }, j.ladders[partLoad].low)
	}
	j.apart(func(r int) float64 { return j.tracks[s.index[r]].score[partRoutes] }, 1)
}

// apart raises each row's apart to what its value leaves the middle of the others' by, in units of low.
func (j *Judge) apart(value func(r int) float64, low float64) {
	s := &j.scratch
	s.col = s.col[:0]
	for r := range s.index {
		if s.judged(r) && s.peer[r] {
			s.col = append(s.col, value(r))
		}
	}
	m := stat.MiddleOf(s.col)
	for r := range s.index {
		if !s.judged(r) {
			continue
		}
		v := value(r)
		lo, hi := m.All()
		if s.peer[r] {
			lo, hi = m.Without(v)
		}
		if b := math.Abs(beyond(v, lo, hi)) / low; b == b {
			t := &j.tracks[s.index[r]]
			t.apart = max(t.apart, b)
		}
	}
}
