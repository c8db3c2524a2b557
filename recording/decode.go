package recording

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/engine"
)

// stepLine is a line as it stands.
type stepLine struct {
	At      time.Time       `json:"at"`
	Frame   *frameLine      `json:"frame"`
	Events  json.RawMessage `json:"events"`
	Written json.RawMessage `json:"written"`
	Made    json.RawMessage `json:"made"`
	Did     json.RawMessage `json:"did"`
	End     *End            `json:"end"`
}

type frameLine struct {
	At     time.Time       `json:"at"`
	Demand demandLine      `json:"demand"`
	Labels *labels         `json:"labels"`
	Rows   json.RawMessage `json:"rows"`
}

type demandLine struct {
	Arrivals float `json:"arrivals"`
	Rejected float `json:"rejected"`
	InFlight float `json:"inFlight"`
	Queued   float `json:"queued"`
}

type rowLine struct {
	ID         ft.InstanceID `json:"id"`
	Generation uint32        `json:"generation"`
	Slot       uint32        `json:"slot"`
	Group      uint32        `json:"group"`
	Settings   uint32        `json:"settings"`
	Age        float32Of     `json:"age"`
	Span       float32Of     `json:"span"`
	Held       bool          `json:"held"`
	Serving    bool          `json:"serving"`
	X          floats        `json:"x"`
	Lacks      indices       `json:"lacks"`
	Counts     counts        `json:"counts"`
}

// float is a number of a line: null is NaN.
type float float64

// UnmarshalJSON takes what appendFloat gives.
func (f *float) UnmarshalJSON(b []byte) error {
	v, err := parseFloat(b, 64)
	*f = float(v)
	return err
}

type float32Of float32

// UnmarshalJSON takes what appendFloat gives.
func (f *float32Of) UnmarshalJSON(b []byte) error {
	v, err := parseFloat(b, 32)
	*f = float32Of(v)
	return err
}

func parseFloat(b []byte, bits int) (float64, error) {
	switch string(b) {
	case "null":
		return math.NaN(), nil
	case `"+Inf"`:
		return math.Inf(1), nil
	case `"-Inf"`:
		return math.Inf(-1), nil
	}
	v, err := strconv.ParseFloat(string(b), bits)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no number", b)
	}
	return v, nil
}

// The lists of a row are read by hand: they are most of a recording, and a hostile one could be long.
type (
	floats  []float64
	counts  []uint32
	indices []int
	labels  []string
)

// UnmarshalJSON reads at most as many values as a schema may have columns.
func (f *floats) UnmarshalJSON(b []byte) error {
	return elements(b, ft.MaxDimensions, func(e []byte) error {
		v, err := parseFloat(e, 64)
		*f = append(*f, v)
		return err
	})
}

// UnmarshalJSON reads at most as many counts as a schema may have categories.
func (c *counts) UnmarshalJSON(b []byte) error {
	return elements(b, ft.MaxCategories, func(e []byte) error {
		v, err := strconv.ParseUint(string(e), 10, 32)
		*c = append(*c, uint32(v))
		return err
	})
}

// UnmarshalJSON reads at most as many indices as a schema may have columns.
func (x *indices) UnmarshalJSON(b []byte) error {
	return elements(b, ft.MaxDimensions, func(e []byte) error {
		v, err := strconv.ParseUint(string(e), 10, 8)
		*x = append(*x, int(v))
		return err
	})
}

// UnmarshalJSON reads at most as many labels as a schema may have categories.
func (l *labels) UnmarshalJSON(b []byte) error {
	*l = labels{}
	return list(b, ft.MaxCategories, maxLabel, func(e []byte) error {
		var s string
		err := json.Unmarshal(e, &s)
		*l = append(*l, s)
		return err
	})
}

