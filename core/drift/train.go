package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

const (
	forget       = 3.0 // later rows weigh more: what a start-up did is forgotten as the rows come in
	trainAt      = 2.5 // deviations are winsorised for the location
	spreadAt     = 4.0 // and for the scatter
	unclipped    = 20  // not the first rows
	varAt        = squareAt
	normRows     = 600.0
	shrinkRows   = 2.0 * rowsPer
	leastShrink  = 0.02
	groupEvery   = 8
	envelopeUp   = 1.0 / 60
	envelopeDown = 1e-4
)

// train folds row r into what is learnt: not while an action is under way, and not while it or the pool drifts; then
// a candidate is learnt beside the profile.
func (j *Judge) train(f *ft.Frame, r int) {
	p, t := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]]
	g := &j.scratch.groups[p.Group]
	p.Lived++
	judged := j.scratch.judged(r)
	if judged && p.Rows >= p.Need {
		j.calibrate(t, f.Rows[r].Held)
	}
	if f.Rows[r].Held {
		return
	}
	j.recent(r, p, g, t)
	if t.frozen {
		j.candidate(f, r, p, t)
		return
	}
	p.Candidate = 0
	j.scatter(r, p, g)
	j.locate(r, p, g, t)
	j.learnSets(f, r, p, g, t)
	p.Rows++
	if !p.Anchored && p.Rows >= j.learn {
		copy(p.Anchor, p.Mu)
		p.Anchored = true
	}
	if judged && !j.unsettled(p) {
		j.scales(r, p, g, t)
	}
}

// calibrate counts the alarm runs of a judged row.
func (j *Judge) calibrate(t *track, held bool) {
	days := j.day
	if held || t.frozen {
		days = 0
	}
	for k := range j.parts() {
		if k == partStreams {
			continue // counted as its rows come
		}
		if held {
			t.above[k] = 0
			continue
		}
		t.above[k] = j.bank.Tails[k].Fold(t.above[k], t.dev[k]/j.raise(t, k), clipAlarm*j.ladders[k].low, days)
	}
}

// unsettled tells whether a life is too young to teach its group: it warms up, and if it was born ill in place of
// another, its illness would be taken for the group's scatter.
func (j *Judge) unsettled(p *profile.Profile) bool {
	if p.Prior {
		return p.Lived < j.learn
	}
	return p.Lived < settleRows
}

// teachers is how many members teach a group's scatter in each frame; larger groups take turns.
const teachers = 32

// teaches tells whether it is row r's turn.
func (j *Judge) teaches(r int, p *profile.Profile) bool {
	turns := uint64(j.scratch.members[p.Group]/teachers + 1)
	return turns == 1 || (j.tick+uint64(r))%turns == 0
}

// scatter folds the deviations from the own location into the group's covariance.
func (j *Judge) scatter(r int, p *profile.Profile, g *profile.Group) {
	if j.unsettled(p) || p.Rows < quickRows || !j.teaches(r, p) {
		return
	}
	s, d := &j.scratch, len(j.cols)
	e, y, a, read := s.dev, s.y[r*d:(r+1)*d], s.weight, s.read[r]
	first := g.Rows == 0
	if first {
		g.Rows = quickRows / 2
	}
	usual := stat.Step(g.Rows, 1, 1/scatterRows)
	for c := range e {
		if !read.Has(c) {
			e[c] = math.NaN()
			continue
		}
		if !g.Known.Has(c) {
			j.meet(p, g, c, first)
		}
		a[c] = usual
		if g.Late.Has(c) {
			a[c] = stat.Step(g.Seen[c], 1, max(1, j.cols[c].every)/scatterRows)
			g.Seen[c]++
		}
		bound := spreadAt * math.Sqrt(g.Cov[stat.PackedLen(c)+c])
		e[c] = min(max(y[c]-p.Mu[c], -bound), bound)
	}
	stat.FoldCov(g.Cov, e, a)
	g.Rows++
	g.Pending++
}

// meet begins the scatter of a column. One that comes later than the first has counts of its own.
func (j *Judge) meet(p *profile.Profile, g *profile.Group, c int, first bool) {
	f := 2 * j.cols[c].floor(p.Mu[c])
	g.Cov[stat.PackedLen(c)+c] = f * f
	g.Known = g.Known.With(c)
	if !first || c >= j.firstSlow {
		g.Late = g.Late.With(c)
		g.Seen[c], g.Tuned[c] = quickRows/2, 0
	}
}

