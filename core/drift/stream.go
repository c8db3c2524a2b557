package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// The spans that innovations are smoothed over, in rows: the median of the last five, and exponentially weighted
// means of that.
var (
	spanWeight = [profile.Spans]float64{1, 2.0 / 11, 2.0 / 41}
	// spanPrior is the healthy scale of each span before there are data: autocorrelated noise (a heap's sawtooth,
	// slow waves) hardly shrinks by smoothing, so independent rows are not presumed.
	spanPrior = [profile.Spans]float64{1, 0.8, 0.7}
	// spanFloor keeps a shift of less than about four floors of its column calm however quiet the column was.
	spanFloor = [profile.Spans]float64{0.6, 0.5, 0.5}
	// spanRows is how many rows of a span are worth one independent one.
	spanRows = [profile.Spans]float64{5, 20, 80}
)

const (
	spanPriorRows = 6  // independent rows that spanPrior is worth
	squareAt      = 16 // squares of smoothed innovations count at most so much for their healthy mean
	staleRows     = 10 // a column missing for longer is taken to be as expected
	fastRows      = 60 // the span of the recent load
	stepFloor     = 0.15
	levelFloor    = 0.25
	countFloor    = 0.15 // of Poisson variance is left after smoothing
)

// stream folds row r into the smoothed streams of its profile and fills its drift vector.
func (j *Judge) stream(f *ft.Frame, r int) {
	s, d := &j.scratch, len(j.cols)
	i := s.index[r]
	p, t := j.bank.At(i), &j.tracks[i]
	g := j.bank.Group(p.Group)
	y, z, beyond, w := s.y[r*d:(r+1)*d], s.z[r*d:(r+1)*d], s.p[r*d:(r+1)*d], s.w[r*d:(r+1)*d]
	for c := j.work; c < d; c++ {
		v, b := z[c], beyond[c]
		if y[c] != y[c] {
			if t.stale[c]++; t.stale[c] <= staleRows {
				w[c] = p.Self[d+c] * g.Inv[d+c]
				continue
			}
			t.stale[c], v, b = staleRows, 0, 0
		} else {
			t.stale[c] = 0
		}
		if b != b {
			b = 0
		}
		push(p.Hist, p.Self, c, d, v)
		push(p.PeersHist, p.Peers, c, d, b)
		w[c] = p.Self[d+c] * g.Inv[d+c]
	}
	t.self = j.distance(p.Self, g.Inv, &p.Norm)
	t.peers = j.distance(p.Peers, g.PInv, &p.PeersNorm)
	j.step(r, &p, &g)
	t.load = 0
	for c := j.firstLoad; c < j.work; c++ {
		t.load += w[c] * w[c]
	}
	t.load = math.Sqrt(t.load)
	t.routes = j.routes(f, r, &p, &g)
}

// push gives column c its next innovation and smooths the median of the recent ones.
func push(hist, smooth []float64, c, d int, v float64) {
	h := hist[c*profile.Recent : (c+1)*profile.Recent]
	h[4], h[3], h[2], h[1], h[0] = h[3], h[2], h[1], h[0], v
	m := stat.Median5(h[0], h[1], h[2], h[3], h[4])
	smooth[c] = m
	for k := 1; k < profile.Spans; k++ {
		smooth[k*d+c] += spanWeight[k] * (m - smooth[k*d+c])
	}
}

// form gives the quadratic form of one span's responses in healthy scales.
func (j *Judge) form(smooth, inv []float64, k int) float64 {
	d := len(j.cols)
	q := 0.0
	for c := k*d + j.work; c < (k+1)*d; c++ {
		v := smooth[c] * inv[c]
		q += v * v
	}
	return q
}

