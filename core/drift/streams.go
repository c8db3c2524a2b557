package drift

import (
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// The streams: three ways to look at a row.
const (
	ofLevel = iota // its level, less what the time of day explains, against what was learnt first
	ofHours        // its deviation from a mean of the last hours
	ofStep         // its difference from the row before
)

// LongLeast is how many rows, each a minute or more from the next, must be learnt before what happens over hours and days is
// judged. A [Config] whose Learn has as many says when that is; else it is after two days.
const LongLeast = 600

const (
	longRow      = time.Minute    // rows of the streams are at least so far apart: means of the frames between
	longLearn    = 48 * time.Hour // learnt first, unless Learn is long enough
	longAnchor   = 7 * 24 * time.Hour
	fromDays     = 2   // before, and before a quarter of what is learnt, rows have no say in what is usual
	memoryDays   = 7   // half-life of what goes on learning
	hours        = 3   // of the mean that ofHours is against
	longClip     = 200 // squares of innovations count at most so much
	longRidge    = 1e-3
	longFew      = 1e-2 // of variance more, divided by the rows
	longRefresh  = 32   // rows between factorisations, a quarter of it while there are few
	longWinsor   = 6    // standard deviations that one column teaches at most
	winsorRows   = 100
	strangeAt    = 2 // mean square of innovations from which on a row teaches in inverse proportion to it
	strangeRows  = 200
	strangeLog   = 1 // what the level's form must exceed the usual one by, as a logarithm, to be adopted,
	strangeDays  = 0.5
	adoptDays    = 0.25 // half-life of that
	adoptSpan    = 30   // rows that the logarithm is smoothed over
	notStrange   = 3    // rows that a calm one takes back
	leanSpan     = 10
	knownLong    = 120 // rows of a new life of a group whose streams are known, before it is judged
	strangeWork  = 9   // mean square of the work's innovations from which on the work is another
	leastForm    = 1e-3
	mostForm     = 1e6              // of what is usual
	countFrom    = 1.5              // times what has no say: from here on alarm runs are counted, when the medians have settled
	peakFloor    = 0.1              // of the greatest magnitude of a column matters where no unit says it
	warmUp       = 10 * time.Minute // of a life, which say nothing of its usual
	medianSpread = 0.8              // of the logarithm of a form
)

// fades are the spans of the smoothed sum, in rows. Alarms are by the first ones: what takes hours to fade would hold them.
var fades = [profile.Fades]float64{3, 10, 30, 100, 300}

// floorShare is the least scale of each stream, as a part of the least deviation that matters.
var floorShare = [profile.Streams]float64{1, 0.3, 1}

// setSpans takes the judge's spans of the streams from its interval.
func (j *Judge) setSpans() {
	row := max(longRow, j.config.Interval)
	j.rowNanos = float64(row)
	j.recover = recoverRows
	if j.coarse = j.config.Interval >= longRow; j.coarse {
		j.recover = 1 // the streams are smooth
	}
	j.dayRows = max(profile.Bins, float64(24*time.Hour/row))
	learn, anchor := longLearn, longAnchor
	if j.config.Learn >= LongLeast*row {
		learn = j.config.Learn
	}
	j.longLearn = max(profile.Bins, float64(learn/row))
	j.longAnchor = max(j.longLearn, float64(anchor/row))
	j.hourPace = 1 - math.Exp(-24/(hours*j.dayRows))
	j.forget = 1 - math.Exp2(-1/(memoryDays*j.dayRows))
}

// gather folds row r into the row of the streams that is under way, and looks at that when it is complete.
func (j *Judge) gather(f *ft.Frame, r int) {
	s, d := &j.scratch, len(j.cols)
	if f.Rows[r].Held || f.Rows[r].Age < float32(warmUp/time.Second) {
		return
	}
	now := ft.InstantOf(f.At)
	p, t := &s.profiles[r], &j.tracks[s.index[r]]
	y := s.y[r*d : (r+1)*d]
	if j.coarse {
		j.look(now, p, t, y)
		return
	}
	l := &p.Long
	// Instances end their rows at different times: else all the work would come at once.
	bucket := math.Floor((float64(now) + float64(p.Life%60)*j.rowNanos/60) / j.rowNanos)
	if bucket != l.Bucket {
		if l.Count*2*float64(j.config.Interval) >= j.rowNanos {
			row := s.dev
			for c := range row {
				row[c] = math.NaN()
				if p.Sums[c] > 0 {
					row[c] = p.Sum[c] / p.Sums[c]
				}
			}
			j.look(now, p, t, row)
		} else {
			l.Broken = true
		}
		clear(p.Sum)
		clear(p.Sums)
		l.Bucket, l.Count = bucket, 0
	}
	l.Count++
	for c, v := range y {
		if v == v {
			p.Sum[c] += v
			p.Sums[c]++
		}
	}
}

// look takes a row of the streams: how far it is from what is usual, and learns it.
func (j *Judge) look(now ft.Instant, p *profile.Profile, t *track, row []float64) {
	d, s, l := len(j.cols), &j.scratch, &p.Long
	g := &s.groups[p.Group]
	streams := s.streams
	j.season(now, p, g, row, streams[:d])
	for c, v := range row {
		high, step := math.NaN(), math.NaN()
		if v == v {
			if !l.Had.Has(c) {
				l.Had = l.Had.With(c)
				p.Hours[c], p.Prev[c] = v, v
			}
			high = v - p.Hours[c]
			if !l.Broken {
				step = v - p.Prev[c]
			}
			p.Hours[c] += j.hourPace * high
			p.Prev[c] = v
			p.Peak[c] = max(p.Peak[c], math.Abs(v))
		}
		streams[ofHours*d+c], streams[ofStep*d+c] = high, step
	}
	l.Broken = false
	var forms [profile.Streams]float64
	for k := range profile.Streams {
		forms[k] = j.streamForm(k, p, g, streams[k*d:(k+1)*d])
	}
	l.Rows++
	g.Long.Members = max(1, g.Long.Members+(float64(s.members[p.Group])-g.Long.Members)/j.dayRows)
	j.sum(p, t, &forms)
	if l.Rows >= j.longLearn {
		j.lendLong(p, g)
	}
}

// lendLong keeps what the streams of a group's members are like, for those that begin.
func (j *Judge) lendLong(p *profile.Profile, g *profile.Group) {
	l, of := &p.Long, &g.Long
	a := 1 / (j.dayRows * of.Members)
	if !of.Ready {
		of.Ready, a = true, 1
		j.setLadders()
		j.rankLow = j.ladders[partStreams].low
	}
	for i, v := range p.Stream {
		g.StreamMu[i] += a * (v - g.StreamMu[i])
	}
	for k, v := range l.Usual {
		of.Usual[k] += a * (v - of.Usual[k])
	}
	of.Rank += a * (l.Rank - of.Rank)
	of.Warn += a * (l.Warn - of.Warn)
}

// beginLong starts the streams of a new life, with those of its group where these are known: then it is judged after
// knownLong rows of its own.
func (j *Judge) beginLong(p *profile.Profile, g *profile.Group) {
	p.ForgetLong()
	of := &g.Long
	if !of.Ready {
		return
	}
	l := &p.Long
	l.Rows = j.longLearn - min(knownLong, j.longLearn)
	l.Usual, l.Rank, l.Warn, l.Level, l.Recent = of.Usual, of.Rank, of.Warn, of.Usual[ofLevel], of.Usual[ofLevel]
	for k := range l.Heavy {
		l.Heavy[k] = knownLong
	}
	l.Calm()
	copy(p.Stream, g.StreamMu)
	for c, v := range g.Vary { // it goes along with the season as the group does
		p.Along[c], p.Square[c] = v/2, v/2
	}
}

// acceptLong takes the last hours for the usual level.
func (j *Judge) acceptLong(p *profile.Profile) {
	l := &p.Long
	for c, v := range p.Hours {
		if l.Had.Has(c) {
			p.Stream[ofLevel*len(j.cols)+c] = v
		}
	}
	clear(p.Lean)
	l.Level, l.Recent, l.Lasts, l.Work = l.Usual[ofLevel], l.Usual[ofLevel], 0, 0
	l.Calm()
}

// streamForm is the quadratic form of stream k, divided by the number of responses: of the innovations of the responses given
// the work, wider outside of its learnt range. It learns the stream.
func (j *Judge) streamForm(k int, p *profile.Profile, g *profile.Group, x []float64) float64 {
	s, d, l := &j.scratch, len(j.cols), &p.Long
	mu := p.Stream[k*d : (k+1)*d]
	_, factor := g.ScatterOf(k)
	known := factor[0] != 0
	form, square := 0.0, 0.0
	if known {
		z := s.white
		if missing := stat.Whiten(z, factor, x, mu); missing > 0 {
			stat.Discount(z, factor, x)
		}
		work := stat.Dot(z[:j.work], z[:j.work])
		wide := 1 + work/max(1, min(g.Long.Heavy[k], 2000)/rowsPer)
		for c := j.work; c < d; c++ {
			v := z[c] * z[c]
			square += v
			form += min(v/wide, longClip)
		}
		form /= float64(max(1, d-j.work))
		square = (square + work) / float64(d)
		if k < profile.Leans {
			lean := p.Lean[k*d : (k+1)*d]
			for c, v := range z {
				lean[c] += 2.0 / (leanSpan + 1) * (min(max(v/math.Sqrt(wide), -huberAt), huberAt) - lean[c])
			}
		}
		if k == ofLevel && j.work > j.firstLoad {
			load := stat.Dot(z[j.firstLoad:j.work], z[j.firstLoad:j.work]) / float64(j.work-j.firstLoad)
			l.Work += 2.0 / (leanSpan + 1) * (min(load, longClip) - l.Work)
		}
	}
	if k == ofLevel && l.Rows >= j.longAnchor {
		return form
	}
	j.learnStream(k, p, g, x, mu, square, known)
	return form
}

// learnStream folds x into a stream's mean, which is the instance's, and its scatter, which is the group's. Strange rows teach
// less (the weights of Maronna, Robust M-Estimators of Multivariate Location and Scatter, Annals of Statistics 4(1), 1976): the
// shift of one column by a standard deviation is little in that column, and much across columns that follow each other.
func (j *Judge) learnStream(k int, p *profile.Profile, g *profile.Group, x, mu []float64, square float64, known bool) {
	s, l, own := &j.scratch, &p.Long, &g.Long
	cov, _ := g.ScatterOf(k)
	weight := 1.0
	if known && own.Heavy[k] > strangeRows && square > strangeAt && (k != ofLevel || l.Rows >= j.longLearn) {
		weight = strangeAt / square
	}
	least := j.forget
	if k == ofLevel {
		least = 0
	}
	a := max(weight/(l.Heavy[k]+weight), weight*least)
	shared := max(weight/(own.Heavy[k]+weight), weight*least/max(1, own.Members))
	e, w := s.off, s.weight
	for c, v := range x {
		e[c], w[c] = v-mu[c], shared
		if e[c] != e[c] {
			continue
		}
		if known && own.Heavy[k] > winsorRows {
			most := longWinsor * math.Sqrt(max(cov[stat.PackedLen(c)+c], j.leastSquare(k, c, p)))
			e[c] = min(max(e[c], -most), most)
		}
		mu[c] += a * e[c]
	}
	stat.FoldCov(cov, e, w)
	l.Heavy[k] += weight
	own.Heavy[k] += weight
	if own.Pending[k]++; own.Pending[k] >= longRefresh || own.Heavy[k] < LongLeast && own.Pending[k] >= longRefresh/4 {
		own.Pending[k] = 0
		j.factorStream(k, p, g)
	}
}

// leastSquare is the square of the least scale of column c in stream k.
func (j *Judge) leastSquare(k, c int, p *profile.Profile) float64 {
	f := j.cols[c].streamFloor(p.Hours[c], p.Peak[c], k)
	return f * f
}

func (j *Judge) factorStream(k int, p *profile.Profile, g *profile.Group) {
	s := &j.scratch
	cov, factor := g.ScatterOf(k)
	for c := range j.cols {
		v := cov[stat.PackedLen(c)+c]
		floor := j.leastSquare(k, c, p)
		s.ridge[c] = max(floor-v, 0) + (longRidge+longFew/g.Long.Heavy[k])*max(v, floor)
		s.shrink[c] = 0
	}
	stat.Factor(factor, cov, s.ridge, 0, s.shrink)
}

// sum folds the forms of a row, divided by what is usual of each, into the smoothed sums, and rates these.
func (j *Judge) sum(p *profile.Profile, t *track, forms *[profile.Streams]float64) {
	l := &p.Long
	from := min(j.longLearn/4, fromDays*j.dayRows)
	if l.Rows < from {
		return
	}
	learns := l.Rows < j.longLearn
	rank, warn := 0.0, 0.0
	for k, v := range forms {
		log := math.Log(max(v, leastForm))
		if learns {
			l.Usual[k] = stat.FollowMedian(l.Usual[k], l.Rows-from, log, medianSpread)
		}
		rank += min(v/math.Exp(l.Usual[k]), mostForm)
		usual := l.Usual[k]
		if k == ofLevel {
			if l.Rows < j.longLearn {
				l.Level, l.Recent, l.Lasts = usual, usual, 0
			}
			usual = l.Level
			j.accustom(l, log)
		}
		warn += min(v/math.Exp(usual), mostForm)
	}
	rank, warn = fade(l.Ranks[:], rank), fade(l.Warns[:], warn)
	if learns {
		l.Rank = stat.FollowMedian(l.Rank, l.Rows-from, math.Log(max(rank, leastForm)), medianSpread)
		l.Warn = stat.FollowMedian(l.Warn, l.Rows-from, math.Log(max(warn, leastForm)), medianSpread)
	}
	t.ranked = rank / math.Exp(l.Rank)
	t.dev[partStreams] = max(0, warn/math.Exp(l.Warn)-1)
	if l.Rows < countFrom*from {
		return
	}
	// A threshold is not known before; then what is far above is no healthy time.
	days, limit := j.rowNanos/dayNanos, math.Inf(1)
	if l.Rows >= j.longLearn {
		limit = clipAlarm * j.ladders[partStreams].low
		if t.score[partStreams] >= 1 {
			days = 0
		}
	}
	t.above[partStreams] = j.bank.Tails[partStreams].Fold(t.above[partStreams], t.dev[partStreams], limit, days)
}

// fade smooths v over the first spans and gives their mean.
func fade(means []float64, v float64) float64 {
	sum := 0.0
	for k := range means {
		means[k] += 2 / (fades[k] + 1) * (v - means[k])
		sum += means[k]
	}
	return sum / float64(len(means))
}

// accustom adopts a level that lasts, so that its alarms end: what is usual of its form follows, and falls at once when the
// form does.
func (j *Judge) accustom(l *profile.Long, log float64) {
	l.Recent += 2.0 / (adoptSpan + 1) * (log - l.Recent)
	if l.Recent > l.Level+strangeLog {
		l.Lasts++
	} else {
		l.Lasts = max(0, l.Lasts-notStrange)
	}
	if l.Lasts > strangeDays*j.dayRows || l.Recent < l.Level {
		l.Level = max(l.Usual[ofLevel], l.Level+(1-math.Exp2(-1/(adoptDays*j.dayRows)))*(l.Recent-l.Level))
	}
}
