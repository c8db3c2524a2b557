package profile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

// ErrCorrupt is wrapped by the errors for checkpoints that are damaged or of another version, schema or shape.
var ErrCorrupt = errors.New("unusable checkpoint")

const (
	magic       = "FTLP"
	version     = 3
	flagPrior   = 1
	flagAnchor  = 2
	flagBroken  = 4
	flagBegun   = 1
	flagReady   = 2
	headerBytes = len(magic) + 2 + 8 + 6*2
	tailBytes   = 8 * (6 + stat.RunLevels)
	groupBytes  = 4 + 3*8 + 8*(3+Scales) + 8 + 1 + 8 + 1 + 8*(6+3*Streams)
	headBytes   = 8 + 4 + 4 + 2*8 + 8*4 + 1 + 8*2*Spans + Scales + 8 + 8*(9+2*Streams+Fades+Alerts)
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// AppendBinary appends a checkpoint of the bank in the format of the package documentation. digest identifies the
// schema.
func (b *Bank) AppendBinary(dst []byte, digest uint64) ([]byte, error) {
	from := len(dst)
	le := binary.LittleEndian
	dst = append(dst, magic...)
	dst = le.AppendUint16(dst, version)
	dst = le.AppendUint64(dst, digest)
	for _, n := range [...]int{
		b.shape.Columns, b.shape.Work, b.shape.Slow, b.shape.Unbounded, b.shape.Categories, b.shape.Sets, len(b.Tails),
	} {
		dst = le.AppendUint16(dst, uint16(n))
	}
	for i := range b.Tails {
		t := &b.Tails[i]
		dst = appendFloats(dst, t.Threshold, t.Scale, t.Rate, t.Prior, t.Octaves, t.Days)
		dst = appendFloats(dst, t.Counts[:]...)
	}
	dst = le.AppendUint32(dst, uint32(len(b.groups)))
	for i := range b.groups {
		dst = b.appendGroup(dst, i)
	}
	order := b.Order()
	dst = le.AppendUint32(dst, uint32(len(order)))
	for _, i := range order {
		dst = b.appendProfile(dst, int(i))
	}
	dst = le.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli()))
	return dst, nil
}

func (b *Bank) appendGroup(dst []byte, i int) []byte {
	le, g := binary.LittleEndian, &b.groups[i]
	dst = le.AppendUint32(dst, g.ID)
	for _, m := range [...]ft.Dims{g.Ever, g.Known, g.Late} {
		dst = le.AppendUint64(dst, uint64(m))
	}
	dst = appendFloats(dst, g.Rows, g.Located, g.Streamed)
	dst = appendFloats(dst, g.Grew[:]...)
	dst = appendFloats(dst, g.Pending)
	factored := byte(0)
	if g.Factored {
		factored = 1
	}
	dst = append(dst, factored)
	dst = le.AppendUint64(dst, g.Last)
	long := byte(0)
	if g.Long.Begun {
		long |= flagBegun
	}
	if g.Long.Ready {
		long |= flagReady
	}
	dst = appendPointed(append(dst, long), g.Long.floats())
	return appendFloats(dst, b.gslab[i*b.gstride:(i+1)*b.gstride]...)
}

func (b *Bank) appendProfile(dst []byte, i int) []byte {
	le, h := binary.LittleEndian, &b.heads[i]
	dst = le.AppendUint64(dst, uint64(h.Life))
	dst = le.AppendUint32(dst, uint32(h.Group))
	dst = le.AppendUint32(dst, h.Settings)
	dst = le.AppendUint64(dst, uint64(h.Ever))
	dst = le.AppendUint64(dst, uint64(h.Counts))
	dst = appendFloats(dst, h.Rows, h.Need, h.Lived, h.Candidate)
	flags := byte(0)
	if h.Prior {
		flags |= flagPrior
	}
	if h.Anchored {
		flags |= flagAnchor
	}
	if h.Long.Broken {
		flags |= flagBroken
	}
	dst = append(dst, flags)
	dst = appendFloats(dst, h.Norm[:]...)
	dst = appendFloats(dst, h.PeersNorm[:]...)
	for _, n := range h.Filled {
		dst = append(dst, byte(n))
	}
	dst = appendPointed(le.AppendUint64(dst, uint64(h.Long.Had)), h.Long.floats())
	return appendFloats(dst, b.slab[i*b.stride:(i+1)*b.stride]...)
}

func appendFloats(dst []byte, v ...float64) []byte {
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
	}
	return dst
}

func appendPointed(dst []byte, v []*float64) []byte {
	for _, x := range v {
		dst = appendFloats(dst, *x)
	}
	return dst
}

