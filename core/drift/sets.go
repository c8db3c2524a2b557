package drift

import (
	"fmt"
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// set is one of the schema's category sets with what the judge needs to know of it.
type set struct {
	begin, end int     // its counts in a row
	load       bool    // its mix is asked for, not answered
	every      float64 // rows from one reading to the next, at least 1
	memory     float64 // readings in which its reference forgets
}

// What the comparison of category counts rests on. Windows and references are in readings: rows, for all but slow sets.
var windowKeep = [profile.Windows]float64{1 - 1.0/4, 1 - 1.0/20}

const (
	leastCounts = 20   // windows with fewer counts are not compared
	leastCount  = 0.5  // of a category, decayed, is none
	leastRef    = 200  // nor are references with fewer
	leastFed    = 12   // readings of a slow set; one of them may hold very many counts, all alike
	rhoFloor    = 0.01 // correlation of counts: differences of shares by a few per cent are no drift
	rhoMost     = 0.1
	rhoPrior    = 200    // rows that the floor is worth
	rhoLeast    = 4      // readings that it is worth at least
	unseenShare = 0.02   // of the reference is spread over all categories: what was never seen is rare, not impossible
	refRows     = 1200.0 // the reference forgets in so many rows
	refLeast    = 60.0   // readings, at least
	stirs       = 0.4    // of its threshold: from here on a set hardly teaches its reference
	lastingRows = 3      // readings besides the newest that a response mix must be strange in
	trickle     = 0.05   // of a row's weight is learnt then: what stays for hours is usual
	lentShare   = 0.1    // of the group's reference begins that of a new life
	spreadEvery = 64     // rows between two comparisons of a member's reference with its group's
	spreadPrior = 0.02   // how members' references are taken to differ at first
	spreadRows  = 4      // comparisons that this is worth
)

func (j *Judge) arrangeSets() error {
	sets := j.schema.Sets()
	if len(sets) > profile.MaxSets {
		return fmt.Errorf("drift: %d category sets, at most %d", len(sets), profile.MaxSets)
	}
	begin := 0
	for i := range sets {
		s := set{begin: begin, end: begin + sets[i].Size, load: sets[i].Role == ft.Load, every: 1}
		if sets[i].Every > j.config.Interval {
			s.every = float64(sets[i].Every) / float64(j.config.Interval)
		}
		s.memory = max(refRows/s.every, refLeast)
		j.sets = append(j.sets, s)
		begin = s.end
	}
	return nil
}

func (s *set) slow() bool { return s.every > 1 }

// none tells whether nothing was counted.
func none(counts []uint32) bool {
	for _, v := range counts {
		if v != 0 {
			return false
		}
	}
	return true
}

// countsOf are row r's counts of a set.
func (j *Judge) countsOf(f *ft.Frame, r int, s *set) []uint32 {
	n := j.schema.Categories()
	return f.Counts[r*n+s.begin : r*n+s.end]
}

// windowOf is window k of a set.
func (j *Judge) windowOf(p *profile.Profile, s *set, k int) []float64 {
	n := j.schema.Categories()
	return p.Window[k*n+s.begin : k*n+s.end]
}

// categories folds the row's counts and rates the mix of each set. A set without counts is not judged: what it was
// rated at holds for two of its readings, then it is taken to be usual.
func (j *Judge) categories(f *ft.Frame, r int, p *profile.Profile, g *profile.Group, t *track) {
	for k := range j.sets {
		s := &j.sets[k]
		t.rho[k] = -1
		counts := j.countsOf(f, r, s)
		if none(counts) {
			if p.Waits[k]++; p.Waits[k] > 2*s.every+staleRows {
				t.dev[partSets+part(k)] = 0
			}
			continue
		}
		p.Waits[k] = 0
		for w, keep := range windowKeep {
			win := j.windowOf(p, s, w)
			for c, v := range counts {
				win[c] = win[c]*keep + float64(v)
			}
		}
		t.dev[partSets+part(k)] = t.lasting(k, j.mixture(p, g, t, k), s)
	}
}

// lasting is the least of the last deviations of a response set, as the median of a column's innovations leaves no trace
// of a few wild ones; what is asked for must not lag, since responses follow it at once.
func (t *track) lasting(k int, v float64, s *set) float64 {
	if s.load {
		return v
	}
	last := &t.recent[k]
	least := min(v, last[0])
	if !s.slow() {
		least = min(least, last[1], last[2])
	}
	last[2], last[1], last[0] = last[1], last[0], v
	return least
}

// mixture is the deviation of the windows of set k from its reference: the root of the greatest excess of G, divided by
// the over-dispersion of healthy windows, over its degrees of freedom.
func (j *Judge) mixture(p *profile.Profile, g *profile.Group, t *track, k int) float64 {
	s := &j.sets[k]
	if p.Reference[k] < leastRef || s.slow() && p.Fed[k] < leastFed {
		return 0
	}
	share := j.scratch.share[s.begin:s.end]
	shares(share, p.Ref[s.begin:s.end], j.windowOf(p, s, profile.Windows-1), p.Reference[k])
	best := 0.0
	for w := range windowKeep {
		gt, total, used := stat.GTest(j.windowOf(p, s, w), share)
		if total < leastCounts || used < 2 {
			continue
		}
		free := float64(used - 1)
		if w == profile.Windows-1 {
			t.rho[k] = max(0, (gt/free-1-total/p.Reference[k])/(total-1))
		}
		if v := gt/overdispersed(p, g, k, total) - free; v > best {
			best = v
			t.window[k] = uint8(w)
		}
	}
	return math.Sqrt(best)
}

// overdispersed is the factor by which G of so many counts exceeds chi-square in healthy time; more where the reference
// is not the instance's own.
func overdispersed(p *profile.Profile, g *profile.Group, k int, total float64) float64 {
	phi := stat.Overdispersion(total, max(rhoFloor, g.Rho[k]), p.Reference[k])
	if p.Lent[k] > 0 {
		phi += total * spread(g, k) * p.Lent[k] / p.Reference[k]
	}
	return phi
}

// spread is how much the references of the group's members differ, as a share of their counts.
func spread(g *profile.Group, k int) float64 {
	return (spreadRows*spreadPrior + g.SpreadRows[k]*g.Spread[k]) / (spreadRows + g.SpreadRows[k])
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
		if dst[c] > 0 {
			dst[c] = (1-unseenShare)*ref[c]/total + unseenShare/known
		}
	}
}

