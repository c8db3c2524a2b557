// Package drift judges frames: how far each instance is from its learnt behaviour, and from its peers.
package drift

import (
	"errors"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Config says how drift is judged.
type Config struct {
	Interval    time.Duration // between frames
	Learn       time.Duration // how long a first baseline is learnt
	FalseAlarms float64       // tolerated runs per instance-day at level Low
	Persist     time.Duration // how long drift must last before anything is done
	MemoryLimit float64       // bytes, for forecasts; 0 is none
	Seed        uint64
}

// Judge folds frames into verdicts.
type Judge struct {
	schema *ft.Schema
	config Config
}

// New makes a judge of frames of one schema.
func New(schema *ft.Schema, c Config) (*Judge, error) {
	if schema == nil {
		return nil, errors.New("drift: no schema")
	}
	return &Judge{schema: schema, config: c}, nil
}

// Observe folds one frame and appends the verdicts that changed to dst.
func (j *Judge) Observe(dst []ft.Verdict, _ *ft.Frame) []ft.Verdict { return dst }

// Verdict is the present one of a slot.
func (j *Judge) Verdict(s ft.Slot) ft.Verdict { return ft.Verdict{Slot: s} }

// Pool is the present verdict of the pool.
func (j *Judge) Pool() ft.Verdict { return ft.Verdict{Pool: true} }

// FirstVerdict is the time until a first verdict of a slot can be expected.
func (j *Judge) FirstVerdict(ft.Slot) time.Duration { return j.config.Learn }

// Accept takes the slot's present behaviour as its baseline.
func (j *Judge) Accept(ft.Slot) {}

// Forget drops what was learnt of a slot.
func (j *Judge) Forget(ft.Slot) {}

// AcceptAll accepts every slot.
func (j *Judge) AcceptAll() {}

// ForgetAll forgets every slot.
func (j *Judge) ForgetAll() {}

// AppendBinary appends a checkpoint.
func (j *Judge) AppendBinary(dst []byte) ([]byte, error) { return dst, nil }

// UnmarshalBinary restores a checkpoint.
func (j *Judge) UnmarshalBinary([]byte) error { return nil }

// Explain renders a verdict in plain words.
func Explain(_ *ft.Schema, _ []string, name string, v *ft.Verdict) (text string, ev []ft.Evidence, f *ft.Foreseen) {
	return name + " " + v.Level.String(), nil, nil
}
