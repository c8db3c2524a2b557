package drift

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Explain renders a verdict in a sentence of plain words, with the evidence by name and the forecast, nil where none:
//
//	web-3 drifts (high, 4.2): instance changed: memory_anon 210 MiB, usually 96 MiB, since 12:04:31; its 3 peers do not
//
// labels name the categories; name is the instance's, or the pool's for its own verdict. Times are in UTC.
func Explain(s *ft.Schema, labels []string, name string, v *ft.Verdict) (text string, ev []ft.Evidence, f *ft.Foreseen) {
	for _, w := range v.Why {
		if w.N == 0 {
			continue
		}
		dim, unit := nameOf(s, labels, w)
		if dim == "" {
			continue
		}
		ev = append(ev, ft.Evidence{
			Dimension: dim, Unit: unit, Z: round(w.Z), Value: round(w.Value), Usual: round(credible(s, w)),
		})
	}
	if v.Forecast.At != 0 && int(v.Forecast.Dim) < s.Len() {
		f = &ft.Foreseen{
			Dimension: s.At(int(v.Forecast.Dim)).Name, At: v.Forecast.At.Time(), Slope: round(v.Forecast.Slope),
			Limit: float64(v.Forecast.Limit),
		}
	}
	return sentence(s, name, v, ev, f), ev, f
}

// round drops the digits that a float32 does not have; what is not finite becomes 0, which JSON can hold.
func round(x float32) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', 6, 32), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// credible is what is usual, where an expectation by regression lies below what there can be.
func credible(s *ft.Schema, w ft.Contribution) float32 {
	if w.N == 1 && int(w.Dim) < s.Len() && s.At(int(w.Dim)).Transform == ft.Log1p {
		return max(w.Usual, 0)
	}
	return w.Usual
}

func nameOf(s *ft.Schema, labels []string, w ft.Contribution) (name, unit string) {
	i := int(w.Dim)
	switch {
	case w.N == 2:
		return category(s, labels, i), "share"
	case i < s.Len():
		return s.At(i).Name, s.At(i).Unit
	default:
		return "", ""
	}
}

// category names a category by its set and its label: "route GET /a", "status 5xx".
func category(s *ft.Schema, labels []string, i int) string {
	k, begin := s.SetAt(i)
	if k < 0 {
		return ""
	}
	set := &s.Sets()[k]
	name := set.Name
	switch name {
	case ft.SetRoutes:
		name = "route"
	case ft.SetSyscalls:
		name = "system call"
	}
	switch at := i - begin; {
	case i < len(labels) && labels[i] != "":
		return name + " " + labels[i]
	case at < len(set.Labels) && set.Labels[at] != "":
		return name + " " + set.Labels[at]
	default:
		return name + " #" + strconv.Itoa(at)
	}
}

func sentence(s *ft.Schema, name string, v *ft.Verdict, ev []ft.Evidence, f *ft.Foreseen) string {
	var b strings.Builder
	switch v.Level {
	case ft.Learning:
		fmt.Fprintf(&b, "%s is being learnt (%.0f %%)", name, 100*v.Progress)
		return b.String()
	case ft.Steady:
		return name + " is steady"
	case ft.Low, ft.Medium, ft.High, ft.Critical:
	}
	does := "drifts"
	if v.Score < release { // the level waits for a few more rows
		does = "calms down"
	}
	fmt.Fprintf(&b, "%s %s (%s, %.1f): %s", name, does, v.Level, v.Score, causeWords(v))
	for i, e := range ev[:min(len(ev), 3)] {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(evidenceWords(e, v))
	}
	if t := v.Since.Time(); !t.IsZero() {
		fmt.Fprintf(&b, ", since %s", t.Format("15:04:05"))
	}
	b.WriteString(peerWords(v))
	if f != nil {
		unit := s.At(int(v.Forecast.Dim)).Unit
		fmt.Fprintf(&b, "; at %s/s %s reaches %s at %s", quantity(f.Slope, unit), f.Dimension,
			quantity(f.Limit, unit), f.At.Format("15:04:05"))
	}
	return b.String()
}

func causeWords(v *ft.Verdict) string {
	switch {
	case v.Cause == ft.InstanceChanged && v.Extent == ft.WholePool:
		return "the whole pool changed, its work did not"
	case v.Cause == ft.CauseUnknown && v.Extent == ft.WholePool:
		return "the whole pool changed, cause unknown"
	case v.Cause == ft.CauseUnknown:
		return "cause unknown"
	default:
		return v.Cause.String()
	}
}

// evidenceWords says load as a multiple: "all 4 instances take 2.1 times the usual requests".
func evidenceWords(e ft.Evidence, v *ft.Verdict) string {
	if e.Dimension == ft.DimOffered && e.Usual > 0 && v.Cause == ft.WorkloadChanged {
		who, verb := "it", "is offered"
		if v.Pool && v.Members > 1 {
			who, verb = fmt.Sprintf("%d of %d instances", alikeOf(v), v.Members), "are offered"
			if alikeOf(v) == int(v.Members) {
				who = fmt.Sprintf("all %d instances", v.Members)
			}
		}
		return fmt.Sprintf("%s %s %s times the usual requests (%s, usually %s)", who, verb,
			digits(e.Value/e.Usual), quantity(e.Value, e.Unit), quantity(e.Usual, e.Unit))
	}
	return fmt.Sprintf("%s %s, usually %s", e.Dimension, quantity(e.Value, e.Unit), quantity(e.Usual, e.Unit))
}

func alikeOf(v *ft.Verdict) int { return int(math.Round(float64(v.Shared) * float64(v.Members))) }

func peerWords(v *ft.Verdict) string {
	others := int(v.Members) - 1
	switch {
	case v.Pool || v.Members <= 1:
		return ""
	case v.Extent == ft.WholePool:
		return fmt.Sprintf("; %d of the pool's %d do alike", max(alikeOf(v), 1), v.Members)
	case v.Extent == ft.ThisInstance && others == 1:
		return "; its peer does not"
	case v.Extent == ft.ThisInstance:
		return fmt.Sprintf("; its %d peers do not", others)
	default:
		return "; whether its peers do too is not clear"
	}
}

// quantity is a value in a unit that people read.
func quantity(x float64, unit string) string {
	switch unit {
	case "B":
		return bytes(x)
	case "B/s":
		return bytes(x) + "/s"
	case "1/s":
		return digits(x) + "/s"
	case "s":
		return seconds(x)
	case "share":
		return digits(100*x) + " %"
	case "s/s":
		return digits(1000*x) + " ms/s"
	case "":
		return digits(x)
	default:
		return digits(x) + " " + unit
	}
}

func bytes(x float64) string {
	for _, u := range []struct {
		name string
		n    float64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if math.Abs(x) >= u.n {
			return digits(x/u.n) + " " + u.name
		}
	}
	return digits(x) + " B"
}

func seconds(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1 || a == 0:
		return digits(x) + " s"
	case a >= 1e-3:
		return digits(1e3*x) + " ms"
	default:
		return digits(1e6*x) + " µs"
	}
}

// digits has two significant digits below 10 and none after the point from there on.
func digits(x float64) string {
	switch a := math.Abs(x); {
	case a >= 9.95:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case a >= 0.995:
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	default:
		return strconv.FormatFloat(x, 'g', 2, 64)
	}
}
