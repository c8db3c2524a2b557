package recording

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/engine"
)

// chunk is how many bytes of what was learnt stand in one line.
const chunk = 768 << 10

// lines gives the lines of the header: it, and what was learnt. They have no newline.
func (h *Header) lines() ([][]byte, error) {
	h.Profiles = (len(h.learnt) + chunk - 1) / chunk
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("recording: header: %w", err)
	}
	if len(b) > maxLine {
		return nil, fmt.Errorf("recording: the pool's state has %d bytes, at most %d fit: %w", len(b), maxLine, ft.ErrInvalid)
	}
	out := [][]byte{b}
	for part := range slices.Chunk(h.learnt, chunk) {
		line := append([]byte(`{"profiles":"`), base64.StdEncoding.AppendEncode(nil, part)...)
		out = append(out, append(line, `"}`...))
	}
	return out, nil
}

// encoder writes steps. Labels are given when they change.
type encoder struct {
	pool    ft.PoolName
	secrets bool
	labels  []string
	names   map[ft.Life]string // of rows, quoted
}

// step appends the line of a step, without a newline.
func (e *encoder) step(dst []byte, s *Step) ([]byte, error) {
	dst = append(dst, `{"at":`...)
	dst = appendTime(dst, s.At)
	if s.Frame != nil {
		dst = append(dst, `,"frame":`...)
		dst = e.frame(dst, s.Frame)
	}
	var err error
	if dst, err = e.events(dst, "events", s.Events); err != nil {
		return nil, err
	}
	if dst, err = appendWritten(dst, s.Written); err != nil {
		return nil, err
	}
	if dst, err = e.events(dst, "made", s.Made); err != nil {
		return nil, err
	}
	for i, id := range s.Did {
		dst = sep(dst, i, `,"did":[`)
		dst = strconv.AppendUint(dst, id, 10)
	}
	if len(s.Did) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

// sep appends what stands before element i of a list: its beginning, or a comma.
func sep(dst []byte, i int, begin string) []byte {
	if i == 0 {
		return append(dst, begin...)
	}
	return append(dst, ',')
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendFloat gives the shortest form that is read as the same number.
func appendFloat(dst []byte, v float64, bits int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "null"...)
	case math.IsInf(v, 1):
		return append(dst, `"+Inf"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Inf"`...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, bits)
}

func (e *encoder) events(dst []byte, name string, es []ft.Event) ([]byte, error) {
	for i, ev := range es {
		if !e.secrets {
			ev = redactEvent(ev)
		}
		b, err := ft.MarshalEvent(ev)
		if err != nil {
			return nil, fmt.Errorf("recording: event %s: %w", ft.EventKind(ev), err)
		}
		dst = sep(dst, i, `,"`+name+`":[`)
		dst = append(dst, `{"kind":"`...)
		dst = append(dst, ft.EventKind(ev)...)
		dst = append(dst, `","event":`...)
		dst = append(dst, b...)
		dst = append(dst, '}')
	}
	if len(es) > 0 {
		dst = append(dst, ']')
	}
	return dst, nil
}

// written is the form of [engine.Written] in a line.
type written struct {
	Batch uint64 `json:"batch"`
	Seq   uint64 `json:"seq,omitempty"`
	Err   string `json:"err,omitempty"`
	Lost  bool   `json:"lost,omitempty"`
}

func appendWritten(dst []byte, ws []engine.Written) ([]byte, error) {
	if len(ws) == 0 {
		return dst, nil
	}
	out := make([]written, len(ws))
	for i, w := range ws {
		out[i] = written{Batch: w.Batch, Seq: w.Seq, Lost: w.Lost}
		if w.Err != nil {
			out[i].Err = w.Err.Error()
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("recording: written: %w", err)
	}
	return append(append(dst, `,"written":`...), b...), nil
}

func (e *encoder) frame(dst []byte, f *ft.Frame) []byte {
	dst = append(dst, `{"at":`...)
	dst = appendTime(dst, f.At)
	dst = append(dst, `,"demand":{"arrivals":`...)
	dst = appendFloat(dst, f.Demand.Arrivals, 64)
	dst = append(dst, `,"rejected":`...)
	dst = appendFloat(dst, f.Demand.Rejected, 64)
	dst = append(dst, `,"inFlight":`...)
	dst = appendFloat(dst, f.Demand.InFlight, 64)
	dst = append(dst, `,"queued":`...)
	dst = appendFloat(dst, f.Demand.Queued, 64)
	dst = append(dst, '}')
	if !slices.Equal(e.labels, f.Labels) {
		e.labels = slices.Clone(f.Labels)
		for i, l := range f.Labels {
			dst = sep(dst, i, `,"labels":[`)
			dst = appendText(dst, l)
		}
		if len(f.Labels) == 0 {
			dst = append(dst, `,"labels":[`...)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"rows":[`...)
	for r := range f.Rows {
		if r > 0 {
			dst = append(dst, ',')
		}
		dst = e.row(dst, f, r)
	}
	return append(dst, "]}"...)
}

func appendText(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...) // strings always have a form
	}
	return append(dst, b...)
}

func (e *encoder) row(dst []byte, f *ft.Frame, r int) []byte {
	row, d, c := &f.Rows[r], f.Schema.Len(), f.Schema.Categories()
	dst = append(dst, `{"id":`...)
	dst = append(dst, e.name(row.Life)...)
	dst = append(dst, `,"generation":`...)
	dst = strconv.AppendUint(dst, uint64(uint32(row.Life)), 10)
	dst = append(dst, `,"slot":`...)
	dst = strconv.AppendUint(dst, uint64(row.Slot), 10)
	uints := func(name string, v uint32) {
		if v != 0 {
			dst = append(dst, name...)
			dst = strconv.AppendUint(dst, uint64(v), 10)
		}
	}
	uints(`,"group":`, row.Group)
	uints(`,"settings":`, row.Settings)
	dst = append(dst, `,"age":`...)
	dst = appendFloat(dst, float64(row.Age), 32)
	dst = append(dst, `,"span":`...)
	dst = appendFloat(dst, float64(f.Span[r]), 32)
	if row.Held {
		dst = append(dst, `,"held":true`...)
	}
	if row.Serving {
		dst = append(dst, `,"serving":true`...)
	}
	for i, x := range f.X[r*d : r*d+d] {
		dst = sep(dst, i, `,"x":[`)
		dst = appendFloat(dst, x, 64)
	}
	if d > 0 {
		dst = append(dst, ']')
	}
	n := 0
	for i := range d {
		if !f.Have[r].Has(i) {
			dst = sep(dst, n, `,"lacks":[`)
			dst = strconv.AppendInt(dst, int64(i), 10)
			n++
		}
	}
	if n > 0 {
		dst = append(dst, ']')
	}
	if counts := f.Counts[r*c : r*c+c]; slices.ContainsFunc(counts, func(n uint32) bool { return n != 0 }) {
		for i, n := range counts {
			dst = sep(dst, i, `,"counts":[`)
			dst = strconv.AppendUint(dst, uint64(n), 10)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// name is the quoted ID of a life.
func (e *encoder) name(l ft.Life) string {
	s, ok := e.names[l]
	if !ok {
		if e.names == nil || len(e.names) > maxRows {
			e.names = map[ft.Life]string{}
		}
		s = string(appendText(nil, string(ft.NewInstanceID(e.pool, uint32(l>>32)))))
		e.names[l] = s
	}
	return s
}

func (e *End) line() ([]byte, error) {
	b, err := json.Marshal(map[string]*End{"end": e})
	if err != nil {
		return nil, fmt.Errorf("recording: end: %w", err)
	}
	return b, nil
}