// elements calls f with each value of a list of numbers; b is valid JSON.
func elements(b []byte, most int, f func([]byte) error) error {
	b = bytes.TrimSpace(b)
	if string(b) == "null" {
		return nil
	}
	if len(b) < 2 || b[0] != '[' {
		return fmt.Errorf("%.40q is no list", b)
	}
	rest := bytes.TrimSpace(b[1 : len(b)-1])
	for n := 0; len(rest) > 0; n++ {
		if n == most {
			return fmt.Errorf("a list of more than %d values", most)
		}
		e, tail, _ := bytes.Cut(rest, []byte{','})
		if err := f(bytes.TrimSpace(e)); err != nil {
			return err
		}
		rest = tail
	}
	return nil
}

// list calls f with each value of a list.
func list(b []byte, most, longest int, f func([]byte) error) error {
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("%.40q is no list", b)
	}
	for n := 0; d.More(); n++ {
		if n == most {
			return fmt.Errorf("a list of more than %d values", most)
		}
		var e json.RawMessage
		if err := d.Decode(&e); err != nil {
			return err
		}
		if len(e) > longest {
			return fmt.Errorf("a value of %d bytes, at most %d", len(e), longest)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// decoder reads lines. Its frame is used again for each step.
type decoder struct {
	schema *ft.Schema
	labels []string
	frame  ft.Frame
	refs   []ft.Ref
}

// step reads a line; end is not nil for the last one. A line of a kind that is not known gives neither.
func (d *decoder) step(b []byte) (s *Step, end *End, err error) {
	var l stepLine
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, nil, err
	}
	if l.End != nil {
		return nil, l.End, nil
	}
	if l.At.IsZero() {
		return nil, nil, nil
	}
	s = &Step{At: l.At.UTC()}
	if l.Frame != nil {
		if err := d.decodeFrame(l.Frame); err != nil {
			return nil, nil, fmt.Errorf("frame: %w", err)
		}
		s.Frame, s.Rows = &d.frame, d.refs
	}
	if s.Events, err = events(l.Events); err != nil {
		return nil, nil, fmt.Errorf("events: %w", err)
	}
	if s.Made, err = events(l.Made); err != nil {
		return nil, nil, fmt.Errorf("made: %w", err)
	}
	err = list(l.Written, maxList, maxEvent, func(e []byte) error {
		var w written
		if err := json.Unmarshal(e, &w); err != nil {
			return err
		}
		out := engine.Written{Batch: w.Batch, Seq: w.Seq, Lost: w.Lost}
		if w.Err != "" {
			out.Err = errors.New(w.Err)
		}
		s.Written = append(s.Written, out)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("written: %w", err)
	}
	if l.Did != nil {
		err = elements(l.Did, maxList, func(e []byte) error {
			id, err := strconv.ParseUint(string(e), 10, 64)
			s.Did = append(s.Did, id)
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("did: %w", err)
		}
	}
	return s, nil, nil
}

func events(b []byte) (out []ft.Event, err error) {
	err = list(b, maxList, maxEvent, func(e []byte) error {
		var l struct {
			Kind  string          `json:"kind"`
			Event json.RawMessage `json:"event"`
		}
		if err := json.Unmarshal(e, &l); err != nil {
			return err
		}
		ev, err := ft.UnmarshalEvent(l.Kind, l.Event)
		if err != nil {
			return err
		}
		out = append(out, ev)
		return nil
	})
	return out, err
}

func (d *decoder) decodeFrame(l *frameLine) error {
	f := &d.frame
	f.Schema, f.At = d.schema, l.At.UTC()
	f.Rows, d.refs = f.Rows[:0], d.refs[:0]
	var rows []rowLine
	slots := map[uint32]bool{}
	err := list(l.Rows, maxRows, maxEvent, func(e []byte) error {
		var r rowLine
		if err := json.Unmarshal(e, &r); err != nil {
			return err
		}
		if r.Slot >= maxRows || slots[r.Slot] {
			return fmt.Errorf("slot %d is given twice or beyond %d", r.Slot, maxRows)
		}
		slots[r.Slot] = true
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("row %d: %w", len(rows), err)
	}
	if l.Labels != nil {
		if len(*l.Labels) > d.schema.Categories() {
			return fmt.Errorf("%d labels of %d categories", len(*l.Labels), d.schema.Categories())
		}
		d.labels = *l.Labels
	}
	f.Labels = append(f.Labels[:0], d.labels...)
	f.Reset(len(rows))
	for i := range rows {
		if err := d.row(i, &rows[i]); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	f.Demand = ft.Demand{
		Arrivals: float64(l.Demand.Arrivals), Rejected: float64(l.Demand.Rejected),
		InFlight: float64(l.Demand.InFlight), Queued: float64(l.Demand.Queued),
	}
	return nil
}

func (d *decoder) row(i int, r *rowLine) error {
	f, n, c := &d.frame, d.schema.Len(), d.schema.Categories()
	if len(r.X) != n {
		return fmt.Errorf("%d values of %d dimensions", len(r.X), n)
	}
	if len(r.Counts) != c && len(r.Counts) != 0 {
		return fmt.Errorf("%d counts of %d categories", len(r.Counts), c)
	}
	ref := ft.Ref{ID: r.ID, Generation: r.Generation}
	f.Rows = append(f.Rows, ft.Row{
		Slot: ft.Slot(r.Slot), Life: ref.Life(), Group: r.Group, Settings: r.Settings, Age: float32(r.Age), Held: r.Held, Serving: r.Serving,
	})
	d.refs = append(d.refs, ref)
	copy(f.X[i*n:], r.X)
	copy(f.Counts[i*c:], r.Counts)
	f.Span[i] = float32(r.Span)
	for k := range n {
		if !slices.Contains(r.Lacks, k) {
			f.Have[i] = f.Have[i].With(k)
		}
	}
	return nil
}

// readHeader reads the first line.
func readHeader(b []byte) (*Header, error) {
	// Another version may look different in all but these.
	var v struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
		Fettle  string `json:"fettle"`
	}
	if err := json.Unmarshal(b, &v); err != nil || v.Format != Format {
		return nil, fmt.Errorf(`it does not begin with {"format": %q}: %w`, Format, ErrFormat)
	}
	if v.Version != Version {
		return nil, fmt.Errorf("it has version %d of the format, written by fettle %.40q; this program reads version %d: %w", v.Version, v.Fettle, Version, ErrFormat)
	}
	if err := sane(b); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	h := &Header{}
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if h.Profiles < 0 || h.Profiles > maxProfiles/chunk || len(h.Slots) > maxRows {
		return nil, fmt.Errorf("header: %d lines of profiles, %d slots: %w", h.Profiles, len(h.Slots), ErrFormat)
	}
	return h, nil
}

// sane bounds the lists of a header, whose elements take far more memory than text.
func sane(b []byte) error {
	var h struct {
		State map[string]json.RawMessage `json:"state"`
		Loop  map[string]json.RawMessage `json:"loop"`
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return err
	}
	for _, part := range []map[string]json.RawMessage{h.State, h.Loop} {
		for name, v := range part {
			if len(v) == 0 || v[0] != '[' {
				continue
			}
			if err := list(v, maxRows, maxEvent, func([]byte) error { return nil }); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
	}
	return nil
}

// profiles reads one line of what was learnt.
func profiles(dst, b []byte) ([]byte, error) {
	var l struct {
		Profiles *string `json:"profiles"`
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, err
	}
	if l.Profiles == nil {
		return nil, errors.New("profiles are missing here")
	}
	return base64.StdEncoding.AppendDecode(dst, []byte(*l.Profiles))
}

// Peek says of a line after the header how many rows its frame has, and gives the end where it is that.
func Peek(b []byte) (rows int, end *End) {
	var l struct {
		Frame struct {
			Rows []struct{} `json:"rows"`
		} `json:"frame"`
		End *End `json:"end"`
	}
	if json.Unmarshal(b, &l) != nil {
		return 0, nil
	}
	return len(l.Frame.Rows), l.End
}

// PeekHeader reads the first line alone. Its error is that of [NewReader].
func PeekHeader(b []byte) (*Header, error) { return readHeader(b) }
