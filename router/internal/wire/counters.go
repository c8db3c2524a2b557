package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/latency"
)

// Counters are the cumulative counts of a pool at one moment, all members at once.
type Counters struct {
	Began    uint64 // Unix nanoseconds: counts of another beginning do not compare
	Clock    uint64 // nanoseconds since then
	Arrivals uint64
	Rejected uint64
	InFlight uint64
	Queued   uint64
	Labels   []string
	Members  []MemberCounters
}

// MemberCounters are the cumulative counts of one member.
type MemberCounters struct {
	Ref      ft.Ref
	Joined   uint64  // nanoseconds since the beginning: counts of another joining do not compare
	Offered  float64 // requests
	Busy     float64 // seconds that requests spent in flight, summed over them
	Requests uint64
	BytesIn  uint64
	BytesOut uint64
	Errors   uint64
	Lost     uint64
	InFlight uint64
	Latency  [latency.Buckets]uint64
	Routes   [Categories]uint64
	Status   [Statuses]uint64
}

// AppendBinary appends the binary form: unsigned varints, strings with their length before them, floating point as
// eight bytes little-endian, counts of histograms, routes and classes as pairs of distance and value where they are not zero.
func (c *Counters) AppendBinary(b []byte) ([]byte, error) {
	for _, v := range []uint64{c.Began, c.Clock, c.Arrivals, c.Rejected, c.InFlight, c.Queued, uint64(len(c.Labels))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, l := range c.Labels {
		b = appendString(b, l)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Members)))
	for i := range c.Members {
		b = c.Members[i].append(b)
	}
	return b, nil
}

func (m *MemberCounters) append(b []byte) []byte {
	b = appendString(b, string(m.Ref.ID))
	b = binary.AppendUvarint(b, uint64(m.Ref.Generation))
	b = binary.AppendUvarint(b, m.Joined)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.Offered))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.Busy))
	for _, v := range []uint64{m.Requests, m.BytesIn, m.BytesOut, m.Errors, m.Lost, m.InFlight} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendSparse(b, m.Latency[:])
	b = appendSparse(b, m.Routes[:])
	return appendSparse(b, m.Status[:])
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSparse(b []byte, vs []uint64) []byte {
	last := -1
	for i, v := range vs {
		if v != 0 {
			b = binary.AppendUvarint(b, uint64(i-last))
			b = binary.AppendUvarint(b, v)
			last = i
		}
	}
	return binary.AppendUvarint(b, 0)
}

// UnmarshalBinary is the inverse. Slices of c are used again; strings that did not change are kept.
func (c *Counters) UnmarshalBinary(b []byte) error {
	d := decoder{b: b}
	for _, v := range []*uint64{&c.Began, &c.Clock, &c.Arrivals, &c.Rejected, &c.InFlight, &c.Queued} {
		*v = d.uint()
	}
	n := d.count(Categories, 1)
	c.Labels = resize(c.Labels, n)
	for i := range c.Labels {
		d.string(&c.Labels[i])
	}
	n = d.count(1<<20, 28)
	c.Members = resize(c.Members, n)
	for i := range c.Members {
		c.Members[i].decode(&d)
	}
	if len(d.b) > 0 {
		d.bad = true
	}
	if d.bad {
		return fmt.Errorf("router counters: cut short or damaged: %w", ft.ErrInvalid)
	}
	return nil
}

func (m *MemberCounters) decode(d *decoder) {
	id := string(m.Ref.ID)
	d.string(&id)
	m.Ref = ft.Ref{ID: ft.InstanceID(id), Generation: uint32(d.uint())}
	m.Joined = d.uint()
	m.Offered, m.Busy = d.float(), d.float()
	for _, v := range []*uint64{&m.Requests, &m.BytesIn, &m.BytesOut, &m.Errors, &m.Lost, &m.InFlight} {
		*v = d.uint()
	}
	d.sparse(m.Latency[:])
	d.sparse(m.Routes[:])
	d.sparse(m.Status[:])
}

func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count is a number of things of at least size bytes each: no more than there are bytes left for, nor than most.
func (d *decoder) count(most, size int) int {
	v := d.uint()
	if v > uint64(most) || v > uint64(len(d.b)/size) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(v)
}

func (d *decoder) string(s *string) {
	n := d.count(1<<16, 1)
	if string(d.b[:n]) != *s {
		*s = string(d.b[:n])
	}
	d.b = d.b[n:]
}

func (d *decoder) float() float64 {
	if len(d.b) < 8 {
		d.bad, d.b = true, nil
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

func (d *decoder) sparse(vs []uint64) {
	clear(vs)
	for at := -1; ; {
		step := d.uint()
		if step == 0 {
			return
		}
		if step > uint64(len(vs)-1-at) {
			d.bad, d.b = true, nil
			return
		}
		at += int(step)
		vs[at] = d.uint()
	}
}
