package drift

import (
	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// candidate learns the present behaviour beside the frozen profile and adopts it when it has lasted, does not grow,
// and, unless the work explains it, harms nobody.
func (j *Judge) candidate(f *ft.Frame, r int, p *profile.Profile, t *track) {
	s, d := &j.scratch, len(j.cols)
	if p.Candidate == 0 {
		copy(p.Cand, p.Mu)
		clear(p.RefCand)
	}
	least := 1 / (locationSpans * j.learn)
	a := stat.Step(p.Candidate, forget, least)
	for c, v := range s.y[r*d : (r+1)*d] {
		if !s.read[r].Has(c) {
			continue
		}
		w := a
		if c >= j.firstSlow {
			every := j.cols[c].every
			w = stat.Step(p.Candidate/every, forget, min(1, every*least))
		}
		p.Cand[c] += w * (v - p.Cand[c])
	}
	j.candidateSets(f, r, p)
	p.Candidate++
	due := adoptSpans * j.learn
	work := t.cause == ft.WorkloadChanged || !t.on && j.pool.cause == ft.WorkloadChanged
	if !work {
		due = adoptSick * j.learn
	}
	if p.Candidate < due || t.score[partSlope] >= release || !work && !j.harmless(p) {
		return
	}
	copy(p.Mu, p.Cand)
	copy(p.Fast, p.Cand)
	j.adoptSets(p)
	for c := range p.Seen {
		p.Seen[c] = min(p.Seen[c], j.learn)
	}
	p.Rows, p.Candidate = j.learn, 0
	t.quiet(p)
	t.episode, t.worked, t.frozen = episode{}, 0, false
}

// harmless tells whether the candidate leaves latency and errors as they were and stays near the anchor in what can
// grow without bound.
func (j *Judge) harmless(p *profile.Profile) bool {
	g := &j.scratch.groups[p.Group]
	for c := j.work; c < len(j.cols); c++ {
		col := &j.cols[c]
		if objective := col.Unit == "s" || col.Name == ft.DimErrors; objective && p.Cand[c] > p.Mu[c]+2*g.Scale[c] {
			return false
		}
		if col.slope >= 0 && p.Anchored && col.back(p.Cand[c]) > 2*col.back(p.Anchor[c])+col.material(0) {
			return false
		}
	}
	return true
}
