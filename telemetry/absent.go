package telemetry

import (
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Absent is a source that measures nothing: it takes no column, and says of the named dimensions why they are not
// measured. It stands in for a collector that is off or that this machine does not allow.
func Absent(why string, dimensions ...string) ft.Source {
	a := absent{}
	for _, d := range dimensions {
		a[d] = why
	}
	return a
}

// absent is the reason for each dimension. It is its own reader.
type absent ft.Unavailable

func (a absent) Dimensions() []ft.Dimension { return nil }

func (a absent) Categories() []ft.CategorySet { return nil }

func (a absent) Attach(ft.Instance) (ft.Reader, ft.Unavailable, error) {
	return a, ft.Unavailable(a), nil
}

// Read has nothing to read.
func (a absent) Read(time.Time, []float64, []uint64) error { return nil }

// Close has nothing to close.
func (a absent) Close() error { return nil }
