package drift

import (
	"fmt"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// AppendBinary appends a checkpoint of all that was learnt, in the format of core/profile. Verdicts are not in it:
// they come again from the first frames.
func (j *Judge) AppendBinary(dst []byte) ([]byte, error) {
	return j.bank.AppendBinary(dst, j.schema.Digest())
}

// UnmarshalBinary restores a checkpoint of the same schema. Instances find their profiles by Life when they appear
// in a frame; those that do not appear are forgotten after a while. On an error the judge is unchanged.
func (j *Judge) UnmarshalBinary(b []byte) error {
	bank, err := profile.Decode(b, j.schema.Digest(), j.shape())
	if err != nil {
		return fmt.Errorf("drift: restore checkpoint: %w", err)
	}
	tails := shippedTails()
	for i := range tails { // calibrated against other shipped tails, counts say nothing
		if i < len(bank.Tails) && bank.Tails[i].Threshold == tails[i].Threshold && sane(&bank.Tails[i]) {
			tails[i].Days, tails[i].Counts = bank.Tails[i].Days, bank.Tails[i].Counts
		}
	}
	bank.Tails = tails
	j.bank = bank
	j.tracks = make([]track, bank.Len())
	clear(j.slots)
	for i := range j.tracks {
		j.tracks[i] = track{slot: -1, seen: j.tick}
		p := bank.At(int32(i))
		p.Settle()
		j.tracks[i].verdict = ft.Verdict{Life: p.Life}
	}
	j.pool = poolTrack{verdict: ft.Verdict{Pool: true}}
	for g := range bank.Groups() {
		group := bank.Group(int32(g))
		group.Settle()
		if group.Rows >= 2*quickRows {
			j.scratch.size(0, len(j.cols), j.schema.Categories(), 0)
			j.factor(&group, group.Mu)
		}
	}
	j.setLadders()
	return nil
}

// sane tells whether a calibration is one that counting can lead to.
func sane(r *stat.Runs) bool {
	for _, n := range r.Counts {
		if n < 0 {
			return false
		}
	}
	return r.Days >= 0
}
