package drift

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// A checkpoint, little-endian: "FTLJ", u16 version, u32 length of the bank's checkpoint and that (see core/profile), the
// judge's own state, the state of each verdict in the order of the profiles, and u32 CRC-32C of all before.
const (
	checkpointMagic   = "FTLJ"
	checkpointVersion = 3
	checkpointHead    = len(checkpointMagic) + 2 + 4
)

// AppendBinary appends a checkpoint of all that was learnt and of all that is under way: whoever restores it goes on
// exactly as this judge does.
func (j *Judge) AppendBinary(dst []byte) ([]byte, error) {
	from := len(dst)
	dst = append(dst, checkpointMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, checkpointVersion)
	dst = append(dst, 0, 0, 0, 0)
	bank := len(dst)
	dst, err := j.bank.AppendBinary(dst, j.schema.Digest())
	if err != nil {
		return nil, fmt.Errorf("drift: write checkpoint: %w", err)
	}
	binary.LittleEndian.PutUint32(dst[bank-4:], uint32(len(dst)-bank))
	c := coder{buf: dst}
	s := j.state()
	s.code(&c)
	for _, i := range j.bank.Order() {
		j.tracks[i].code(&c)
	}
	return binary.LittleEndian.AppendUint32(c.buf, crc32.Checksum(c.buf[from:], crc32.MakeTable(crc32.Castagnoli))), nil
}

// UnmarshalBinary restores a checkpoint of the same schema. Instances find their profiles by Life when they appear
// in a frame; those that do not appear are forgotten after a while. What was told before is not told again: where that
// may be lost, see [Judge.Retell]. On an error, which a checkpoint of another version is too, the judge is unchanged.
func (j *Judge) UnmarshalBinary(b []byte) error {
	bank, c, err := j.open(b)
	if err != nil {
		return fmt.Errorf("drift: restore checkpoint: %w", err)
	}
	state, tracks := judgeState{}, make([]track, bank.Len())
	state.code(c)
	for i := range tracks {
		tracks[i].code(c)
		tracks[i].fit(j)
	}
	if c.bad || len(c.buf) > 0 {
		return fmt.Errorf("drift: restore checkpoint: %w: its length does not fit its counts, or a number is not finite", profile.ErrCorrupt)
	}
	tails := j.shippedTails()
	for i := range tails { // calibrated against other shipped tails, counts say nothing
		if i < len(bank.Tails) && bank.Tails[i].Threshold == tails[i].Threshold && sane(&bank.Tails[i]) {
			tails[i].Days, tails[i].Counts = bank.Tails[i].Days, bank.Tails[i].Counts
		}
	}
	bank.Tails = tails
	j.bank, j.tracks = bank, tracks
	j.tick, j.last, j.pool, j.rankLow = state.tick, state.last, state.pool, max(0, state.rankLow)
	j.scratch = scratch{}
	j.settleRestored()
	j.setLadders()
	if state.falseAlarms == j.config.FalseAlarms && !slices.ContainsFunc(state.ladders[:j.parts()], func(l ladder) bool { return !(l.low > 0) }) {
		j.ladders = state.ladders // of when they were last set, not of now
	}
	return nil
}

// open checks a checkpoint's frame and takes the bank out of it.
func (j *Judge) open(b []byte) (*profile.Bank, *coder, error) {
	if len(b) < checkpointHead+4 {
		return nil, nil, fmt.Errorf("%w: %d bytes are too few", profile.ErrCorrupt, len(b))
	}
	magic, version := string(b[:len(checkpointMagic)]), binary.LittleEndian.Uint16(b[len(checkpointMagic):])
	if magic != checkpointMagic || version != checkpointVersion {
		return nil, nil, fmt.Errorf("%w: it begins with %q, version %d, and may be of an earlier release; this one reads %q, version %d",
			profile.ErrCorrupt, magic, version, checkpointMagic, checkpointVersion)
	}
	body := b[:len(b)-4]
	if got, sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)), binary.LittleEndian.Uint32(b[len(b)-4:]); got != sum {
		return nil, nil, fmt.Errorf("%w: checksum %08x, want %08x", profile.ErrCorrupt, got, sum)
	}
	n, body := uint64(binary.LittleEndian.Uint32(b[checkpointHead-4:])), body[checkpointHead:]
	if n > uint64(len(body)) {
		return nil, nil, fmt.Errorf("%w: a bank of %d bytes in %d", profile.ErrCorrupt, n, len(body))
	}
	bank, err := profile.Decode(body[:n], j.schema.Digest(), j.shape())
	return bank, &coder{buf: body[n:], reads: true}, err
}

// settleRestored makes a bank that was read fit for use and finds the slots of its lives.
func (j *Judge) settleRestored() {
	clear(j.slots)
	for g := range j.bank.Groups() {
		group := j.bank.Group(int32(g))
		group.Settle()
	}
	for i := range j.tracks {
		p, t := j.bank.At(int32(i)), &j.tracks[i]
		p.Settle()
		t.verdict.Life = p.Life
		if t.slot < 0 {
			continue
		}
		if n := int(t.slot) + 1 - len(j.slots); n > 0 {
			j.slots = append(j.slots, make([]int32, n)...)
		}
		if k := j.slots[t.slot]; k > 0 {
			j.tracks[k-1].slot = -1
		}
		j.slots[t.slot] = int32(i) + 1
	}
}

// Retell lets the next frame tell all verdicts, whatever was told before: for one whose listeners may know less, or
// other things, than a restored checkpoint presumes.
func (j *Judge) Retell() {
	for i := range j.tracks {
		j.tracks[i].told, j.tracks[i].toldAgo = ft.Verdict{}, 0
	}
	j.pool.told, j.pool.toldAgo = ft.Verdict{}, 0
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
