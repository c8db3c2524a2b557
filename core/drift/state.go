package drift

import (
	"encoding/binary"
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

// coder writes numbers to a buffer or reads them off one, so that one list of fields serves both. What is not there to
// be read, or is not finite, is 0 and sets bad.
type coder struct {
	buf   []byte
	reads bool
	bad   bool
}

func (c *coder) u64(v *uint64) {
	if !c.reads {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *v)
		return
	}
	if len(c.buf) < 8 {
		*v, c.bad, c.buf = 0, true, nil
		return
	}
	*v = binary.LittleEndian.Uint64(c.buf)
	c.buf = c.buf[8:]
}

func (c *coder) u8(v *uint8) {
	if !c.reads {
		c.buf = append(c.buf, *v)
		return
	}
	if len(c.buf) < 1 {
		*v, c.bad = 0, true
		return
	}
	*v = c.buf[0]
	c.buf = c.buf[1:]
}

func (c *coder) float(v *float64) {
	u := math.Float64bits(*v)
	c.u64(&u)
	if !c.reads {
		return
	}
	if *v = math.Float64frombits(u); math.IsNaN(*v) || math.IsInf(*v, 0) {
		*v, c.bad = 0, true
	}
}

func (c *coder) floats(v ...*float64) {
	for i := range v {
		c.float(v[i])
	}
}

func (c *coder) vector(v []float64) {
	for i := range v {
		c.float(&v[i])
	}
}

func (c *coder) small(v ...*float32) {
	for i := range v {
		x := float64(*v[i])
		c.float(&x)
		*v[i] = float32(x)
	}
}

func (c *coder) flags(v ...*bool) {
	for i := range v {
		b := uint8(0)
		if *v[i] {
			b = 1
		}
		c.u8(&b)
		*v[i] = b != 0
	}
}

// integer codes any whole number.
func integer[T ~int | ~int32 | ~int64 | ~uint16 | ~uint32 | ~uint64](c *coder, v ...*T) {
	for i := range v {
		u := uint64(*v[i])
		c.u64(&u)
		*v[i] = T(u)
	}
}

// name codes a number of an enumeration, which ends at last.
func name[T ~uint8](c *coder, v *T, last T) {
	b := uint8(*v)
	c.u8(&b)
	*v = min(T(b), last)
}

// judgeState is what a checkpoint says of the judge itself.
type judgeState struct {
	tick        uint64
	last        ft.Instant
	falseAlarms float64
	rankLow     float64
	ladders     [parts]ladder
	pool        poolTrack
}

func (j *Judge) state() judgeState {
	return judgeState{j.tick, j.last, j.config.FalseAlarms, j.rankLow, j.ladders, j.pool}
}

func (s *judgeState) code(c *coder) {
	integer(c, &s.tick)
	integer(c, &s.last)
	c.floats(&s.falseAlarms, &s.rankLow)
	for k := range s.ladders {
		l := &s.ladders[k]
		c.float(&l.low)
		c.vector(l.level[:])
	}
	q := &s.pool
	integer(c, &q.members, &q.callers, &q.outside, &q.toldAgo)
	integer(c, pointers(q.along[:])...)
	c.flags(&q.frozen)
	q.code(c)
	codeVerdict(c, &q.verdict)
	codeVerdict(c, &q.told)
}

func pointers[T any](v []T) []*T {
	p := make([]*T, len(v))
	for i := range v {
		p[i] = &v[i]
	}
	return p
}

func (e *episode) code(c *coder) {
	c.flags(&e.on)
	integer(c, &e.rise)
	integer(c, &e.below, &e.lower)
	name(c, &e.level, ft.Critical)
	name(c, &e.most, ft.Critical)
	name(c, &e.cause, ft.DependencyChanged)
}

func (t *track) code(c *coder) {
	integer(c, &t.slot)
	integer(c, &t.seen, &t.grows)
	integer(c, &t.idle, &t.slopeCol, &t.slopeScale, &t.called, &t.stirred, &t.roused, &t.toldAgo)
	c.flags(&t.held, &t.outside, &t.falls, &t.frozen)
	c.flags(pointers(t.common[:])...)
	c.floats(&t.age, &t.widen, &t.apart, &t.routes, &t.mix, &t.mixPeers, &t.calls, &t.rest, &t.worked, &t.ranked, &t.longApart)
	for _, v := range [...][]float64{t.dev[:], t.score[:], t.rho[:], t.alike[:]} {
		c.vector(v)
	}
	c.u8(&t.place)
	for i := range t.recent {
		c.vector(t.recent[i][:])
	}
	for i := range t.stale {
		c.u8(&t.stale[i])
	}
	for i := range t.window {
		c.u8(&t.window[i])
	}
	integer(c, pointers(t.above[:])...)
	name(c, &t.lasts, ft.DependencyChanged)
	t.episode.code(c)
	codeVerdict(c, &t.verdict)
	codeVerdict(c, &t.told)
}

// fit keeps what was read within the bounds of the judge's tables.
func (t *track) fit(j *Judge) {
	if t.slot >= maxSlots {
		t.slot = -1
	}
	t.slot = max(t.slot, -1)
	t.place %= profile.Recent
	t.slopeCol = min(max(t.slopeCol, -1), len(j.cols)-1)
	t.slopeScale = min(max(t.slopeScale, 0), dayScale)
	for k := range t.window {
		t.window[k] = min(t.window[k], uint8(len(windowKeep)-1))
	}
	for c := range t.stale {
		t.stale[c] = min(t.stale[c], staleRows)
	}
}

func codeVerdict(c *coder, v *ft.Verdict) {
	integer(c, &v.Slot)
	integer(c, &v.Life)
	c.flags(&v.Pool)
	name(c, &v.Level, ft.Critical)
	name(c, &v.Cause, ft.DependencyChanged)
	name(c, &v.Extent, ft.WholePool)
	name(c, &v.Channel, ft.PoolWide)
	c.small(&v.Score, &v.SelfLoad, &v.SelfResp, &v.PeersLoad, &v.PeersResp, &v.Categories, &v.Shared, &v.Progress)
	integer(c, &v.Since)
	integer(c, &v.Members)
	for i := range v.Why {
		w := &v.Why[i]
		c.u8(&w.Dim)
		c.u8(&w.N)
		c.small(&w.Z, &w.Value, &w.Usual)
	}
	c.u8(&v.Forecast.Dim)
	integer(c, &v.Forecast.At)
	c.small(&v.Forecast.Slope, &v.Forecast.Limit)
}
