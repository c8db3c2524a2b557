package plan

import (
	"fmt"
	"math"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// subject is what is wrong with the member, in words: the fault, else its strongest evidence.
func (m *member) subject() string {
	switch {
	case m.Over != nil:
		return fmt.Sprintf("%s limit exceeded: %s, at most %s", m.Over.Limit, quantity(m.Over.Value, limitUnit(m.Over.Limit)), quantity(m.Over.Bound, limitUnit(m.Over.Limit)))
	case m.Silent != nil:
		return "it does not answer (" + m.Silent.Probe + ")"
	case m.Dead != nil:
		return ended(m.Dead)
	}
	return describe(m.Evidence, m.Forecast)
}

// ended is how it ended, as a clause.
func ended(x *ft.Exit) string {
	text := x.String()
	if strings.HasPrefix(text, "killed") {
		return "it was " + text
	}
	return "it " + text
}

func limitUnit(limit string) string {
	if limit == "memory" {
		return "B"
	}
	return ""
}

// describe puts evidence into words, the strongest first.
func describe(ev []ft.Evidence, f *ft.Foreseen) string {
	var parts []string
	for _, e := range ev[:min(len(ev), 2)] {
		parts = append(parts, fmt.Sprintf("%s %s, usually %s", e.Dimension, quantity(e.Value, e.Unit), quantity(e.Usual, e.Unit)))
	}
	if f != nil && !f.At.IsZero() {
		parts = append(parts, fmt.Sprintf("%s reaches its limit at %s", f.Dimension, f.At.Format("15:04:05")))
	}
	if len(parts) == 0 {
		return "it drifts"
	}
	return strings.Join(parts, "; ")
}

// quantity is a value with its unit, to three digits.
func quantity(v float64, unit string) string {
	a := math.Abs(v)
	switch {
	case strings.HasPrefix(unit, "B"):
		for _, u := range []struct {
			name string
			n    float64
		}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
			if a >= u.n {
				return fmt.Sprintf("%.3g %s%s", v/u.n, u.name, unit[1:])
			}
		}
		return fmt.Sprintf("%.3g %s", v, unit)
	case unit == "s" && a < 1:
		return fmt.Sprintf("%.3g ms", 1e3*v)
	case unit == "share":
		return fmt.Sprintf("%.3g %%", 100*v)
	case a >= 1000:
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, unit))
	}
	return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, unit))
}

// stepWords is an operation as a person says it.
func stepWords(o ft.Operation) string {
	switch o {
	case ft.SoftResetting:
		return "soft reset"
	case ft.FullResetting:
		return "full reset"
	case ft.Evict:
		return "eviction"
	case ft.Replace:
		return "starting it anew"
	case ft.Respecialize:
		return "light re-specialisation"
	case ft.Retune:
		return "tuning"
	case ft.Grow:
		return "growing"
	case ft.Shrink:
		return "shrinking"
	case ft.NoOperation:
	}
	return "nothing"
}
