package fettle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What cannot be a metric's column is refused with what would be right.
func TestMetricsAreChecked(t *testing.T) {
	for _, c := range []struct {
		edit  func(*Metrics)
		serve Protocol
		path  string // empty: it is fine
		want  string
	}{
		{func(*Metrics) {}, HTTP, "", ""},
		{func(m *Metrics) { m.Series[0].Column = "cpu" }, HTTP, "metrics.series[0].column", `"cpu" is a dimension that Fettle measures itself; give the metric's column a name of its own, such as app_cpu`},
		{func(m *Metrics) { m.Series[0] = Series{Metric: "threads"} }, HTTP, "metrics.series[0].column", "app_threads"},
		{func(m *Metrics) { m.Series[0] = Series{Metric: "threads", Column: "app_threads"} }, HTTP, "", ""},
		{func(m *Metrics) { m.Series = append(m.Series, m.Series[0]) }, HTTP, "metrics.series[1].column", "is taken by another"},
		{func(m *Metrics) { m.Series = nil }, HTTP, "metrics.series", "is missing"},
		{func(m *Metrics) { m.Series[0].Metric = "a b" }, HTTP, "metrics.series[0].metric", "no metric's name"},
		{func(*Metrics) {}, None, "metrics.port", "with serve: none"},
		{func(m *Metrics) { m.Port = "$PORT+1" }, None, "", ""},
		{func(m *Metrics) { m.Port = "PORT" }, HTTP, "metrics.port", "a number, $PORT, or $PORT+1"},
		{func(m *Metrics) { m.Path = "metrics" }, HTTP, "metrics.path", "starts with /"},
		{func(m *Metrics) { m.Every = Duration(time.Millisecond) }, HTTP, "metrics.every", "less than 1s"},
	} {
		m := &Metrics{Series: []Series{{Metric: "jobs_total"}}}
		c.edit(m)
		m.defaults()
		var got []string
		for _, e := range m.validate(c.serve) {
			got = append(got, e.Error())
		}
		text := strings.Join(got, "\n")
		if (c.path == "") != (len(got) == 0) || !strings.HasPrefix(text, c.path) || !strings.Contains(text, c.want) {
			t.Errorf("want %s: %s, got %q", c.path, c.want, text)
		}
	}
}

func TestEachOwnColumnIsNamedOnce(t *testing.T) {
	names := slices.Clone(ownColumns)
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != len(ownColumns) {
		t.Errorf("%d names of %d are different", n, len(ownColumns))
	}
}

func TestReasonsAreToldOnce(t *testing.T) {
	u := Unavailable{"b": "off", "a": "off", "c": "no permission"}
	got := fmt.Sprint(u.ByReason())
	if want := "[{no permission [c]} {off [a b]}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if u := Unavailable(nil).ByReason(); u == nil || len(u) > 0 {
		t.Errorf("nothing is %v", u)
	}
}
