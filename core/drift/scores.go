package drift

import (
	"cmp"
	"math"

	ft "github.com/fettle-dev/fettle"
)

// Scores is how far one row of the last frame deviated in each channel: deviations divided by their thresholds, so that
// 1 is where level Low begins. NaN is what could not be compared.
type Scores struct {
	Slot ft.Slot
	// Self is against the instance's own past: the greatest of load, responses, growth and category sets.
	Self float64
	// Raised is Self by the thresholds that were raised for what the pool shares. The other channels are never raised.
	Raised float64
	// Peers is against the members that do the same work; NaN where there are none.
	Peers float64
	// Pool is that of the pool's verdict: the median of all members against its own past; NaN for a pool of one.
	Pool float64
}

// Best is the greatest of the channels before coherence, NaN where nothing was judged.
func (s *Scores) Best() float64 {
	best := math.NaN()
	for _, v := range [...]float64{s.Self, s.Peers, s.Pool} {
		if v == v && !(best > v) {
			best = v
		}
	}
	return best
}

// Scores appends those of the rows of the frame that was observed last, in its order. Where [Judge.Verdict] holds the
// levels of an episode, scores are of the row alone: rank rows by them. Rows out of service and those of instances that are
// still being learnt have no scores.
func (j *Judge) Scores(dst []Scores) []Scores {
	s := &j.scratch
	pool := math.NaN()
	if j.pool.members > 1 {
		pool = float64(j.pool.verdict.Score)
	}
	for r := range s.index {
		none := math.NaN()
		out := Scores{Self: none, Raised: none, Peers: none, Pool: none}
		if i := s.index[r]; i >= 0 {
			t := &j.tracks[i]
			out.Slot = ft.Slot(max(t.slot, 0))
			if s.judged(r) && t.verdict.Level != ft.Learning {
				j.scoresOf(&out, r, t)
				out.Pool = pool
			}
		}
		dst = append(dst, out)
	}
	return dst
}

// scoresOf fills the channels of a judged row.
func (j *Judge) scoresOf(out *Scores, r int, t *track) {
	p := &j.scratch.profiles[r]
	out.Self, out.Raised = 0, 0
	for k := range j.parts() {
		if k != partPeers {
			v := t.score[k]
			if k == partStreams && j.counts(p, k) {
				v = t.ranked / (1 + cmp.Or(j.rankLow, j.ladders[k].low))
			}
			out.Self = max(out.Self, v)
			out.Raised = max(out.Raised, t.score[k]/j.raise(t, k))
		}
	}
	if j.compared(r) {
		out.Peers = max(t.score[partPeers], t.mixPeers, t.longApart)
	}
}

// compared tells whether row r had a peer.
func (j *Judge) compared(r int) bool {
	s := &j.scratch
	for o := s.group[s.profiles[r].Group]; o >= 0; o = s.next[o] {
		if int(o) != r && s.peer[o] {
			return true
		}
	}
	return false
}
