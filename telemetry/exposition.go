package telemetry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	ft "github.com/fettle-dev/fettle"
)

const (
	mostBody  = 1 << 20  // bytes of an answer
	mostLine  = 64 << 10 // bytes of one of its lines
	mostLines = 2048     // series of the chosen metrics
)

// selection is what is taken of an endpoint's answer: Prometheus' text format, version 0.0.4,
// https://prometheus.io/docs/instrumenting/exposition_formats. Only lines of the chosen metrics are given to the
// parser, so that a scrape costs little however much else the endpoint tells.
type selection struct {
	series   []ft.Series
	metrics  map[string]bool // chosen names
	families map[string]bool // names under which the types of the chosen ones may be declared
}

// suffixes are of the series that one metric family has under other names than its own.
var suffixes = []string{"_total", "_sum", "_count", "_bucket"}

func newSelection(series []ft.Series) *selection {
	s := &selection{series: series, metrics: map[string]bool{}, families: map[string]bool{}}
	for i := range series {
		name := series[i].Metric
		s.metrics[name], s.families[name] = true, true
		if base, _ := cutSuffix(name); base != "" {
			s.families[base] = true
		}
	}
	return s
}

// cutSuffix is the family's name and the suffix; both empty where the name has none.
func cutSuffix(name string) (family, suffix string) {
	for _, suffix := range suffixes {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base, suffix
		}
	}
	return "", ""
}

// sum is what one column's series add up to.
type sum struct {
	value float64 // NaN where there is none
	kind  ft.Kind
	why   string // there is none
}

// read adds up the chosen series of an answer. The error says what is wrong with the answer as a whole.
func (s *selection) read(body io.Reader) ([]sum, error) {
	lines, types, err := s.choose(body)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	found, err := parser.TextToMetricFamilies(lines)
	if err != nil {
		if bad, is := errors.AsType[expfmt.ParseError](err); is {
			err = errors.New(bad.Msg) // its line is one of those that were kept
		}
		return nil, fmt.Errorf("not in Prometheus' text format: %w", err)
	}
	sums := make([]sum, len(s.series))
	for i := range s.series {
		sums[i] = add(&s.series[i], found[s.series[i].Metric], types)
	}
	return sums, nil
}

// choose keeps the lines of the chosen metrics and the types declared of them.
func (s *selection) choose(body io.Reader) (lines *bytes.Buffer, types map[string]string, err error) {
	limited := &io.LimitedReader{R: body, N: mostBody + 1}
	scan := bufio.NewScanner(limited)
	scan.Buffer(nil, mostLine)
	lines, types = &bytes.Buffer{}, map[string]string{}
	first, kept := true, 0
	for scan.Scan() {
		line := bytes.TrimLeft(scan.Bytes(), " \t")
		if len(line) == 0 {
			continue
		}
		if first && line[0] == '<' {
			return nil, nil, errors.New("it is HTML, not Prometheus' text format")
		}
		first = false
		if line[0] == '#' {
			s.declare(line, types)
			continue
		}
		end := bytes.IndexAny(line, "{ \t")
		if end < 0 || !s.metrics[string(line[:end])] {
			continue
		}
		if kept++; kept > mostLines {
			return nil, nil, fmt.Errorf("more than %d series of the chosen metrics", mostLines)
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	switch {
	case limited.N <= 0:
		return nil, nil, fmt.Errorf("it is larger than %s", ft.Size(mostBody))
	case errors.Is(scan.Err(), bufio.ErrTooLong):
		return nil, nil, fmt.Errorf("it has a line longer than %s", ft.Size(mostLine))
	case scan.Err() != nil:
		return nil, nil, scan.Err()
	}
	return lines, types, nil
}

// declare notes a line "# TYPE name type" of a chosen metric.
func (s *selection) declare(line []byte, types map[string]string) {
	rest, ok := bytes.CutPrefix(line, []byte("# TYPE "))
	if !ok {
		return
	}
	name, kind, _ := bytes.Cut(rest, []byte(" "))
	if s.families[string(name)] {
		types[string(name)] = string(bytes.TrimSpace(kind))
	}
}

// add sums the series of one metric that have the labels. The lines were parsed without their types, so each is a
// family of its own, untyped.
func add(s *ft.Series, family *dto.MetricFamily, types map[string]string) sum {
	none := func(format string, a ...any) sum { return sum{value: math.NaN(), why: fmt.Sprintf(format, a...)} }
	base, suffix := cutSuffix(s.Metric)
	switch {
	case family == nil && types[s.Metric] == "histogram":
		return none("%s is a histogram: choose %[1]s_sum, %[1]s_count or %[1]s_bucket", s.Metric)
	case family == nil:
		return none("it has no metric %s", s.Metric)
	case types[s.Metric] == "summary" && s.Labels["quantile"] == "":
		return none("%s is a summary: choose %[1]s_sum, %[1]s_count or a quantile by its label", s.Metric)
	case suffix == "_bucket" && types[base] == "histogram" && s.Labels["le"] == "":
		return none("%s counts all that is at most le: choose a bucket by its label le", s.Metric)
	}
	out := sum{kind: kindOf(s, types)}
	n := 0
	for _, m := range family.GetMetric() {
		if matches(m, s.Labels) {
			out.value += m.GetUntyped().GetValue()
			n++
		}
	}
	switch {
	case n == 0:
		return none("its %s has no series with the labels %s", s.Metric, labelText(s.Labels))
	case math.IsNaN(out.value) || math.IsInf(out.value, 0):
		return none("its %s is %g", s.Metric, out.value)
	}
	return out
}

// kindOf is what the pool file says, else what the endpoint says, else what the name says by Prometheus' conventions.
func kindOf(s *ft.Series, types map[string]string) ft.Kind {
	if s.Kind != nil {
		return *s.Kind
	}
	family, suffix := cutSuffix(s.Metric)
	switch types[s.Metric] {
	case "counter":
		return ft.Counter
	case "gauge", "summary":
		return ft.Gauge
	}
	switch types[family] {
	case "gaugehistogram":
		return ft.Gauge
	case "histogram", "summary", "counter":
		return ft.Counter
	}
	if suffix != "" {
		return ft.Counter
	}
	return ft.Gauge
}

func matches(m *dto.Metric, labels map[string]string) bool {
	for name, value := range labels {
		is := func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value }
		if !slices.ContainsFunc(m.GetLabel(), is) {
			return false
		}
	}
	return true
}

func labelText(labels map[string]string) string {
	var out []string
	for k, v := range labels {
		out = append(out, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
