package drift

import (
	"math"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// column is a schema's column with what the judge needs to know of it.
type column struct {
	ft.Dimension
	index int // in the schema
	unitScale
	// importance orders the explanation: what users of an instance feel, and what kills it, is named first.
	importance float64
	slope      int     // index among the unbounded columns, -1
	every      float64 // rows from one reading to the next where those are more than one, else 0
	dependency bool    // it tells how others answer
}

// unitScale are the defaults of a unit: the grain of its logarithm, and the least deviations that matter, relative
// to the value and absolute. They keep near-constant columns calm: a change of less than about four times this much
// never reaches a threshold.
type unitScale struct{ grain, rel, abs float64 }

const (
	kib = 1 << 10
	mib = 1 << 20
	// shareOffset keeps the logit finite: an error share of 0.2 is then as far from none as from 0.6.
	shareOffset = 0.02
	// vast bounds what is not transformed: its square must be finite.
	vast = 1e100
)

func scaleOf(d ft.Dimension) unitScale {
	switch d.Unit {
	case "B":
		return unitScale{64 * kib, 0.05, mib}
	case "B/s":
		return unitScale{4 * kib, 0.15, 8 * kib}
	case "1/s":
		if d.Role != ft.Response {
			return unitScale{1, 0.1, 0.5}
		}
		return unitScale{1, 0.3, 3}
	case "s":
		return unitScale{1e-4, 0.12, 2e-4}
	case "cores":
		return unitScale{0.01, 0.12, 0.02}
	case "s/s":
		return unitScale{0.01, 0.2, 0.02}
	case "share":
		return unitScale{0.01, 0.05, 0.01}
	default: // counts
		return unitScale{1, 0.05, 2}
	}
}

func newColumn(d ft.Dimension, index int, interval time.Duration) column {
	c := column{
		Dimension: d, index: index, unitScale: scaleOf(d), importance: 1, slope: -1,
		dependency: slices.Contains(ft.Dependencies, d.Name),
	}
	if d.Every > interval && d.Role == ft.Response && !c.dependency {
		c.every = float64(d.Every) / float64(interval)
	}
	switch d.Name {
	case ft.DimErrors:
		c.importance = 1.6
	case ft.DimP50, ft.DimP99:
		c.importance = 1.5
	case ft.DimRSS, ft.DimAnon:
		c.importance = 1.45
	case ft.DimCPU:
		c.importance = 1.4
	case ft.DimFDs, ft.DimThreads:
		c.importance = 1.35
	case ft.DimCPUUser, ft.DimCPUSys:
		c.importance = 1.25
	case ft.DimMinor, ft.DimSwitches:
		c.importance = 0.8
	}
	return c
}

// forward is the column's transform. Values that a log cannot take count as 0.
func (c *column) forward(x float64) float64 {
	switch c.Transform {
	case ft.Log1p:
		return math.Log1p(max(0, x) / c.grain)
	case ft.Logit:
		x = min(max(x, 0), 1)
		return math.Log((x + shareOffset) / (1 - x + shareOffset))
	case ft.Identity:
	}
	return min(max(x, -vast), vast)
}

// back undoes forward.
func (c *column) back(y float64) float64 {
	switch c.Transform {
	case ft.Log1p:
		return c.grain * math.Expm1(min(y, 600))
	case ft.Logit:
		e := math.Exp(-y)
		return min(max((1+shareOffset-shareOffset*e)/(1+e), 0), 1)
	case ft.Identity:
	}
	return y
}

// floor is the least standard deviation of the transformed column around y.
func (c *column) floor(y float64) float64 {
	x := c.back(y)
	least := max(c.abs, c.rel*math.Abs(x))
	return max(c.Floor, c.forward(x+least)-c.forward(x), c.forward(x)-c.forward(x-least), 1e-9)
}

// streamFloor is the least scale of the column in stream k: a part of the least deviation that matters around y, or of its
// greatest magnitude where no unit tells what matters. Many columns are rounded, and all but constant for days.
func (c *column) streamFloor(y, peak float64, k int) float64 {
	if c.Unit == "" && c.Transform == ft.Identity {
		return max(floorShare[k]*peakFloor*peak, c.Floor, 1e-9)
	}
	return floorShare[k] * c.floor(y)
}

// material is how much an unbounded column must at least grow over a window to count.
func (c *column) material(x float64) float64 { return max(2*c.abs, 2*c.rel*math.Abs(x)) }
