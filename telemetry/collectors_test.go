package telemetry

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// Every dimension that a source of this package has is some collector's, once, and a metric may not take its name.
func TestCollectorsAreComplete(t *testing.T) {
	in := map[string]string{}
	for _, c := range Collectors() {
		if c.Reads == "" || c.Cost == "" || c.Without == "" {
			t.Errorf("%s says not all: %+v", c.Name, c)
		}
		for _, d := range c.Dimensions {
			if other, is := in[d.Name]; is && d.Name != ft.DimAnon {
				t.Errorf("%s is of %s and of %s", d.Name, other, c.Name)
			}
			in[d.Name] = c.Name
			p := ft.Pool{Name: "web", Image: ft.Image{Command: []string{"x"}}, Listen: ":1", Metrics: &ft.Metrics{Series: []ft.Series{{Metric: d.Name}}}}
			p.Defaults()
			if errs := p.Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "measures itself") {
				t.Errorf("a metric may be called %s: %v", d.Name, errs)
			}
		}
	}
	var p *Probes
	for _, s := range []ft.Source{p.Network(true), Cgroup(), ProcFS(), WorkingSet(ft.WorkingSet{})} {
		for _, d := range s.Dimensions() {
			if in[d.Name] == "" {
				t.Errorf("%s is of no collector", d.Name)
			}
		}
	}
}

// What works here is found out by trying, and what does not is told in the words that an instance's reasons have.
func TestFactsAreTried(t *testing.T) {
	facts := map[string]Fact{}
	order := []string{}
	for _, f := range Facts(&ft.Scope{}, nil) {
		facts[f.Name] = f
		order = append(order, f.Name)
		if f.Detail == "" || !f.Available && f.Without == "" {
			t.Errorf("%+v says not all", f)
		}
	}
	if got := strings.Join(order, ", "); got != strings.Join([]string{byProcesses, byGroup, byPressure, byWorkingSet, byWrites, byNetwork, bySyscalls, byMetrics}, ", ") {
		t.Errorf("told are %s", got)
	}
	if f := facts[byProcesses]; !f.Available {
		t.Errorf("this process cannot be measured: %+v", f)
	}
	s, err := New(slog.New(slog.DiscardHandler), (*Probes)(nil).Network(false), Cgroup(), WorkingSet(ft.WorkingSet{Collect: ft.Off}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := ft.Instance{Ref: ft.Ref{ID: "web-1"}, Scope: ft.Scope{PID: os.Getpid()}}
	f := &ft.Frame{Schema: s.Schema(), Rows: make([]ft.Row, 1)}
	f.Reset(1)
	if err := s.Sample(t.Context(), f.At, []ft.Instance{in}, f); err != nil {
		t.Fatal(err)
	}
	u := s.Unavailable(in.Ref)
	for dim, name := range map[string]string{
		ft.DimPressCPU: byPressure, ft.DimRefaults: byGroup, ft.DimMsgsOut: byNetwork,
	} {
		if u[dim] == "" || facts[name].Detail != u[dim] {
			t.Errorf("%s is not measured because %q, doctor says %q", dim, u[dim], facts[name].Detail)
		}
	}
	if u[ft.DimWSS] != "off: telemetry.workingSet.collect" {
		t.Errorf("the working set is not measured because %q", u[ft.DimWSS])
	}
	for _, f := range Facts(nil, nil) {
		if f.Name == byGroup || f.Name == byPressure {
			t.Errorf("of control groups it was told %+v without one", f)
		}
	}
}

func TestFactTellsWhatIsMissing(t *testing.T) {
	some := fact("x", "y", "all", 3, ft.Unavailable{"a": "off", "b": "off"})
	if !some.Available || some.Detail != "all; not a, b: off" {
		t.Errorf("%+v", some)
	}
	none := fact("x", "y", "all", 2, ft.Unavailable{"a": "off", "b": "no permission"})
	if none.Available || none.Detail != "no permission; off" {
		t.Errorf("%+v", none)
	}
}
