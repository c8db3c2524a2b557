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
	p, t := &s.profiles[r], &j.tracks[s.index[r]]
	g := &s.groups[p.Group]
	y, x, z, beyond, w := s.y[r*d:(r+1)*d], s.x[r*d:(r+1)*d], s.z[r*d:(r+1)*d], s.p[r*d:(r+1)*d], s.w[r*d:(r+1)*d]
	t.place = (t.place + 1) % profile.Recent
	for c := j.work; c < d; c++ {
		if v, b, news := j.news(t, c, y[c], x[c], z[c], beyond[c]); news {
			at := t.place
			if c >= j.firstSlow { // it does not move on with the others
				shift(p.Hist, c)
				shift(p.PeersHist, c)
				at = 0
			}
			m := push(p.Hist, p.Self, c, d, at, v)
			note(p.PeersHist, p.Peers, c, d, at, b, math.Abs(m) > usualAt)
		}
		w[c] = p.Self[d+c] * g.Inv[d+c]
	}
	forms := s.forms[r*2*profile.Spans : (r+1)*2*profile.Spans]
	for k := range profile.Spans {
		forms[k] = j.form(p.Self, g.Inv, k)
		forms[profile.Spans+k] = j.form(p.Peers, g.PInv, k)
	}
	t.dev[partSelf] = j.distance(forms[:profile.Spans], &p.Norm)
	t.dev[partPeers] = j.distance(forms[profile.Spans:], &p.PeersNorm)
	j.depends(r, p, g, t)
	j.step(r, p, g)
	if p.Rows >= p.Need && !j.counts(p, partSelf) {
		clear(w)
		t.outside = false
	}
	load := 0.0
	for c := j.firstLoad; c < j.work; c++ {
		load += w[c] * w[c]
	}
	t.dev[partLoad] = math.Sqrt(load)
	j.categories(f, r, p, g, t)
}

// news gives the next innovation of column c and its part beyond the peers, if there is one: a slow column is held
// between its readings, and one that is missing for long is taken to be as expected.
func (j *Judge) news(t *track, c int, y, x, z, beyond float64) (v, b float64, news bool) {
	if x != x {
		if c >= j.firstSlow && y == y {
			t.stale[c] = 0
			return 0, 0, false
		}
		if t.stale[c] < staleRows {
			t.stale[c]++
			return 0, 0, false
		}
		return 0, 0, true
	}
	t.stale[c] = 0
	if beyond != beyond {
		beyond = 0
	}
	return z, beyond, true
}

// shift makes room for a column's next innovation where its history begins.
func shift(hist []float64, c int) {
	h := hist[c*profile.Recent : (c+1)*profile.Recent]
	copy(h[1:], h)
}

// push gives column c its next innovation, smooths the median of the recent ones and returns it. at is the place of the
// oldest in its history.
func push(hist, smooth []float64, c, d int, at uint8, v float64) float64 {
	note(hist, smooth, c, d, at, v, true)
	return smooth[c]
}

// note is push where the median is only looked at if some says so, else it is 0: what peers see is never more than
// what self sees, so nothing is to be found while self sees nothing.
func note(hist, smooth []float64, c, d int, at uint8, v float64, some bool) {
	h := (*[profile.Recent]float64)(hist[c*profile.Recent:])
	h[at] = v
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
	smooth = smooth[k*d+j.work : (k+1)*d]
	inv = inv[k*d+j.work : (k+1)*d][:len(smooth)]
	q0, q1 := 0.0, 0.0 // two, to hide the latency of addition
	c := 0
	for ; c+1 < len(smooth); c += 2 {
		v, w := smooth[c]*inv[c], smooth[c+1]*inv[c+1]
		q0 += v * v
		q1 += w * w
	}
	if c < len(smooth) {
		v := smooth[c] * inv[c]
		q0 += v * v
	}
	return q0 + q1
}

// distance is the root of the greatest excess of the spans' quadratic forms over their healthy mean; an instance that
// is noisier than its columns' scales explain is divided by its own.
func (j *Judge) distance(forms []float64, norm *[profile.Spans]float64) float64 {
	responses := float64(max(1, len(j.cols)-j.work))
	best := 0.0
	for k := range profile.Spans {
		best = max(best, (forms[k]-norm[k])/max(1, norm[k]/responses))
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
	t.outside, t.falls = false, false
	most := 0.0
	for c := j.firstLoad; c < j.work; c++ {
		v := s.y[r*d+c]
		if v != v {
			continue
		}
		j.follow(p, c, t.place, v)
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
		if math.Abs(s.w[r*d+c]) > math.Abs(most) {
			most = s.w[r*d+c]
			t.falls = most < 0
		}
	}
}

// follow gives load column c its next value: Hist has the values themselves, Self their median, the present load, and
// its mean of 40 rows.
func (j *Judge) follow(p *profile.Profile, c int, at uint8, v float64) {
	d := len(j.cols)
	present := &p.Self[d+c]
	if *present == 0 {
		for k := range profile.Recent {
			p.Hist[c*profile.Recent+k] = p.Fast[c]
		}
		*present, p.Self[2*d+c] = p.Fast[c], p.Fast[c]
	}
	was := *present
	m := push(p.Hist, p.Self, c, d, at, v)
	*present = was + stepWeight*(m-was)
}

// loads are the deviations of the streams of load column c.
func loads(p *profile.Profile, c, d int) [profile.Spans]float64 {
	return [profile.Spans]float64{p.Self[2*d+c] - p.Fast[c], p.Self[d+c] - p.Fast[c], p.Self[d+c] - p.Mu[c]}
}
