package drift

import (
	"math"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// scored runs a world until a row and gives the scores of each row from begin on, checked against the verdicts.
func scored(t *testing.T, w *world, j *Judge, begin, until int) [][]Scores {
	t.Helper()
	var out [][]Scores
	for w.t < until {
		f := w.next()
		j.Observe(nil, f)
		s := j.Scores(nil)
		if len(s) != len(f.Rows) {
			t.Fatalf("%d scores of %d rows", len(s), len(f.Rows))
		}
		for r := range s {
			v := j.Verdict(f.Rows[r].Slot)
			switch {
			case s[r].Slot != f.Rows[r].Slot:
				t.Fatalf("row %d is of slot %d, scores of slot %d", r, f.Rows[r].Slot, s[r].Slot)
			case v.Level == ft.Learning:
				if b := s[r].Best(); b == b {
					t.Fatalf("row %d: %g while it is being learnt", w.t, b)
				}
			case float32(s[r].Raised) > v.Score, s[r].Raised > s[r].Self, s[r].Self > s[r].Best():
				t.Fatalf("row %d: self %g, raised %g, best %g, told %g", w.t, s[r].Self, s[r].Raised, s[r].Best(), v.Score)
			}
		}
		if w.t >= begin {
			out = append(out, s)
		}
	}
	return out
}

func most(rows [][]Scores, r int, of func(*Scores) float64) float64 {
	m := math.Inf(-1)
	for _, s := range rows {
		m = max(m, of(&s[r]))
	}
	return m
}

// TestScoresOfOneSick: its peers channel tells it from the others, whose channels stay below the threshold.
func TestScoresOfOneSick(t *testing.T) {
	w := newWorld(4, 31)
	w.faults = []fault{{at: 400, victim: 2, lock: 0.02}}
	rows := scored(t, w, newJudge(t, w, Config{}), 460, 520)
	for r := range 4 {
		peers := most(rows, r, func(s *Scores) float64 { return s.Peers })
		if (peers >= 1) != (r == 2) {
			t.Errorf("member %d: peers %.2f", r, peers)
		}
		// Each channel is in its own thresholds, and the more sensitive one leads.
		if self := most(rows, r, func(s *Scores) float64 { return s.Self }); r == 2 && self >= peers {
			t.Errorf("self %.2f of a shift that all but one lack, peers %.2f", self, peers)
		}
	}
}

// TestScoresOfAll: a cause that all share raises their thresholds, which the score to rank by does not know.
func TestScoresOfAll(t *testing.T) {
	w := newWorld(4, 32)
	w.faults = []fault{{at: 400, victim: -1, lock: 0.02}}
	rows := scored(t, w, newJudge(t, w, Config{}), 460, 520)
	for r := range 4 {
		self := most(rows, r, func(s *Scores) float64 { return s.Self })
		raised := most(rows, r, func(s *Scores) float64 { return s.Raised })
		peers := most(rows, r, func(s *Scores) float64 { return s.Peers })
		pool := most(rows, r, func(s *Scores) float64 { return s.Pool })
		if self < 1 || pool < 1 || peers >= 1 || raised > self/2 {
			t.Errorf("member %d: self %.2f, raised %.2f, peers %.2f, pool %.2f", r, self, raised, peers, pool)
		}
	}
}

// TestScoresWithoutPeers: what there is nothing to compare with has no score.
func TestScoresWithoutPeers(t *testing.T) {
	w := newWorld(1, 33)
	w.faults = []fault{{at: 300, victim: 0, lock: 0.02}}
	rows := scored(t, w, newJudge(t, w, Config{}), 300, 400)
	for _, s := range rows {
		if s[0].Peers == s[0].Peers || s[0].Pool == s[0].Pool {
			t.Fatalf("peers %g, pool %g", s[0].Peers, s[0].Pool)
		}
	}
	if self := most(rows, 0, func(s *Scores) float64 { return s.Self }); self < 1 {
		t.Errorf("self %.2f", self)
	}
}

// TestScoresOutOfService: a row out of service is compared with nothing, and is nobody's peer.
func TestScoresOutOfService(t *testing.T) {
	w := newWorld(2, 34)
	j := newJudge(t, w, Config{})
	scored(t, w, j, 0, 200)
	f := w.next()
	f.Rows[1].Serving = false
	j.Observe(nil, f)
	s := j.Scores(nil)
	if b := s[1].Best(); b == b {
		t.Errorf("out of service: %g", b)
	}
	if s[0].Self != s[0].Self || s[0].Peers == s[0].Peers || s[0].Pool == s[0].Pool {
		t.Errorf("beside it: %+v", s[0])
	}
}