// learnSets folds the row's counts into the references of the sets that have any.
func (j *Judge) learnSets(f *ft.Frame, r int, p *profile.Profile, g *profile.Group, t *track) {
	for k := range j.sets {
		s := &j.sets[k]
		counts := j.countsOf(f, r, s)
		if none(counts) {
			continue
		}
		share := t.teaches(k)
		keep := 1 - share/s.memory
		p.Reference[k] *= keep
		p.Lent[k] *= keep
		p.Fed[k] += share
		ref := p.Ref[s.begin:s.end]
		for c, v := range counts {
			ref[c] = ref[c]*keep + share*float64(v)
			p.Reference[k] += share * float64(v)
		}
	}
	if p.Lived >= j.learn && (j.tick+uint64(r))%spreadEvery == 0 {
		for k := range j.sets {
			j.share(p, g, k)
		}
	}
}

// teaches is the weight of a row for the reference of set k.
func (t *track) teaches(k int) float64 {
	if t.score[partSets+part(k)] >= stirs {
		return trickle
	}
	return 1
}

// share moves the group's reference of set k towards a member's, and learns how far members are from it.
func (j *Judge) share(p *profile.Profile, g *profile.Group, k int) {
	s := &j.sets[k]
	if p.Reference[k] < leastRef || p.Lent[k] > p.Reference[k]/4 {
		return
	}
	own, ref := p.Ref[s.begin:s.end], g.Ref[s.begin:s.end]
	total := 0.0
	for _, v := range ref {
		total += v
	}
	if total == 0 {
		copy(ref, own)
		return
	}
	share := j.scratch.share[s.begin:s.end]
	shares(share, ref, own, total)
	if gt, n, used := stat.GTest(own, share); used > 1 {
		v := min(max(0, (gt/float64(used-1)-1-n/total)/n), 1)
		g.Spread[k] += stat.Step(g.SpreadRows[k], 1, spreadEvery/scatterRows) * (v - g.Spread[k])
		g.SpreadRows[k]++
	}
	a := stat.Step(g.SpreadRows[k], 1, spreadEvery/(locationSpans*j.learn))
	for c, v := range own {
		ref[c] += a * (v - ref[c])
	}
}

// lend starts the references of a new life with those of its group.
func (j *Judge) lend(p *profile.Profile, g *profile.Group) {
	for k := range j.sets {
		s := &j.sets[k]
		total := 0.0
		for c := s.begin; c < s.end; c++ {
			p.Ref[c] = lentShare * g.Ref[c]
			total += p.Ref[c]
		}
		p.Reference[k], p.Lent[k], p.Fed[k] = total, total, 0
		if total > 0 {
			p.Fed[k] = leastFed
		}
	}
}

// learnRho learns how correlated the counts of healthy windows are.
func (j *Judge) learnRho(g *profile.Group, t *track) {
	for k := range j.sets {
		if t.rho[k] < 0 {
			continue
		}
		s := &j.sets[k]
		prior := max(rhoPrior/s.every, rhoLeast)
		a := stat.Step(g.RhoRows[k]+prior, 1, s.every/scatterRows) * t.teaches(k)
		g.Rho[k] += a * (min(t.rho[k], rhoMost) - g.Rho[k])
		g.RhoRows[k]++
	}
}

// candidateSets folds the row's counts into the references of the candidate.
func (j *Judge) candidateSets(f *ft.Frame, r int, p *profile.Profile) {
	for k := range j.sets {
		s := &j.sets[k]
		counts := j.countsOf(f, r, s)
		if none(counts) {
			continue
		}
		keep := 1 - 1/s.memory
		for c, v := range counts {
			ref := &p.RefCand[s.begin+c]
			*ref = *ref*keep + float64(v)
		}
	}
}

// adoptSets takes the candidate's references.
func (j *Judge) adoptSets(p *profile.Profile) {
	for k := range j.sets {
		s := &j.sets[k]
		total := 0.0
		for _, v := range p.RefCand[s.begin:s.end] {
			total += v
		}
		if total < leastRef { // too little was counted to replace what is known
			continue
		}
		copy(p.Ref[s.begin:s.end], p.RefCand[s.begin:s.end])
		p.Reference[k], p.Lent[k], p.Fed[k] = total, 0, leastFed
	}
}
