package drift

import (
	"math"

	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// mixPeers rates the mixes of response sets that stir by what neither the instance's usual nor the middle of its
// peers' deviations covers: shares that all of them have are nobody's.
func (j *Judge) mixPeers() {
	s := &j.scratch
	for r := range s.index {
		if s.judged(r) {
			j.tracks[s.index[r]].mixPeers = 0
		}
	}
	for k := range j.sets {
		if j.sets[k].load {
			continue
		}
		for g := range s.group {
			if j.mixStirs(int32(g), k) {
				j.mixBeyond(int32(g), k)
			}
		}
	}
}

func (j *Judge) mixStirs(g int32, k int) bool {
	s := &j.scratch
	for r := s.group[g]; r >= 0; r = s.next[r] {
		if s.judged(int(r)) && j.tracks[s.index[r]].score[partSets+part(k)] >= release {
			return true
		}
	}
	return false
}

// mixBeyond does so for set k of one group.
func (j *Judge) mixBeyond(g int32, k int) {
	s, b := &j.scratch, &j.sets[k]
	n := b.end - b.begin
	s.mix = resize(s.mix, len(s.index)*n)
	s.mass = resize(s.mass, len(s.index))
	for r := s.group[g]; r >= 0; r = s.next[r] {
		s.mass[r] = j.mixShift(r, k, s.mix[int(r)*n:int(r+1)*n])
	}
	for c := range n {
		s.col = s.col[:0]
		for r := s.group[g]; r >= 0; r = s.next[r] {
			if s.judged(int(r)) && s.peer[r] && s.mass[r] > 0 {
				s.col = append(s.col, s.mix[int(r)*n+c])
			}
		}
		m := stat.MiddleOf(s.col)
		for r := s.group[g]; r >= 0; r = s.next[r] {
			v := &s.mix[int(r)*n+c]
			lo, hi := m.All()
			if s.peer[r] && s.mass[r] > 0 {
				lo, hi = m.Without(*v)
			}
			*v = beyond(*v, lo, hi)
		}
	}
	for r := s.group[g]; r >= 0; r = s.next[r] {
		if s.mass[r] > 0 {
			t := &j.tracks[s.index[r]]
			t.mixPeers = max(t.mixPeers, j.mixExcess(r, k, s.mix[int(r)*n:int(r+1)*n])/j.ladders[partSets+part(k)].low)
		}
	}
}

// mixShift writes what the shares of row r's window of set k exceed the usual ones by, and gives the window's counts, 0
// where it cannot be judged.
func (j *Judge) mixShift(r int32, k int, dst []float64) float64 {
	clear(dst)
	if !j.scratch.judged(int(r)) {
		return 0
	}
	p, t, s := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]], &j.sets[k]
	if p.Reference[k] < leastRef || p.Rows < p.Need {
		return 0
	}
	win := j.windowOf(p, s, int(t.window[k]))
	total := 0.0
	for _, v := range win {
		total += v
	}
	if total < leastCounts {
		return 0
	}
	for c, v := range win {
		dst[c] = v/total - p.Ref[s.begin+c]/p.Reference[k]
	}
	return total
}

// mixExcess is the deviation of row r's mix of set k if its shares had moved by shift alone.
func (j *Judge) mixExcess(r int32, k int, shift []float64) float64 {
	s := &j.scratch
	p, b := &s.profiles[r], &j.sets[k]
	share := s.share[b.begin:b.end]
	shares(share, p.Ref[b.begin:b.end], j.windowOf(p, b, profile.Windows-1), p.Reference[k])
	sum := 0.0
	for c := range shift {
		if shift[c] != shift[c] {
			return 0 // no peer's mix is known
		}
		shift[c] = max(0, share[c]+shift[c])
		sum += shift[c]
	}
	if sum == 0 {
		return 0
	}
	for c := range shift {
		shift[c] *= s.mass[r] / sum
	}
	g := &s.groups[p.Group]
	gt, total, used := stat.GTest(shift, share)
	return math.Sqrt(max(0, gt/overdispersed(p, g, k, total)-float64(max(used-1, 0))))
}
