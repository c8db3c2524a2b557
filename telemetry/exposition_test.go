package telemetry

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

// What a metric is: what the pool file says, else the endpoint, else its name.
func TestScrapeKinds(t *testing.T) {
	counts, gauges := ft.Counter, ft.Gauge
	for _, c := range []struct {
		text   string
		metric string
		kind   *ft.Kind
		want   ft.Kind
	}{
		{"# TYPE x counter\nx 1\n", "x", nil, ft.Counter},
		{"# TYPE x_total gauge\nx_total 1\n", "x_total", nil, ft.Gauge},
		{"# TYPE x counter\nx_total 1\n", "x_total", nil, ft.Counter},
		{"x_total 1\n", "x_total", nil, ft.Counter},
		{"x 1\n", "x", nil, ft.Gauge},
		{"x 1\n", "x", &counts, ft.Counter},
		{"# TYPE x counter\nx 1\n", "x", &gauges, ft.Gauge},
		{"# TYPE x summary\nx_sum 1\n", "x_sum", nil, ft.Counter},
		{"# TYPE x untyped\nx 1\n", "x", nil, ft.Gauge},
	} {
		got, err := newSelection([]ft.Series{{Metric: c.metric, Kind: c.kind}}).read(strings.NewReader(c.text))
		if err != nil || got[0].why != "" || got[0].kind != c.want {
			t.Errorf("%s of %q: %+v, %v", c.metric, c.text, got, err)
		}
	}
	for _, c := range []struct {
		text   string
		series ft.Series
		want   string
	}{
		{"# TYPE x summary\nx{quantile=\"0.5\"} 1\n", ft.Series{Metric: "x"}, "is a summary: choose x_sum"},
		{"# TYPE x histogram\nx_bucket{le=\"1\"} 1\n", ft.Series{Metric: "x_bucket"}, "choose a bucket by its label le"},
		{"# TYPE x histogram\nx_bucket{le=\"1\"} 1\n", ft.Series{Metric: "x"}, "is a histogram"},
		{"x{a=\"c\"} 1\n", ft.Series{Metric: "x", Labels: map[string]string{"a": "b"}}, `no series with the labels a="b"`},
	} {
		got, err := newSelection([]ft.Series{c.series}).read(strings.NewReader(c.text))
		if err != nil || !math.IsNaN(got[0].value) || !strings.Contains(got[0].why, c.want) {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
}

// What is chosen line by line is what the parser finds in the whole.
func TestSelectionIsWhatTheWholeSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reg := prometheus.NewRegistry()
		names := []string{"a", "ab", "a_b", "b"}
		for _, n := range names {
			v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: n, Help: rapid.String().Draw(t, "help")}, []string{"l", "m"})
			reg.MustRegister(v)
			for range rapid.IntRange(0, 4).Draw(t, "series") {
				v.WithLabelValues(rapid.SampledFrom([]string{"", "x", "{", "\"\\\n", "a 1"}).Draw(t, "l"), rapid.String().Draw(t, "m")).
					Set(float64(rapid.IntRange(-5, 1e6).Draw(t, "v")))
			}
		}
		families, err := reg.Gather()
		if err != nil {
			t.Skip(err) // a label that is no UTF-8
		}
		var text bytes.Buffer
		enc := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeTextPlain))
		want := map[string]float64{}
		for _, f := range families {
			if err := enc.Encode(f); err != nil {
				t.Fatal(err)
			}
			for _, m := range f.GetMetric() {
				want[f.GetName()] += m.GetGauge().GetValue()
			}
		}
		chosen := series(names...).Series
		got, err := newSelection(chosen).read(&text)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range names {
			if v, is := want[n]; is != (got[i].why == "") || is && v != got[i].value {
				t.Errorf("%s: %+v, want %g, %v", n, got[i], v, is)
			}
		}
	})
}

func FuzzSelection(f *testing.F) {
	f.Add("# TYPE up gauge\nup{a=\"b\"} 1 5\nup_total 3\n")
	f.Add("up{a=\"\\n\\\"\",} NaN\nup 0x1p-3\n")
	f.Add("<html>")
	f.Fuzz(func(t *testing.T, text string) {
		sums, err := newSelection(series("up", "up_total").Series).read(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range sums {
			if bad := math.IsNaN(s.value) || math.IsInf(s.value, 0); bad != (s.why != "") {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// An endpoint as large as they come: what is not chosen is only looked over.
func BenchmarkScrapeParse(b *testing.B) {
	var text bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&text, "# HELP m%d_total Something.\n# TYPE m%[1]d_total counter\nm%[1]d_total{path=\"/x\",code=\"200\"} %[1]d\n", i)
	}
	sel := newSelection(series("m7_total", "m300_total").Series)
	b.Run("selection", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		for b.Loop() {
			if _, err := sel.read(bytes.NewReader(text.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("everything", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		for b.Loop() {
			p := expfmt.NewTextParser(model.LegacyValidation)
			if _, err := p.TextToMetricFamilies(bytes.NewReader(text.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