// distance is the root of the greatest excess of the spans' quadratic forms over their healthy mean; an instance that
// is noisier than its columns' scales explain is divided by its own.
func (j *Judge) distance(smooth, inv []float64, norm *[profile.Spans]float64) float64 {
	responses := float64(max(1, len(j.cols)-j.work))
	best := 0.0
	for k := range profile.Spans {
		best = max(best, (j.form(smooth, inv, k)-norm[k])/max(1, norm[k]/responses))
	}
	return math.Sqrt(best)
}

// step fills the load part of the drift vector: how far the recent load is from the last minute's and from the
// learnt one, whichever is the stranger, in scales that a load's ordinary unrest does not exceed.
func (j *Judge) step(r int, p *profile.Profile, g *profile.Group) {
	s, d := &j.scratch, len(j.cols)
	for c := j.firstLoad; c < j.work; c++ {
		v := s.y[r*d+c]
		if v != v {
			continue
		}
		h := p.Hist[c*profile.Recent : (c+1)*profile.Recent]
		if p.Self[d+c] == 0 {
			h[0], h[1], h[2], h[3], p.Self[d+c] = v, v, v, v, p.Fast[c]
		}
		push(p.Hist, p.Self, c, d, v)
		m := p.Self[d+c]
		noise := 0.0
		if j.cols[c].Unit == "1/s" {
			noise = countFloor / (1 + max(0, j.cols[c].back(p.Mu[c])))
		}
		step := (m - p.Fast[c]) / math.Sqrt(stepFloor*stepFloor+noise+g.Var[d+c])
		level := (m - p.Mu[c]) / math.Sqrt(max(levelFloor*levelFloor+noise, g.Scale[c]*g.Scale[c]))
		s.w[r*d+c] = step
		if math.Abs(level) > math.Abs(step) {
			s.w[r*d+c] = level
		}
	}
}

// The spans over which category counts are summed, in rows, and what their comparison rests on.
var windowKeep = [profile.Windows]float64{1 - 1.0/4, 1 - 1.0/20}

const (
	leastCounts = 20   // windows with fewer requests are not compared
	leastCount  = 0.5  // of a category, decayed, is none
	leastRef    = 200  // nor are references with fewer
	rhoFloor    = 0.01 // correlation of counts: differences of shares by a few per cent are no drift
	rhoPrior    = 200  // rows that the floor is worth
	unseenShare = 0.02 // of the reference is spread over all categories: what was never seen is rare, not impossible
)

// routes folds the row's counts and gives the deviation of the route mix.
func (j *Judge) routes(f *ft.Frame, r int, p *profile.Profile, g *profile.Group) float64 {
	n := j.schema.Categories()
	if n == 0 {
		return 0
	}
	counts := f.Counts[r*n : (r+1)*n]
	for k, keep := range windowKeep {
		win := p.Window[k*n : (k+1)*n]
		for c, v := range counts {
			win[c] = win[c]*keep + float64(v)
		}
	}
	t := &j.tracks[j.scratch.index[r]]
	t.rho = 0
	if p.Reference < leastRef {
		return 0
	}
	share := j.scratch.share
	shares(share, p.Ref, p.Window[(profile.Windows-1)*n:], p.Reference)
	best := 0.0
	for k := range windowKeep {
		gt, total, used := stat.GTest(p.Window[k*n:(k+1)*n], share)
		if total < leastCounts || used < 2 {
			continue
		}
		free := float64(used - 1)
		if k == profile.Windows-1 {
			t.rho = max(0, (gt/free-1-total/p.Reference)/(total-1))
		}
		best = max(best, gt/stat.Overdispersion(total, max(rhoFloor, g.Rho), p.Reference)-free)
	}
	return math.Sqrt(best)
}

// shares turns reference counts into shares, which are 0 only for a category that neither the reference nor the
// window has.
func shares(dst, ref, window []float64, total float64) {
	known := 0.0
	for c := range dst {
		dst[c] = 0
		if ref[c] >= leastCount || window[c] >= leastCount {
			dst[c] = 1
			known++
		}
	}
	for c := range dst {
		dst[c] *= (1-unseenShare)*ref[c]/total + unseenShare/known
	}
}
