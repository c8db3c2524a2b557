package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// The spans that innovations are smoothed over, in rows: the median of the last seven, and exponentially weighted
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
	spanPriorRows = 6       // independent rows that spanPrior is worth
	squareAt      = 16      // squares of smoothed innovations count at most so much for their healthy mean
	usualAt       = 0.75    // a median innovation below is nothing to ask peers about
	staleRows     = 10      // a column missing for longer is taken to be as expected
	fastRows      = 120     // the span of the recent load
	stepWeight    = 1.0 / 8 // of the newest row in the present load
	envelopeAt    = 2.33    // healthy scales of a load lie within its envelope
	rangeFloor    = 0.45    // a load within this much of its mean, or within rangeAt times its envelope, is in the learnt range
	rangeAt       = 1.5
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
		m := push(p.Hist, p.Self, c, d, v)
		note(p.PeersHist, p.Peers, c, d, b, math.Abs(m) > usualAt)
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

// push gives column c its next innovation, smooths the median of the recent ones and returns it.
func push(hist, smooth []float64, c, d int, v float64) float64 {
	note(hist, smooth, c, d, v, true)
	return smooth[c]
}

// note is push where the median is only looked at if some says so, else it is 0: what peers see is never more than
// what self sees, so nothing is to be found while self sees nothing.
func note(hist, smooth []float64, c, d int, v float64, some bool) {
	h := (*[profile.Recent]float64)(hist[c*profile.Recent:])
	h[6], h[5], h[4], h[3], h[2], h[1], h[0] = h[5], h[4], h[3], h[2], h[1], h[0], v
	m := 0.0
	if some {
		m = stat.Median7(h)
	}
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

// The streams of a load: the present one against the last minutes', the mean of 40 rows against the same, which sees
// through fast waves, and the present one against the learnt location. Each has a floor that the ordinary unrest of a
// load does not leave by far, and an envelope that follows the healthy extremes: waves are no bell curves.
var loadFloor = [profile.Spans]float64{0.12, 0.15, 0.2}

// step fills the load part of the drift vector: the strangest of the load's streams in their healthy scales.
func (j *Judge) step(r int, p *profile.Profile, g *profile.Group) {
	s, d := &j.scratch, len(j.cols)
	t := &j.tracks[s.index[r]]
	t.outside = false
	for c := j.firstLoad; c < j.work; c++ {
		v := s.y[r*d+c]
		if v != v {
			continue
		}
		j.follow(p, c, v)
		noise := 0.0
		if j.cols[c].Unit == "1/s" {
			noise = countFloor / (1 + max(0, j.cols[c].back(p.Mu[c])))
		}
		// Responses follow at once, so what explains them must not lag: the median, not its mean.
		if p.Self[c]-p.Mu[c] > max(rangeFloor, rangeAt*g.Var[2*d+c]) {
			t.outside = true
		}
		for k, dev := range loads(p, c, d) {
			e := g.Var[k*d+c]
			e /= envelopeAt
			dev /= math.Sqrt(max(loadFloor[k]*loadFloor[k], noise+e*e))
			if math.Abs(dev) > math.Abs(s.w[r*d+c]) {
				s.w[r*d+c] = dev
			}
		}
	}
}

// follow gives load column c its next value: Hist has the values themselves, Self their median, the present load, and
// its mean of 40 rows.
func (j *Judge) follow(p *profile.Profile, c int, v float64) {
	d := len(j.cols)
	present := &p.Self[d+c]
	if *present == 0 {
		for k := range profile.Recent {
			p.Hist[c*profile.Recent+k] = p.Fast[c]
		}
		*present, p.Self[2*d+c] = p.Fast[c], p.Fast[c]
	}
	was := *present
	m := push(p.Hist, p.Self, c, d, v)
	*present = was + stepWeight*(m-was)
}

// loads are the deviations of the streams of load column c.
func loads(p *profile.Profile, c, d int) [profile.Spans]float64 {
	return [profile.Spans]float64{p.Self[2*d+c] - p.Fast[c], p.Self[d+c] - p.Fast[c], p.Self[d+c] - p.Mu[c]}
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