// Decode makes a bank from a checkpoint of the same schema and shape.
func Decode(data []byte, digest uint64, shape Shape) (*Bank, error) {
	if len(data) < headerBytes+4 {
		return nil, fmt.Errorf("profile: %w: %d bytes are too few", ErrCorrupt, len(data))
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	r := &reader{left: body}
	if m, v := string(r.take(len(magic))), r.u16(); m != magic || v != version {
		return nil, fmt.Errorf("profile: %w: it begins with %q, version %d; this program reads %q, version %d", ErrCorrupt, m, v, magic, version)
	}
	if got := crc32.Checksum(body, castagnoli()); got != sum {
		return nil, fmt.Errorf("profile: %w: checksum %08x, want %08x", ErrCorrupt, got, sum)
	}
	if got := r.u64(); got != digest {
		return nil, fmt.Errorf("profile: %w: it is of another schema", ErrCorrupt)
	}
	got := Shape{
		Columns: int(r.u16()), Work: int(r.u16()), Slow: int(r.u16()), Unbounded: int(r.u16()),
		Categories: int(r.u16()), Sets: int(r.u16()),
	}
	if got != shape {
		return nil, fmt.Errorf("profile: %w: shape %+v, want %+v", ErrCorrupt, got, shape)
	}
	b, err := NewBank(shape)
	if err != nil {
		return nil, err
	}
	if err := b.decode(r); err != nil {
		return nil, err
	}
	if len(r.left) > 0 || r.bad {
		return nil, fmt.Errorf("profile: %w: its length does not fit its counts, or a number is not finite", ErrCorrupt)
	}
	return b, nil
}

func (b *Bank) decode(r *reader) error {
	n := r.count(int(r.u16()), tailBytes)
	b.Tails = make([]stat.Runs, n)
	for i := range b.Tails {
		t := &b.Tails[i]
		r.floats(&t.Threshold, &t.Scale, &t.Rate, &t.Prior, &t.Octaves, &t.Days)
		r.fill(t.Counts[:])
	}
	groups := r.count(int(r.u32()), groupBytes+8*b.gstride)
	if groups > MaxGroups {
		return fmt.Errorf("profile: %w: %d groups", ErrCorrupt, groups)
	}
	for range groups {
		id := r.u32()
		i, fresh := b.GroupOf(id)
		if !fresh {
			return fmt.Errorf("profile: %w: group %d is there twice", ErrCorrupt, id)
		}
		g := &b.groups[i]
		g.Ever, g.Known, g.Late = ft.Dims(r.u64()), ft.Dims(r.u64()), ft.Dims(r.u64())
		r.floats(&g.Rows, &g.Located, &g.Streamed)
		r.fill(g.Grew[:])
		r.floats(&g.Pending)
		g.Factored, g.Last = r.u8() != 0, r.u64()
		long := r.u8()
		g.Long.Begun, g.Long.Ready = long&flagBegun != 0, long&flagReady != 0
		r.floats(g.Long.floats()...)
		r.fill(b.gslab[int(i)*b.gstride : int(i+1)*b.gstride])
	}
	profiles := r.count(int(r.u32()), headBytes+8*b.stride)
	var before ft.Life
	for k := range profiles {
		life, group := ft.Life(r.u64()), r.u32()
		if k > 0 && life <= before {
			return fmt.Errorf("profile: %w: life %d after life %d", ErrCorrupt, life, before)
		}
		before = life
		if int64(group) >= int64(groups) {
			return fmt.Errorf("profile: %w: a profile of group %d of %d", ErrCorrupt, group, groups)
		}
		b.decodeProfile(r, int(b.Add(life, int32(group))))
	}
	return nil
}

func (b *Bank) decodeProfile(r *reader, i int) {
	h := &b.heads[i]
	h.Settings, h.Ever, h.Counts = r.u32(), ft.Dims(r.u64()), ft.Dims(r.u64())
	r.floats(&h.Rows, &h.Need, &h.Lived, &h.Candidate)
	flags := r.u8()
	h.Prior, h.Anchored, h.Long.Broken = flags&flagPrior != 0, flags&flagAnchor != 0, flags&flagBroken != 0
	r.fill(h.Norm[:])
	r.fill(h.PeersNorm[:])
	for k := range h.Filled {
		h.Filled[k] = min(int32(r.u8()), Minima)
	}
	h.Long.Had = ft.Dims(r.u64())
	r.floats(h.Long.floats()...)
	r.fill(b.slab[i*b.stride : (i+1)*b.stride])
}

// reader takes numbers off a buffer; what is not there is 0 and sets bad.
type reader struct {
	left []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.left) {
		r.bad, r.left = true, nil
		return make([]byte, n)
	}
	v := r.left[:n]
	r.left = r.left[n:]
	return v
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// count is n if that many parts of a size fit what is left, else 0.
func (r *reader) count(n, size int) int {
	if n > len(r.left)/size {
		r.bad = true
		return 0
	}
	return n
}

func (r *reader) fill(v []float64) {
	for i := range v {
		v[i] = math.Float64frombits(r.u64())
		if math.IsNaN(v[i]) || math.IsInf(v[i], 0) {
			r.bad, v[i] = true, 0
		}
	}
}

func (r *reader) floats(v ...*float64) {
	var x [1]float64
	for _, p := range v {
		r.fill(x[:])
		*p = x[0]
	}
}