// settled tells whether a group knows the scatter of a column well enough to judge by it.
func settled(g *profile.Group, c int) bool {
	return g.Known.Has(c) && (!g.Late.Has(c) || g.Seen[c] >= lateReads)
}

// locate moves the location towards what is new in the row, and lets columns count that have enough values.
func (j *Judge) locate(r int, p *profile.Profile, g *profile.Group, t *track) {
	s, d := &j.scratch, len(j.cols)
	y, read, caution := s.y[r*d:(r+1)*d], s.read[r], t.caution()
	least := 1 / (locationSpans * j.learn)
	own, prior := stat.Step(p.Rows, forget, least), stat.Step(p.Rows+priorRows, 1, least)
	for c, v := range y {
		if !read.Has(c) {
			continue
		}
		e, every, a := v-p.Mu[c], max(1, j.cols[c].every), own
		if p.Seen[c] != p.Rows {
			a = stat.Step(p.Seen[c], forget, min(1, every*least))
		}
		clip := p.Seen[c] >= unclipped && g.Factored
		if p.Prior && g.Ever.Has(c) && c >= j.firstLoad && (j.cols[c].slope < 0 || v > g.Mu[c]) {
			a, clip = prior, c >= j.work // the group knows better, except what a new life has yet to fill
			if c >= j.firstSlow {
				a = stat.Step(p.Seen[c]+priorRows/every, 1, min(1, every*least))
			}
		}
		if clip {
			e = min(max(e, -trainAt*g.Scale[c]), trainAt*g.Scale[c])
		}
		p.Mu[c] += a * caution * e
		p.Seen[c]++
		if !p.Counts.Has(c) && settled(g, c) {
			j.count(p, g, c)
		}
	}
	if p.Rows >= j.learn/2 && (j.tick+uint64(r))%groupEvery == 0 {
		a := stat.Step(g.Located/groupEvery, 1, groupEvery*least)
		for c := range p.Mu {
			if !p.Ever.Has(c) {
				continue
			}
			if !g.Ever.Has(c) {
				g.Mu[c] = p.Mu[c]
				g.Ever = g.Ever.With(c)
			}
			g.Mu[c] += a * (p.Mu[c] - g.Mu[c])
		}
		g.Located += groupEvery
	}
}

// caution slows learning down while something is stirring below the threshold, lest it be absorbed.
func (t *track) caution() float64 {
	if max(t.raw(), t.score[partPeers], t.score[partSlope]) >= release {
		return 0.5
	}
	return 1
}

// recent follows the load, unless it is the load that drifts.
func (j *Judge) recent(r int, p *profile.Profile, g *profile.Group, t *track) {
	if t.frozen && (t.score[partLoad] >= release || t.cause == ft.WorkloadChanged || j.pool.cause == ft.WorkloadChanged) {
		return
	}
	rows := p.Lived
	if p.Prior {
		rows += fastRows / 2
	}
	for c := j.firstLoad; c < j.work; c++ {
		if e := j.scratch.y[r*len(j.cols)+c] - p.Fast[c]; e == e {
			p.Fast[c] += stat.Step(rows, 1, 1.0/fastRows) * t.caution() * e
		}
	}
	if !p.Prior || p.Lived >= fastRows {
		copy(g.Fast, p.Fast)
	}
}

// count lets a column count if it has enough values.
func (j *Judge) count(p *profile.Profile, g *profile.Group, c int) {
	enough := float64(newReads)
	if c >= j.firstSlow && p.Prior && g.Ever.Has(c) {
		enough = knownReads
	}
	if p.Seen[c] < enough {
		return
	}
	p.Counts = p.Counts.With(c)
	if c >= j.firstSlow {
		for k := range p.Norm { // its share of the forms is not known yet
			p.Norm[k] += 0.5
			p.PeersNorm[k] += 0.25
		}
	}
}

