package recording

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Difference is the first of a turn in which recording and replay differ; nil stands for what is not there.
type Difference struct {
	At                 time.Time
	Recorded, Replayed ft.Event
	Note               string // what differs where no event does
}

// String tells both sides in two lines.
func (d *Difference) String() string {
	if d.Note != "" {
		return d.At.Format(time.RFC3339Nano) + "\n  " + d.Note
	}
	side := func(e ft.Event) string {
		if e == nil {
			return "nothing"
		}
		return ft.EventKind(e) + ": " + e.String()
	}
	return fmt.Sprintf("%s\n  recorded  %s\n  replayed  %s", d.At.Format(time.RFC3339Nano), side(d.Recorded), side(d.Replayed))
}

// Difference compares what was made in a step: the same verdicts, figures and decisions in the same order. It is nil where
// they are equal in all that a journal keeps of them.
func (t *Turn) Difference() *Difference {
	for i := range max(len(t.Recorded), len(t.Replayed)) {
		d := Difference{At: t.At}
		if i < len(t.Recorded) {
			d.Recorded = t.Recorded[i]
		}
		if i < len(t.Replayed) {
			d.Replayed = t.Replayed[i]
		}
		if !Same(d.Recorded, d.Replayed) {
			return &d
		}
	}
	if !slices.Equal(t.began, t.begun) {
		return &Difference{At: t.At, Note: fmt.Sprintf("actions begun: recorded %v, replayed %v", t.began, t.begun)}
	}
	return nil
}

// Same tells whether two events are equal in all that a journal keeps of them.
func Same(a, b ft.Event) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if ft.EventKind(a) != ft.EventKind(b) {
		return false
	}
	x, err1 := ft.MarshalEvent(a)
	y, err2 := ft.MarshalEvent(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
