package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// own is what a loop itself keeps between two steps and decides by.
type own struct {
	Batch  uint64      `json:"batch,omitempty"`
	Out    []ownBatch  `json:"out,omitempty"`
	Lost   string      `json:"lost,omitempty"`
	Bad    string      `json:"bad,omitempty"`
	Frames int         `json:"frames,omitempty"`
	Demand [4]number   `json:"demand"`
	Sums   []ownSums   `json:"sums,omitempty"`
	Limits []ownBounds `json:"limits,omitempty"`
}

// ownBatch is a batch without an answer.
type ownBatch struct {
	Batch uint64      `json:"batch"`
	At    time.Time   `json:"at"`
	Err   string      `json:"err,omitempty"`
	Acts  []ft.Action `json:"acts,omitempty"`
}

// ownSums are the figures of the life in a slot since the last Health.
type ownSums struct {
	Life ft.Life    `json:"life"`
	Sums [12]number `json:"sums"`
}

// ownBounds is how the life in a slot stands to its limits.
type ownBounds struct {
	Life   ft.Life      `json:"life"`
	Over   time.Time    `json:"over,omitzero"`
	Silent time.Time    `json:"silent,omitzero"`
	Asked  bool         `json:"asked,omitempty"`
	Said   [2]time.Time `json:"said"`
}

// number is a float64 whose JSON keeps every value, also those that JSON has no numbers for.
type number float64

// MarshalJSON gives the shortest form that is read as the same number.
func (n number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(f, 'g', -1, 64)), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 64), nil
}

// UnmarshalJSON takes what MarshalJSON gives.
func (n *number) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(s) > 1 && s[0] == '"' {
		s = s[1 : len(s)-1]
	}
	f, err := strconv.ParseFloat(s, 64)
	*n = number(f)
	return err
}

func (s *sums) fields() [12]*float64 {
	return [12]*float64{
		&s.requests, &s.span, &s.errors, &s.errorsBy, &s.p50, &s.p50By, &s.p99, &s.p99By, &s.cpu, &s.cpuBy, &s.memory, &s.memoryRows,
	}
}

// snapshot is the loop's own part of a [Base].
func (l *Loop) snapshot() ([]byte, error) {
	d := &l.meter.demand
	o := own{
		Batch: l.batch, Lost: l.lost, Bad: l.bad, Frames: l.meter.frames,
		Demand: [4]number{number(d.Arrivals), number(d.Rejected), number(d.InFlight), number(d.Queued)},
	}
	for _, p := range l.out {
		o.Out = append(o.Out, ownBatch{p.batch, p.at, p.err, p.acts})
	}
	for i := range l.meter.sums {
		s := ownSums{Life: l.meter.sums[i].life}
		for k, f := range l.meter.sums[i].fields() {
			s.Sums[k] = number(*f)
		}
		o.Sums = append(o.Sums, s)
	}
	for _, b := range l.limits.slots {
		o.Limits = append(o.Limits, ownBounds{b.life, b.over, b.silent, b.asked, b.said})
	}
	return json.Marshal(o)
}

// maxSlot bounds the slots of a base that comes from outside.
const maxSlot = 1 << 16

// Resume makes the loop that a base was taken of, for frames of the schema. Its journal is x's caller's: where the base
// had one, j gets the batches and Written must come among the inputs, as it came then. restored is the judge with its
// profiles restored, or another to be judged by instead; nil where verdicts come as events.
func Resume(b *Base, schema *ft.Schema, restored *drift.Judge, j Journal, x Executor) (*Loop, *plan.State, error) {
	s, err := plan.Restore(b.State)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Seat(b.Slots); err != nil {
		return nil, nil, err
	}
	var o own
	if len(b.Loop) > 0 {
		if err := json.Unmarshal(b.Loop, &o); err != nil {
			return nil, nil, fmt.Errorf("restore a loop: %w", err)
		}
	}
	if len(o.Sums) > maxSlot || len(o.Limits) > maxSlot {
		return nil, nil, fmt.Errorf("restore a loop: more than %d slots: %w", maxSlot, ft.ErrInvalid)
	}
	if !b.Journal {
		j = nil
	}
	l := New(s, restored, j, x)
	l.batch, l.lost, l.bad = o.Batch, o.Lost, o.Bad
	for _, p := range o.Out {
		if !b.Journal {
			break
		}
		l.out = append(l.out, pending{p.Batch, p.At, p.Err, p.Acts})
	}
	l.meter.bind(schema)
	l.meter.frames = o.Frames
	l.meter.demand = ft.Demand{
		Arrivals: float64(o.Demand[0]), Rejected: float64(o.Demand[1]), InFlight: float64(o.Demand[2]), Queued: float64(o.Demand[3]),
	}
	for i := range o.Sums {
		v := sums{life: o.Sums[i].Life}
		for k, f := range v.fields() {
			*f = float64(o.Sums[i].Sums[k])
		}
		l.meter.sums = append(l.meter.sums, v)
	}
	for _, v := range o.Limits {
		l.limits.slots = append(l.limits.slots, bounds{v.Life, v.Over, v.Silent, v.Asked, v.Said})
	}
	return l, s, nil
}