// scales learns how large smoothed innovations, their quadratic forms and category windows are in healthy time.
func (j *Judge) scales(r int, p *profile.Profile, g *profile.Group, t *track) {
	d := len(j.cols)
	a := stat.Step(g.Streamed, 1, 1/scatterRows)
	up := 0.0 // one member tells the load's envelope for all of them
	if j.scratch.group[p.Group] == int32(r) {
		switch {
		case p.Rows < p.Need:
			up = envelopeUp * 6
		case t.score[partLoad] < release:
			up = envelopeUp
		default:
			up = envelopeUp / 4
		}
	}
	for c := j.firstLoad; c < j.work && up > 0; c++ {
		for k, v := range loads(p, c, d) {
			envelop(&g.Var[k*d+c], math.Abs(v), up)
		}
	}
	if j.teaches(r, p) {
		j.learnSquares(r, p, g, a)
		g.Streamed++
	}
	own := stat.Step(p.Rows+normRows/2, 1, 1/normRows)
	responses := float64(d - j.work)
	forms := j.scratch.forms[r*2*profile.Spans : (r+1)*2*profile.Spans]
	for k := range profile.Spans {
		p.Norm[k] += own * (min(forms[k], 3*p.Norm[k]+responses) - p.Norm[k])
		p.PeersNorm[k] += own * (min(forms[profile.Spans+k], 3*p.PeersNorm[k]+responses) - p.PeersNorm[k])
	}
	j.learnRho(g, t)
}

// learnSquares moves the healthy mean squares of the columns that are new in the row towards theirs, clipped.
func (j *Judge) learnSquares(r int, p *profile.Profile, g *profile.Group, usual float64) {
	d := len(j.cols)
	x := j.scratch.x[r*d : (r+1)*d]
	for c := j.work; c < d; c++ {
		if x[c] != x[c] {
			continue
		}
		a := usual
		if g.Late.Has(c) {
			a = stat.Step(g.Tuned[c], 1, max(1, j.cols[c].every)/scatterRows)
			g.Tuned[c]++
		}
		for k := c; k < profile.Spans*d; k += d {
			v, b := p.Self[k], p.Peers[k]
			g.Var[k] += a * (min(v*v, varAt) - g.Var[k])
			g.PVar[k] += a * (min(b*b, varAt) - g.PVar[k])
		}
	}
}

// envelop follows the largest of v: up within minutes, down within hours.
func envelop(e *float64, v, up float64) {
	if v > *e {
		*e += up * (v - *e)
	} else {
		*e -= envelopeDown * *e
	}
}

// refresh factors the scatter of the groups of this frame that have enough new rows.
func (j *Judge) refresh() {
	for g := range j.scratch.group {
		if j.scratch.group[g] < 0 {
			continue
		}
		group := &j.scratch.groups[g]
		due := max(16, min(group.Rows/8, 2000))
		if group.Pending >= due || !group.Factored && group.Rows >= 2*quickRows {
			j.factor(group, j.scratch.profiles[j.scratch.group[g]].Mu)
		}
	}
}

// factor renews all that is derived from a group's scatter; mu is the location of one of its members, around which
// the floors are taken until the group's own is known.
func (j *Judge) factor(g *profile.Group, mu []float64) {
	s := &j.scratch
	for c := range j.cols {
		at := mu[c]
		if g.Located > 0 {
			at = g.Mu[c]
		}
		f := j.cols[c].floor(at)
		s.ridge[c] = f * f
		g.Scale[c] = math.Sqrt(g.Cov[stat.PackedLen(c)+c] + s.ridge[c])
		n := g.Rows
		if g.Late.Has(c) {
			n = g.Seen[c]
		}
		d := float64(j.firstSlow - j.work)
		s.shrink[c] = max(leastShrink, d/(d+n/shrinkRows))
		if c >= j.firstSlow { // too few readings for a regression on so many: given the work alone
			s.shrink[c] = 1
		}
	}
	stat.Factor(g.L, g.Cov, s.ridge, j.work, s.shrink)
	j.inverse(g.Inv, g.Var, g)
	j.inverse(g.PInv, g.PVar, g)
	g.Factored, g.Pending = true, 0
}

// inverse turns healthy mean squares into the inverses of scales, drawn to the prior while there are few rows.
func (j *Judge) inverse(dst, square []float64, g *profile.Group) {
	d := len(j.cols)
	for k, v := range square {
		span, n := k/d, g.Streamed
		if g.Late.Has(k % d) {
			n = g.Tuned[k%d]
		}
		n /= spanRows[span]
		prior := spanPrior[span] * spanPrior[span]
		dst[k] = 1 / max(math.Sqrt((spanPriorRows*prior+n*v)/(spanPriorRows+n)), spanFloor[span])
	}
}
